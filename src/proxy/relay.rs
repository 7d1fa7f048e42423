//! The answer on its way to the client, piece by piece as it arrives.
//!
//! Invariant: an answer that was cut never ends as if it were whole: a stream is told in-band, anything else is aborted.
//! (An HTTP/1.0 client of an answer without a length cannot tell the two apart; the protocol has no way.)
//! Never does: hold back a piece of a stream, or of what is not known to be small; change one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Version};
use log::warn;
use pingora_core::protocols::http::ServerSession;

use crate::config::{ServerSettings, Snapshot};
use crate::error::{Refusal, Silence};
use crate::meter::{Shape, Tap};
use crate::route::Provider;
use crate::units::Usd;

use super::Gateway;
use super::attempt::Answer;
use super::call::Call;
use super::exchange::{facts, part_when_draining, unspeakable, until, while_client_stays, written};
use super::upstream::{AnswerHead, Broken, Connection, Length};
use super::wire::{self, Told};

/// How long what is already written may take to leave before a reset, with which the `h2` crate drops it.
const BEFORE_RESET: Duration = Duration::from_millis(50);

/// Most bytes of a JSON answer that is read whole before its head goes out, so that the head can tell what it cost, and one
/// that breaks is refused instead of cut.
const SMALL: u64 = 64 * 1024;

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
    let Answer { underway, connection, mut head, after, deadline, hide_usage } = answer;
    let provider = Arc::clone(&underway.target.provider);
    let shape = shape(&head.headers);
    if hide_usage && shape == Shape::Events {
        // What is taken out of a stream would be missing from its length.
        head.headers.remove(CONTENT_LENGTH);
        head.length = Length::Chunked;
    }
    call.arrived()?.tap = Some(Tap::new(provider.dialect, shape, hide_usage));
    let coming = Coming { provider, connection, after, deadline };
    let relay = Relay { gateway, session, call };
    match head.length {
        Length::Known(1..=SMALL) if shape == Shape::Json => relay.whole(head, coming).await,
        _ => relay.piecewise(head, coming, shape == Shape::Events).await,
    }
}

/// What is to come of an answer behind its head.
struct Coming {
    provider: Arc<Provider>,
    connection: Connection,
    /// From the start of the attempt to the head.
    after: Duration,
    /// When the call has to be over.
    deadline: Instant,
}

/// The two sides of an answer's way.
struct Relay<'a> {
    gateway: &'a Gateway,
    session: &'a mut ServerSession,
    call: &'a mut Call,
}

impl Relay<'_> {
    /// Reads the answer to its end, then sends it.
    async fn whole(mut self, head: AnswerHead, mut coming: Coming) -> Result<(), Refusal> {
        let mut body = BytesMut::new();
        loop {
            match self.next(&mut coming, None).await? {
                Ok(Some(piece)) => {
                    if let Some(piece) = self.call.arrived()?.passes(piece, Instant::now()) {
                        body.extend_from_slice(&piece);
                    }
                }
                Ok(None) => break,
                Err(broken) => {
                    self.warn(&coming, &broken)?;
                    return Err(broken.refusal);
                }
            }
        }
        let cost = self.call.arrived()?.reckon().cost;
        let snapshot = self.begin(head, &coming, cost).await?;
        self.gateway.upstream.release(coming.connection);
        self.write(&snapshot.server, body.freeze(), true).await
    }

    /// Sends the answer as it comes.
    async fn piecewise(mut self, head: AnswerHead, mut coming: Coming, events: bool) -> Result<(), Refusal> {
        let unframed = matches!(head.length, Length::Chunked | Length::ToClose);
        // HTTP/2 ends a body by a mark on its last piece, which is known where its length is.
        let mut left = match head.length {
            Length::Known(length) if self.session.is_http2() && length > 0 => Some(length),
            _ => None,
        };
        let snapshot = self.begin(head, &coming, None).await?;
        let settings = &snapshot.server;
        let mut tail = Tail::default();
        let broken = loop {
            match self.next(&mut coming, left).await? {
                Ok(Some(piece)) => {
                    let Some(piece) = self.call.arrived()?.passes(piece, Instant::now()) else { continue };
                    tail.push(&piece);
                    left = left.map(|left| left.saturating_sub(piece.len() as u64));
                    self.write(settings, piece, left == Some(0)).await?;
                }
                Ok(None) => {
                    if let Some(rest) = self.call.arrived()?.tap.as_mut().and_then(Tap::end) {
                        self.write(settings, rest, false).await?;
                    }
                    if left != Some(0) {
                        self.write(settings, Bytes::new(), true).await?;
                    }
                    self.gateway.upstream.release(coming.connection);
                    return Ok(());
                }
                Err(broken) => break broken,
            }
        };
        self.warn(&coming, &broken)?;
        if events && unframed && tail.is_between_events() {
            tell(self.session, settings, &broken.refusal).await;
        } else if self.session.is_http2() {
            tokio::time::sleep(BEFORE_RESET).await;
        }
        Err(broken.refusal)
    }

    /// Sends the head; gives the configuration that the call sees.
    async fn begin(&mut self, head: AnswerHead, coming: &Coming, cost: Option<Usd>) -> Result<Arc<Snapshot>, Refusal> {
        let Self { gateway, session, call } = self;
        let snapshot = Arc::clone(&call.arrived()?.snapshot);
        let unframed = matches!(head.length, Length::Chunked | Length::ToClose);
        let told = Told { cost, upstream_head: coming.after, gateway: call.own_time() };
        let facts = facts(session, call, &snapshot.server)?;
        let reply = wire::answer(head, &coming.provider, &told, &facts).map_err(unspeakable)?;
        if unframed && session.req_header().version == Version::HTTP_10 {
            session.set_keepalive(None);
        }
        part_when_draining(gateway, session);
        call.arrived()?.record.status = reply.status.as_u16();
        call.waiting(written(&snapshot.server, session.write_response_header(reply))).await?;
        Ok(snapshot)
    }

    /// Waits for the next piece as long as the client stays. One that has `left` nothing to get may leave: what is to come is
    /// the provider's own end, and the client has lost nothing where that goes wrong.
    async fn next(&mut self, coming: &mut Coming, left: Option<u64>) -> Result<Result<Option<Bytes>, Broken>, Refusal> {
        let idle = coming.provider.timeouts.idle;
        let next = next(&mut coming.connection, coming.deadline, idle);
        match left {
            Some(0) => Ok(self.call.waiting(next).await.or(Ok(None))),
            _ => self.call.waiting(while_client_stays(self.session, next)).await,
        }
    }

    async fn write(&mut self, settings: &ServerSettings, piece: Bytes, end: bool) -> Result<(), Refusal> {
        self.call.waiting(written(settings, self.session.write_response_body(piece, end))).await
    }

    fn warn(&mut self, coming: &Coming, broken: &Broken) -> Result<(), Refusal> {
        let request_id = &self.call.arrived()?.record.request_id;
        warn!("call {request_id}: provider {} in the middle of an answer: {}", coming.provider.id, broken.cause);
        Ok(())
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
