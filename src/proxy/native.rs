//! The native path: calls whose bodies pass unread, carried by Pingora's own loop, one step at each of its hooks.
//!
//! Invariant: a call comes here only after the exchange has admitted it; heads go through the same rules (`wire`) and end in
//! the same record; a request is sent again only where it has no body and nothing of an answer was seen.
//! Never does: hold a body, change one but for the provider's key in it, decide about keys or scopes.

mod fault;
mod moves;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderValue, Method, Version};
use log::{error, warn};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::ALPN;
use pingora_core::protocols::http::ServerSession;
use pingora_core::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::{Error, ErrorSource, ErrorType, Result};

use crate::config::ServerSettings;
use crate::error::{Refusal, Silence, UpstreamFault};
use crate::flow::Underway;
use crate::meter::Tap;
use crate::route::{self, Class, Outcome, Plan, Provider, time_to_reset};
use crate::units::{Mask, Masking};

use super::Gateway;
use super::attempts;
use super::body;
use super::call::Call;
use super::exchange::{self, facts, part_when_draining, unspeakable};
use super::listener;
use super::relay::shape;
use super::upstream::{AnswerHead, Broken, Length};
use super::wire::{self, Carries, Outgoing, Told};
use moves::answered_before_the_end;
pub(super) use moves::{answer_moves, request_moves};

/// How long a quiet connection to a provider is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// Requests that one call sends at most.
const MAX_ATTEMPTS: u32 = 2;

/// What a native call is about.
#[derive(Debug)]
pub(super) struct Native {
    underway: Underway,
    /// Rests the key that it takes, and the provider, as other calls do. There is one attempt.
    plan: Plan,
    started: Instant,
    /// Bytes of the client's body so far.
    uploaded: u64,
    /// When the call has to be over, once the provider has the whole request.
    deadline: Option<Instant>,
    /// What the gateway itself had taken until the call was handed over.
    own: Duration,
    /// Covers the provider's key in its answer.
    masking: Option<Masking>,
    /// How the answer's body ends, and when its head was there.
    answered: Option<(Length, Duration)>,
    /// Why one of our hooks broke the call off.
    refusal: Option<Refusal>,
}

/// Hands an admitted call over to Pingora's loop. A client that waits for `100 Continue` is told to go on.
///
/// # Errors
/// `NoHealthyUpstream`, `UpstreamAuth`; `ClientGone`.
pub(super) async fn begin(
    session: &mut ServerSession,
    call: &mut Call,
    mut underway: Underway,
    settings: &ServerSettings,
) -> std::result::Result<(), Refusal> {
    session.set_write_timeout(Some(settings.idle_timeout));
    session.set_ignore_info_resp(true);
    if !session.is_body_done() {
        call.waiting(body::invite(session, settings)).await?;
    }
    let plan = attempts::only(session, call, &mut underway).await?;
    let started = Instant::now();

    call.goes_upstream();
    let own = call.own_time();
    let masking = underway.target.mask().map(Mask::begin);
    let (deadline, answered, refusal) = (None, None, None);
    call.native = Some(Native { underway, plan, started, uploaded: 0, deadline, own, masking, answered, refusal });
    listener::send_at_once(session, true);
    Ok(())
}

/// The provider to connect to, with this call's own times.
pub(super) async fn peer(gateway: &Gateway, call: &mut Call) -> Result<Box<HttpPeer>> {
    let provider = provider(call)?;
    let arrived = call.arrived().map_err(|refusal| explain(&refusal))?;
    arrived.asks(&provider, None, Instant::now());
    let attempts = arrived.record.attempts;
    let peer = match gateway.peers.peer(&provider).await {
        Ok(peer) => peer,
        Err(broken) => {
            call.told_of(&provider, &broken.cause);
            return Err(call.broken_off(broken.refusal));
        }
    };
    let mut peer = HttpPeer::clone(&peer);
    // Over HTTP/2 Pingora's loop would take heads of up to 16 MiB, and uploads that stand still would hold up each other.
    peer.options.alpn = ALPN::H1;
    let timeouts = &provider.timeouts;
    // One limit for each read is all there is, and the wait for the answer's head is one of them; behind that `watch` has
    // the time between two pieces.
    let silence = timeouts.first_byte_other.max(timeouts.idle).min(timeouts.total);
    peer.options.read_timeout = Some(silence);
    peer.options.write_timeout = Some(timeouts.idle);
    peer.options.idle_timeout = Some(POOL_IDLE);
    // The head is written from scratch, by the rules of `wire`.
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    if attempts > 1 {
        // A pool of its own, of which none is kept, so that a second try does not get the next stale connection.
        peer.group_key = !peer.group_key;
        peer.options.idle_timeout = Some(Duration::ZERO);
    }
    Ok(Box::new(peer))
}

/// Writes the head that goes upstream in place of the client's.
pub(super) fn request(session: &mut ServerSession, head: &mut RequestHeader, call: &mut Call) -> Result<()> {
    let empty = session.is_body_empty();
    let asked = session.req_header();
    let request_id = call.arrived().map_err(|refusal| explain(&refusal))?.record.request_id.clone();
    let underway = &call.native()?.underway;
    let (route, provider) = (&underway.route, &underway.target.provider);
    let outgoing = Outgoing {
        method: &asked.method,
        path: &route.upstream_target(provider, asked.uri.path(), asked.uri.query()),
        headers: &asked.headers,
        target: &underway.target,
        set: &underway.headers,
        carries: Carries::Stream { empty },
        request_id: &request_id,
    };
    *head = outgoing.native_head()?;
    if empty {
        is_asked(call);
    }
    Ok(())
}

/// Takes note that the provider has the whole request, so that it may work for it. Without its end it does not begin.
fn is_asked(call: &mut Call) {
    if let Ok(arrived) = call.arrived() {
        arrived.asked.sent = true;
    }
    if let Some(native) = &mut call.native {
        native.is_asked(Instant::now());
    }
}

/// Judges the head of the provider's answer.
pub(super) fn judge(session: &mut ServerSession, head: &ResponseHeader, call: &mut Call) -> Result<()> {
    let status = head.status;
    if status.is_informational() && status.as_u16() != 101 {
        return Ok(());
    }
    let provider = provider(call)?;
    let native = call.native()?;
    let after = native.started.elapsed();
    let method_is_head = session.req_header().method == Method::HEAD;
    let length = Length::of(status, &head.headers, head.version == Version::HTTP_10, method_is_head);
    let reset = time_to_reset(&head.headers, SystemTime::now());
    let outcome = match status.as_u16() {
        status @ 400.. => Outcome::Answered(route::Answer { status, class: Class::Plain, reset }),
        _ => Outcome::Committed,
    };
    native.plan.judge(outcome, Instant::now());
    let record = &mut call.arrived().map_err(|refusal| explain(&refusal))?.record;
    record.upstream_status = Some(status.as_u16());
    record.upstream_head = Some(after);
    if matches!(status.as_u16(), 401 | 403) {
        let (id, request_id) = (&provider.id, &record.request_id);
        error!(
            "call {request_id}: provider {id} refused the gateway's own key with status {status}: check its api_key"
        );
        return Err(call.broken_off(Refusal::UpstreamAuth));
    }
    if status.as_u16() == 101 {
        call.told_of(&provider, "a switch of protocols that nobody asked for");
        return Err(call.broken_off(Refusal::Upstream(UpstreamFault::BadAnswer)));
    }
    match length {
        Ok(length) => call.native()?.answered = Some((length, after)),
        Err(broken) => {
            call.told_of(&provider, &broken.cause);
            return Err(call.broken_off(broken.refusal));
        }
    }
    Ok(())
}

/// Writes the head that the client gets in place of the provider's.
pub(super) fn answer(
    gateway: &Gateway,
    session: &mut ServerSession,
    head: &mut ResponseHeader,
    call: &mut Call,
) -> Result<()> {
    if head.status.is_informational() {
        return Ok(());
    }
    let provider = provider(call)?;
    let native = call.native()?;
    let Some((length, upstream_head)) = native.answered else {
        return Err(call.broken_off(Refusal::Bug("an answer that was not judged")));
    };
    let told = Told { cost: None, upstream_head, gateway: native.own };
    let old = session.req_header().version == Version::HTTP_10;
    if old && matches!(length, Length::Chunked | Length::ToClose) {
        session.set_keepalive(None);
    }
    if matches!(length, Length::None | Length::Known(0)) {
        answered_before_the_end(session);
    }
    body::part_behind_odd_chunks(session);
    part_when_draining(gateway, session);
    let mut theirs = AnswerHead::of(head.status, head.headers.clone(), length);
    if let Some(masking) = &native.masking {
        theirs.headers.mask(masking.mask());
    }
    let arrived = call.arrived().map_err(|refusal| explain(&refusal))?;
    arrived.tap =
        Some(Tap::new(provider.dialect, shape(|name| head.headers.get(name).map(HeaderValue::as_bytes)), false));
    let snapshot = Arc::clone(&arrived.snapshot);
    let reply = facts(session, call, &snapshot.server)
        .and_then(|facts| wire::answer(theirs, &provider, &told, &facts).map_err(unspeakable))
        .map_err(|refusal| call.broken_off(refusal))?;
    let arrived = call.arrived().map_err(|refusal| explain(&refusal))?;
    arrived.record.status = head.status.as_u16();
    arrived.asked.relayed = true;
    call.native()?.is_answering();
    *head = *reply;
    Ok(())
}

/// Decides whether a request that broke on its connection is sent again: on a connection that the provider may have closed
/// a moment ago, where the request has no body.
pub(super) fn again(session: &mut ServerSession, mut error: Box<Error>, call: &mut Call, reused: bool) -> Box<Error> {
    // Asking an error that is undecided panics.
    error.retry.decide_reuse(reused);
    let attempts = call.arrived().map_or(MAX_ATTEMPTS, |arrived| arrived.record.attempts);
    let stale = reused && *error.esource() == ErrorSource::Upstream && *error.etype() != ErrorType::ReadTimedout;
    let unseen = session.response_written().is_none() && call.native.as_ref().is_some_and(Native::is_unanswered);
    let head = session.req_header();
    let plain = matches!(head.method, Method::GET | Method::HEAD);
    let harmless = plain && session.is_body_empty();
    error.set_retry(stale && unseen && harmless && attempts < MAX_ATTEMPTS);
    error
}

/// Takes note that connecting failed: the next call tries another address.
pub(super) fn not_connected(gateway: &Gateway, peer: &HttpPeer, mut error: Box<Error>, call: &mut Call) -> Box<Error> {
    error.set_retry(false);
    if let Ok(provider) = provider(call) {
        gateway.peers.failed(&provider, peer);
        let broken = Broken::connecting(peer, &error);
        call.told_of(&provider, &broken.cause);
        let _ = call.broken_off(broken.refusal);
    }
    error
}

/// Tells the client why its call failed, where it can still be told.
pub(super) async fn failed(gateway: &Gateway, session: &mut ServerSession, error: &Error, call: &mut Call) {
    let Some(native) = &mut call.native else { return };
    let (noted, answered) = (native.refusal.take(), native.answered.is_some());
    // Pingora's time for a read is never more than that for all, and began a little earlier.
    let is_over = native.deadline.is_some_and(|deadline| Instant::now() + Duration::from_millis(20) >= deadline);
    let provider = Arc::clone(&native.underway.target.provider);
    let refusal = noted.unwrap_or_else(|| {
        let refusal = match fault::refusal(error, answered, session.is_body_done()) {
            Refusal::UpstreamTimeout(_) if answered && is_over => Refusal::UpstreamTimeout(Silence::Total),
            refusal => refusal,
        };
        if refusal.is_of_upstream() {
            // Not all that Pingora says of it, which may repeat what was sent.
            call.told_of(&provider, error.etype().as_str());
        }
        refusal
    });
    if let Some(native) = call.native.as_mut().filter(|_| refusal.is_of_upstream()) {
        let outcome = if answered { Outcome::Broke } else { Outcome::Failed(refusal.clone()) };
        native.plan.judge(outcome, Instant::now());
    }
    // Pingora closes the connection, whatever the answer says.
    session.set_keepalive(None);
    // The caller's connection is cut either way; this says what the record tells.
    let _ = exchange::conclude(gateway, session, call, refusal).await;
}

/// Takes note that the call is over. What is left of its body is read for a moment, so that the client can read an answer
/// that came before it had sent everything.
pub(super) async fn over(session: &mut ServerSession, call: &mut Call, error: Option<&Error>) {
    let Some(native) = &mut call.native else { return };
    if error.is_none() {
        native.plan.judge(Outcome::Completed, Instant::now());
    }
    listener::send_at_once(session, false);
    let took = native.started.elapsed();
    let settings = match call.arrived() {
        Ok(arrived) => {
            arrived.waited += took;
            Arc::clone(&arrived.snapshot)
        }
        Err(_) => return,
    };
    call.finished();
    if error.is_none() && !session.is_body_done() {
        call.waiting(body::after_refusal(session, &settings.server)).await;
    }
}

fn provider(call: &mut Call) -> Result<Arc<Provider>> {
    Ok(Arc::clone(&call.native()?.underway.target.provider))
}

fn explain(refusal: &Refusal) -> Box<Error> {
    Error::explain(ErrorType::InternalError, refusal.code())
}

impl Native {
    fn is_unanswered(&self) -> bool {
        self.answered.is_none() && self.refusal.is_none()
    }
}

impl Call {
    fn native(&mut self) -> Result<&mut Native> {
        self.native.as_mut().ok_or_else(|| explain(&Refusal::Bug("a call that was not handed over")))
    }

    fn told_of(&mut self, provider: &Provider, cause: &str) {
        let request_id = self.arrived().map_or_else(|_| "-", |arrived| &arrived.record.request_id);
        warn!("call {request_id}: provider {}: {cause}", provider.id);
    }

    /// Keeps the reason for [`failed`], which Pingora's errors cannot carry.
    fn broken_off(&mut self, refusal: Refusal) -> Box<Error> {
        let error = explain(&refusal);
        if let Some(native) = &mut self.native {
            native.refusal = Some(refusal);
        }
        error
    }
}
