//! The circuit breaker of a target, and the rest of a provider's key: one state machine for both.
//!
//! Invariant: while it rests nobody enters before its time; when that is over after failures, one call at a time tries it,
//! and one that never reports back keeps the others out for a lease only. Closed and without failures it costs one atomic load.
//! Never does: read a clock; choose a target or a key.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::attempts::Cooldown;

/// Whether a target or a key may be used.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Whether there is anything in the state to look at.
    troubled: AtomicBool,
    state: Mutex<State>,
}

/// Why something rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Several failures in a row.
    Failures,
    /// The provider's 429, or a quota that is used up.
    RateLimit,
    /// The provider refused the key.
    Refused,
}

/// That a call was let in; it is handed back with what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The number of the probe that this call is, where it is one.
    probe: Option<u64>,
}

/// What is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rest {
    /// When one may ask again.
    pub(super) until: Instant,
    /// Why it rests.
    pub(super) cause: Cause,
}

/// What can be seen from outside. Spans, because clocks stay outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// Why it is not closed.
    pub cause: Option<Cause>,
    /// For how long it has been in this state; absent where it never was in another.
    pub since: Option<Duration>,
    /// For how long it will rest.
    pub until: Option<Duration>,
    /// Failures in a row.
    pub failures: u32,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Failures since the last success.
    failures: u32,
    /// How often it has rested since the last success.
    rests: u32,
    since: Option<Instant>,
    probes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open(Rest),
    /// A probe of this number is under way since its rest was over at `ended`; its lease ends at `rest.until`.
    HalfOpen {
        rest: Rest,
        probe: u64,
        ended: Instant,
    },
}

/// The least that a key rests, so that a provider which says 0 is not asked in a loop.
const LEAST: Duration = Duration::from_millis(20);

impl Breaker {
    /// Tells whether a call could enter now, without entering.
    ///
    /// # Errors
    /// [`Rest`] where it could not.
    pub(super) fn is_open_to(&self, now: Instant) -> Result<(), Rest> {
        if !self.troubled.load(Ordering::Acquire) {
            return Ok(());
        }
        self.state.lock().resting(now).map_or(Ok(()), Err)
    }

    /// Lets a call in. Where it is the one that tries whether all is well again, others have to wait until it reports or
    /// its lease is over.
    ///
    /// # Errors
    /// [`Rest`] where it may not enter.
    pub(super) fn enter(&self, now: Instant, cooldown: &Cooldown) -> Result<Ticket, Rest> {
        if !self.troubled.load(Ordering::Acquire) {
            return Ok(Ticket::default());
        }
        let mut state = self.state.lock();
        if let Some(rest) = state.resting(now) {
            return Err(rest);
        }
        let Rest { until: ended, cause } = match state.phase {
            Phase::Closed => return Ok(Ticket::default()),
            Phase::Open(rest) | Phase::HalfOpen { rest, .. } => rest,
        };
        if cause == Cause::RateLimit {
            // The provider itself said when its limit is over, and answers may take minutes: no reason to queue.
            state.turn(Phase::Closed, now);
            return Ok(Ticket::default());
        }
        state.probes += 1;
        let probe = state.probes;
        state.turn(Phase::HalfOpen { rest: Rest { until: now + cooldown.first, cause }, probe, ended }, now);
        Ok(Ticket { probe: Some(probe) })
    }

    /// Takes note of a success: of a probe it closes, of others it forgets the failures so far.
    pub(super) fn succeeded(&self, ticket: Ticket, now: Instant) {
        if !self.troubled.load(Ordering::Acquire) {
            return;
        }
        let mut state = self.state.lock();
        // Calls from before it opened say nothing of what came after.
        if state.phase == Phase::Closed || state.is_probed_by(ticket) {
            if state.phase != Phase::Closed {
                state.turn(Phase::Closed, now);
            }
            state.failures = 0;
            state.rests = 0;
            self.troubled.store(false, Ordering::Release);
        }
    }

    /// Takes note of a failure: of a probe it opens for longer, of others after as many in a row as are allowed.
    pub(super) fn failed(&self, ticket: Ticket, now: Instant, cooldown: &Cooldown) {
        let mut state = self.state.lock();
        let closed = state.phase == Phase::Closed;
        if !closed && !state.is_probed_by(ticket) {
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if !closed || state.failures >= cooldown.consecutive_failures {
            let cause = match state.phase {
                Phase::Closed => Cause::Failures,
                Phase::Open(rest) | Phase::HalfOpen { rest, .. } => rest.cause,
            };
            state.open(cause, None, now, cooldown);
        }
        self.troubled.store(true, Ordering::Release);
    }

    /// Opens at once. `span` is the provider's own time, else it is one of ours that grows.
    pub(super) fn rest(&self, cause: Cause, span: Option<Duration>, now: Instant, cooldown: &Cooldown) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        state.open(cause, span, now, cooldown);
        self.troubled.store(true, Ordering::Release);
    }

    /// Takes note that a call said nothing of success or failure: its client left. A probe makes room for the next one.
    pub(super) fn left(&self, ticket: Ticket) {
        if ticket.probe.is_none() {
            return;
        }
        let mut state = self.state.lock();
        if state.is_probed_by(ticket)
            && let Phase::HalfOpen { rest, ended, .. } = state.phase
        {
            state.phase = Phase::Open(Rest { until: ended, ..rest });
        }
    }

    /// What can be seen from outside.
    pub(super) fn view(&self, now: Instant) -> View {
        let state = self.state.lock();
        let (name, rest) = match state.phase {
            Phase::Closed => ("closed", None),
            Phase::Open(rest) if rest.until > now => ("open", Some(rest)),
            // Nobody has asked since its time was over.
            Phase::Open(Rest { cause: Cause::RateLimit, .. }) => ("closed", None),
            Phase::Open(rest) => ("half_open", Some(Rest { until: now, ..rest })),
            Phase::HalfOpen { rest, .. } => ("half_open", Some(rest)),
        };
        View {
            state: name,
            cause: rest.map(|rest| rest.cause),
            since: state.since.map(|since| now.saturating_duration_since(since)),
            until: rest.map(|rest| rest.until.saturating_duration_since(now)).filter(|span| !span.is_zero()),
            failures: state.failures,
        }
    }
}

impl State {
    fn resting(&self, now: Instant) -> Option<Rest> {
        match self.phase {
            Phase::Closed => None,
            Phase::Open(rest) | Phase::HalfOpen { rest, .. } => (rest.until > now).then_some(rest),
        }
    }

    fn is_probed_by(&self, ticket: Ticket) -> bool {
        matches!(self.phase, Phase::HalfOpen { probe, .. } if ticket.probe == Some(probe))
    }

    fn open(&mut self, cause: Cause, span: Option<Duration>, now: Instant, cooldown: &Cooldown) {
        let own = cooldown.first.saturating_mul(1 << self.rests.min(16)).min(cooldown.longest);
        let until = now + span.map_or(own, |span| span.clamp(LEAST, MOST));
        if let Phase::Open(rest) = self.phase {
            // One of many calls that were under way together: they do not add up.
            if rest.until < until {
                self.phase = Phase::Open(Rest { until, cause });
            }
            return;
        }
        self.rests = self.rests.saturating_add(1);
        self.turn(Phase::Open(Rest { until, cause }), now);
    }

    fn turn(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = Some(now);
    }
}

/// The most that a provider's own time counts: it is asked again then, however long its quota lasts.
const MOST: Duration = Duration::from_secs(600);

impl Ticket {
    /// Whether this call alone tries whether all is well again.
    pub(super) fn is_probe(self) -> bool {
        self.probe.is_some()
    }
}

impl Cause {
    /// As metrics and the admin service spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::RateLimit => "rate_limit",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests;
