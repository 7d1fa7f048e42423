//! The way of an answer's body to the client.
//!
//! Never does: change a byte; end a body that it was not told is over.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;

use crate::config::ServerSettings;
use crate::error::Refusal;
use crate::proxy::exchange::{within, written};
use crate::proxy::listener;

/// The way to the client.
pub(super) struct Out<'s> {
    settings: &'s ServerSettings,
    tail: Tail,
    /// What is left of a body over HTTP/2 whose length is known.
    pub(super) left: Option<u64>,
    /// Whether the body goes out in chunks over HTTP/1.1, which takes a third of the work here of what it takes in Pingora.
    in_chunks: bool,
}

impl<'s> Out<'s> {
    /// Once the head was written; `left` is the length of a body over HTTP/2, where it is known.
    pub(super) fn behind_head(session: &ServerSession, settings: &'s ServerSettings, left: Option<u64>) -> Self {
        Self { settings, tail: Tail::default(), left, in_chunks: listener::is_in_chunks(session) }
    }

    /// Whether an event may begin here.
    pub(super) fn is_between_events(&self) -> bool {
        self.tail.is_between_events()
    }

    /// Sends a piece where that takes no wait. False where it does: what is left of the piece is then to be written.
    pub(super) async fn sends_at_once(&mut self, session: &ServerSession, piece: &mut Bytes) -> Result<bool, Refusal> {
        if !self.in_chunks || !listener::put_chunk(session, piece) {
            return Ok(false);
        }
        self.tail.push(piece);
        // A stream that is quiet from here on keeps nothing of what it was read into.
        *piece = Bytes::new();
        match poll_fn(|context| Poll::Ready(listener::poll_flush(session, context))).await {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(_)) => Err(Refusal::ClientGone),
            Poll::Pending => Ok(false),
        }
    }

    /// Writes what was here when the head was written, whose flush has waited for it, and sends both where `flushes`.
    pub(super) async fn begins(
        &mut self,
        session: &mut ServerSession,
        pieces: Vec<Bytes>,
        flushes: bool,
    ) -> Result<(), Refusal> {
        for piece in pieces {
            self.write(session, piece).await?;
        }
        listener::hold_flush(session, false);
        if flushes && self.tail.1 { self.flush(session).await } else { Ok(()) }
    }

    /// Writes a piece and sends it, and with it what was written before. Where its length is known, Pingora would let up to
    /// 16 KiB wait for more.
    pub(super) async fn write(&mut self, session: &mut ServerSession, piece: Bytes) -> Result<(), Refusal> {
        self.tail.push(&piece);
        if self.in_chunks && (piece.is_empty() || listener::put_chunk(session, &piece)) {
            drop(piece);
            return self.flush(session).await;
        }
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        written(self.settings, pin!(session.write_response_body(piece, self.left == Some(0)))).await?;
        self.flush(session).await
    }

    pub(super) async fn flush(&mut self, session: &ServerSession) -> Result<(), Refusal> {
        let sent = poll_fn(|context| listener::poll_flush(session, context));
        match within(|| tokio::time::Instant::now() + self.settings.idle_timeout, pin!(sent)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Refusal::ClientGone),
        }
    }

    pub(super) async fn end(&mut self, session: &mut ServerSession) -> Result<(), Refusal> {
        if self.left == Some(0) {
            return Ok(());
        }
        written(self.settings, pin!(session.write_response_body(Bytes::new(), true))).await
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
