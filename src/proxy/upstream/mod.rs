//! One exchange with a provider: connect, send, head, chunk, release. The only place that knows how, and by which version
//! of HTTP.
//!
//! A provider that agrees on `h2` in its TLS handshake gets HTTP/2, where its configuration allows it: many exchanges then
//! share a connection (`links`). Any other gets HTTP/1.1, with a connection for each.
//!
//! Invariant: whatever the version, an answer is complete only where its framing says so, and dropping an exchange cancels
//! the call at the provider; the gateway's own key is in nothing that it answers.
//! Never does: decide about retries, look into a body, touch the client's side.

mod answer;
mod framing;
mod headers;
mod http1;
mod http2;
mod links;
mod quiet;

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use pingora_core::ErrorType;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::upstreams::peer::{HttpPeer, Peer};
use tokio::time::timeout;

use crate::error::{Refusal, Silence, UpstreamFault};
use crate::units::{Mask, Masking};

pub(super) use answer::{AnswerHead, Length};
pub(super) use headers::{Headers, Line, Lines};
use links::{Links, Turn};
use quiet::Quiet;

/// What a tunnel through a proxy that took too long fails with.
pub(super) const PROXY_TIMED_OUT: ErrorType = ErrorType::Custom("ProxyTimedout");
/// What a tunnel that could not be opened fails with.
pub(super) const PROXY_FAILED: ErrorType = ErrorType::ConnectProxyFailure;

/// Quiet connections that are kept in all. Each costs a file descriptor and its buffers.
const POOL_SIZE: usize = 1024;
/// How long a quiet connection is kept: below the idle limits of providers' edges, so that it is us who close.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Bytes of an answer's head, over HTTP/1.1 informational ones included.
const MAX_HEAD: usize = 64 * 1024;
/// Pieces up to this are gathered into one, so that a burst of small chunks costs the client's side one write.
const GATHER: usize = 16 * 1024;
/// Bodies up to this stay at hand until an answer begins, where a provider may say that it has not looked at them. Larger
/// ones make room while it thinks.
pub(super) const AT_HAND: usize = 256 * 1024;

/// The connections to all providers.
pub(super) struct Upstream {
    connector: TransportConnector,
    quiet: Quiet,
    links: Links,
}

/// Why an exchange broke off.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    /// What the client is told.
    pub(super) refusal: Refusal,
    /// What really happened, for the log.
    pub(super) cause: String,
}

/// What carries one exchange: a connection, or a stream of a shared one. Dropping it cancels the call at the provider.
pub(super) struct Connection {
    carrier: Carrier,
    masking: Option<Masking>,
}

enum Carrier {
    Http1(http1::Exchange),
    Http2(http2::Exchange),
}

impl Upstream {
    pub(super) fn new() -> Self {
        Self {
            connector: TransportConnector::new(Some(ConnectorOptions::new(1))),
            quiet: Quiet::default(),
            links: Links::default(),
        }
    }

    /// Takes what is there, or makes a connection where none is or `fresh` asks for another than the one that failed.
    ///
    /// # Errors
    /// `Upstream(Connect)` and `UpstreamTimeout(Connect)`.
    pub(super) async fn connect(&self, peer: &HttpPeer, fresh: bool) -> Result<Connection, Broken> {
        let key = peer.reuse_hash();
        let shares = peer.tls() && peer.options.alpn.get_max_http_version() == 2;
        if shares
            && !fresh
            && let Some(slot) = self.links.slot(key).await
        {
            return Ok(Connection::of(Carrier::Http2(http2::Exchange::on(slot, true))));
        }
        let pooled = if fresh { None } else { self.quiet.take(key) };
        match pooled {
            Some(stream) => Ok(Connection::of(Carrier::Http1(http1::Exchange::over(stream, true, key)))),
            // Boxed, because the state of a TLS handshake would otherwise weigh on every open stream.
            None if shares => Box::pin(self.share(peer, key, fresh)).await,
            None => Box::pin(self.dial(peer, key)).await,
        }
    }

    async fn dial(&self, peer: &HttpPeer, key: u64) -> Result<Connection, Broken> {
        let stream = self.connector.new_stream(peer).await.map_err(|error| Broken::connecting(peer, &error))?;
        Ok(Connection::of(Carrier::Http1(http1::Exchange::over(stream, false, key))))
    }

    /// A stream of a connection that somebody else makes, or a connection of its own, as the provider wants it.
    async fn share(&self, peer: &HttpPeer, key: u64, fresh: bool) -> Result<Connection, Broken> {
        let turn = self.links.turn(key, fresh);
        // Whoever makes it may be long done with that, and the provider not say how many streams it allows.
        let turn = match peer.options.total_connection_timeout {
            Some(within) => timeout(within, turn).await.map_err(|_| Broken::silent(Silence::Connect))?,
            None => turn.await,
        };
        let dialing = match turn? {
            Turn::Slot(slot) => return Ok(Connection::of(Carrier::Http2(http2::Exchange::on(slot, true)))),
            Turn::Dial(dialing) => dialing,
        };
        match self.connector.new_stream(peer).await {
            Ok(stream) if stream.selected_alpn_proto() == Some(ALPN::H2) => {
                let slot = dialing.shares(stream).await?;
                Ok(Connection::of(Carrier::Http2(http2::Exchange::on(slot, false))))
            }
            Ok(stream) => {
                dialing.does_not_share();
                Ok(Connection::of(Carrier::Http1(http1::Exchange::over(stream, false, key))))
            }
            Err(error) => {
                let broken = Broken::connecting(peer, &error);
                dialing.failed(&broken);
                Err(broken)
            }
        }
    }

    /// Keeps the connection for the next exchange where that is safe, and closes it otherwise. A stream of a shared one
    /// just ends.
    pub(super) fn release(&self, connection: Connection) {
        if let Carrier::Http1(exchange) = connection.carrier
            && let Some((stream, key)) = exchange.into_kept()
        {
            self.quiet.keep(key, stream);
        }
    }
}

impl Connection {
    fn of(carrier: Carrier) -> Self {
        Self { carrier, masking: None }
    }

    /// Covers the key in all that the provider answers: some echo it, in an error or on purpose.
    pub(super) fn masks(&mut self, mask: Option<&Mask>) {
        self.masking = mask.map(Mask::begin);
    }

    /// Lets the provider switch to the protocol that the request asks for. Over HTTP/1.1 alone.
    pub(super) fn may_switch(&mut self) {
        if let Carrier::Http1(exchange) = &mut self.carrier {
            exchange.may_switch = true;
        }
    }

    /// The connection behind a 101, and what came of it so far.
    pub(super) fn into_switched(self) -> Option<(Stream, Bytes)> {
        match self.carrier {
            Carrier::Http1(exchange) => Some(exchange.into_switched()),
            Carrier::Http2(_) => None,
        }
    }

    /// Sends the request, whose head is given as HTTP/1.1 spells it. A provider that answers before it has read everything
    /// is heard: the rest is then not sent. What goes wrong is for [`Self::head`] to tell, so that this cannot fail.
    pub(super) async fn send(&mut self, head: &[u8], body: &Bytes) {
        match &mut self.carrier {
            Carrier::Http1(exchange) => exchange.send(head, body).await,
            Carrier::Http2(exchange) => exchange.send(head, body).await,
        }
    }

    /// Reads the answer's head; informational ones (1xx) are passed over. `head_only` is true for `HEAD`.
    ///
    /// # Errors
    /// `Upstream(Reset)` where the exchange ended, `Upstream(BadAnswer)` where the answer breaks the protocol.
    pub(super) async fn head(&mut self, head_only: bool) -> Result<AnswerHead, Broken> {
        let mut head = match &mut self.carrier {
            Carrier::Http1(exchange) => exchange.head(head_only).await,
            Carrier::Http2(exchange) => exchange.head(head_only).await,
        }?;
        if let Some(masking) = &self.masking {
            head.headers.mask(masking.mask());
        }
        Ok(head)
    }

    /// The next bytes of the answer's body as they arrive, without its framing; `None` once it is complete.
    ///
    /// # Errors
    /// `Upstream(Reset)` where it ends before the body does, `Upstream(BadAnswer)` where its framing is broken.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        poll_fn(|context| self.poll_chunk(context)).await
    }

    /// The same, asked once.
    pub(super) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        loop {
            let came = ready!(match &mut self.carrier {
                Carrier::Http1(exchange) => exchange.poll_chunk(context),
                Carrier::Http2(exchange) => exchange.poll_chunk(context),
            })?;
            let Some(masking) = &mut self.masking else { return Poll::Ready(Ok(came)) };
            let Some(piece) = came else { return Poll::Ready(Ok(masking.end())) };
            if piece.is_empty() {
                return Poll::Ready(Ok(Some(piece)));
            }
            if let Some(passes) = masking.push(piece) {
                return Poll::Ready(Ok(Some(passes)));
            }
        }
    }

    /// From here on [`Self::chunk`] may give a body whose length is known as one piece, with empty ones before it while more is
    /// to come. For bodies that are small.
    pub(super) fn gather(&mut self) {
        if let Carrier::Http1(exchange) = &mut self.carrier {
            exchange.gather();
        }
    }

    /// What came of a body that is gathered, where it will not come whole.
    pub(super) fn so_far(&mut self) -> Bytes {
        match &mut self.carrier {
            Carrier::Http1(exchange) => exchange.so_far(),
            Carrier::Http2(_) => Bytes::new(),
        }
    }

    /// Whether nothing of the answer is still to come, where that is known without asking for more: over HTTP/1.1.
    pub(super) fn is_over(&self) -> bool {
        match &self.carrier {
            Carrier::Http1(exchange) => exchange.is_over() && self.masking.as_ref().is_none_or(Masking::holds_nothing),
            Carrier::Http2(_) => false,
        }
    }

    /// Tells whether others have used it before.
    pub(super) fn is_reused(&self) -> bool {
        match &self.carrier {
            Carrier::Http1(exchange) => exchange.reused,
            Carrier::Http2(exchange) => exchange.reused,
        }
    }

    /// Tells whether a body of this size is worth keeping until an answer begins, because the request may have to be sent
    /// again. `harmless` says that its method may be repeated.
    pub(super) fn may_want_again(&self, size: usize, harmless: bool) -> bool {
        let stale = harmless && self.is_reused();
        match &self.carrier {
            Carrier::Http1(_) => stale,
            Carrier::Http2(exchange) => stale || size <= AT_HAND || exchange.refused,
        }
    }

    /// Tells, of a request that broke off, whether it may be sent once more: it went to a connection that the provider may
    /// have closed a moment ago and is `harmless`, or the provider said that it has not looked at it.
    pub(super) fn may_be_repeated(&self, harmless: bool) -> bool {
        match &self.carrier {
            Carrier::Http1(exchange) => harmless && exchange.reused && !exchange.answered,
            Carrier::Http2(exchange) => exchange.refused || (harmless && exchange.reused && exchange.lost),
        }
    }
}

impl Broken {
    pub(super) fn connecting(peer: &HttpPeer, error: &pingora_core::Error) -> Self {
        let refusal = match error.etype() {
            etype if *etype == PROXY_TIMED_OUT => Refusal::Upstream(UpstreamFault::ProxySilent),
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

    pub(super) fn reset(cause: &str) -> Self {
        Self { refusal: Refusal::Upstream(UpstreamFault::Reset), cause: cause.to_owned() }
    }

    pub(super) fn silent(silence: Silence) -> Self {
        Self { refusal: Refusal::UpstreamTimeout(silence), cause: format!("silent for too long: {silence:?}") }
    }

    pub(super) fn bad(cause: &str) -> Self {
        Self { refusal: Refusal::Upstream(UpstreamFault::BadAnswer), cause: cause.to_owned() }
    }
}
