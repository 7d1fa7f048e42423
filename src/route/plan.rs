//! The plan of one call: the next attempt, the wait before it, or the end, given what came of the attempts so far.
//!
//! Invariant: it always ends: a target that was left is not tried again, no target is tried more often than
//! `max_attempts`, and nothing begins past the deadline. What it let in at a breaker it reports, if only by its drop.
//! Never does: any IO; read a clock or draw a random number, both are arguments; allocate.

mod judge;
mod outcome;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attempts::Attempts;
use super::breaker::{Cause, Rest, Ticket};
use super::models::{Deployment, Routing};
use super::pool::{another, bit, may_use, sooner};
use crate::error::{Refusal, Silence};

pub use crate::dialect::Class;
pub use outcome::{Answer, Outcome};

/// The plan of one call.
#[derive(Debug)]
pub struct Plan {
    routing: Arc<Routing>,
    settings: Attempts,
    deadline: Instant,
    /// Targets that are not tried any more, as bits.
    out: u64,
    /// Whether only targets marked `larger_context` are left to try.
    only_larger: bool,
    /// The target that was tried last and is not given up.
    at: Option<At>,
    then: Then,
    /// Attempts in all.
    attempts: u32,
    /// Whether it has waited already for a rest to be over.
    has_waited: bool,
    /// Whether it only looks up models, which tells nothing of how a target generates.
    looks_up: bool,
    /// How the last attempt failed that left no answer to pass on.
    last: Option<Refusal>,
    /// What the best answer so far is worth.
    kept: Worth,
    /// When one may ask again, as the answer says that is kept.
    kept_until: Option<Instant>,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make an attempt, then tell [`Plan::judge`] what came of it.
    Try(Try),
    /// Wait, then ask again.
    Wait(Duration),
    /// Answer the client.
    End(End),
}

/// An attempt to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// The target's place in the routing.
    pub target: usize,
    /// The key's place in the pool of the target's provider.
    pub key: usize,
    /// Counted from 1 over all targets.
    pub number: u32,
    /// When the call has to be over.
    pub deadline: Instant,
}

/// How a call ends that no attempt has served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer goes to the client that [`Plan::judge`] last said to keep, byte for byte.
    PassOn,
    /// There is none: the client gets this.
    Refuse(Refusal),
}

/// What is known of the target that is tried.
#[derive(Debug)]
struct At {
    target: usize,
    key: usize,
    /// Keys that are not taken again for this call, as bits.
    keys_out: u64,
    /// Attempts at this target.
    attempts: u8,
    /// Whether its one retry after a failure is used up.
    retried: bool,
    /// What has to be reported; absent once it was.
    tickets: Option<Tickets>,
}

/// That the call was let in by the target, by the key, and by the key for this model.
#[derive(Clone, Copy, Debug, Default)]
struct Tickets {
    target: Ticket,
    key: Ticket,
    lane: Ticket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Choose a target.
    Choose,
    /// The same target after a wait that is still to be drawn, of at most this.
    BackOff(Duration),
    /// The same target at this time.
    Again(Instant),
    Over,
}

/// Which answer is the most useful one to a client: of two of one kind the later, but of two that say when to ask again the one
/// that says sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    #[default]
    Nothing,
    /// A stream that began and then told an error.
    Stream,
    /// The provider's trouble: 5xx, 429.
    Trouble,
    /// What is wrong with the request itself.
    Verdict,
}

impl Plan {
    /// The plan of a call that begins now. `unserved` are targets that cannot serve it ([`Routing::unserved`]).
    pub fn new(routing: Arc<Routing>, settings: &Attempts, unserved: u64, now: Instant) -> Self {
        let total = routing.targets().first().map_or(Duration::ZERO, |first| first.provider.timeouts.total);
        Self {
            routing,
            settings: *settings,
            deadline: now + total,
            out: unserved,
            only_larger: false,
            at: None,
            then: Then::Choose,
            attempts: 0,
            has_waited: false,
            looks_up: false,
            last: None,
            kept: Worth::Nothing,
            kept_until: None,
        }
    }

    /// The same for a call that only looks up models: it fails and succeeds by rules of its own, so that breakers hear of it
    /// only what makes a key rest.
    #[must_use]
    pub fn looking_up(mut self, looks_up: bool) -> Self {
        self.looks_up = looks_up;
        self
    }

    /// What to do next. `random` is any number, drawn anew for each question.
    pub fn next(&mut self, now: Instant, random: u64) -> Step {
        self.left();
        if now >= self.deadline {
            self.then = Then::Over;
        }
        if let Then::BackOff(longest) = self.then {
            // Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
            let wait = longest.mul_f64(random as f64 / u64::MAX as f64);
            self.then = if now + wait < self.deadline { Then::Again(now + wait) } else { Then::Choose };
        }
        match self.then {
            Then::Again(at) if at > now => return Step::Wait(at - now),
            Then::Again(_) => {
                if let Some(attempt) = self.again(now, random) {
                    return Step::Try(attempt);
                }
                self.move_on();
            }
            Then::Over => return Step::End(self.end()),
            Then::Choose | Then::BackOff(_) => self.move_on(),
        }
        self.choose(now, random)
    }

    /// Makes no further attempt: the next step is the end.
    pub fn stop(&mut self) {
        self.then = Then::Over;
    }

    /// The target of an attempt.
    pub fn deployment(&self, attempt: &Try) -> Option<&Deployment> {
        self.routing.targets().get(attempt.target)
    }

    /// The routing that the plan is made of.
    pub fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// When the call has to be over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether another target could take over from the one that is tried, as things stand: as long as it can, a stream is
    /// held back until its first content.
    pub fn can_move_on(&self, now: Instant) -> bool {
        let current = self.at.as_ref().map_or(0, |at| bit(at.target));
        let others =
            self.routing.targets().iter().enumerate().filter(|(index, _)| (self.out | current) & bit(*index) == 0);
        now < self.deadline
            && others.filter(|(_, target)| target.larger_context || !self.only_larger).any(|(_, target)| {
                let may = |index: usize, key: &_| may_use(key, target.lanes[index].get(), now);
                target.state.get().breaker.is_open_to(now).is_ok() && target.provider.keys.pick(0, 0, may).is_ok()
            })
    }

    /// Whether the attempt under way is the last one whatever comes of it, so that nothing need be kept for another one.
    pub fn is_last(&self, now: Instant) -> bool {
        let spent = self.at.as_ref().is_none_or(|at| at.attempts >= self.settings.max_attempts);
        spent && !self.can_move_on(now)
    }

    /// Another attempt at the same target, where it and one of its keys let it in.
    fn again(&mut self, now: Instant, random: u64) -> Option<Try> {
        let at = self.at.as_ref()?;
        if at.attempts >= self.settings.max_attempts {
            return None;
        }
        let (target, keys_out) = (at.target, at.keys_out);
        let (key, tickets) = self.enter(target, Way { keys_out, random, manner: Manner::Strict }, now).ok()?;
        let at = self.at.as_mut()?;
        at.key = key;
        at.attempts = at.attempts.saturating_add(1);
        at.tickets = Some(tickets);
        Some(self.attempt(target, key))
    }

    /// The next target that lets the call in.
    fn choose(&mut self, now: Instant, random: u64) -> Step {
        let mut soonest = None;
        for manner in [Manner::Strict, Manner::Lenient] {
            let (mut barred, mut random) = (self.out, random);
            while let Some(target) = self.routing.pick(barred, self.only_larger, random) {
                random = another(random);
                match self.enter(target, Way { keys_out: 0, random, manner }, now) {
                    Ok((key, tickets)) => {
                        self.routing.targets()[target].state.get().budget.called(now);
                        let tickets = Some(tickets);
                        self.at = Some(At { target, key, keys_out: 0, attempts: 1, retried: false, tickets });
                        return Step::Try(self.attempt(target, key));
                    }
                    Err(rest) => soonest = rest.and_then(|rest| sooner(soonest, rest)).or(soonest),
                }
                barred |= bit(target);
            }
        }
        let Some(rest) = soonest else {
            self.then = Then::Over;
            return Step::End(self.end());
        };
        let wait = rest.until.saturating_duration_since(now);
        if !self.has_waited && wait <= self.settings.max_wait && rest.until < self.deadline {
            self.has_waited = true;
            return Step::Wait(wait);
        }
        if self.last.is_none() {
            self.last = Some(match rest.cause {
                Cause::Refused => Refusal::UpstreamAuth,
                Cause::RateLimit | Cause::Failures => Refusal::NoHealthyUpstream(wait),
            });
        }
        self.then = Then::Over;
        Step::End(self.end())
    }

    /// Enters a target with one of its keys.
    fn enter(&self, target: usize, way: Way, now: Instant) -> Result<(usize, Tickets), Option<Rest>> {
        let deployment = self.routing.targets().get(target).ok_or(None)?;
        let cooldown = &self.settings.cooldown;
        let breaker = &deployment.state.get().breaker;
        breaker.is_open_to(now).map_err(Some)?;
        // Calls for any model share the lane of a target that names none: a limit of one model must not shut out the
        // others, where there is no other way.
        let forgives =
            |rest: &Rest| way.manner == Manner::Lenient && deployment.is_shared() && rest.cause == Cause::RateLimit;
        let keys = deployment.provider.keys.keys();
        let may = |index: usize, key: &_| {
            let fit = may_use(key, deployment.lanes[index].get(), now);
            fit.or_else(|rest| if forgives(&rest) { Ok(()) } else { Err(rest) })
        };
        let key = deployment.provider.keys.pick(way.keys_out, another(way.random), may)?;
        let mut tickets = Tickets { target: breaker.enter(now, cooldown).map_err(Some)?, ..Tickets::default() };
        // Another call may have been the quicker one at either of them.
        let own = &keys[key].breaker;
        let entered = own.get().enter(now, cooldown).and_then(|ticket| {
            tickets.key = ticket;
            let entered = deployment.lanes[key].get().enter(now, cooldown);
            entered.or_else(|rest| if forgives(&rest) { Ok(Ticket::default()) } else { Err(rest) })
        });
        match entered {
            Ok(lane) => Ok((key, Tickets { lane, ..tickets })),
            Err(rest) => {
                breaker.left(tickets.target);
                own.get().left(tickets.key);
                Err(Some(rest))
            }
        }
    }

    fn attempt(&mut self, target: usize, key: usize) -> Try {
        self.attempts += 1;
        self.then = Then::Choose;
        Try { target, key, number: self.attempts, deadline: self.deadline }
    }

    /// Gives up the target that was tried last.
    fn move_on(&mut self) {
        self.left();
        if let Some(at) = self.at.take() {
            self.out |= bit(at.target);
        }
        self.then = Then::Choose;
    }

    /// Reports an attempt that said nothing of success or failure, where one is under way.
    fn left(&mut self) {
        let Some(at) = &mut self.at else { return };
        let Some(tickets) = at.tickets.take() else { return };
        let deployment = &self.routing.targets()[at.target];
        deployment.state.get().breaker.left(tickets.target);
        deployment.provider.keys.keys()[at.key].breaker.get().left(tickets.key);
        deployment.lanes[at.key].get().left(tickets.lane);
    }

    fn end(&self) -> End {
        if self.kept > Worth::Nothing {
            return End::PassOn;
        }
        // Without an attempt and without a rest, time itself was too short, or the model is not served on this route.
        End::Refuse(self.last.clone().unwrap_or(match self.out {
            0 => Refusal::UpstreamTimeout(Silence::Total),
            _ => Refusal::UnknownModel,
        }))
    }
}

impl Drop for Plan {
    /// A call that ends without a report, because its client left, makes room for the next probe.
    fn drop(&mut self) {
        self.left();
    }
}

/// How a target is entered.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Keys that are not to be taken, as bits.
    keys_out: u64,
    random: u64,
    manner: Manner,
}

/// How a rest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Each one bars the way.
    Strict,
    /// A rate limit that may be another model's does not.
    Lenient,
}

#[cfg(test)]
mod tests;
