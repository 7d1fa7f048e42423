//! The rules: what each outcome means to the target, to the key, and to what the call does next (design.md section 6).
//!
//! Invariant: each attempt is reported once to the breakers that let it in.
//! Never does: choose the next target; that is `next`.

use std::time::{Duration, Instant};

use super::outcome::Fault;
use super::{Answer, Class, Outcome, Plan, Then, Worth};
use crate::error::{Refusal, UpstreamFault};
use crate::route::breaker::{Breaker, Cause};
use crate::route::models::Deployment;
use crate::route::pool::{bit, may_use};

/// What an attempt says of something that let it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    /// It works.
    Fine,
    /// It failed; several such in a row open its breaker.
    Failed,
    /// It rests from now on, for the provider's own time where that is known.
    Rests(Cause, Option<Duration>),
    /// Nothing.
    Nothing,
}

/// What an attempt says of its target, its key, and of the key for this model.
struct Report {
    target: Say,
    key: Say,
    lane: Say,
}

impl Report {
    const FINE: Self = Self { target: Say::Fine, key: Say::Fine, lane: Say::Fine };
    const FAILED: Self = Self { target: Say::Failed, key: Say::Nothing, lane: Say::Nothing };
    const NOTHING: Self = Self { target: Say::Nothing, key: Say::Nothing, lane: Say::Nothing };

    /// The target answers, and this is how things stand with the key for this model.
    fn of_lane(lane: Say) -> Self {
        Self { target: Say::Fine, key: Say::Nothing, lane }
    }
}

impl Plan {
    /// Takes in what came of the attempt that [`Plan::next`] gave. True where the answer is the best one so far: it is to
    /// be kept for [`super::End::PassOn`], in place of the one before.
    pub fn judge(&mut self, outcome: Outcome, now: Instant) -> bool {
        match outcome {
            Outcome::Failed(refusal) => {
                self.failed(refusal, now);
                false
            }
            Outcome::Answered(answer) => self.answered(&answer, now),
            Outcome::StreamFailed(class) => self.stream_failed(class, now),
            Outcome::StreamEmpty => {
                self.report(&Report::FAILED, now);
                self.last = Some(Refusal::Upstream(UpstreamFault::BadAnswer));
                self.move_on();
                false
            }
            Outcome::Committed => {
                self.committed(now);
                false
            }
            Outcome::Completed => self.over(&Report::FINE, now),
            Outcome::Broke => self.over(&Report::FAILED, now),
        }
    }

    fn over(&mut self, report: &Report, now: Instant) -> bool {
        self.report(report, now);
        self.then = Then::Over;
        false
    }

    fn failed(&mut self, refusal: Refusal, now: Instant) {
        let fault = Fault::of(&refusal);
        self.last = Some(refusal);
        match fault {
            Fault::Passing => {
                self.report(&Report::FAILED, now);
                self.retry_once(None, now);
            }
            Fault::Silent => {
                self.report(&Report::FAILED, now);
                self.move_on();
            }
            Fault::Ours => {
                self.kept = Worth::Nothing;
                self.over(&Report::NOTHING, now);
            }
        }
    }

    fn answered(&mut self, answer: &Answer, now: Instant) -> bool {
        match (answer.status, answer.class) {
            (_, Class::ContentFilter) => self.verdict(now),
            (401, Class::ClientsAccount) => {
                self.last = Some(Refusal::UpstreamAuth);
                self.kept = Worth::Nothing;
                self.over(&Report::of_lane(Say::Nothing), now)
            }
            (401 | 403, _) => {
                self.refused(answer.status, now);
                false
            }
            (402, _) | (400 | 429, Class::Quota) => {
                self.report(&Report::of_lane(Say::Rests(Cause::RateLimit, answer.reset)), now);
                self.with_another_key(now);
                self.keep(Worth::Trouble)
            }
            (400, Class::SaysQuota) => {
                self.report(&Report::of_lane(Say::Nothing), now);
                self.with_another_key(now);
                self.keep(Worth::Trouble)
            }
            (429, _) => {
                self.limited(answer.reset, now);
                self.keep_until(answer.reset.map(|reset| now + reset), now)
            }
            // Of what is about us, a text that a client may have written changes nothing.
            (400..=499, Class::ContextLength) => self.too_long(now),
            (408 | 409 | 500..=599, _) => {
                self.report(if answer.status == 409 { &Report::FINE } else { &Report::FAILED }, now);
                self.retry_once(answer.reset, now);
                self.keep(Worth::Trouble)
            }
            _ => self.verdict(now),
        }
    }

    /// The request itself is at fault, or the answer is none that we judge: it is the client's.
    fn verdict(&mut self, now: Instant) -> bool {
        self.over(&Report::FINE, now);
        self.keep(Worth::Verdict)
    }

    fn too_long(&mut self, now: Instant) -> bool {
        self.report(&Report::FINE, now);
        self.only_larger = true;
        self.move_on();
        self.keep(Worth::Verdict)
    }

    /// The provider refused our key. A 403 may also be about the model, or what the request holds, so that it takes several
    /// to rest the key for the model.
    fn refused(&mut self, status: u16, now: Instant) {
        let mut report = Report::of_lane(Say::Failed);
        if status == 401 {
            report = Report { key: Say::Rests(Cause::Refused, None), ..Report::of_lane(Say::Nothing) };
        }
        self.report(&report, now);
        self.last = Some(Refusal::UpstreamAuth);
        self.with_another_key(now);
    }

    fn limited(&mut self, reset: Option<Duration>, now: Instant) {
        self.report(&Report::of_lane(Say::Rests(Cause::RateLimit, reset)), now);
        if self.has_another_key(now) {
            return self.with_another_key(now);
        }
        match reset.filter(|reset| *reset <= self.settings.max_wait) {
            // A hair later, so that the key's rest is over.
            Some(reset) if self.may_retry(now, reset) => self.then = Then::Again(now + reset.max(A_HAIR)),
            _ => self.move_on(),
        }
    }

    fn stream_failed(&mut self, class: Class, now: Instant) -> bool {
        match class {
            Class::ContentFilter => return self.verdict(now),
            Class::ContextLength => return self.too_long(now),
            Class::Quota => self.report(&Report::of_lane(Say::Rests(Cause::RateLimit, None)), now),
            Class::SaysQuota => self.report(&Report::of_lane(Say::Nothing), now),
            Class::Plain | Class::ClientsAccount => self.report(&Report::FAILED, now),
        }
        self.move_on();
        self.keep(Worth::Stream)
    }

    /// A probe has seen enough. Other calls are a success only once they are complete, so that a target which cuts each
    /// answer does not look healthy.
    fn committed(&mut self, now: Instant) {
        self.then = Then::Over;
        if self.looks_up {
            return;
        }
        let Some(at) = &mut self.at else { return };
        let Some(tickets) = &mut at.tickets else { return };
        let deployment = &self.routing.targets()[at.target];
        if tickets.target.is_probe() {
            deployment.state.get().breaker.succeeded(std::mem::take(&mut tickets.target), now);
        }
        deployment.provider.keys.keys()[at.key].breaker.get().succeeded(std::mem::take(&mut tickets.key), now);
        deployment.lanes[at.key].get().succeeded(std::mem::take(&mut tickets.lane), now);
    }

    /// Notes what an answer is worth; true where there is no better one.
    fn keep(&mut self, worth: Worth) -> bool {
        let is_best = worth >= self.kept;
        self.kept = self.kept.max(worth);
        if is_best {
            self.kept_until = None;
        }
        is_best
    }

    /// The same of an answer that says when to ask again. What an earlier one said counts until then.
    fn keep_until(&mut self, until: Option<Instant>, now: Instant) -> bool {
        let told = self.kept_until.filter(|told| self.kept == Worth::Trouble && *told > now);
        let is_later = told.zip(until).is_some_and(|(told, until)| told < until);
        let is_best = !is_later && self.keep(Worth::Trouble);
        if is_best {
            self.kept_until = until;
        }
        is_best
    }

    /// The one retry at the same target, after the time that the provider names or a back-off; else the next target.
    fn retry_once(&mut self, reset: Option<Duration>, now: Instant) {
        let retried = self.at.as_ref().is_none_or(|at| at.retried);
        let is_soon = reset.is_none_or(|reset| reset <= self.settings.max_wait);
        if retried || !is_soon || !self.may_retry(now, reset.unwrap_or_default()) {
            return self.move_on();
        }
        let longest = self.longest_back_off();
        if let Some(at) = &mut self.at {
            at.retried = true;
        }
        self.then = reset.map_or(Then::BackOff(longest), |reset| Then::Again(now + reset));
    }

    fn longest_back_off(&self) -> Duration {
        let before = self.at.as_ref().map_or(0, |at| at.attempts.saturating_sub(1));
        self.settings.backoff.saturating_mul(1 << before.min(16)).min(self.settings.max_backoff)
    }

    /// Whether the same target may be tried again after this wait; takes one retry out of its budget.
    fn may_retry(&self, now: Instant, wait: Duration) -> bool {
        let Some(at) = &self.at else { return false };
        let budget = &self.routing.targets()[at.target].state.get().budget;
        at.attempts < self.settings.max_attempts
            && now + wait < self.deadline
            && budget.take(now, self.settings.retry_budget_percent)
    }

    /// The same target with a key that was not tried, at once; else the next target.
    fn with_another_key(&mut self, now: Instant) {
        if !self.has_another_key(now) {
            return self.move_on();
        }
        if let Some(at) = &mut self.at {
            at.keys_out |= bit(at.key);
        }
        self.then = Then::Again(now);
    }

    fn has_another_key(&self, now: Instant) -> bool {
        let Some(at) = &self.at else { return false };
        let deployment = &self.routing.targets()[at.target];
        let may = |index: usize, key: &_| may_use(key, deployment.lanes[index].get(), now);
        let out = at.keys_out | bit(at.key);
        at.attempts < self.settings.max_attempts && deployment.provider.keys.pick(out, 0, may).is_ok()
    }

    /// Tells the breakers what came of the attempt.
    fn report(&mut self, report: &Report, now: Instant) {
        let Some(at) = &mut self.at else { return };
        let Some(tickets) = at.tickets.take() else { return };
        let deployment: &Deployment = &self.routing.targets()[at.target];
        let (cooldown, looks_up) = (&self.settings.cooldown, self.looks_up);
        let tell = |breaker: &Breaker, ticket, say| match say {
            Say::Fine | Say::Failed if looks_up => breaker.left(ticket),
            Say::Fine => breaker.succeeded(ticket, now),
            Say::Failed => breaker.failed(ticket, now, cooldown),
            Say::Rests(cause, span) => breaker.rest(cause, span, now, cooldown),
            Say::Nothing => breaker.left(ticket),
        };
        tell(&deployment.state.get().breaker, tickets.target, report.target);
        tell(deployment.provider.keys.keys()[at.key].breaker.get(), tickets.key, report.key);
        tell(deployment.lanes[at.key].get(), tickets.lane, report.lane);
    }
}

/// The least wait after a 429.
const A_HAIR: Duration = Duration::from_millis(20);
