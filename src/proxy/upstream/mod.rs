//! One HTTP/1.1 exchange with a provider: connect, send, head, chunk, release. The only place that knows how.
//!
//! Lean on purpose: heads are parsed by `httparse` into slices of what was read, over the pooled TCP and TLS streams of
//! Pingora's `TransportConnector`. `benches/upstream.rs` compares it with Pingora's own `connectors::http` session.
//!
//! Invariant: an answer is complete only where its framing says so; a connection is used again only after a whole
//! request and a whole answer with nothing behind it.
//! Never does: decide about retries, look into a body, touch the client's side.

mod answer;
mod framing;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora_core::ErrorType;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::Stream;
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::error::{Refusal, Silence, UpstreamFault};

pub(super) use answer::{AnswerHead, Length};
use framing::{Framing, Piece};

/// What a tunnel through a proxy that took too long fails with.
pub(super) const PROXY_TIMED_OUT: ErrorType = ErrorType::Custom("ProxyTimedout");
/// What a tunnel that could not be opened fails with.
pub(super) const PROXY_FAILED: ErrorType = ErrorType::ConnectProxyFailure;

/// Quiet connections that are kept in all. Each costs a file descriptor and its buffers.
const POOL_SIZE: usize = 1024;
/// How long a quiet connection is kept: below the idle limits of providers' edges, so that it is us who close.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Bytes of an answer's head, informational ones included.
const MAX_HEAD: usize = 64 * 1024;
/// Room for one read while little comes.
const SMALL_READ: usize = 4 * 1024;
/// Room for one read while much comes.
const LARGE_READ: usize = 64 * 1024;
/// Bodies up to this leave together with the head.
const ONE_WRITE: usize = 16 * 1024;
/// Pieces up to this are gathered into one, so that a burst of small chunks costs the client's side one write.
const GATHER: usize = 16 * 1024;

/// The connections to all providers.
pub(super) struct Upstream {
    connector: TransportConnector,
}

/// Why an exchange broke off.
#[derive(Debug)]
pub(super) struct Broken {
    /// What the client is told.
    pub(super) refusal: Refusal,
    /// What really happened, for the log.
    pub(super) cause: String,
}

/// One connection for the time of one exchange. Dropping it closes it, which cancels the call at the provider.
pub(super) struct Connection {
    stream: Stream,
    /// What was read and not yet handed on.
    buffer: BytesMut,
    read_size: usize,
    framing: Framing,
    /// Whether it came from the pool, so that the provider may have closed it a moment ago.
    pub(super) reused: bool,
    /// Whether anything of an answer has arrived.
    pub(super) answered: bool,
    /// Whether the whole request was sent.
    sent_whole: bool,
    /// Whether the provider will keep it open.
    keep: bool,
    pool_key: u64,
}

impl Upstream {
    pub(super) fn new() -> Self {
        Self { connector: TransportConnector::new(Some(ConnectorOptions::new(POOL_SIZE))) }
    }

    /// Takes a connection from the pool, or makes one where `fresh` is asked for or none is there.
    ///
    /// # Errors
    /// `Upstream(Connect)` and `UpstreamTimeout(Connect)`.
    pub(super) async fn connect(&self, peer: &HttpPeer, fresh: bool) -> Result<Connection, Broken> {
        let pooled = if fresh { None } else { self.connector.reused_stream(peer).await };
        let reused = pooled.is_some();
        let stream = match pooled {
            Some(stream) => stream,
            // Boxed, because the state of a TLS handshake would otherwise weigh on every open stream.
            None => {
                Box::pin(self.connector.new_stream(peer)).await.map_err(|error| Broken::connecting(peer, &error))?
            }
        };
        Ok(Connection {
            stream,
            buffer: BytesMut::new(),
            read_size: SMALL_READ,
            framing: Framing::Done,
            reused,
            answered: false,
            sent_whole: false,
            keep: false,
            pool_key: peer.reuse_hash(),
        })
    }

    /// Keeps the connection for the next exchange where that is safe, and closes it otherwise.
    pub(super) fn release(&self, connection: Connection) {
        let clean = matches!(connection.framing, Framing::Done) && connection.buffer.is_empty();
        if clean && connection.keep && connection.sent_whole {
            self.connector.release_stream(connection.stream, connection.pool_key, Some(POOL_IDLE));
        }
    }
}

impl Connection {
    /// Sends the request. A provider that answers before it has read everything is heard: the rest is then not sent.
    /// Where it closed its side, what it said before is for [`Self::head`] to read, so that this cannot fail.
    pub(super) async fn send(&mut self, mut head: Vec<u8>, body: &Bytes) {
        let mut rest: &[u8] = body;
        if body.len() <= ONE_WRITE {
            head.extend_from_slice(body);
            rest = &[];
        }
        let sent = match self.write(&head).await {
            Ok(true) => self.write(rest).await,
            other => other,
        };
        self.sent_whole = matches!(sent, Ok(true)) && self.stream.flush().await.is_ok();
    }

    /// Writes all; false where the provider began to answer in the meantime.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let mut rest = bytes;
        poll_fn(|context| {
            while !rest.is_empty() {
                let piece = &rest[..rest.len().min(LARGE_READ)];
                let written = Pin::new(&mut self.stream).poll_write(context, piece)?;
                match written {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(count) => rest = &rest[count..],
                    Poll::Pending => {}
                }
                // Asking costs a system call, so small requests ask only while they wait anyway.
                let ask = written.is_pending() || bytes.len() > LARGE_READ;
                if ask && self.poll_early_answer(context)?.is_ready() {
                    return Poll::Ready(Ok(rest.is_empty()));
                }
                if written.is_pending() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(Ok(true))
        })
        .await
    }

    fn poll_early_answer(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let mut room = [0; SMALL_READ];
        loop {
            let mut read = ReadBuf::new(&mut room);
            if Pin::new(&mut self.stream).poll_read(context, &mut read)?.is_pending() {
                return Ok(Poll::Pending);
            }
            if read.filled().is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(read.filled());
            self.answered = true;
            // An informational answer is no reason to stop: the provider still waits for the rest of the body.
            if answer::has_begun(&self.buffer) || self.buffer.len() > MAX_HEAD {
                return Ok(Poll::Ready(()));
            }
        }
    }

    /// Reads the answer's head; informational ones (1xx) are passed over. `head_only` is true for `HEAD`.
    ///
    /// # Errors
    /// `Upstream(Reset)` where the connection ended, `Upstream(BadAnswer)` where it is no unambiguous HTTP/1.1.
    pub(super) async fn head(&mut self, head_only: bool) -> Result<AnswerHead, Broken> {
        let mut passed = 0;
        loop {
            if let Some((head, size)) = answer::parse(&mut self.buffer, head_only)? {
                if !head.status.is_informational() {
                    self.keep = head.keep;
                    self.framing = match head.length {
                        Length::None | Length::Known(0) => Framing::Done,
                        Length::Known(length) => Framing::Length(length),
                        Length::Chunked => Framing::chunked(),
                        Length::ToClose => Framing::ToClose,
                    };
                    return Ok(head);
                }
                passed += size;
                if passed <= MAX_HEAD {
                    continue;
                }
            }
            if passed + self.buffer.len() > MAX_HEAD {
                return Err(Broken::bad("a head of more than 64 KiB"));
            }
            if self.fill().await? == 0 {
                return Err(Broken::reset("the connection ended before the answer's head"));
            }
        }
    }

    /// The next bytes of the answer's body as they arrive, without its framing; `None` once it is complete.
    ///
    /// # Errors
    /// `Upstream(Reset)` where the connection ends before the body does, `Upstream(BadAnswer)` where chunks are broken.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        let mut gathered = BytesMut::new();
        loop {
            let piece = match self.framing.next(&mut self.buffer) {
                Ok(piece) => piece,
                // What was good goes first; the fault is still there at the next call.
                Err(_) if !gathered.is_empty() => return Ok(Some(gathered.freeze())),
                Err(fault) => return Err(Broken::bad(fault)),
            };
            match piece {
                Piece::Data(data) if gathered.is_empty() && (self.buffer.is_empty() || data.len() > GATHER) => {
                    return Ok(Some(data.freeze()));
                }
                Piece::Data(data) => {
                    gathered.extend_from_slice(&data);
                    if gathered.len() > GATHER {
                        return Ok(Some(gathered.freeze()));
                    }
                }
                Piece::End | Piece::More if !gathered.is_empty() => return Ok(Some(gathered.freeze())),
                Piece::End => return Ok(None),
                Piece::More => {
                    if self.fill().await? == 0 {
                        return self.ended();
                    }
                }
            }
        }
    }

    fn ended(&mut self) -> Result<Option<Bytes>, Broken> {
        self.keep = false;
        if matches!(self.framing, Framing::ToClose) {
            self.framing = Framing::Done;
            return Ok(None);
        }
        Err(Broken::reset("the connection ended before the answer's body"))
    }

    async fn fill(&mut self) -> Result<usize, Broken> {
        self.buffer.reserve(self.read_size);
        let room = self.buffer.capacity() - self.buffer.len();
        let count = self.stream.read_buf(&mut self.buffer).await.map_err(|error| Broken::reset(&error.to_string()))?;
        self.answered |= count > 0;
        self.read_size = if count == room { LARGE_READ } else { SMALL_READ };
        Ok(count)
    }
}

impl Broken {
    pub(super) fn connecting(peer: &HttpPeer, error: &pingora_core::Error) -> Self {
        let refusal = match error.etype() {
            etype if *etype == PROXY_TIMED_OUT => Refusal::UpstreamTimeout(Silence::Proxy),
            etype if *etype == PROXY_FAILED => Refusal::Upstream(UpstreamFault::Proxy),
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Refusal::UpstreamTimeout(Silence::Connect),
            _ => Refusal::Upstream(UpstreamFault::Connect),
        };
        // The causes of an error are one text here. The last one that is no address is what the system or TLS said.
        let text = error.to_string().replace(" context: ", " cause: ");
        let told = text.rsplit("cause: ").map(str::trim);
        let root = told.into_iter().find(|cause| !cause.is_empty() && !cause.starts_with("local address"));
        let root = root.unwrap_or_default();
        let what = match error.etype() {
            ErrorType::ConnectRefused => "the connection was refused".to_owned(),
            ErrorType::ConnectTimedout => "no connection in time".to_owned(),
            ErrorType::TLSHandshakeTimedout => "no TLS in time".to_owned(),
            ErrorType::ConnectNoRoute => "there is no route to it".to_owned(),
            ErrorType::TLSHandshakeFailure if root.contains("InvalidContentType") => {
                "it speaks no TLS (hint: is its base_url http:// rather than https://?)".to_owned()
            }
            ErrorType::TLSHandshakeFailure | ErrorType::InvalidCert => format!("no verified TLS: {root}"),
            other => format!("{}: {root}", other.as_str()),
        };
        Self { refusal, cause: format!("{}: {what}", peer.address()) }
    }

    fn reset(cause: &str) -> Self {
        Self { refusal: Refusal::Upstream(UpstreamFault::Reset), cause: cause.to_owned() }
    }

    pub(super) fn silent(silence: Silence) -> Self {
        Self { refusal: Refusal::UpstreamTimeout(silence), cause: format!("silent for too long: {silence:?}") }
    }

    pub(super) fn bad(cause: &str) -> Self {
        Self { refusal: Refusal::Upstream(UpstreamFault::BadAnswer), cause: cause.to_owned() }
    }
}
