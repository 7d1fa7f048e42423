//! A client's connection under guard: the head of each request has to come in time, counted as a whole.
//!
//! Invariant: no drip of bytes renews a deadline, and nothing is cut while a request is being served; the proxy says when
//! that begins and ends. What is written waits for its flush, so that an answer's head and a small body leave together.
//! Never does: look at bytes but for how their lines end; know a limit that it was not given.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use http::header::TRANSFER_ENCODING;
use parking_lot::Mutex;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::tls::SslDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::telemetry::{Telemetry, TurnedAway};

use out::Out;
pub(super) use switched::{mark, switched, took_mark};

mod out;
mod switched;

/// What a client that speaks HTTP/2 sends first. Source: RFC 9113 section 3.4.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// The end of a body in chunks, with what every chunk and every head before it ends with.
const PLAIN_END: [u8; 7] = *b"\r\n0\r\n\r\n";

/// A head is on its way, or the first one is awaited: the deadline counts.
const HEAD: u8 = 0;
/// A request is being served, or HTTP/2 has begun: bytes pass, whenever they come.
const SERVED: u8 = 1;
/// A request is over and nothing of the next one has come: how long that may last is the keep-alive's.
const QUIET: u8 = 2;
/// As `SERVED`, and its body comes in chunks.
const CHUNKS: u8 = 3;
/// As `SERVED`, and what is read next is a mark, which nobody sent.
const MARK: u8 = 4;

/// The heads that are awaited: of connections that have sent none so far, and of requests that have begun. Who has
/// connected, or begun to speak, before the listeners closed is served.
#[derive(Debug, Default)]
pub(crate) struct Heads(AtomicUsize);

impl Heads {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts the head of a connection that has no guard yet.
    pub(crate) fn awaited(self: &Arc<Self>) -> Awaited {
        self.0.fetch_add(1, Ordering::Relaxed);
        Awaited(Arc::clone(self))
    }
}

/// A head that is awaited for as long as this lives.
#[derive(Debug)]
pub(crate) struct Awaited(Arc<Heads>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's connection whose heads have to come in time.
#[derive(Debug)]
pub(crate) struct Guard {
    /// The connection, which [`put`] writes to through a shared reference; nobody ever waits for it.
    out: Mutex<Out>,
    /// Written through a shared reference by [`begins`] and [`over`], in the task that reads: no other order is needed.
    stage: AtomicU8,
    heads: Arc<Heads>,
    /// The end of the wait for a head; absent until there is one to wait for.
    due: Option<Pin<Box<Sleep>>>,
    /// How long a head may take.
    within: Duration,
    /// Bytes of HTTP/2's preface that have not come; 0 for HTTP/1.1.
    preface: usize,
    /// The bytes that came last.
    last: [u8; PLAIN_END.len()],
    /// Whether all that may belong to this request was looked at, and no line of it ended without CR.
    plain: AtomicBool,
    telemetry: Arc<Telemetry>,
}

impl Guard {
    /// Guards a new connection: its first head is due from now on.
    pub(crate) fn new(stream: Stream, within: Duration, telemetry: Arc<Telemetry>, awaited: Awaited) -> Self {
        let preface = if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) { PREFACE } else { 0 };
        let due = Some(Box::pin(sleep(within)));
        let heads = Arc::clone(&awaited.0);
        // Its own count, before that of the connection ends.
        heads.0.fetch_add(1, Ordering::Relaxed);
        drop(awaited);
        Self {
            out: Mutex::new(Out::to(stream)),
            stage: AtomicU8::new(HEAD),
            heads,
            due,
            within,
            preface,
            last: [0; PLAIN_END.len()],
            plain: AtomicBool::new(true),
            telemetry,
        }
    }

    /// Takes note of what came; what is no head and no chunk may be long, and is not looked at.
    fn note(&mut self, came: &[u8], looks: bool) {
        let [first, rest @ ..] = came else { return };
        let is_odd = |(before, byte): (&u8, &u8)| (*byte == b'\n') & (*before != b'\r');
        let begins_oddly = is_odd((&self.last[PLAIN_END.len() - 1], first));
        // All of it is looked at, which goes by the dozen.
        if !looks || came.iter().zip(rest).fold(begins_oddly, |any, pair| any | is_odd(pair)) {
            *self.plain.get_mut() = false;
        }
        if let Some(last) = came.last_chunk() {
            self.last = *last;
        } else {
            self.last.rotate_left(came.len());
            let from = self.last.len() - came.len();
            self.last[from..].copy_from_slice(came);
        }
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
        let read = Pin::new(&mut self.out.get_mut().stream).poll_read(context, buffer);
        let came = buffer.filled().len() - before;
        self.note(&buffer.filled()[before..], true);
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
    let chunks = session.req_header().headers.contains_key(TRANSFER_ENCODING);
    set(session, if chunks { CHUNKS } else { SERVED });
}

/// Takes note that a request is over. A WebSocket is over with its connection.
pub(super) fn over(session: &ServerSession) {
    set(session, QUIET);
}

/// Whether a body in chunks was spelt as everybody reads it, and its end was the last thing that came. Pingora takes a line
/// without a size for the last chunk's, passes over trailers, and lets a chunk's extension hold a line's end without CR; where a
/// server in front saw the end of the body elsewhere, what came behind it would be a request that nobody sent.
pub(super) fn ended_plainly(session: &ServerSession) -> bool {
    guard(session).is_none_or(|guard| guard.plain.load(Ordering::Relaxed) && guard.last == PLAIN_END)
}

/// Takes note that nothing of the next request has come.
pub(super) fn afresh(stream: &Stream) {
    if let Some(guard) = (**stream).as_any().downcast_ref::<Guard>() {
        guard.plain.store(true, Ordering::Relaxed);
    }
}

/// Whether an answer is written by what is below: over HTTP/1.x. Pingora knows nothing of it then.
pub(super) fn takes_answers(session: &ServerSession) -> bool {
    guard(session).is_some()
}

/// Writes an answer's head, to its empty line; as all that is put, it is sent by [`poll_flush`].
pub(super) fn put_head(session: &ServerSession, head: Vec<u8>) {
    if let Some(guard) = guard(session) {
        guard.out.lock().put_head(head);
    }
}

/// Writes a piece of a body, in a chunk or as it is; false where there is no room for it.
pub(super) fn put(session: &ServerSession, piece: &[u8], in_chunks: bool) -> bool {
    guard(session).is_some_and(|guard| {
        let mut out = guard.out.lock();
        if in_chunks { out.put_chunk(piece) } else { out.put(piece) }
    })
}

/// Writes what stands before a chunk of that size whose bytes are written by [`poll_write`].
pub(super) fn begin_chunk(session: &ServerSession, size: usize) {
    if let Some(guard) = guard(session) {
        guard.out.lock().put_size(size);
    }
}

/// Writes what stands behind such a chunk.
pub(super) fn end_chunk(session: &ServerSession) {
    if let Some(guard) = guard(session) {
        guard.out.lock().put_line_end();
    }
}

/// Writes the end of a body in chunks.
pub(super) fn put_end(session: &ServerSession) {
    if let Some(guard) = guard(session) {
        guard.out.lock().put_end();
    }
}

/// Writes, and sends what there is no room for.
pub(super) fn poll_write(session: &ServerSession, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match guard(session) {
        Some(guard) => guard.out.lock().poll_write(context, bytes),
        None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
    }
}

/// Lets what is written be sent without a flush, or no longer.
pub(super) fn send_at_once(session: &ServerSession, at_once: bool) {
    if let Some(guard) = guard(session) {
        let mut out = guard.out.lock();
        (out.at_once, out.has_company) = (at_once, false);
    }
}

/// Lets the head, which is written next, wait for what is written behind it.
pub(super) fn head_has_company(session: &ServerSession) {
    if let Some(guard) = guard(session) {
        guard.out.lock().has_company = true;
    }
}

/// Sends what was written.
pub(super) fn poll_flush(session: &ServerSession, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    guard(session).map_or(Poll::Ready(Ok(())), |guard| guard.out.lock().poll_flush(context))
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
            stage @ (SERVED | CHUNKS) => {
                self.due = None;
                let before = buffer.filled().len();
                let out = self.out.get_mut();
                if out.at_once && out.is_stuck {
                    out.push_on(context);
                }
                let read = Pin::new(&mut out.stream).poll_read(context, buffer);
                self.note(&buffer.filled()[before..], stage == CHUNKS);
                read
            }
            MARK => self.poll_mark(buffer),
            stage => self.poll_head(stage, context, buffer),
        }
    }
}

impl AsyncWrite for Guard {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.out.get_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.get_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.out.get_mut().poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.out.get_mut().poll_write_vectored(context, slices)
    }

    /// What waits for its flush is copied anyway.
    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for Guard {
    async fn shutdown(&mut self) {
        self.out.get_mut().shutdown().await;
    }
}

impl UniqueID for Guard {
    fn id(&self) -> UniqueIDType {
        self.out.lock().stream.id()
    }
}

impl Ssl for Guard {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.out.lock().stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.out.lock().stream.selected_alpn_proto()
    }
}

impl GetTimingDigest for Guard {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.out.lock().stream.get_timing_digest()
    }
}

impl GetProxyDigest for Guard {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.out.lock().stream.get_proxy_digest()
    }
}

impl GetSocketDigest for Guard {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.out.lock().stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.out.get_mut().stream.set_socket_digest(digest);
    }
}

#[async_trait]
impl Peek for Guard {}

#[cfg(test)]
pub(super) mod tests;
