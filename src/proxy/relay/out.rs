//! The way of an answer's body to the client.
//!
//! Never does: change a byte; end a body that it was not told is over.

use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;

use crate::config::ServerSettings;
use crate::error::Refusal;
use crate::proxy::exchange::{within, written};
use crate::proxy::listener;
use crate::proxy::upstream::{Broken, Connection};
use crate::proxy::waits::Watch;

/// The way to the client.
pub(super) struct Out<'s> {
    settings: &'s ServerSettings,
    tail: Tail,
    /// What is left of a body over HTTP/2 whose length is known.
    left: Option<u64>,
    /// Whether the body goes out in chunks over HTTP/1.1, which takes a third of the work here of what it takes in Pingora.
    in_chunks: bool,
    /// Whether something that was written is not sent.
    is_unsent: bool,
}

/// What comes next of an answer.
pub(super) enum Next {
    /// A piece, the end, or a fault.
    Came(Result<Option<Bytes>, Broken>),
    /// First the client has to take what was written.
    Blocked,
}

impl<'s> Out<'s> {
    /// Once the head was written; `left` is the length of a body over HTTP/2, where it is known.
    pub(super) fn behind_head(session: &ServerSession, settings: &'s ServerSettings, left: Option<u64>) -> Self {
        Self { settings, tail: Tail::default(), left, in_chunks: listener::is_in_chunks(session), is_unsent: false }
    }

    /// Whether an event may begin here.
    pub(super) fn is_between_events(&self) -> bool {
        self.tail.is_between_events()
    }

    /// Writes a piece that is sent together with what comes before the next wait for the provider. False where it has to be
    /// waited for: it is then to be written.
    pub(super) fn puts(&mut self, session: &ServerSession, piece: &Bytes) -> bool {
        let put = self.in_chunks && (piece.is_empty() || listener::put_chunk(session, piece));
        if put {
            self.tail.push(piece);
            self.is_unsent = true;
        }
        put
    }

    /// The next of an answer. What was written is sent before that is waited for, and not before it is looked for: pieces that
    /// are here together leave together, the end with the last one.
    ///
    /// # Errors
    /// `ClientGone`.
    pub(super) async fn next(
        &mut self,
        session: &mut ServerSession,
        live: &mut Connection,
        watch: &mut Watch<'_>,
    ) -> Result<Next, Refusal> {
        if self.left == Some(0) {
            // A client that has everything may leave: what is to come is the provider's own end, and nothing is lost where
            // that goes wrong.
            return Ok(Next::Came(watch.next(None, live).await?.or(Ok(None))));
        }
        poll_fn(|context| {
            if let Poll::Ready(came) = live.poll_chunk(context) {
                return Poll::Ready(Ok(Next::Came(came)));
            }
            if mem::take(&mut self.is_unsent) {
                match listener::poll_flush(session, context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::ClientGone)),
                    Poll::Pending => return Poll::Ready(Ok(Next::Blocked)),
                }
            }
            watch.poll_over(Some(session), context).map_ok(Next::Came)
        })
        .await
    }

    /// Writes what was here when the head was written, whose flush has waited for it, and sends both where `flushes` and
    /// nothing else is about to.
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
        self.is_unsent = self.in_chunks;
        if flushes && !self.is_unsent { self.flush(session).await } else { Ok(()) }
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

    /// Tells a client inside its stream that it was cut, in the shape on which its SDK raises; no end follows. Over HTTP/1.1
    /// the caller then aborts the connection; over HTTP/2 this is the end, because a reset would overtake the event.
    pub(super) async fn tell(&mut self, session: &mut ServerSession, event: String) {
        let end = session.is_http2();
        // The stream is lost either way.
        let _ = written(self.settings, session.write_response_body(event.into(), end)).await;
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
