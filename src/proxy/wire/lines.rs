//! The head of an answer as it goes out over HTTP/1.x, in bytes. Where it came over HTTP/1.1, what passes stays as it came.
//!
//! Building two maps of twenty headers to write them out again was a third of what a small call took.
//!
//! Invariant: the client gets what the map of [`super::answer`] would have given it, in another order and as the
//! provider spells it (`tests::answered` holds it); the body is framed in one way.
//! Never does: decide what passes in another way than the map does.

use std::mem;
use std::ops::Range;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderName, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora_core::protocols::http::date::get_cached_date;

use crate::route::Provider;

use super::reply::{self, Own, Reply as _};
use super::{Facts, REQUEST_ID, Told, Unspeakable, named_by, stays_there, told};
use crate::proxy::upstream::{Length, Line, Lines};

/// What stands behind a head.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct Behind {
    /// Whether the connection is kept.
    pub(in crate::proxy) keeps: bool,
    /// Bytes that are to be put behind the head.
    pub(in crate::proxy) room: usize,
}

/// The head of an answer that came as lines, to its empty line.
pub(in crate::proxy) fn answer(
    (status, length, lines): (StatusCode, Length, &Lines),
    provider: &Provider,
    what: &Told,
    facts: &Facts<'_>,
    behind: Behind,
) -> Result<Vec<u8>, Unspeakable> {
    let mut text = Vec::with_capacity(lines.size() + ROOM_FOR_OURS + behind.room);
    start(&mut text, status, behind.keeps);
    match length {
        // Of a body that is not sent, it tells how long that would be.
        Length::None if status != StatusCode::NO_CONTENT => {
            if let Some(value) = lines.all(&CONTENT_LENGTH).next() {
                reply::line(&mut text, b"Content-Length", value);
            }
        }
        Length::Known(length) => reply::number(&mut text, b"Content-Length", length),
        Length::Chunked | Length::ToClose if facts.version == Version::HTTP_11 => {
            reply::line(&mut text, b"Transfer-Encoding", b"chunked");
        }
        _ => {}
    }
    let mut own = Own(text);
    told(&mut own, provider, what, facts)?;
    own.complete(facts)?;
    let Own(mut text) = own;
    pass(&mut text, lines, facts);
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

/// The head of an answer that was put together in a map, to its empty line.
pub(in crate::proxy) fn of_map(head: &ResponseHeader, behind: Behind) -> Vec<u8> {
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut text = Vec::with_capacity(START + size + behind.room);
    start(&mut text, head.status, behind.keeps);
    for (name, spelt) in [(&CONTENT_LENGTH, "Content-Length"), (&TRANSFER_ENCODING, "Transfer-Encoding")] {
        // One that stands twice would be read in two ways.
        if let Some(value) = head.headers.get(name) {
            reply::line(&mut text, spelt.as_bytes(), value.as_bytes());
        }
    }
    let is_first = |name: &&HeaderName| matches!(**name, DATE | CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING);
    for (name, value) in head.headers.iter().filter(|(name, _)| !is_first(name)) {
        reply::line(&mut text, name.as_str().as_bytes(), value.as_bytes());
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// The first line, and those that every answer has. They and what frames the body are spelt as Pingora spells them, which writes
/// refusals.
fn start(text: &mut Vec<u8>, status: StatusCode, keeps: bool) {
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(b"\r\n");
    reply::line(text, b"Date", get_cached_date().as_bytes());
    text.extend_from_slice(if keeps { b"Connection: keep-alive\r\n" } else { b"Connection: close\r\n" });
}

/// Adds those of the provider's lines that pass.
fn pass(text: &mut Vec<u8>, lines: &Lines, facts: &Facts<'_>) {
    let of_the_hop = named_by(lines.all(&CONNECTION));
    let has_id = !of_the_hop.contains(&REQUEST_ID) && lines.all(&REQUEST_ID).next().is_some();
    let mut told_id = false;
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
            // What the gateway has written.
            b"content-length" | b"date" => {}
            b"provider-name" | b"provider-response-time" | b"x-content-type-options" => {}
            b"server-timing" if facts.shown.server_timing => {}
            b"x-gateway-max-output-tokens" if facts.limits.has_ceiling() => {}
            _ if of_the_hop.iter().any(|of_it| of_it.as_str().as_bytes().eq_ignore_ascii_case(name)) => {}
            b"x-request-id" if mem::replace(&mut told_id, true) => {}
            b"x-request-id" => runs.renamed(text, (b"x-upstream-request-id", b""), &line),
            b"x-upstream-request-id" if has_id => {}
            _ if stays_there(name) || facts.limits.covers(name) => {}
            _ if facts.limits.renames(name) => {
                let rest = &name[b"x-ratelimit-".len()..];
                runs.renamed(text, (b"x-upstream-ratelimit-", rest), &line);
            }
            _ => runs.pass(text, &line),
        }
    }
    runs.flush(text);
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
                reply::line(text, line.name, line.value);
            }
        }
    }

    fn renamed(&mut self, text: &mut Vec<u8>, (start, rest): (&[u8], &[u8]), line: &Line<'l>) {
        self.flush(text);
        text.extend_from_slice(start);
        reply::line(text, rest, line.value);
    }

    fn flush(&mut self, text: &mut Vec<u8>) {
        if let Some((of, run)) = self.0.take() {
            text.extend_from_slice(of.get(run).unwrap_or_default());
        }
    }
}

/// Bytes of the first line and those that every answer has.
const START: usize = 128;
/// Bytes of the lines that the gateway adds, mostly.
const ROOM_FOR_OURS: usize = reply::EXPOSED.len() + START + 512;
/// The longest name that is looked at.
const LONGEST: usize = 40;
