//! Limits and budgets as a call meets them: its worst case is reserved before its first attempt, and settled when it is
//! dropped.
//!
//! Invariant: what a call holds is in its context from the moment it is granted, so that no way out of it leaks any.
//! Never does: count, or keep anything on a disk; `limit` and `ledger` do.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use tokio::sync::Mutex;

use crate::config::Snapshot;
use crate::error::{Exceeded, Excess, Refusal};
use crate::flow::{Arrived, Certainty, Record, Reserved, Underway, reckon};
use crate::ledger::BudgetStore;
use crate::limit::{
    Actual, Ask, Bound, Denied, LeaseFault, Leases, Limiter, LocalLimiter, Now, Reservation, Room, Rooms,
};
use crate::meter::price::Price;
use crate::meter::{Scan, Splice};
use crate::route::{Kind, Provider};
use crate::units::{Limit, Usd};

use super::Gateway;
use super::call::Call;

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
    /// The ceiling of output that was set for it.
    ceiling: Option<u64>,
}

/// What an answer tells of limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Leeway {
    rooms: Rooms,
    ceiling: Option<u64>,
}

impl Held {
    pub(super) fn leeway(&self) -> Leeway {
        Leeway { rooms: self.reservation.rooms(), ceiling: self.ceiling }
    }

    /// Replaces what was reserved by what the call used.
    pub(super) fn settle(self, record: &Record) {
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
        self.reservation.settle(match spent.certainty {
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
    let snapshot = Arc::clone(&arrived.snapshot);
    let prices = prices(&snapshot, underway, arrived.record.model.as_deref());
    let ceilings = prices.iter().filter_map(|price| price.and_then(Price::max_output_tokens));
    let most = ceilings.min().unwrap_or(u64::MAX);
    let default = underway.key.record.allowance.default_max_output_tokens.map(|tokens| tokens.min(most));
    let field = ceiling_field(&underway.route.pattern).filter(|_| !body.is_empty());
    let set = default.zip(field).and_then(|(tokens, field)| Some((tokens, scan.set_ceiling(field, tokens)?)));
    let (tokens, ceiling) = set.unzip();
    let limited = is_limited(&bounds(&snapshot, underway, arrived));
    let of_one = |price| reckon(scan, body, price, tokens);
    let ask = if limited { prices.into_iter().map(of_one).reduce(dearer) } else { None }.unwrap_or_default();
    call.limits.ceiling = tokens;
    Ok(Worst { ask, ceiling })
}

/// What the model costs at each target that the call may come to; absent where that is not known.
fn prices<'s>(snapshot: &'s Snapshot, underway: &Underway, model: Option<&str>) -> Vec<Option<&'s Price>> {
    let price = |provider: &Provider, model: Option<&str>| snapshot.prices.find(provider.prices.as_deref()?, model?);
    let target = &underway.target;
    let named = model.filter(|_| !target.is_chosen && underway.model.is_none());
    match named.and_then(|named| snapshot.models.of_call(&target.provider.id, Some(named))) {
        Some(routing) => {
            let targets = routing.targets().iter();
            targets.map(|to| price(&to.provider, to.model.as_deref().or(model))).collect()
        }
        None => vec![price(&target.provider, model)],
    }
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
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let bounds = bounds(&snapshot, underway, call.arrived()?);
    if !is_limited(&bounds) {
        return Ok(());
    }
    let reservation = call.waiting(gateway.limits.reserve(&bounds, ask)).await?;
    for exceeded in reservation.shadowed() {
        gateway.telemetry.shadowed(exceeded.limit);
    }
    call.limits.reservation = reservation;
    call.arrived()?.record.reserved = Reserved { tokens: ask.tokens(), cost: ask.worst_cost };
    Ok(())
}

/// The same for a call whose body passes unread: what it generates would not be counted.
///
/// # Errors
/// As [`admit`], and `RouteNotMetered` where its tokens or its cost are limited.
pub(super) async fn admit_unread(gateway: &Gateway, call: &mut Call, underway: &Underway) -> Result<(), Refusal> {
    let arrived = call.arrived()?;
    let generates = underway.route.kind == Kind::Websocket || underway.route.generates(&arrived.record.method);
    let snapshot = Arc::clone(&arrived.snapshot);
    let metered = |bound: &Bound| {
        let limits = &bound.limits;
        !limits.shadow && (limits.tokens_per_minute.is_some() || !limits.budgets.is_empty())
    };
    if generates && bounds(&snapshot, underway, arrived).into_iter().flatten().any(metered) {
        return Err(Refusal::RouteNotMetered);
    }
    let ask = if generates { Ask::default() } else { NOTHING };
    admit(gateway, call, underway, &ask).await
}

/// What limits a call: what stands for its key, and for all calls for its model.
fn bounds<'s>(snapshot: &'s Snapshot, underway: &Underway, arrived: &Arrived) -> [&'s [Bound]; 2] {
    let of_model = arrived.record.model.as_deref().map_or(&[][..], |model| snapshot.limits.of_model(model));
    [snapshot.limits.of_key(&underway.key.record.id), of_model]
}

fn is_limited(bounds: &[&[Bound]]) -> bool {
    bounds.iter().any(|bounds| !bounds.is_empty())
}

const NOTHING: Ask = Ask { input_bound: Some(0), output_ceiling: Some(0), priced: true, worst_cost: Some(Usd::ZERO) };

impl Leeway {
    /// Takes the provider's own rate limits out of the way of ours.
    pub(super) fn make_way(&self, headers: &mut HeaderMap) {
        if self.rooms.requests.is_none() && self.rooms.tokens.is_none() {
            return;
        }
        let theirs =
            headers.keys().filter_map(|name| Some((name.clone(), name.as_str().strip_prefix("x-ratelimit-")?)));
        let renamed = theirs.filter_map(|(name, rest)| {
            Some((HeaderName::from_bytes(format!("x-upstream-ratelimit-{rest}").as_bytes()).ok()?, name))
        });
        for (new, old) in renamed.collect::<Vec<_>>() {
            if let Some(value) = headers.remove(old) {
                headers.insert(new, value);
            }
        }
    }

    /// Whether a provider's header is one of those that [`Self::make_way`] renames; the name in lower case.
    pub(super) fn renames(&self, name: &[u8]) -> bool {
        (self.rooms.requests.is_some() || self.rooms.tokens.is_some()) && name.starts_with(b"x-ratelimit-")
    }

    /// Names and values of headers.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let mut all = rate_headers(&self.rooms);
        all.extend(self.ceiling.map(|tokens| ("x-gateway-max-output-tokens", tokens.to_string())));
        all
    }
}

/// What a refusal tells beside its status: names and values of headers.
pub(super) fn refusal_headers(refusal: &Refusal) -> Vec<(&'static str, String)> {
    let mut rooms = Rooms::default();
    if let Refusal::Limited(exceeded) = refusal {
        match exceeded.limit {
            Limit::RequestsPerMinute => rooms.requests = room_left(exceeded),
            Limit::TokensPerMinute => rooms.tokens = room_left(exceeded),
            _ => {}
        }
    }
    let mut all = rate_headers(&rooms);
    all.extend(refusal.should_retry().map(|retry| ("x-should-retry", retry.to_string())));
    all
}

fn room_left(exceeded: &Exceeded) -> Option<Room> {
    let count = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
    let resets_in = exceeded.resets_in.filter(|_| exceeded.why == Excess::Rate)?;
    let remaining = count(exceeded.value.saturating_sub(exceeded.used));
    Some(Room { limit: count(exceeded.value), remaining, resets_in })
}

fn rate_headers(rooms: &Rooms) -> Vec<(&'static str, String)> {
    const REQUESTS: [&str; 3] =
        ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];
    const TOKENS: [&str; 3] = ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];
    let mut all = Vec::new();
    for (names, room) in [(REQUESTS, rooms.requests), (TOKENS, rooms.tokens)] {
        let Some(Room { limit, remaining, resets_in }) = room else { continue };
        let values = [limit.to_string(), remaining.to_string(), span(resets_in)];
        all.extend(names.into_iter().zip(values));
    }
    all
}

/// A time as OpenAI writes it in these headers: `6m0s`, `1.5s`, `120ms`. Source: its guide on rate limits, read 2026-11.
fn span(time: Duration) -> String {
    let millis = time.as_nanos().div_ceil(1_000_000);
    let (minutes, millis) = (millis / 60_000, millis % 60_000);
    let seconds = match (millis / 1000, millis % 1000) {
        (seconds, 0) => format!("{seconds}s"),
        (0, rest) if minutes == 0 => return format!("{rest}ms"),
        (seconds, rest) => format!("{seconds}.{}s", format!("{rest:03}").trim_end_matches('0')),
    };
    if minutes > 0 { format!("{minutes}m{seconds}") } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_openai_writes_them() {
        let texts = [(0, "0s"), (120, "120ms"), (1000, "1s"), (1500, "1.5s"), (60_000, "1m0s"), (61_250, "1m1.25s")];
        for (millis, text) in texts {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
