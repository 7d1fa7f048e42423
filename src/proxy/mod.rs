//! The adapter to Pingora: its hooks, each a few lines that hand over to the exchange or to the native path.
//!
//! Invariant: every call is settled exactly once, from the drop of its context, so that a panic or a vanished client
//! settles too.
//! Never does: decide about keys, scopes or models; that is `flow`.

mod attempt;
mod attempts;
mod body;
mod call;
mod connection;
mod exchange;
mod hold;
mod limits;
mod listener;
mod listing;
mod native;
mod peer;
mod places;
mod relay;
mod tunnel;
mod understand;
mod upstream;
mod waits;
mod watch;
mod websocket;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use crate::config::{Live, Snapshot};
use crate::ledger::Ledger;
use crate::policy::Policies;
use crate::telemetry::{Readiness, Telemetry};

use body::Buffers;
pub use call::Call;
pub(crate) use limits::Limiting;
pub(crate) use listener::{Awaited, Guard, Heads};
pub(crate) use peer::{Peers, REFRESH};
use places::Places;
use upstream::Upstream;
pub(crate) use watch::Watched;

/// The gateway as Pingora's proxy service runs it.
pub struct Gateway {
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    readiness: Arc<Readiness>,
    ledger: Ledger,
    limits: Arc<Limiting>,
    peers: Arc<Peers>,
    upstream: Upstream,
    buffers: Arc<Buffers>,
    places: Arc<Places>,
    policies: Policies,
    request_ids: RequestIds,
}

/// The parts that the server shares with its other services.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) live: Arc<Live>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) readiness: Arc<Readiness>,
    pub(crate) ledger: Ledger,
    pub(crate) limits: Arc<Limiting>,
    pub(crate) policies: Policies,
    pub(crate) peers: Arc<Peers>,
}

/// Request ids: unique over processes by their first half, within one by their second.
struct RequestIds {
    /// `req_` and the process's own number.
    prefix: String,
    next: AtomicU64,
}

/// Hexadecimal digits of a call's number, of which the lowest count.
const DIGITS: usize = 12;

impl Gateway {
    /// Puts the gateway together; `process` is this process's own number.
    pub(crate) fn new(parts: Parts, process: u64) -> Self {
        let Parts { live, telemetry, readiness, ledger, limits, policies, peers } = parts;
        Self {
            live,
            telemetry,
            readiness,
            ledger,
            limits,
            peers,
            upstream: Upstream::new(),
            buffers: Arc::new(Buffers::default()),
            places: Arc::default(),
            policies,
            request_ids: RequestIds { prefix: format!("req_{process:016x}"), next: AtomicU64::new(0) },
        }
    }
}

impl Gateway {
    /// A call that has arrived; it sees this configuration to its end.
    fn call(&self, snapshot: Arc<Snapshot>) -> Call {
        let (telemetry, policies) = (Arc::clone(&self.telemetry), self.policies.clone());
        Call::new(snapshot, self.request_ids.next(), telemetry, policies, self.ledger.clone())
    }
}

impl RequestIds {
    fn next(&self) -> String {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = String::with_capacity(self.prefix.len() + DIGITS);
        id.push_str(&self.prefix);
        // Formatting would take as long as finding the route.
        let digit = |at: u32| char::from_digit((count >> (4 * at)) as u32 & 15, 16).unwrap_or_default();
        id.extend((0..DIGITS as u32).rev().map(digit));
        id
    }
}

/// The gateway at the hooks of Pingora's proxy loop.
pub(crate) struct Hooks(pub(crate) Arc<Gateway>);

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = Call;

    fn new_ctx(&self) -> Call {
        self.0.call(self.0.live.pin())
    }

    /// No modules: Pingora's compression would hold events back and hide usage.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, call: &mut Call) -> Result<bool> {
        exchange::serve(&self.0, session.as_downstream_mut(), call).await
    }

    async fn upstream_peer(&self, _session: &mut Session, call: &mut Call) -> Result<Box<HttpPeer>> {
        native::peer(&self.0, call).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        call: &mut Call,
    ) -> Result<()> {
        native::request(session.as_downstream_mut(), head, call)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        ended: bool,
        call: &mut Call,
    ) -> Result<()> {
        native::request_moves(call, body.as_ref().map_or(0, Bytes::len), ended)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        call: &mut Call,
    ) -> Result<()> {
        native::judge(session.as_downstream_mut(), head, call)
    }

    async fn response_filter(&self, session: &mut Session, head: &mut ResponseHeader, call: &mut Call) -> Result<()> {
        native::answer(&self.0, session.as_downstream_mut(), head, call)
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        ended: bool,
        call: &mut Call,
    ) -> Result<Option<Duration>> {
        native::answer_moves(session.as_downstream_mut(), call, body, ended).map(|()| None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        peer: &HttpPeer,
        call: &mut Call,
        error: Box<Error>,
    ) -> Box<Error> {
        native::not_connected(&self.0, peer, error, call)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        call: &mut Call,
        reused: bool,
    ) -> Box<Error> {
        native::again(session.as_downstream_mut(), error, call, reused)
    }

    /// An answer that was cut: nothing may follow it, not even the end of its framing.
    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, call: &mut Call) -> FailToProxy {
        native::failed(&self.0, session.as_downstream_mut(), error, call).await;
        FailToProxy { error_code: 0, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, call: &mut Call) {
        native::over(session.as_downstream_mut(), call, error).await;
        listener::over(session.as_downstream());
    }

    /// What went wrong is in the record; Pingora's own line would repeat it with the request in it.
    fn suppress_error_log(&self, _session: &Session, _call: &Call, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _: &Session, _: &Call, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }
}
