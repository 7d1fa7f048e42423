//! Limits and budgets as a call meets them: its worst case is reserved before its first attempt, and settled when it is
//! dropped.
//!
//! Invariant: what a call holds is in its context from the moment it is granted, so that no way out of it leaks any.
//! Never does: count, or keep anything on a disk; `limit` and `ledger` do.

mod leeway;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use log::warn;
use tokio::sync::Mutex;

use crate::config::Snapshot;
use crate::error::Refusal;
use crate::flow::{Arrived, Certainty, Record, Reserved, Underway, reckon};
use crate::ledger::BudgetStore;
use crate::limit::{Actual, Ask, Bound, Denied, LeaseFault, Leases, Limiter, LocalLimiter, Now, Reservation};
use crate::meter::price::Price;
use crate::meter::{Scan, Splice};
use crate::route::Deployment;
use crate::units::{Amount, Limits, Usd};

use super::Gateway;
use super::call::Call;

pub(super) use leeway::{Leeway, refusal_headers};

/// How often a call asks again after leases were granted: others may have used them up meanwhile.
const ROUNDS: usize = 8;
/// How long a store that could not lease is not asked again.
const REST: Duration = Duration::from_secs(1);
/// How long leases may take to be given back at the end.
const FAREWELL: Duration = Duration::from_secs(1);

/// The limiter, and the store that its budgets are leased from.
#[derive(Debug)]
pub(crate) struct Limiting {
    limiter: Arc<dyn Limiter>,
    /// Absent where the ledger is off: budgets then live as long as the process does.
    budgets: Option<BudgetStore>,
    /// One leases at a time, so that calls which come together lease once. When the store failed last.
    leasing: Mutex<Option<Instant>>,
}

impl Limiting {
    pub(crate) fn new(budgets: Option<BudgetStore>) -> Self {
        let now = Instant::now();
        let limiter: Arc<dyn Limiter> = match budgets {
            Some(_) => Arc::new(LocalLimiter::leasing(now)),
            None => Arc::new(LocalLimiter::new(now)),
        };
        Self { limiter, budgets, leasing: Mutex::default() }
    }

    /// Whose counters these are.
    pub(crate) fn limiter(&self) -> Arc<dyn Limiter> {
        Arc::clone(&self.limiter)
    }

    /// Forgets what is over, and gives back its leases.
    pub(crate) fn sweep(&self) {
        let returned = self.limiter.sweep(now());
        if let Some(budgets) = &self.budgets {
            budgets.give_back(returned);
        }
    }

    /// Gives back all leases, at a clean end.
    pub(crate) fn close(&self) {
        if let Some(budgets) = &self.budgets {
            budgets.give_back(self.limiter.close());
            budgets.flush(FAREWELL);
        }
    }

    async fn reserve(&self, bounds: &[&[Bound]], ask: &Ask) -> Result<Reservation, Refusal> {
        let tried = || match self.limiter.reserve(bounds, ask, now()) {
            Ok(reservation) => Ok(Ok(reservation)),
            Err(Denied::NeedsLease(wanted)) => Ok(Err(wanted)),
            Err(Denied::Exceeded(exceeded)) => Err(Refusal::Limited(exceeded)),
        };
        if let Ok(reservation) = tried()? {
            return Ok(reservation);
        }
        let mut failed = self.leasing.lock().await;
        for _ in 0..ROUNDS {
            // Whoever had the lock before may have leased enough for both.
            let wanted = match tried()? {
                Ok(reservation) => return Ok(reservation),
                Err(wanted) => wanted,
            };
            let Some(budgets) = self.budgets.as_ref().filter(|_| failed.is_none_or(|at| at.elapsed() >= REST)) else {
                return Err(Refusal::BudgetStoreUnavailable);
            };
            for wanted in &wanted {
                match budgets.lease(wanted).await {
                    Ok(grant) => {
                        let back = self.limiter.granted(wanted, grant, now());
                        budgets.give_back(back.into_iter().collect());
                    }
                    Err(LeaseFault) => {
                        *failed = Some(Instant::now());
                        return Err(Refusal::BudgetStoreUnavailable);
                    }
                }
            }
            *failed = None;
        }
        Err(Refusal::BudgetStoreUnavailable)
    }
}

fn now() -> Now {
    Now { wall: SystemTime::now(), steady: Instant::now() }
}

/// What one call holds, and what its client is told of limits.
#[derive(Debug, Default)]
pub(super) struct Held {
    reservation: Reservation,
    /// What that was made for.
    ask: Ask,
    /// As much again of its budgets for each attempt behind one that was not answered.
    further: Vec<Reservation>,
    /// The ceiling of output that was set for it.
    ceiling: Option<u64>,
}

impl Held {
    pub(super) fn leeway(&self) -> Leeway {
        Leeway::new(self.reservation.rooms(), self.ceiling)
    }

    /// Replaces what was reserved by what the call used. Of attempts that were not answered all of it stays used.
    pub(super) fn settle(mut self, record: &Record) {
        if self.reservation.is_empty() {
            return;
        }
        if record.attempts == 0 {
            self.reservation.refund();
            return;
        }
        let spent = &record.spent;
        let free = (spent.cost == Some(Usd::ZERO)).then_some(0);
        let tokens = spent.usage.as_ref().map(|usage| usage.total()).or(free);
        let estimated = spent.certainty == Certainty::Estimated;
        let unanswered = usize::try_from(record.unanswered).unwrap_or(usize::MAX);
        let is_unanswered = unanswered > self.further.len();
        // One that was reserved beside is free where the answer of an earlier attempt went to the client after all.
        self.further.drain(unanswered.min(self.further.len())..).for_each(Reservation::refund);
        self.reservation.settle(match spent.certainty {
            _ if is_unanswered => Actual::default(),
            Certainty::Settled | Certainty::Estimated => Actual { tokens, cost: spent.cost, estimated },
            Certainty::Failed => Actual { tokens: Some(0), cost: Some(Usd::ZERO), estimated: false },
            Certainty::Unknown => Actual::default(),
        });
    }
}

/// What a call may need at most, and the change of its body that makes it so.
pub(super) struct Worst {
    pub(super) ask: Ask,
    pub(super) ceiling: Option<Splice>,
}

/// Reckons what a call may need at most, and sets the ceiling that its key has for calls which name none.
pub(super) fn worst(call: &mut Call, underway: &Underway, scan: &Scan<'_>, body: &Bytes) -> Result<Worst, Refusal> {
    let arrived = call.arrived()?;
    if !underway.route.generates(&arrived.record.method) {
        return Ok(Worst { ask: NOTHING, ceiling: None });
    }
    let limited = is_limited(&bounds(&arrived.snapshot, underway, arrived));
    let default = underway.key.record.allowance.default_max_output_tokens;
    if !limited && default.is_none() {
        return Ok(Worst { ask: Ask::default(), ceiling: None });
    }
    let snapshot = Arc::clone(&arrived.snapshot);
    let prices = prices(&snapshot, underway, scan.model.as_deref())?;
    let ceilings = prices.iter().filter_map(|price| price.and_then(Price::max_output_tokens));
    let most = ceilings.min().unwrap_or(u64::MAX);
    let field = ceiling_field(&underway.route.pattern).filter(|_| !body.is_empty());
    let default = default.map(|tokens| tokens.min(most)).zip(field);
    let set = default.and_then(|(tokens, field)| Some((tokens, scan.set_ceiling(field, tokens)?)));
    let (tokens, ceiling) = set.unzip();
    let of_one = |price| reckon(scan, body, price, tokens);
    let ask = if limited { prices.into_iter().map(of_one).reduce(dearer) } else { None }.unwrap_or_default();
    call.limits.ceiling = tokens;
    Ok(Worst { ask, ceiling })
}

/// What the model costs at each target that the call may come to; absent where that is not known.
///
/// # Errors
/// `UnknownModel`.
fn prices<'s>(
    snapshot: &'s Snapshot,
    underway: &Underway,
    body_model: Option<&str>,
) -> Result<Vec<Option<&'s Price>>, Refusal> {
    let routing = underway.routing(snapshot, body_model).ok_or(Refusal::UnknownModel)?;
    let model = underway.model.as_deref().or(body_model);
    let price = |to: &Deployment| {
        let section = to.provider.prices.as_deref()?;
        snapshot.prices.find(section, to.model.as_deref().or(model)?)
    };
    Ok(routing.targets().iter().map(price).collect())
}

/// The worse of two worst cases, in each respect; what is not known is the worst.
fn dearer(one: Ask, other: Ask) -> Ask {
    Ask {
        input_bound: one.input_bound.zip(other.input_bound).map(|(one, other)| one.max(other)),
        output_ceiling: one.output_ceiling.zip(other.output_ceiling).map(|(one, other)| one.max(other)),
        priced: one.priced && other.priced,
        worst_cost: one.worst_cost.zip(other.worst_cost).map(|(one, other)| one.max(other)),
    }
}

/// How a route spells the ceiling of output. Source: OpenAI's and Anthropic's API references, read 2026-11.
fn ceiling_field(pattern: &str) -> Option<&'static str> {
    let fields = [
        ("/chat/completions", "max_completion_tokens"),
        ("/v1/completions", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
        ("/v1/messages", "max_tokens"),
    ];
    fields.into_iter().find_map(|(end, field)| pattern.ends_with(end).then_some(field))
}

/// Reserves what a call may need of all its limits, or refuses it.
///
/// # Errors
/// `Limited`, `BudgetStoreUnavailable`; nothing is held.
pub(super) async fn admit(gateway: &Gateway, call: &mut Call, underway: &Underway, ask: &Ask) -> Result<(), Refusal> {
    let arrived = call.arrived()?;
    if !is_limited(&bounds(&arrived.snapshot, underway, arrived)) {
        return Ok(());
    }
    let snapshot = Arc::clone(&arrived.snapshot);
    let bounds = bounds(&snapshot, underway, arrived);
    let reservation = call.waiting(gateway.limits.reserve(&bounds, ask)).await?;
    for exceeded in reservation.shadowed() {
        gateway.telemetry.shadowed(exceeded.limit);
    }
    call.limits.reservation = reservation;
    call.limits.ask = *ask;
    call.arrived()?.record.reserved = Reserved { tokens: ask.tokens(), cost: ask.worst_cost };
    Ok(())
}

/// Reserves for one more attempt of a call, beside one that was sent and not answered: the provider may charge for both.
/// Tells whether its budgets have room for that; of rates and places it holds its own already.
///
/// # Errors
/// `Bug`.
pub(super) async fn again(gateway: &Gateway, call: &mut Call, underway: &Underway) -> Result<bool, Refusal> {
    if !call.limits.reservation.is_empty() {
        let arrived = call.arrived()?;
        let budgets = |bound: &Bound| {
            let Limits { budgets, shadow, .. } = &*bound.limits;
            let limits = Arc::new(Limits { budgets: budgets.clone(), shadow: *shadow, ..Limits::default() });
            (!budgets.is_empty()).then(|| Bound { limits, ..bound.clone() })
        };
        let bounds = bounds(&arrived.snapshot, underway, arrived).into_iter().flatten();
        let bounds: Vec<Bound> = bounds.filter_map(budgets).collect();
        let ask = call.limits.ask;
        match call.waiting(gateway.limits.reserve(&[&bounds], &ask)).await {
            Ok(reservation) => {
                for exceeded in reservation.shadowed() {
                    gateway.telemetry.shadowed(exceeded.limit);
                }
                call.limits.further.push(reservation);
            }
            Err(refusal) => {
                let (request_id, code) = (&call.arrived()?.record.request_id, refusal.code());
                warn!("call {request_id}: no further attempt beside one that was not answered: {code}");
                gateway.telemetry.refused_again(&refusal);
                return Ok(false);
            }
        }
    }
    call.goes_on();
    Ok(true)
}

/// The same for a call whose body passes unread: what it generates would not be counted.
///
/// # Errors
/// As [`admit`], and `RouteNotMetered` where its tokens are limited, or its cost and the route has no price for each call.
pub(super) async fn admit_unread(gateway: &Gateway, call: &mut Call, underway: &Underway) -> Result<(), Refusal> {
    let arrived = call.arrived()?;
    let may_cost = underway.route.may_cost(&arrived.record.method);
    let snapshot = Arc::clone(&arrived.snapshot);
    let price = underway.route.price;
    let unseen = |amount: Amount| match amount {
        Amount::Usd(_) => price.is_none(),
        Amount::Tokens(_) => true,
    };
    let metered = |bound: &Bound| {
        let limits = &bound.limits;
        let of_budgets = limits.budgets.iter().any(|budget| unseen(budget.amount));
        !limits.shadow && (limits.tokens_per_minute.is_some() || of_budgets)
    };
    if may_cost && bounds(&snapshot, underway, arrived).into_iter().flatten().any(metered) {
        return Err(Refusal::RouteNotMetered);
    }
    let ask = match may_cost {
        true => Ask { priced: price.is_some(), worst_cost: price, ..Ask::default() },
        false => NOTHING,
    };
    admit(gateway, call, underway, &ask).await
}

/// What limits a call.
fn bounds<'s>(snapshot: &'s Snapshot, underway: &Underway, arrived: &Arrived) -> [&'s [Bound]; 3] {
    snapshot.limits.of_call(&underway.key.record.id, arrived.record.model.as_deref())
}

fn is_limited(bounds: &[&[Bound]]) -> bool {
    bounds.iter().any(|bounds| !bounds.is_empty())
}

const NOTHING: Ask = Ask { input_bound: Some(0), output_ceiling: Some(0), priced: true, worst_cost: Some(Usd::ZERO) };
