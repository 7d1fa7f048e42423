//! What is written to a client, on its way out: it waits for its flush in a buffer that is large only while it holds much.
//! For calls whose bodies pass unread it does not wait: Pingora flushes a body whose length is known at its end only.
//!
//! Invariant: all bytes leave in the order in which they were written, before a flush or the end of the connection is over.
//! Never does: hold more than 16 KiB and a head; read.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use pingora_core::protocols::Stream;
use tokio::io::AsyncWrite as _;

use crate::proxy::watch;

/// Bytes that may wait.
const ROOM: usize = 16 * 1024;
/// The most bytes around a chunk: its size of up to 16 digits, and two line ends.
const MOST_AROUND: usize = 20;
/// What is kept of the buffer while it is empty: as much as is cheaper to keep than to ask for again.
const KEPT: usize = 512;

/// The way to one client.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) stream: Stream,
    buffer: Vec<u8>,
    /// How much of the buffer has left.
    gone: usize,
    /// Whether a write is sent without a flush.
    pub(super) at_once: bool,
    /// Whether the next write is followed by another one, so that it waits for that.
    pub(super) has_company: bool,
    /// Whether the client has not taken what was to be sent.
    pub(super) is_stuck: bool,
}

impl Out {
    pub(super) fn to(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), gone: 0, at_once: false, has_company: false, is_stuck: false }
    }

    /// Takes a head, which may be longer than what waits otherwise.
    pub(super) fn put_head(&mut self, head: Vec<u8>) {
        if self.buffer.is_empty() {
            self.buffer = head;
        } else {
            self.buffer.extend_from_slice(&head);
        }
    }

    /// Takes a piece; false where it has no room for it.
    pub(super) fn put(&mut self, piece: &[u8]) -> bool {
        let fits = self.buffer.len() + piece.len() <= ROOM;
        if fits {
            self.buffer.extend_from_slice(piece);
        }
        fits
    }

    /// Takes a piece of a body in chunks (RFC 9112 section 7.1); false where it has no room for it.
    pub(super) fn put_chunk(&mut self, piece: &[u8]) -> bool {
        let fits = !piece.is_empty() && self.buffer.len() + piece.len() <= ROOM;
        if fits {
            self.buffer.reserve(piece.len() + MOST_AROUND);
            self.put_size(piece.len());
            self.buffer.extend_from_slice(piece);
            self.put_line_end();
        }
        fits
    }

    /// Takes what stands behind a chunk.
    pub(super) fn put_line_end(&mut self) {
        self.buffer.extend_from_slice(b"\r\n");
    }

    /// Takes the end of a body in chunks.
    pub(super) fn put_end(&mut self) {
        self.buffer.extend_from_slice(b"0\r\n\r\n");
    }

    /// Takes the line of a chunk's size, without the work of the formatter, which is as much as all the rest of a chunk's.
    pub(super) fn put_size(&mut self, size: usize) {
        let digits = (size.ilog2() / 4 + 1) as usize;
        let digit = |at: usize| b"0123456789ABCDEF"[(size >> (4 * at)) & 15];
        self.buffer.extend((0..digits).rev().map(digit));
        self.buffer.extend_from_slice(b"\r\n");
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.poll_take(context, bytes);
        self.noted(context, written)
    }

    /// Sends what was taken, where that does not wait for a flush. What the client does not take now goes with the next
    /// write, or once the connection is looked at and has room.
    fn noted(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if self.at_once {
            self.stuck(written.is_pending());
            if matches!(written, Poll::Ready(Ok(_))) && !mem::take(&mut self.has_company) {
                self.push_on(context);
            }
        }
        written
    }

    /// Sends what waits, as far as the client takes it. Whoever writes or flushes next is told what went wrong.
    pub(super) fn push_on(&mut self, context: &mut Context<'_>) {
        let is_stuck = self.poll_sent(context).is_pending();
        self.stuck(is_stuck);
    }

    fn stuck(&mut self, is_stuck: bool) {
        if mem::replace(&mut self.is_stuck, is_stuck) != is_stuck && self.at_once {
            watch::stuck(is_stuck);
        }
    }

    fn poll_take(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Where nobody flushes, who writes waits until the client has taken it.
        if bytes.len() >= ROOM || (self.at_once && !self.has_company) {
            return self.poll_send(context, bytes);
        }
        if self.buffer.len() + bytes.len() > ROOM {
            ready!(self.poll_drain(context))?;
        }
        self.buffer.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Hands on what waits, and with the end of it as much of the bytes as goes: a head and a large body take one call.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        while self.gone < self.buffer.len() {
            let slices = [&self.buffer[self.gone..], bytes].map(IoSlice::new);
            match ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.gone += sent,
            }
        }
        match self.gone - self.buffer.len() {
            0 => {
                self.emptied();
                Pin::new(&mut self.stream).poll_write(context, bytes)
            }
            sent => {
                self.emptied();
                Poll::Ready(Ok(sent))
            }
        }
    }

    pub(super) fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.poll_take_vectored(context, slices);
        self.noted(context, written)
    }

    fn poll_take_vectored(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let size = slices.iter().map(|slice| slice.len()).sum::<usize>();
        if self.buffer.len() + size > ROOM {
            ready!(self.poll_drain(context))?;
        }
        if size >= ROOM {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        self.buffer.reserve(size);
        slices.iter().for_each(|slice| self.buffer.extend_from_slice(slice));
        Poll::Ready(Ok(size))
    }

    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let sent = self.poll_sent(context);
        self.stuck(sent.is_pending());
        sent
    }

    fn poll_sent(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    /// Sends what waits, where it can be sent, and ends the connection.
    pub(super) async fn shutdown(&mut self) {
        let _ = poll_fn(|context| self.poll_drain(context)).await;
        self.stream.shutdown().await;
    }

    /// Hands on what waits.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.buffer.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.buffer[self.gone..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => self.gone += more,
            }
        }
        self.emptied();
        Poll::Ready(Ok(()))
    }

    fn emptied(&mut self) {
        self.gone = 0;
        self.buffer.clear();
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
    }
}

/// What was written is sent where that takes no wait, as Pingora does with what it buffers itself.
impl Drop for Out {
    fn drop(&mut self) {
        if self.gone < self.buffer.len() {
            // Nobody is left to be told.
            let _ = self.poll_drain(&mut Context::from_waker(Waker::noop()));
        }
    }
}

#[cfg(test)]
mod tests;
