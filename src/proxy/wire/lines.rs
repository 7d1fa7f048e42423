//! A provider's head for a client over HTTP/1.1, where it came over HTTP/1.1 too: what passes stays the bytes that came.
//!
//! Building two maps of twenty headers to write them out again was a third of what a small call took.
//!
//! Invariant: the client gets what the map of [`super::answer`] would have given it, in another order
//! (`tests::answered` holds it); framing is left to Pingora.
//! Never does: decide what passes in another way than the map does.

use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::route::Provider;

use super::{Builder, Facts, REQUEST_ID, Told, Unspeakable, named_by, stays_there, told};
use crate::proxy::upstream::{Length, Lines};

/// A head whose framing Pingora writes, and the lines that go behind that.
pub(in crate::proxy) fn answer(
    (status, length, lines): (StatusCode, Length, &Lines),
    provider: &Provider,
    what: &Told,
    facts: &Facts<'_>,
) -> Result<(Box<ResponseHeader>, Vec<u8>), Unspeakable> {
    let mut reply = Builder::lines(status);
    match length {
        // Of a body that is not sent, it tells how long that would be.
        Length::None if status != StatusCode::NO_CONTENT => {
            for value in lines.all(&CONTENT_LENGTH) {
                reply.set(CONTENT_LENGTH, HeaderValue::from_bytes(value).map_err(|_| Unspeakable)?);
            }
        }
        _ => super::framed(&mut reply, length, facts.version),
    }
    told(&mut reply, provider, what, facts)?;
    let (head, own) = reply.finish_lines(facts)?;
    let mut text = Vec::with_capacity(2048);
    let of_the_hop = named_by(lines.all(&CONNECTION));
    let has_id = lines.all(&REQUEST_ID).next().is_some();
    for (name, value) in lines.each() {
        let mut lower = [0; LONGEST];
        let name = match lower.get_mut(..name.len()) {
            Some(lower) => {
                lower.copy_from_slice(name);
                lower.make_ascii_lowercase();
                &*lower
            }
            // None that is known is as long.
            None => name,
        };
        let name = match name {
            // Framing, and what else Pingora writes itself.
            b"content-length" | b"date" => continue,
            b"x-request-id" => b"x-upstream-request-id",
            b"x-upstream-request-id" if has_id => continue,
            _ if stays_there(name) || own.has(name) => continue,
            _ if of_the_hop.iter().any(|of_it| of_it.as_str().as_bytes() == name) => continue,
            name => name,
        };
        if facts.limits.renames(name) {
            text.extend_from_slice(b"x-upstream-ratelimit-");
            text.extend_from_slice(&name[b"x-ratelimit-".len()..]);
        } else {
            text.extend_from_slice(name);
        }
        super::value(&mut text, value);
    }
    text.extend_from_slice(&own.text);
    Ok((head, text))
}

/// The longest name that is looked at.
const LONGEST: usize = 40;
