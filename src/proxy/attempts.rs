//! The attempts of a call, until one of them answers the client.
//!
//! Invariant: nothing was sent to the client until this is over; each attempt is judged once, by the plan, and told once,
//! in the record. A request that its provider refuses for what the gateway has put into it is part of the same attempt.
//! Never does: choose a target or a wait; that is the plan's.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::HeaderMap;
use log::{error, warn};
use pingora_core::protocols::http::ServerSession;

use crate::dialect::class;
use crate::error::Refusal;
use crate::flow::{Pace, Underway};
use crate::meter::Tap;
use crate::route::{self, Class, End, Outcome, Plan, Step, Try, time_to_reset};

use super::Gateway;
use super::attempt::{Ask, attempt};
use super::call::Call;
use super::exchange::while_client_stays;
use super::hold::{self, Held, Stopped};
use super::limits;
use super::listing;

/// An answer that goes to the client, and the plan that waits for its end.
pub(super) struct Answer {
    pub(super) plan: Plan,
    pub(super) held: Box<Held>,
}

/// What came of an attempt.
enum Made {
    /// The answer goes to the client.
    Commits(Box<Held>),
    /// It does not, unless nothing better comes; absent where there is none to keep.
    Judged(Option<Box<Held>>),
}

/// Asks one target after the other, as the plan says.
///
/// # Errors
/// What the plan refuses with; `UnknownModel`; `ClientGone`.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    ask: &mut Ask,
) -> Result<Answer, Refusal> {
    let mut now = Instant::now();
    let mut plan = plan(session, call, ask, now)?;
    let mut kept = None;
    loop {
        match plan.next(now, random()) {
            Step::Wait(wait) => call.waiting(while_client_stays(session, tokio::time::sleep(wait))).await?,
            // What the provider may charge for the last attempt stays reserved; where there is not as much again, that is all.
            Step::Try(_) if call.arrived()?.is_unanswered() && !limits::again(gateway, call, &ask.underway).await? => {
                plan.stop();
            }
            Step::Try(one) => match make(gateway, session, call, ask, (&mut plan, one, now)).await? {
                Made::Commits(held) => {
                    plan.judge(Outcome::Committed, Instant::now());
                    ask.body = None;
                    return Ok(Answer { plan, held });
                }
                Made::Judged(None) => {}
                Made::Judged(best) => kept = best,
            },
            Step::End(End::Refuse(refusal)) => return Err(refusal),
            Step::End(End::PassOn) => {
                let held = kept.ok_or(Refusal::Bug("an answer that was not kept"))?;
                call.arrived()?.returns_to(&held.provider.id, held.head.status.as_u16(), held.after);
                ask.body = None;
                return Ok(Answer { plan, held });
            }
        }
        now = Instant::now();
    }
}

/// The plan of a call, by the model that its body asks for.
fn plan(session: &ServerSession, call: &mut Call, ask: &Ask, now: Instant) -> Result<Plan, Refusal> {
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let underway = &ask.underway;
    let own = &underway.target.provider;
    let routing = underway.routing(&snapshot, ask.edits.model()).ok_or(Refusal::UnknownModel)?;
    let head = session.req_header();
    let below = underway.route.below_provider(head.uri.path());
    let unserved = routing.unserved(&snapshot.routes, own, &head.method, below);
    let plan = Plan::new(Arc::clone(routing), &snapshot.attempts, unserved, now);
    Ok(plan.looking_up(listing::is_about(ask)))
}

/// The plan of a call that has one attempt only, whose key is taken: where its provider is not at rest, and one of the keys.
///
/// # Errors
/// `NoHealthyUpstream`, `UpstreamAuth`.
pub(super) async fn only(
    session: &mut ServerSession,
    call: &mut Call,
    underway: &mut Underway,
) -> Result<Plan, Refusal> {
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let routing = snapshot.models.of_call(&underway.target.provider.id, None).ok_or(Refusal::UnknownModel)?;
    let mut plan = Plan::new(Arc::clone(routing), &snapshot.attempts, 0, Instant::now());
    loop {
        match plan.next(Instant::now(), random()) {
            Step::Try(one) => {
                underway.target.key = one.key;
                return Ok(plan);
            }
            Step::Wait(wait) => call.waiting(while_client_stays(session, tokio::time::sleep(wait))).await?,
            Step::End(End::Refuse(refusal)) => return Err(refusal),
            Step::End(End::PassOn) => return Err(Refusal::Bug("an answer before any attempt")),
        }
    }
}

/// Makes one attempt and judges it, unless its answer goes to the client.
async fn make(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    ask: &mut Ask,
    (plan, one, now): (&mut Plan, Try, Instant),
) -> Result<Made, Refusal> {
    let (mut may_ask, mut now) = (true, now);
    let mut held = loop {
        let deployment = plan.deployment(&one).ok_or(Refusal::Bug("an attempt without a target"))?;
        ask.aim(deployment, one.key, may_ask);
        ask.keeps_body = ask.may_be_refused() || !plan.is_last(now);
        let mut held = match attempt(gateway, session, call, ask, (now, one.deadline)).await {
            Ok(held) => held,
            Err(Refusal::ClientGone) => return Err(Refusal::ClientGone),
            Err(refusal) => return failed(call, plan, refusal),
        };
        if held.head.status.is_success() {
            break held;
        }
        match hold::all(gateway, session, call, &mut held, MOST_OF_AN_ERROR).await? {
            Stopped::Broken(refusal) => return failed(call, plan, refusal),
            _ if may_ask && held.refuses_to_be_asked() => {
                (may_ask, now) = (false, Instant::now());
                call.arrived()?.failed(None, now);
            }
            _ => return judged(session, call, plan, held),
        }
    };
    if held.hides_usage {
        held.provider.asking.was_accepted();
    } else if !may_ask && held.provider.asking.was_refused() {
        let (id, then) =
            (&held.provider.id, "it is not asked any more, and what it does not tell by itself is estimated");
        warn!("provider {id} refuses to be asked for a stream's usage: {then}");
    }
    call.arrived()?.tap = Some(Tap::new(held.provider.dialect, held.shape, held.hides_usage));
    if !plan.can_move_on(held.since) {
        return Ok(Made::Commits(held));
    }
    let stopped = if held.is_stream() {
        hold::until_content(gateway, session, call, &mut held).await?
    } else {
        hold::all(gateway, session, call, &mut held, MOST_OF_AN_ANSWER).await?
    };
    match stopped {
        Stopped::Broken(refusal) => failed(call, plan, refusal),
        Stopped::Error => stream_failed(call, plan, held),
        Stopped::Empty => {
            let now = Instant::now();
            call.arrived()?.failed_as("empty_stream", now);
            plan.judge(Outcome::StreamEmpty, now);
            Ok(Made::Judged(None))
        }
        Stopped::Enough => Ok(Made::Commits(held)),
    }
}

fn failed(call: &mut Call, plan: &mut Plan, refusal: Refusal) -> Result<Made, Refusal> {
    let now = Instant::now();
    call.arrived()?.failed(Some(&refusal), now);
    plan.judge(Outcome::Failed(refusal), now);
    Ok(Made::Judged(None))
}

/// Judges an answer that is no success.
fn judged(session: &ServerSession, call: &mut Call, plan: &mut Plan, held: Box<Held>) -> Result<Made, Refusal> {
    let (status, now) = (held.head.status.as_u16(), Instant::now());
    let arrived = call.arrived()?;
    let class = if status == 401 && names_an_account(&session.req_header().headers) {
        Class::ClientsAccount
    } else {
        held.class()
    };
    if matches!(status, 401 | 403) {
        let (id, request_id) = (&held.provider.id, &arrived.record.request_id);
        let cause = "refused the gateway's own key with status";
        error!("call {request_id}: provider {id} {cause} {status}: check its api_key");
        arrived.failed(Some(&Refusal::UpstreamAuth), now);
    } else {
        arrived.failed(None, now);
    }
    let reset = time_to_reset(&held.head.headers.map(), SystemTime::now());
    let keep = plan.judge(Outcome::Answered(route::Answer { status, class, reset }), now);
    Ok(Made::Judged(keep.then_some(held)))
}

/// Judges a stream that told an error before its first content.
fn stream_failed(call: &mut Call, plan: &mut Plan, mut held: Box<Held>) -> Result<Made, Refusal> {
    let now = Instant::now();
    let arrived = call.arrived()?;
    (held.tap, held.pace) = (arrived.tap.take(), arrived.record.pace);
    arrived.record.pace = Pace::default();
    arrived.failed_as("stream_error", now);
    let keep = plan.judge(Outcome::StreamFailed(held.class()), now);
    Ok(Made::Judged(keep.then_some(held)))
}

/// Whether the client named an organisation or a project of its own, so that a 401 need not be about our key.
fn names_an_account(headers: &HeaderMap) -> bool {
    headers.contains_key("openai-organization") || headers.contains_key("openai-project")
}

/// Any number: keys of the standard library's hash differ from one to the next, and its output looks random.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// How the question for a stream's usage is named in a request.
const QUESTION: &[u8] = b"stream_options";
/// Bytes of an error answer that are read before it is judged.
const MOST_OF_AN_ERROR: usize = 64 * 1024;
/// Bytes of another answer at which it goes to the client.
const MOST_OF_AN_ANSWER: usize = 1024 * 1024;

impl Held {
    /// Whether it is an error about what was put into a request so that the usage of its stream is told. Sources of such
    /// answers: `config/presets.rs`.
    fn refuses_to_be_asked(&self) -> bool {
        let names_it = |body: &[u8]| memchr::memmem::find(body, QUESTION).is_some();
        self.hides_usage && matches!(self.head.status.as_u16(), 400 | 422) && names_it(&self.pieces.concat())
    }

    /// What the error in it means.
    fn class(&self) -> Class {
        class(self.provider.dialect, &self.pieces.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_differ() {
        let drawn: std::collections::HashSet<u64> = (0..1000).map(|_| random()).collect();
        assert!(drawn.len() > 990);
    }
}
