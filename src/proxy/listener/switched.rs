//! A client's connection that speaks another protocol from here on.
//!
//! Invariant: what the session has written leaves before what is written here.
//! Never does: keep a byte that it was given.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use pingora_core::protocols::http::ServerSession;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Guard, MARK, SERVED, guard, set};

/// The connection of a session, which is not to read or write meanwhile.
pub(in crate::proxy) struct Switched<'s>(&'s Guard);

/// The connection behind a session over HTTP/1.1.
pub(in crate::proxy) fn switched(session: &ServerSession) -> Option<Switched<'_>> {
    guard(session).map(Switched)
}

/// Makes the next read of a request that is being served give one byte, of value 0, that nobody sent.
pub(in crate::proxy) fn mark(session: &ServerSession) {
    set(session, MARK);
}

/// Whether that byte was read; it is not to come any more.
pub(in crate::proxy) fn took_mark(session: &ServerSession) -> bool {
    guard(session).is_some_and(|guard| guard.stage.swap(SERVED, Ordering::Relaxed) != MARK)
}

impl Guard {
    pub(super) fn poll_mark(&self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buffer.put_slice(&[0]);
        self.set(SERVED);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Switched<'_> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.out.lock().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Switched<'_> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.out.lock().poll_send(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.out.lock().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.out.lock().poll_shutdown(context)
    }
}
