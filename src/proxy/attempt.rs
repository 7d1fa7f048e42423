//! One attempt at a provider: connect, send, wait for the head, each within its time and only while the client stays.
//!
//! Invariant: a request is sent a second time only where its method is safe to repeat and nothing of an answer was seen, or
//! where the provider said that it has not looked at it.
//! Never does: read an answer's body.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use log::{debug, warn};
use pingora_core::protocols::ALPN;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::{HttpPeer, Peer};

use crate::error::{Refusal, Silence};
use crate::flow::Underway;
use crate::meter::Edits;
use crate::route::{Deployment, Kind, Provider, Target, Timeouts};

use super::Gateway;
use super::body::Body;
use super::call::Call;
use super::exchange::{until, while_client_stays, within};
use super::hold::Held;
use super::upstream::{AT_HAND, Broken};
use super::wire::{Carries, Outgoing};

/// What is asked of a provider.
pub(super) struct Ask {
    pub(super) underway: Underway,
    /// What the provider is told; absent where there is no body.
    pub(super) content_type: Option<HeaderValue>,
    /// Absent once it was sent and cannot be sent again, so that its memory is free while the provider thinks.
    pub(super) body: Option<Body>,
    /// What it asks for.
    pub(super) edits: Edits,
    /// The model that the target is asked for, where that is not the one that the body asked for.
    model: Option<Arc<str>>,
    /// Whether the body may be wanted again for another attempt.
    pub(super) keeps_body: bool,
    /// Whether the provider is made to tell a stream's usage, of which the client shall see nothing.
    pub(super) hides_usage: bool,
    /// Whether the request is on its way, so that the provider may work for it.
    pub(super) sent: bool,
}

impl Ask {
    pub(super) fn new(underway: Underway, content_type: Option<HeaderValue>, body: Body, edits: Edits) -> Self {
        let body = Some(body);
        Self { underway, content_type, body, edits, model: None, keeps_body: false, hides_usage: false, sent: false }
    }

    /// Whether it may be wanted again because the provider refuses what was put into it. Of one that is known to take that, large
    /// bodies are not kept.
    pub(super) fn may_be_refused(&self) -> bool {
        let is_small = self.body.as_ref().is_some_and(|body| body.bytes.len() <= AT_HAND);
        self.hides_usage && (is_small || !self.underway.target.provider.asking.is_accepted())
    }

    /// Makes it a request for this target, with this key of its provider. `may_ask`: whether that may be asked for the usage.
    pub(super) fn aim(&mut self, deployment: &Deployment, key: usize, may_ask: bool) {
        let provider = &deployment.provider;
        let is_chosen = self.underway.target.is_chosen;
        self.underway.target = Target { provider: Arc::clone(provider), key, is_chosen };
        self.model = deployment.model.clone().filter(|model| self.edits.model() != Some(&**model));
        let may_ask = may_ask && self.underway.route.tells_usage_on_request(provider);
        // Where the path names the model, that is where it is changed.
        let in_body = self.model.as_deref().filter(|_| self.underway.model.is_none());
        let (changes, hides_usage) = self.edits.for_target(in_body, may_ask);
        self.hides_usage = hides_usage;
        self.sent = false;
        if let Some(body) = &mut self.body {
            body.with(changes);
        }
    }
}

/// One exchange that broke, and whether it may be tried on a new connection.
struct Failed {
    broken: Broken,
    stale: bool,
}

/// Asks the provider and waits for the head of its answer.
///
/// # Errors
/// `Upstream`, `UpstreamTimeout`, `ClientGone`.
pub(super) async fn attempt(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    ask: &mut Ask,
    (started, deadline): (Instant, Instant),
) -> Result<Box<Held>, Refusal> {
    let provider = &Arc::clone(&ask.underway.target.provider);
    let (request, method) = request(session, call, ask)?;
    let bytes = ask.body.as_ref().map_or(0, |body| body.bytes.len() as u64);
    call.goes_upstream();
    let (mut fresh, mut now) = (false, started);
    let held = loop {
        let arrived = call.arrived()?;
        arrived.asks(provider, ask.model.as_ref(), now);
        // Until more is known: a call that is dropped may have been at work.
        arrived.asked.sent = true;
        arrived.asked.bytes = bytes;
        let sending = Sending { request: &request, method: &method, fresh, started, deadline };
        let outcome = {
            let exchange = pin!(exchange(gateway, provider, ask, sending));
            call.waiting(pin!(while_client_stays(session, exchange))).await
        };
        call.arrived()?.asked.sent = ask.sent;
        match outcome? {
            Ok(held) => break held,
            Err(failed) if failed.stale && !fresh => (fresh, now) = (true, Instant::now()),
            Err(failed) => {
                // What the provider refused unseen, it does not charge for.
                call.arrived()?.asked.sent &= !failed.stale;
                let request_id = &call.arrived()?.record.request_id;
                warn!("call {request_id}: provider {}: {}", provider.id, failed.broken.cause);
                return Err(failed.broken.refusal);
            }
        }
    };
    let record = &mut call.arrived()?.record;
    record.upstream_status = Some(held.head.status.as_u16());
    record.upstream_head = Some(held.after);
    Ok(held)
}

/// The request's head as it goes out, and its method.
fn request(session: &ServerSession, call: &mut Call, ask: &Ask) -> Result<(Vec<u8>, Method), Refusal> {
    let head = session.req_header();
    let (path, route) = (head.uri.path(), &ask.underway.route);
    let provider = &ask.underway.target.provider;
    let renamed = ask.model.as_deref().filter(|_| ask.underway.model.is_some());
    let renamed = renamed.map(|model| route.with_model(path, model));
    let target = route.upstream_target(provider, renamed.as_deref().unwrap_or(path), head.uri.query());
    let headers: &HeaderMap = &head.headers;
    let needs_length = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    let length = ask.body.as_ref().map(|body| body.bytes.len()).filter(|length| *length > 0 || needs_length);
    let outgoing = Outgoing {
        method: &head.method,
        path: &target,
        headers,
        target: &ask.underway.target,
        set: &ask.underway.headers,
        carries: match route.kind {
            Kind::Websocket => Carries::Upgrade,
            _ => Carries::Whole { content_type: ask.content_type.as_ref().map(HeaderValue::as_bytes), length },
        },
        request_id: &call.arrived()?.record.request_id,
    };
    Ok((outgoing.head(), head.method.clone()))
}

struct Sending<'a> {
    request: &'a [u8],
    method: &'a Method,
    fresh: bool,
    started: Instant,
    deadline: Instant,
}

async fn exchange(
    gateway: &Gateway,
    provider: &Provider,
    ask: &mut Ask,
    sending: Sending<'_>,
) -> Result<Box<Held>, Failed> {
    let fail = |broken| Failed { broken, stale: false };
    let upgrades = ask.underway.route.kind == Kind::Websocket;
    let mut peer = gateway.peers.peer(provider).await.map_err(fail)?;
    if upgrades && peer.options.alpn.get_max_http_version() == 2 {
        // Over HTTP/2 it would be another request, which providers do not take.
        let mut over_http1 = HttpPeer::clone(&peer);
        over_http1.options.alpn = ALPN::H1;
        peer = Arc::new(over_http1);
    }
    let mut connection = gateway.upstream.connect(&peer, sending.fresh).await.map_err(|broken| {
        gateway.peers.failed(provider, &peer);
        fail(broken)
    })?;
    connection.masks(ask.underway.target.mask());
    if upgrades {
        connection.may_switch();
    }
    // A provider may close a quiet connection at the moment we use it. What is safe to repeat is then repeated.
    let harmless = matches!(*sending.method, Method::GET | Method::HEAD);
    ask.sent = true;
    let first_byte = match first_byte(&provider.timeouts, ask.edits.stream) {
        // No byte comes meanwhile, in either direction.
        first_byte if upgrades => first_byte.min(provider.timeouts.idle),
        first_byte => first_byte,
    };
    debug!("provider {} at {}, on a kept connection: {}", provider.id, peer.address(), connection.is_reused());
    let answer = async {
        let silent = || Broken::silent(Silence::FirstByte);
        let end = || until(sending.deadline, first_byte);
        let body = ask.body.as_ref().map_or_else(Bytes::new, |body| body.bytes.clone());
        {
            let sent = pin!(connection.send(sending.request, &body));
            within(end, sent).await.ok_or_else(silent)?;
        }
        if !ask.keeps_body && !connection.may_want_again(body.len(), harmless) {
            ask.body = None;
        }
        drop(body);
        let head = pin!(connection.head(*sending.method == Method::HEAD));
        within(end, head).await.ok_or_else(silent)?
    };
    match answer.await {
        // Its place for as long as it is held: it is large, and goes through many hands.
        Ok(head) => {
            Ok(Box::new(Held::begin(ask, (connection, head), (sending.started, Instant::now()), sending.deadline)))
        }
        Err(broken) => {
            let in_time = !matches!(broken.refusal, Refusal::UpstreamTimeout(_));
            let stale = in_time && ask.body.is_some() && connection.may_be_repeated(harmless);
            Err(Failed { broken, stale })
        }
    }
}

fn first_byte(timeouts: &Timeouts, stream: bool) -> Duration {
    if stream { timeouts.first_byte_stream } else { timeouts.first_byte_other }
}
