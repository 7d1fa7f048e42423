//! A provider's head for a client over HTTP/1.1, where it came over HTTP/1.1 too: what passes stays the bytes that came.
//!
//! Building two maps of twenty headers to write them out again was a third of what a small call took.
//!
//! Invariant: the client gets what the map of [`super::answer`] would have given it, in another order and as the
//! provider spells it (`tests::answered` holds it); framing is left to Pingora.
//! Never does: decide what passes in another way than the map does.

use std::ops::Range;

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH};
use pingora::http::ResponseHeader;

use crate::route::Provider;

use super::builder::{self, Builder, Own};
use super::{Facts, REQUEST_ID, Told, Unspeakable, named_by, stays_there, told};
use crate::proxy::upstream::{Length, Line, Lines};

/// A head whose framing Pingora writes, and the lines that go behind that.
pub(in crate::proxy) fn answer(
    (status, length, lines): (StatusCode, Length, &Lines),
    provider: &Provider,
    what: &Told,
    facts: &Facts<'_>,
) -> Result<(Box<ResponseHeader>, Vec<u8>), Unspeakable> {
    let mut reply = Builder::lines(status, lines.size() + ROOM_FOR_OURS);
    match length {
        // Of a body that is not sent, it tells how long that would be.
        Length::None if status != StatusCode::NO_CONTENT => {
            for value in lines.all(&CONTENT_LENGTH) {
                reply.set(&CONTENT_LENGTH, value)?;
            }
        }
        _ => super::framed(&mut reply, length, facts.version),
    }
    told(&mut reply, provider, what, facts)?;
    let (head, own) = reply.finish_lines(facts)?;
    Ok((head, passed(lines, own, facts)))
}

/// Our own lines, and behind them those of the provider's that pass.
fn passed(lines: &Lines, mut own: Own, facts: &Facts<'_>) -> Vec<u8> {
    let of_the_hop = named_by(lines.all(&CONNECTION));
    let has_id = lines.all(&REQUEST_ID).next().is_some();
    let mut runs = Runs::default();
    for line in lines.each() {
        let mut lower = [0; LONGEST];
        let name = match lower.get_mut(..line.name.len()) {
            Some(lower) => {
                lower.copy_from_slice(line.name);
                lower.make_ascii_lowercase();
                &*lower
            }
            // None that is known is as long.
            None => line.name,
        };
        match name {
            // Framing, and what else Pingora writes itself.
            b"content-length" | b"date" => {}
            _ if of_the_hop.iter().any(|of_it| of_it.as_str().as_bytes().eq_ignore_ascii_case(name)) => {}
            b"x-request-id" => runs.renamed(&mut own.text, (b"x-upstream-request-id", b""), &line),
            b"x-upstream-request-id" if has_id => {}
            _ if stays_there(name) => {}
            _ if facts.limits.renames(name) => {
                let rest = &name[b"x-ratelimit-".len()..];
                runs.renamed(&mut own.text, (b"x-upstream-ratelimit-", rest), &line);
            }
            _ if own.has(name) => {}
            _ => runs.pass(&mut own.text, &line),
        }
    }
    runs.flush(&mut own.text);
    own.text
}

/// Lines that pass and stand behind one another, which are copied at once.
#[derive(Default)]
struct Runs<'l>(Option<(&'l [u8], Range<usize>)>);

impl<'l> Runs<'l> {
    fn pass(&mut self, text: &mut Vec<u8>, line: &Line<'l>) {
        match (&mut self.0, &line.whole) {
            (Some((_, run)), Some(whole)) if run.end == whole.start => run.end = whole.end,
            (_, Some(whole)) => {
                self.flush(text);
                self.0 = Some((line.of, whole.clone()));
            }
            (_, None) => {
                self.flush(text);
                builder::line(text, line.name, line.value);
            }
        }
    }

    fn renamed(&mut self, text: &mut Vec<u8>, (start, rest): (&[u8], &[u8]), line: &Line<'l>) {
        self.flush(text);
        text.extend_from_slice(start);
        builder::line(text, rest, line.value);
    }

    fn flush(&mut self, text: &mut Vec<u8>) {
        if let Some((of, run)) = self.0.take() {
            text.extend_from_slice(of.get(run).unwrap_or_default());
        }
    }
}

/// Bytes of the lines that the gateway adds, mostly.
const ROOM_FOR_OURS: usize = builder::EXPOSED.len() + 512;
/// The longest name that is looked at.
const LONGEST: usize = 40;
