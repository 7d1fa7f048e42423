//! One attempt at a provider: connect, send, wait for the head, each within its time and only while the client stays.
//!
//! Invariant: a request is sent a second time only where its method is safe to repeat and nothing of an answer was seen, or
//! where the provider said that it has not looked at it.
//! Never does: read an answer's body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use log::{debug, error, warn};
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::Peer;

use crate::error::{Refusal, Silence};
use crate::flow::{Asked, Underway};
use crate::route::{Provider, Timeouts};

use super::Gateway;
use super::body::Body;
use super::call::Call;
use super::exchange::{until, while_client_stays};
use super::upstream::{AnswerHead, Broken, Connection};
use super::wire::{Carries, Outgoing};

/// What is asked of a provider.
pub(super) struct Ask {
    pub(super) underway: Underway,
    /// What the provider is told; absent where there is no body.
    pub(super) content_type: Option<Vec<u8>>,
    /// Absent once it was sent and cannot be sent again, so that its memory is free while the provider thinks.
    pub(super) body: Option<Body>,
    /// Whether the call asks for a stream.
    pub(super) stream: bool,
    /// Whether the provider is made to tell a stream's usage, of which the client shall see nothing.
    pub(super) hide_usage: bool,
    /// Whether the request is on its way, so that the provider may work for it.
    pub(super) sent: bool,
}

/// An answer that has begun.
pub(super) struct Answer {
    pub(super) underway: Underway,
    pub(super) connection: Connection,
    pub(super) head: AnswerHead,
    /// From the start of the attempt to its head.
    pub(super) after: Duration,
    /// When the call has to be over.
    pub(super) deadline: Instant,
    /// As in [`Ask`].
    pub(super) hide_usage: bool,
}

/// One exchange that broke, and whether it may be tried on a new connection.
struct Failed {
    broken: Broken,
    stale: bool,
}

/// Asks the provider and waits for the head of its answer.
///
/// # Errors
/// `Upstream`, `UpstreamTimeout`, `UpstreamAuth`, `ClientGone`.
pub(super) async fn attempt(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    mut ask: Ask,
) -> Result<Answer, Refusal> {
    let provider = &Arc::clone(&ask.underway.target.provider);
    let timeouts = &provider.timeouts;
    let started = Instant::now();
    let deadline = started + timeouts.total;
    let (request, method) = request(session, call, &ask)?;
    let bytes = ask.body.as_ref().map_or(0, |body| body.bytes.len() as u64);
    call.goes_upstream();
    let mut fresh = false;
    let (connection, head) = loop {
        let arrived = call.arrived()?;
        arrived.record.asks(provider);
        // Until more is known: a call that is dropped may have been at work.
        arrived.asked = Asked { sent: true, bytes };
        let exchange =
            exchange(gateway, provider, &mut ask, Sending { request: &request, method: &method, fresh, deadline });
        let outcome = call.waiting(while_client_stays(session, exchange)).await;
        call.arrived()?.asked.sent = ask.sent;
        match outcome? {
            Ok(answer) => break answer,
            Err(failed) if failed.stale && !fresh => fresh = true,
            Err(failed) => {
                let request_id = &call.arrived()?.record.request_id;
                warn!("call {request_id}: provider {}: {}", provider.id, failed.broken.cause);
                return Err(failed.broken.refusal);
            }
        }
    };
    let status = head.status.as_u16();
    let record = &mut call.arrived()?.record;
    record.upstream_status = Some(status);
    record.upstream_head = Some(started.elapsed());
    if matches!(status, 401 | 403) {
        let (id, request_id) = (&provider.id, &record.request_id);
        error!(
            "call {request_id}: provider {id} refused the gateway's own key with status {status}: check its api_key"
        );
        return Err(Refusal::UpstreamAuth);
    }
    let Ask { underway, hide_usage, .. } = ask;
    Ok(Answer { after: started.elapsed(), underway, connection, head, deadline, hide_usage })
}

/// The request's head as it goes out, and its method.
fn request(session: &ServerSession, call: &mut Call, ask: &Ask) -> Result<(Vec<u8>, Method), Refusal> {
    let head = session.req_header();
    let path = head.uri.path();
    let provider = &ask.underway.target.provider;
    let target = ask.underway.route.upstream_target(provider, path, head.uri.query());
    let headers: &HeaderMap = &head.headers;
    let needs_length = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    let length = ask.body.as_ref().map(|body| body.bytes.len()).filter(|length| *length > 0 || needs_length);
    let outgoing = Outgoing {
        method: &head.method,
        target: &target,
        headers,
        provider,
        set: &ask.underway.headers,
        carries: Carries::Whole { content_type: ask.content_type.as_deref(), length },
        request_id: &call.arrived()?.record.request_id,
    };
    Ok((outgoing.head(), head.method.clone()))
}

struct Sending<'a> {
    request: &'a [u8],
    method: &'a Method,
    fresh: bool,
    deadline: Instant,
}

async fn exchange(
    gateway: &Gateway,
    provider: &Provider,
    ask: &mut Ask,
    sending: Sending<'_>,
) -> Result<(Connection, AnswerHead), Failed> {
    let fail = |broken| Failed { broken, stale: false };
    let peer = gateway.peers.peer(provider).await.map_err(fail)?;
    let mut connection = gateway.upstream.connect(&peer, sending.fresh).await.map_err(|broken| {
        gateway.peers.failed(provider, &peer);
        fail(broken)
    })?;
    // A provider may close a quiet connection at the moment we use it. What is safe to repeat is then repeated.
    let harmless = matches!(*sending.method, Method::GET | Method::HEAD);
    ask.sent = true;
    let first_byte = first_byte(&provider.timeouts, ask.stream);
    debug!("provider {} at {}, on a kept connection: {}", provider.id, peer.address(), connection.is_reused());
    let answer = async {
        let silent = |_| Broken::silent(Silence::FirstByte);
        let body = ask.body.as_ref().map_or_else(Bytes::new, |body| body.bytes.clone());
        let sent = connection.send(sending.request.to_vec(), &body);
        tokio::time::timeout_at(until(sending.deadline, first_byte), sent).await.map_err(silent)?;
        if !connection.may_want_again(body.len(), harmless) {
            ask.body = None;
        }
        drop(body);
        let head = connection.head(*sending.method == Method::HEAD);
        tokio::time::timeout_at(until(sending.deadline, first_byte), head).await.map_err(silent)?
    };
    match answer.await {
        Ok(head) => Ok((connection, head)),
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
