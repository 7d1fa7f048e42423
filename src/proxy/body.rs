//! Reading a request's body into memory, bounded in size, in time and over all calls together.
//!
//! Invariant: what is held is accounted for from before it is read until it is dropped.
//! Never does: wait for room; a body that finds none is refused.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderValue, Version};
use pingora_core::ErrorType;
use pingora_core::protocols::http::ServerSession;

use crate::config::ServerSettings;
use crate::error::{Overload, Refusal};
use crate::meter::{Splice, spliced, undoing};

use super::exchange::{within, written};
use super::listener;

/// The bytes of all bodies that are held now.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    held: AtomicU64,
}

/// A share of the buffers, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    buffers: Arc<Buffers>,
    bytes: u64,
}

/// A whole body and its share of the buffers.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    /// What takes back the changes that were made of it for a target.
    undo: Vec<Splice>,
    share: Share,
}

/// Room that is made at once for a body of unknown or large size.
const FIRST_ROOM: usize = 64 * 1024;
/// How long a refused client may go on sending before its connection is closed.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of an unread body that are read and thrown away, so that the connection stays usable.
const DRAIN: u64 = 1024 * 1024;

impl Body {
    /// That of a request that has none.
    pub(super) fn none(buffers: &Arc<Buffers>) -> Self {
        Self { bytes: Bytes::new(), undo: Vec::new(), share: Share::of(buffers) }
    }

    /// The body with these changes made in place of those of before. The few bytes that it grows by are not accounted for.
    pub(super) fn with(&mut self, changes: Vec<Splice>) {
        self.bytes = spliced(&self.bytes, std::mem::take(&mut self.undo));
        self.undo = undoing(&self.bytes, &changes);
        self.bytes = spliced(&self.bytes, changes);
    }

    /// This body with other bytes, accounted for where they are more.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) fn replaced(mut self, bytes: Bytes, max_buffered: u64) -> Result<Self, Refusal> {
        let more = (bytes.len() as u64).saturating_sub(self.share.bytes);
        if more > 0 {
            self.share.grow(more, max_buffered)?;
        }
        Ok(Self { bytes, undo: Vec::new(), share: self.share })
    }
}

impl Share {
    /// A share of nothing yet.
    pub(super) fn of(buffers: &Arc<Buffers>) -> Self {
        Self { buffers: Arc::clone(buffers), bytes: 0 }
    }

    /// Makes it this large, where it is not.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) fn grow_to(&mut self, bytes: usize, ceiling: u64) -> Result<(), Refusal> {
        match (bytes as u64).saturating_sub(self.bytes) {
            0 => Ok(()),
            more => self.grow(more, ceiling),
        }
    }

    fn grow(&mut self, bytes: u64, ceiling: u64) -> Result<(), Refusal> {
        let held = self.buffers.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        if held.saturating_add(bytes) > ceiling { Err(Refusal::Overloaded(Overload::Bodies)) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.buffers.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Reads the whole body of an admitted call. A client that waits for `100 Continue` is told to go on.
///
/// # Errors
/// `BodyTooLarge`, `BodyTooSlow`, `BadBody`, `Overloaded`; `ClientGone` where the connection broke.
pub(super) async fn read(
    session: &mut ServerSession,
    buffers: &Arc<Buffers>,
    settings: &ServerSettings,
) -> Result<Body, Refusal> {
    let mut share = Share::of(buffers);
    let declared = declared(session);
    if let Some(length) = declared {
        if length > settings.max_body {
            return Err(Refusal::BodyTooLarge(settings.max_body));
        }
        share.grow(length, settings.max_buffered)?;
    }
    invite(session, settings).await?;
    let bytes = {
        let whole = pin!(gather(session, &mut share, declared, settings));
        let end = || tokio::time::Instant::now() + settings.body_timeout;
        within(end, whole).await.ok_or(Refusal::BodyTooSlow)??
    };
    if declared.is_none() {
        part_behind_odd_chunks(session);
    }
    Ok(Body { bytes, undo: Vec::new(), share })
}

/// Tells a client that waits for `100 Continue` to go on.
///
/// # Errors
/// `ClientGone`.
pub(super) async fn invite(session: &mut ServerSession, settings: &ServerSettings) -> Result<(), Refusal> {
    if waits_for_continue(session) {
        // Pingora would take it for the answer to a body that is not read, and announce a close.
        session.set_close_on_response_before_downstream_finish(false);
        written(settings, session.write_continue_response()).await?;
        session.set_close_on_response_before_downstream_finish(true);
    }
    Ok(())
}

async fn gather(
    session: &mut ServerSession,
    share: &mut Share,
    declared: Option<u64>,
    settings: &ServerSettings,
) -> Result<Bytes, Refusal> {
    let mut whole = BytesMut::new();
    while let Some(piece) = session.read_request_body().await.map_err(|error| refusal(&error))? {
        if declared.is_none() {
            share.grow(piece.len() as u64, settings.max_buffered)?;
        }
        if whole.is_empty() {
            // Most bodies are one piece, which needs no copy.
            if declared.is_some_and(|length| length == piece.len() as u64) {
                ended(session).await?;
                return Ok(piece);
            }
            let expected = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
            whole.reserve(expected.min(FIRST_ROOM).max(piece.len()));
        }
        if (whole.len() + piece.len()) as u64 > settings.max_body {
            return Err(Refusal::BodyTooLarge(settings.max_body));
        }
        if let Some(rest) = declared.and_then(|length| usize::try_from(length).ok()?.checked_sub(whole.len()))
            && whole.capacity() - whole.len() < piece.len()
        {
            // All of it at once: doubling would end at twice the size that is accounted for.
            whole.reserve(rest);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// HTTP/2 may end a body by a frame of its own, and a stream without one would be reset behind its answer. That nothing
/// but the end comes is held by the framing: bytes beyond `content-length` are an error (RFC 9113 section 8.1.1).
async fn ended(session: &mut ServerSession) -> Result<(), Refusal> {
    if session.is_http2() {
        while session.read_request_body().await.map_err(|error| refusal(&error))?.is_some() {}
    }
    Ok(())
}

/// What a fault on the client's side comes to.
pub(super) fn refusal(error: &pingora_core::Error) -> Refusal {
    match error.etype() {
        ErrorType::ReadTimedout => Refusal::BodyTooSlow,
        // What HTTP/2 tells of a client that leaves behind its body is `H2Error`.
        ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error => Refusal::ClientGone,
        _ => Refusal::BadBody,
    }
}

/// Source: RFC 9110 section 10.1.1, which also says that HTTP/1.0 has no such thing.
fn waits_for_continue(session: &ServerSession) -> bool {
    let head = session.req_header();
    let expects = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    head.version != Version::HTTP_10 && head.headers.get(EXPECT).is_some_and(expects)
}

fn declared(session: &ServerSession) -> Option<u64> {
    session.req_header().headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Decides, before a refusal is written, whether the connection can stay: a small unread body is read behind the answer.
/// Behind a body whose end cannot be known, whatever follows would be read as a request.
pub(super) fn before_refusal(session: &mut ServerSession, refusal: &Refusal) {
    if matches!(refusal, Refusal::BadBody | Refusal::BodyTooSlow) {
        session.set_keepalive(None);
        return;
    }
    let waits = session.req_header().headers.contains_key(EXPECT);
    if !session.is_body_done() && !waits && declared(session).is_some_and(|length| length <= DRAIN) {
        session.set_close_on_response_before_downstream_finish(false);
        session.set_total_drain_timeout(Some(LINGER));
    }
}

/// Ends the connection behind a body in chunks whose end another server could have seen elsewhere.
pub(super) fn part_behind_odd_chunks(session: &mut ServerSession) {
    if session.req_header().headers.contains_key(TRANSFER_ENCODING) && !listener::ended_plainly(session) {
        session.set_keepalive(None);
    }
}

/// Reads on for a moment after a refusal, so that a client which is still sending can read the answer before its
/// connection is reset.
pub(super) async fn after_refusal(session: &mut ServerSession, settings: &ServerSettings) {
    if session.is_body_done() {
        return;
    }
    let drained = async {
        let mut left = settings.max_body.max(DRAIN);
        while let Ok(Some(piece)) = session.read_request_body().await {
            left = left.saturating_sub(piece.len() as u64);
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_given_back_even_where_it_did_not_fit() {
        let buffers = Arc::new(Buffers::default());
        let mut share = Share { buffers: Arc::clone(&buffers), bytes: 0 };
        assert_eq!(share.grow(60, 100), Ok(()));
        assert_eq!(share.grow(60, 100), Err(Refusal::Overloaded(Overload::Bodies)));
        let body = Body { bytes: Bytes::new(), undo: Vec::new(), share };
        let body = body.replaced(Bytes::from_static(&[0; 130]), 130).expect("room");
        assert_eq!(buffers.held.load(Ordering::Relaxed), 130);
        let body = body.replaced(Bytes::from_static(b"short"), 0).expect("no more than before");
        assert!(body.replaced(Bytes::from_static(&[0; 131]), 130).is_err());
        assert_eq!(buffers.held.load(Ordering::Relaxed), 0);
    }
}
