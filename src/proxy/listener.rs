//! A client's connection under guard: the head of each request has to come in time, counted as a whole.
//!
//! Invariant: no drip of bytes renews a deadline, and nothing is cut while a request is being served; the proxy says when
//! that begins and ends.
//! Never does: look at a byte; know a limit that it was not given.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::tls::{SslDigest, TlsRef};
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::telemetry::{Telemetry, TurnedAway};

/// What a client that speaks HTTP/2 sends first. Source: RFC 9113 section 3.4.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A head is on its way, or the first one is awaited: the deadline counts.
const HEAD: u8 = 0;
/// A request is being served, or HTTP/2 has begun: bytes pass, whenever they come.
const SERVED: u8 = 1;
/// A request is over and nothing of the next one has come: how long that may last is the keep-alive's.
const QUIET: u8 = 2;

/// The heads that are awaited: of connections that have sent none so far, and of requests that have begun. Who has
/// connected, or begun to speak, before the listeners closed is served.
#[derive(Debug, Default)]
pub(crate) struct Heads(AtomicUsize);

impl Heads {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A client's connection whose heads have to come in time.
#[derive(Debug)]
pub(crate) struct Guard {
    stream: Stream,
    /// Written through a shared reference by [`begins`] and [`over`], in the task that reads: no other order is needed.
    stage: AtomicU8,
    heads: Arc<Heads>,
    /// The end of the wait for a head; absent until there is one to wait for.
    due: Option<Pin<Box<Sleep>>>,
    /// How long a head may take.
    within: Duration,
    /// Bytes of HTTP/2's preface that have not come; 0 for HTTP/1.1.
    preface: usize,
    /// Lines that go into the next head, put here through a shared reference by [`put_lines`].
    lines: Mutex<Vec<u8>>,
    /// A head with such lines, and how much of it was written.
    head: Option<(Vec<u8>, usize)>,
    telemetry: Arc<Telemetry>,
}

impl Guard {
    /// Guards a new connection: its first head is due from now on.
    pub(crate) fn new(stream: Stream, within: Duration, telemetry: Arc<Telemetry>, heads: Arc<Heads>) -> Self {
        let preface = if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) { PREFACE } else { 0 };
        let due = Some(Box::pin(sleep(within)));
        heads.0.fetch_add(1, Ordering::Relaxed);
        let (stage, lines) = (AtomicU8::new(HEAD), Mutex::default());
        Self { stream, stage, heads, due, within, preface, lines, head: None, telemetry }
    }

    fn set(&self, stage: u8) {
        match (self.stage.swap(stage, Ordering::Relaxed), stage) {
            (HEAD, HEAD) => {}
            (HEAD, _) => drop(self.heads.0.fetch_sub(1, Ordering::Relaxed)),
            (_, HEAD) => drop(self.heads.0.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    fn poll_head(&mut self, stage: u8, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let came = buffer.filled().len() - before;
        if stage == QUIET {
            if came > 0 {
                self.set(HEAD);
                self.due = None;
            }
            return read;
        }
        if self.preface > 0 {
            self.preface = self.preface.saturating_sub(came);
            if self.preface == 0 {
                self.set(SERVED);
                return read;
            }
        }
        if read.is_pending() {
            let within = self.within;
            // A kept connection's head that came whole, as most do, never gets here, and so costs no timer.
            let due = self.due.get_or_insert_with(|| Box::pin(sleep(within)));
            if due.as_mut().poll(context).is_ready() {
                self.telemetry.turn_away(TurnedAway::HeadTimeout);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        read
    }
}

/// Takes note that the head of a request has come and that it is being served.
pub(super) fn begins(session: &ServerSession) {
    set(session, SERVED);
}

/// Takes note that a request is over. A WebSocket is over with its connection.
pub(super) fn over(session: &ServerSession) {
    set(session, QUIET);
}

/// Whether lines can be put into a session's head: over HTTP/1.1.
pub(super) fn takes_lines(session: &ServerSession) -> bool {
    guard(session).is_some()
}

/// Puts header lines, each with its end, into the head that the session writes next, behind those that it has itself.
pub(super) fn put_lines(session: &ServerSession, lines: Vec<u8>) {
    if let Some(guard) = guard(session) {
        *guard.lines.lock() = lines;
    }
}

fn set(session: &ServerSession, stage: u8) {
    if let Some(guard) = guard(session) {
        guard.set(stage);
    }
}

/// Over HTTP/2 a session has no stream of its own.
fn guard(session: &ServerSession) -> Option<&Guard> {
    session.stream().and_then(|stream| (**stream).as_any().downcast_ref::<Guard>())
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.set(SERVED);
    }
}

impl AsyncRead for Guard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.stage.load(Ordering::Relaxed) {
            SERVED => {
                self.due = None;
                Pin::new(&mut self.stream).poll_read(context, buffer)
            }
            stage => self.poll_head(stage, context, buffer),
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.lines.get_mut().is_empty() {
            let mut head = bytes.strip_suffix(b"\r\n").ok_or(io::ErrorKind::InvalidData)?.to_vec();
            head.append(self.lines.get_mut());
            head.extend_from_slice(b"\r\n");
            self.head = Some((head, 0));
        }
        let Self { stream, head, .. } = &mut *self;
        while let Some((text, written)) = head {
            match ready!(Pin::new(&mut *stream).poll_write(context, &text[*written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
            if *written == text.len() {
                *head = None;
                return Poll::Ready(Ok(bytes.len()));
            }
        }
        Pin::new(stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Guard {
    async fn shutdown(&mut self) {
        self.stream.shutdown().await;
    }
}

impl UniqueID for Guard {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl Ssl for Guard {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Guard {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl GetProxyDigest for Guard {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Guard {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

#[async_trait]
impl Peek for Guard {}

#[cfg(test)]
mod tests;
