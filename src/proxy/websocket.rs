//! WebSockets: a handshake that the exchange carries, and behind a 101 the bytes of both sides (`duplex`).
//!
//! Invariant: bytes pass only where the client asked for a WebSocket and its provider agreed; none that came behind either
//! head is lost, and dropping the call closes the provider's end.
//! Never does: look into a frame, but for the provider's key; ask over HTTP/2; let what came behind a handshake be read as a
//! request.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use log::{error, warn};
use pingora_core::protocols::http::ServerSession;

use crate::error::{Refusal, Silence, UpstreamFault};
use crate::flow::Underway;
use crate::meter::Edits;
use crate::route::{self, Class, Outcome, Plan, time_to_reset};

use super::Gateway;
use super::attempt::{Ask, attempt};
use super::attempts::{self, Answer};
use super::body::{self, Body};
use super::call::Call;
use super::exchange::{facts, unspeakable, written};
use super::hold::Held;
use super::listener;
use super::relay::relay;
use super::upstream::{AnswerHead, Connection};
use super::wire::{self, Told};

use duplex::{Over, Patience, duplex};

mod duplex;

/// Asks the provider for the WebSocket of an admitted call, and carries it to its end; any other answer goes to the client as
/// answers do.
///
/// # Errors
/// `BadHeader` where something else is asked for; what an attempt is refused with; `Upstream` and `UpstreamTimeout` where a
/// WebSocket that was open broke; `ClientGone`.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    mut underway: Underway,
) -> Result<(), Refusal> {
    check(session)?;
    let mut plan = attempts::only(session, call, &mut underway).await?;
    let started = Instant::now();
    let deadline = started + underway.target.provider.timeouts.total;
    let mut ask = Ask::new(underway, None, Body::none(&gateway.buffers), Edits::default());
    ask.keeps_body = true;
    let held = match attempt(gateway, session, call, &mut ask, (started, deadline)).await {
        Ok(held) => held,
        Err(refusal) => {
            plan.judge(Outcome::Failed(refusal.clone()), Instant::now());
            return Err(refusal);
        }
    };
    judge(call, &mut plan, &held.head)?;
    if held.head.status == StatusCode::SWITCHING_PROTOCOLS {
        return open(session, call, (ask, held), plan).await;
    }
    relay(gateway, session, call, &ask, Answer { plan, held }).await
}

fn check(session: &mut ServerSession) -> Result<(), Refusal> {
    let head = session.req_header();
    if !wire::is_upgrade(&head.method, head.version, &head.headers) {
        return Err(Refusal::BadHeader("this route takes a WebSocket and needs upgrade: websocket"));
    }
    if !session.is_body_empty() {
        // What stands behind the head would be read as frames by one side and as a body by the other.
        return Err(Refusal::BadHeader("a WebSocket's handshake has no body"));
    }
    Ok(())
}

/// Judges the head of the provider's answer, as that of any call whose body passes unread.
fn judge(call: &mut Call, plan: &mut Plan, head: &AnswerHead) -> Result<(), Refusal> {
    let status = head.status.as_u16();
    let outcome = if status < 400 {
        Outcome::Committed
    } else {
        let reset = time_to_reset(&head.headers.map(), SystemTime::now());
        Outcome::Answered(route::Answer { status, class: Class::Plain, reset })
    };
    plan.judge(outcome, Instant::now());
    if matches!(status, 401 | 403) {
        let record = &call.arrived()?.record;
        let (provider, request_id) = (record.provider().unwrap_or_default(), &record.request_id);
        let cause = "refused the gateway's own key with status";
        error!("call {request_id}: provider {provider} {cause} {status}: check its api_key");
        return Err(Refusal::UpstreamAuth);
    }
    Ok(())
}

/// Tells the client that its WebSocket is open, and passes bytes to its end.
async fn open(
    session: &mut ServerSession,
    call: &mut Call,
    (ask, held): (Ask, Box<Held>),
    mut plan: Plan,
) -> Result<(), Refusal> {
    let Held { connection, head, after, .. } = *held;
    let target = ask.underway.target;
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let settings = &snapshot.server;
    let told = Told { cost: None, upstream_head: after, gateway: call.own_time() };
    let facts = facts(session, call, settings)?;
    let reply = wire::answer(head, &target.provider, &told, &facts).map_err(unspeakable)?;
    let switched = connection.and_then(Connection::into_switched);
    let (mut provider, from_provider) = switched.ok_or(Refusal::Bug("a switch over HTTP/2"))?;
    call.commits(reply.status);
    let is_marked = mark(session).await;
    call.waiting(written(settings, session.write_response_header(reply))).await?;
    let early = (behind_head(session, is_marked).await?, from_provider);
    let mut client = listener::switched(session).ok_or(Refusal::Bug("a switch over HTTP/2"))?;
    let idle = target.provider.timeouts.idle;
    let patience = Patience { idle, provider: idle, client: settings.idle_timeout };
    let over = call.waiting(duplex(&mut client, &mut provider, early, target.mask(), patience)).await;
    let (outcome, end) = match over {
        Over::Ended => (Outcome::Completed, Ok(())),
        // It was quiet by agreement of both.
        Over::Quiet => (Outcome::Completed, Err(Refusal::UpstreamTimeout(Silence::Idle))),
        Over::ClientGone => (Outcome::Completed, Err(Refusal::ClientGone)),
        Over::ProviderStuck => (Outcome::Broke, Err(Refusal::UpstreamTimeout(Silence::Idle))),
        Over::ProviderGone(cause) => {
            let request_id = &call.arrived()?.record.request_id;
            warn!("call {request_id}: provider {} in the middle of a WebSocket: {cause}", target.provider.id);
            (Outcome::Broke, Err(Refusal::Upstream(UpstreamFault::Reset)))
        }
    };
    plan.judge(outcome, Instant::now());
    end
}

/// Puts a mark behind what came of the client behind its head, which Pingora keeps for the next request. It gives that back
/// only as the body of an upgrade, where it would make room for 64 KiB and wait if there were nothing. False where something
/// was kept by itself, and no mark.
async fn mark(session: &mut ServerSession) -> bool {
    listener::mark(session);
    poll_fn(|context| {
        // What is read while there is no body is kept, and nothing comes of it.
        let _ = pin!(session.read_body_or_idle(true)).poll(context);
        Poll::Ready(())
    })
    .await;
    listener::took_mark(session)
}

/// What came of the client behind its head, once Pingora knows that this is an upgrade.
async fn behind_head(session: &mut ServerSession, is_marked: bool) -> Result<Bytes, Refusal> {
    let kept = session.read_request_body().await.map_err(|error| body::refusal(&error))?;
    let mut kept = kept.unwrap_or_default();
    kept.truncate(kept.len().saturating_sub(usize::from(is_marked)));
    Ok(kept)
}
