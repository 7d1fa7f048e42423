//! The answer on its way to the client, piece by piece as it arrives.
//!
//! Invariant: an answer that was cut never ends as if it were whole: a stream is told in-band, anything else is aborted.
//! (An HTTP/1.0 client of an answer without a length cannot tell the two apart; the protocol has no way.)
//! Never does: hold back a piece of a stream, change one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Version};
use log::warn;
use pingora_core::protocols::http::ServerSession;

use crate::config::ServerSettings;
use crate::error::{Refusal, Silence};
use crate::meter::{Shape, Tap};

use super::Gateway;
use super::attempt::Answer;
use super::call::Call;
use super::exchange::{facts, part_when_draining, unspeakable, until, while_client_stays, written};
use super::upstream::{AnswerHead, Broken, Connection, Length};
use super::wire::{self, Timing};

/// How long what is already written may take to leave before a reset, with which the `h2` crate drops it.
const BEFORE_RESET: Duration = Duration::from_millis(50);

/// Sends the answer's head and body to the client and gives the connection back.
///
/// # Errors
/// `ClientGone`; `Upstream` and `UpstreamTimeout` where the answer was cut, after the client was told if it can be.
pub(super) async fn relay(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    answer: Answer,
) -> Result<(), Refusal> {
    let Answer { underway, mut connection, mut head, after, deadline, hide_usage } = answer;
    let provider = Arc::clone(&underway.target.provider);
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let shape = shape(&head.headers);
    let events = shape == Shape::Events;
    if hide_usage && events {
        unframe(&mut head);
    }
    let unframed = matches!(head.length, Length::Chunked | Length::ToClose);
    // HTTP/2 ends a body by a mark on its last piece, which is known where its length is.
    let mut left = match head.length {
        Length::Known(length) if session.is_http2() && length > 0 => Some(length),
        _ => None,
    };
    let timing = Timing { upstream_head: after, gateway: call.own_time() };
    let reply =
        wire::answer(head, &provider, &timing, &facts(session, call, &snapshot.server)?).map_err(unspeakable)?;
    if unframed && session.req_header().version == Version::HTTP_10 {
        session.set_keepalive(None);
    }
    part_when_draining(gateway, session);
    let arrived = call.arrived()?;
    arrived.record.status = reply.status.as_u16();
    arrived.tap = Some(Tap::new(provider.dialect, shape, hide_usage));
    let settings = &snapshot.server;
    call.waiting(written(settings, session.write_response_header(reply))).await?;
    let mut tail = Tail::default();
    let broken = loop {
        match call.waiting(while_client_stays(session, next(&mut connection, deadline, provider.timeouts.idle))).await?
        {
            Ok(Some(piece)) => {
                let Some(piece) = call.arrived()?.passes(piece, Instant::now()) else { continue };
                tail.push(&piece);
                left = left.map(|left| left.saturating_sub(piece.len() as u64));
                call.waiting(written(settings, session.write_response_body(piece, left == Some(0)))).await?;
            }
            Ok(None) => {
                if let Some(rest) = call.arrived()?.tap.as_mut().and_then(Tap::end) {
                    call.waiting(written(settings, session.write_response_body(rest, false))).await?;
                }
                if left != Some(0) {
                    call.waiting(written(settings, session.write_response_body(Bytes::new(), true))).await?;
                }
                gateway.upstream.release(connection);
                return Ok(());
            }
            Err(broken) => break broken,
        }
    };
    let request_id = &call.arrived()?.record.request_id;
    warn!("call {request_id}: provider {} in the middle of an answer: {}", provider.id, broken.cause);
    cut(session, settings, &broken.refusal, events && unframed && tail.is_between_events()).await;
    Err(broken.refusal)
}

/// Gives up the length of a stream: what is taken out of it would be missing.
fn unframe(head: &mut AnswerHead) {
    head.headers.remove(CONTENT_LENGTH);
    head.length = Length::Chunked;
}

/// Ends an answer that was cut, as well as its client can be told: in-band where an event may begin.
async fn cut(session: &mut ServerSession, settings: &ServerSettings, refusal: &Refusal, may_tell: bool) {
    if may_tell {
        tell(session, settings, refusal).await;
    } else if session.is_http2() {
        tokio::time::sleep(BEFORE_RESET).await;
    }
}

async fn next(connection: &mut Connection, deadline: Instant, idle: Duration) -> Result<Option<Bytes>, Broken> {
    // A timeout alone would let an answer go on for ever that always has the next piece ready.
    if Instant::now() >= deadline {
        return Err(Broken::silent(Silence::Total));
    }
    match tokio::time::timeout_at(until(deadline, idle), connection.chunk()).await {
        Ok(piece) => piece,
        Err(_) if Instant::now() >= deadline => Err(Broken::silent(Silence::Total)),
        Err(_) => Err(Broken::silent(Silence::Idle)),
    }
}

/// Tells a client inside its stream that it was cut. SDKs raise on an event with an `error`; `[DONE]` never follows. Over
/// HTTP/1.1 the caller then aborts the connection; over HTTP/2 this is the end, because a reset would overtake the event.
async fn tell(session: &mut ServerSession, settings: &ServerSettings, refusal: &Refusal) {
    let event = format!("data: {}\n\n", refusal.body());
    let end = session.is_http2();
    // The stream is lost either way.
    let _ = written(settings, session.write_response_body(event.into(), end)).await;
}

/// What the meter can read of an answer, by its content type.
pub(super) fn shape(headers: &HeaderMap) -> Shape {
    let starts = |value: &HeaderValue, with: &[u8]| {
        value.as_bytes().get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    let encoded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    match headers.get(CONTENT_TYPE) {
        _ if headers.get(CONTENT_ENCODING).is_some_and(encoded) => Shape::Opaque,
        Some(value) if starts(value, b"text/event-stream") => Shape::Events,
        Some(value) if starts(value, b"application/json") => Shape::Json,
        _ => Shape::Opaque,
    }
}

/// The last bytes that the client got.
#[derive(Default)]
struct Tail([u8; 4], bool);

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        self.1 |= !piece.is_empty();
        match piece.last_chunk::<4>() {
            Some(last) => self.0 = *last,
            None => {
                self.0.copy_within(piece.len().., 0);
                self.0[4 - piece.len()..].copy_from_slice(piece);
            }
        }
    }

    /// Whether an event may begin here: at the start, or behind an empty line (the HTML standard, section 9.2.6).
    fn is_between_events(&self) -> bool {
        !self.1 || [&b"\n\n"[..], b"\r\r", b"\n\r\n"].iter().any(|end| self.0.ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_an_event_may_begin() {
        let between = |pieces: &[&str]| {
            let mut tail = Tail::default();
            pieces.iter().for_each(|piece| tail.push(piece.as_bytes()));
            tail.is_between_events()
        };
        assert!(between(&[]));
        assert!(between(&["data: x\n\n"]));
        assert!(between(&["data: x\n", "\n"]));
        assert!(between(&["data: x\r\n\r", "\n"]));
        assert!(between(&["data: x\n\r\n"]));
        assert!(!between(&["data: x\r\n"]));
        assert!(!between(&["data: x\n"]));
        assert!(!between(&["da"]));
    }
}
