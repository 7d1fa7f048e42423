//! What is kept of one subject: its rates, its calls in flight and its budgets; and what one call holds of them.
//!
//! Invariant: what `take` has taken, `end` gives back to the same places, also when the limits have changed meanwhile.
//! Never does: lock; know other subjects.

use std::time::Duration;

use super::account::{Account, Purse, Verdict};
use super::minute::Minute;
use super::reservation::{End, Room, Rooms};
use super::window::seconds;
use super::{Ask, Bound, BudgetId, Now, Returned, Standing, Wanted};
use crate::error::{Exceeded, Excess};
use crate::units::{Amount, Budget, Limit, Measure, Per, Subject};

/// What is kept of one subject.
#[derive(Debug, Default)]
pub(super) struct State {
    requests: Option<Box<Minute>>,
    tokens: Option<Box<Minute>>,
    running: u64,
    purses: Vec<((Measure, Per), Purse)>,
}

/// The time as counters need it: since the limiter was made, too. And whether budgets are leased from a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) now: Now,
    pub(super) since: Duration,
    pub(super) durable: bool,
}

/// What a call holds of one subject.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) subject: Subject,
    request: Option<u64>,
    tokens: Option<(u64, u64)>,
    running: bool,
    budgets: Vec<HeldBudget>,
}

#[derive(Debug)]
struct HeldBudget {
    kind: (Measure, Per),
    window: i64,
    amount: u128,
}

/// What the limits of one subject say of a call.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) refused: Vec<Exceeded>,
    pub(super) shadowed: Vec<Exceeded>,
    pub(super) wanted: Vec<Wanted>,
}

impl State {
    /// Checks a call against the limits of a subject. Nothing is taken.
    pub(super) fn check(&mut self, bound: &Bound, ask: &Ask, at: At, findings: &mut Findings) {
        let limits = &bound.limits;
        let durable = at.durable && !limits.shadow;
        let mut excess = |exceeded| match limits.shadow {
            true => findings.shadowed.push(exceeded),
            false => findings.refused.push(exceeded),
        };
        let rate = |limit, value: u64, used: u64, needed: u64, wait| {
            Self::exceeded(bound, limit, Excess::Rate, [value, used, 0, needed].map(u128::from), Some(wait))
        };
        if let Some(limit) = limits.requests_per_minute {
            let minute = minute(&mut self.requests, at);
            if minute.used() >= limit {
                let wait = minute.fits_in(limit, 1, at.since);
                excess(rate(Limit::RequestsPerMinute, limit, minute.used(), 1, wait));
            }
        }
        if let Some(limit) = limits.tokens_per_minute {
            let (minute, need) = (minute(&mut self.tokens, at), rated(ask, limit));
            if minute.used().saturating_add(need) > limit {
                let wait = minute.fits_in(limit, need, at.since);
                excess(rate(Limit::TokensPerMinute, limit, minute.used(), need, wait));
            }
        }
        if let Some(limit) = limits.concurrent_requests.filter(|limit| self.running >= *limit) {
            excess(rate(Limit::ConcurrentRequests, limit, self.running, 1, Duration::from_secs(1)));
        }
        for budget in &limits.budgets {
            let (value, account) = (budget.amount.count(), self.account(bound, budget, at));
            let Some(need) = need(budget, ask) else {
                let priced = ask.priced || budget.amount.measure() == Measure::Tokens;
                let why = if priced { Excess::Unbounded } else { Excess::NotPriced };
                excess(Self::exceeded(bound, budget.limit(), why, [value, account.used(), account.held(), 0], None));
                continue;
            };
            let why = match account.judge(value, need, durable, at.now.steady) {
                Verdict::Fits => continue,
                Verdict::NeedsLease(amount, least) => {
                    let budget = id(&bound.subject, (budget.amount.measure(), budget.per));
                    findings.wanted.push(Wanted { budget, window: account.window, value, amount, least });
                    continue;
                }
                Verdict::Held => Excess::Held,
                Verdict::Spent => Excess::Spent,
            };
            let amounts = [value, account.used(), account.held(), need];
            let mut exceeded =
                Self::exceeded(bound, budget.limit(), why, amounts, account.window.resets_in(at.now.wall));
            exceeded.resets_at = account.window.times().1;
            excess(exceeded);
        }
    }

    fn exceeded(
        bound: &Bound,
        limit: Limit,
        why: Excess,
        [value, used, held, needed]: [u128; 4],
        resets_in: Option<Duration>,
    ) -> Exceeded {
        let subject = bound.subject.clone();
        Exceeded { subject, limit, why, value, used, held, needed, resets_in, resets_at: None }
    }

    /// Takes what a call asks for, which was checked under the same lock.
    pub(super) fn take(&mut self, bound: &Bound, ask: &Ask, at: At, rooms: &mut Rooms) -> Hold {
        let limits = &bound.limits;
        let mut hold =
            Hold { subject: bound.subject.clone(), request: None, tokens: None, running: false, budgets: Vec::new() };
        let room = |limit: u64, minute: &Minute| Room {
            limit,
            remaining: limit.saturating_sub(minute.used()),
            resets_in: minute.empty_in(at.since),
        };
        if let Some(limit) = limits.requests_per_minute {
            let minute = minute(&mut self.requests, at);
            minute.take(1);
            hold.request = Some(minute.at(at.since));
            if !limits.shadow {
                Rooms::note(&mut rooms.requests, room(limit, minute));
            }
        }
        if let Some(limit) = limits.tokens_per_minute {
            let (minute, need) = (minute(&mut self.tokens, at), rated(ask, limit));
            minute.take(need);
            hold.tokens = Some((minute.at(at.since), need));
            if !limits.shadow {
                Rooms::note(&mut rooms.tokens, room(limit, minute));
            }
        }
        if limits.concurrent_requests.is_some() {
            self.running += 1;
            hold.running = true;
        }
        for budget in &limits.budgets {
            let amount = need(budget, ask).unwrap_or_default();
            let account = self.account(bound, budget, at);
            account.reserve(amount);
            let kind = (budget.amount.measure(), budget.per);
            hold.budgets.push(HeldBudget { kind, window: account.window.start, amount });
        }
        hold
    }

    /// Ends what a call holds, and tells whether it used more than that.
    pub(super) fn end(&mut self, hold: &Hold, end: End) -> bool {
        let mut overrun = false;
        let mut used = |held: u128, told: Option<u128>, estimated: bool| {
            let told = told.unwrap_or(held);
            let used = if estimated { told.min(held) } else { told };
            overrun |= used > held;
            used
        };
        if let (Some(second), Some(minute), End::Refunded) = (hold.request, &mut self.requests, end) {
            minute.correct(second, 1, 0);
        }
        if let (Some((second, count)), Some(minute)) = (hold.tokens, &mut self.tokens) {
            match end {
                // A call that may use more than the whole limit holds only that, so using more is no overrun.
                End::Settled(actual) => minute.correct(second, count, actual.tokens.unwrap_or(count)),
                End::Refunded => minute.correct(second, count, 0),
                End::Lost => {}
            }
        }
        if hold.running {
            self.running = self.running.saturating_sub(1);
        }
        for HeldBudget { kind, window, amount } in &hold.budgets {
            let used = match end {
                End::Settled(actual) => {
                    let told = match kind.0 {
                        Measure::Usd => actual.cost.map(|cost| Amount::Usd(cost).count()),
                        Measure::Tokens => actual.tokens.map(u128::from),
                    };
                    used(*amount, told, actual.estimated)
                }
                End::Refunded => 0,
                End::Lost => *amount,
            };
            let purse = self.purses.iter_mut().find(|(own, _)| own == kind);
            if let Some(account) = purse.and_then(|(_, purse)| purse.of(*window)) {
                account.settle(*amount, used);
            }
        }
        overrun
    }

    /// The account of a window that something was leased of.
    pub(super) fn leased(&mut self, wanted: &Wanted) -> Option<&mut Account> {
        let kind = (wanted.budget.measure, wanted.budget.per);
        let (_, purse) = self.purses.iter_mut().find(|(own, _)| *own == kind)?;
        purse.of(wanted.window.start)
    }

    /// Drops what is over, and gives back its leases. Tells whether nothing is left.
    pub(super) fn prune(&mut self, subject: &Subject, at: At, returned: &mut Vec<Returned>) -> bool {
        for (kind, purse) in &mut self.purses {
            for mut account in purse.prune(at.now, at.durable) {
                give_back(subject, *kind, &mut account, returned);
            }
        }
        self.purses.retain(|(_, purse)| !purse.is_empty());
        for kept in [&mut self.requests, &mut self.tokens] {
            let is_over = |minute: &mut Box<Minute>| {
                minute.at(at.since);
                minute.used() == 0
            };
            if kept.as_mut().is_some_and(is_over) {
                *kept = None;
            }
        }
        self.running == 0 && self.purses.is_empty() && self.requests.is_none() && self.tokens.is_none()
    }

    /// Gives back all leases.
    pub(super) fn close(&mut self, subject: &Subject, returned: &mut Vec<Returned>) {
        for (kind, purse) in &mut self.purses {
            purse.each().for_each(|account| give_back(subject, *kind, account, returned));
        }
    }

    /// How one limit of the subject stands.
    pub(super) fn standing(&mut self, bound: &Bound, (limit, value): (Limit, u128), at: At) -> Standing {
        let (subject, shadow) = (bound.subject.clone(), bound.limits.shadow);
        let mut standing =
            Standing { subject, limit, shadow, value, used: 0, reserved: 0, window: None, resets_in: None };
        let mut rate = |minute: &mut Option<Box<Minute>>| {
            if let Some(minute) = minute {
                minute.at(at.since);
                (standing.used, standing.resets_in) = (minute.used().into(), Some(minute.empty_in(at.since)));
            }
        };
        match limit {
            Limit::RequestsPerMinute => rate(&mut self.requests),
            Limit::TokensPerMinute => rate(&mut self.tokens),
            Limit::ConcurrentRequests => standing.reserved = self.running.into(),
            Limit::Budget(measure, per) => {
                let purse = self.purses.iter().find(|(own, _)| *own == (measure, per));
                let account = purse.and_then(|(_, purse)| purse.look(seconds(at.now.wall)));
                let window = match account {
                    Some(account) => account.window,
                    None => super::Window::around(per, &bound.zone, at.now.wall),
                };
                (standing.used, standing.reserved) = account.map_or((0, 0), |known| (known.used(), known.held()));
                (standing.window, standing.resets_in) = (Some(window.times()), window.resets_in(at.now.wall));
            }
        }
        standing
    }

    fn account(&mut self, bound: &Bound, budget: &Budget, at: At) -> &mut Account {
        let kind = (budget.amount.measure(), budget.per);
        let index = self.purses.iter().position(|(own, _)| *own == kind).unwrap_or_else(|| {
            self.purses.push((kind, Purse::default()));
            self.purses.len() - 1
        });
        let durable = at.durable && !bound.limits.shadow;
        self.purses[index].1.at(budget.per, &bound.zone, at.now, durable)
    }
}

fn give_back(subject: &Subject, kind: (Measure, Per), account: &mut Account, to: &mut Vec<Returned>) {
    // Without a store, or in shadow, nothing was.
    if account.is_leased() {
        let (unused, spent) = account.give_up();
        to.push(Returned { budget: id(subject, kind), window: account.window, unused, spent });
    }
}

fn id(subject: &Subject, (measure, per): (Measure, Per)) -> BudgetId {
    BudgetId { subject: subject.clone(), measure, per }
}

fn minute(kept: &mut Option<Box<Minute>>, at: At) -> &mut Minute {
    let minute = kept.get_or_insert_with(|| Box::new(Minute::new()));
    minute.at(at.since);
    minute
}

/// What a call asks of a rate of tokens: one that may use more than the whole limit, or nobody knows how many, waits for an
/// empty minute and then goes alone. It would otherwise never go.
fn rated(ask: &Ask, limit: u64) -> u64 {
    ask.tokens().unwrap_or(limit).min(limit)
}

/// What a call asks of a budget; `None` is not known.
fn need(budget: &Budget, ask: &Ask) -> Option<u128> {
    match budget.amount {
        Amount::Usd(_) => ask.worst_cost.map(|cost| Amount::Usd(cost).count()),
        Amount::Tokens(_) => ask.tokens().map(u128::from),
    }
}
