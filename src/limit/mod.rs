//! Limits that hold: rates, calls at once, and budgets, reserved at their worst before a call and settled after it.
//!
//! Invariant: a call that is refused consumes nothing; what is settled and reserved of a budget is never more than it,
//! unless a provider says that a call used more than it was allowed to, and then what it says is counted and told.
//! Never does: any IO; reading of a clock; guess what a call may cost.

mod account;
mod lease;
mod local;
mod minute;
mod reservation;
mod state;
mod window;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::error::Exceeded;
use crate::units::{Limit, Limits, Subject, Usd};

pub use lease::{BudgetId, Grant, LeaseFault, Leases, Returned, Wanted};
pub use local::LocalLimiter;
pub use reservation::{Actual, Reservation, Room, Rooms};
pub use window::{Window, Zone};

/// The limits of a subject, as they apply to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Whose. Counters are kept by this name, so that they outlive a change of the limits.
    pub subject: Subject,
    /// What is limited.
    pub limits: Arc<Limits>,
    /// By whose midnights its budgets are counted.
    pub zone: Zone,
}

/// What a call asks for: its worst case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// The most tokens of input; `None` is not known.
    pub input_bound: Option<u64>,
    /// The most tokens of output, of all its choices; `None` is not known.
    pub output_ceiling: Option<u64>,
    /// Whether the price of the model is known.
    pub priced: bool,
    /// The most that it can cost; `None` is not known, without a price or without a bound of tokens.
    pub worst_cost: Option<Usd>,
}

impl Ask {
    /// The most tokens in all; `None` is not known.
    pub fn tokens(&self) -> Option<u64> {
        Some(self.input_bound?.saturating_add(self.output_ceiling?))
    }
}

/// The time, by both clocks: budgets go by the calendar, rates by a clock that nobody sets.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// By the calendar.
    pub wall: SystemTime,
    /// By the clock that only goes forward.
    pub steady: Instant,
}

/// Why a call may not go on, or not yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A limit refuses it. Where several do, this is the one that refuses for longest.
    Exceeded(Box<Exceeded>),
    /// It fits its budgets, but more of them has to be leased first: ask [`Leases::lease`] for each, hand the answers to
    /// [`Limiter::granted`], and reserve again.
    NeedsLease(Vec<Wanted>),
}

/// Decides which calls fit their limits. Nothing above knows where its counters are.
pub trait Limiter: Send + Sync + Debug {
    /// Reserves what a call may need of all its limits, in one step: either all of it, or nothing.
    ///
    /// # Errors
    /// [`Denied`].
    fn reserve(&self, bounds: &[&[Bound]], ask: &Ask, now: Now) -> Result<Reservation, Denied>;

    /// Takes in what was leased. What there is no use for any more, as its window is over, is to be given back.
    fn granted(&self, wanted: &Wanted, grant: Grant, now: Now) -> Option<Returned>;

    /// Forgets subjects that hold nothing and whose windows are over, and gives what is left of leases of windows that are
    /// over. To be called every few seconds.
    fn sweep(&self, now: Now) -> Vec<Returned>;

    /// Gives what is left of all leases, at a clean stop. What calls in flight hold counts as spent.
    fn close(&self) -> Vec<Returned>;

    /// How things stand with each limit.
    fn standing(&self, bounds: &[Bound], now: Now) -> Vec<Standing>;

    /// Counts for metrics.
    fn tally(&self) -> Tally;
}

/// How things stand with one limit, in its own unit: calls, tokens or pico-dollars. Of budgets that are leased it shows what
/// this process knows: nothing of a window that it has not leased from so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whose limit.
    pub subject: Subject,
    /// Which one.
    pub limit: Limit,
    /// Whether it only counts.
    pub shadow: bool,
    /// Its value.
    pub value: u128,
    /// What is used of it for good.
    pub used: u128,
    /// What calls in flight hold beside that.
    pub reserved: u128,
    /// When a budget's window began and will end.
    pub window: Option<(SystemTime, Option<SystemTime>)>,
    /// When nothing of it will be used any more, if nothing more comes.
    pub resets_in: Option<Duration>,
}

/// Counts of a limiter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Subjects that are kept.
    pub subjects: usize,
    /// Reservations that were made and not settled so far.
    pub outstanding: u64,
    /// Calls that turned out to have used more than was reserved for them.
    pub overruns: u64,
    /// Calls that were refused because no more subjects could be kept.
    pub full: u64,
}

#[cfg(test)]
mod tests;
