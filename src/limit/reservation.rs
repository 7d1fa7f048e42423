//! A reservation: what a call holds of its limits, until it is settled.
//!
//! Invariant: it is given back exactly once. Dropped without a word it frees the call's place, and what it held of rates and
//! budgets stays used: the safe side, as somebody may have been at work for it.
//! Never does: know where the counters are.

use std::fmt::Debug;
use std::time::Duration;

use crate::error::Exceeded;
use crate::units::Usd;

/// What a call holds. Those of calls without limits hold nothing and cost nothing.
#[derive(Debug, Default)]
pub struct Reservation(Option<Box<Held>>);

#[derive(Debug)]
struct Held {
    keeper: Box<dyn Keeper>,
    shadowed: Vec<Exceeded>,
    rooms: Rooms,
}

/// What a call really used; `None` is not known, and then what was reserved counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// Tokens of input and output.
    pub tokens: Option<u64>,
    /// What it cost.
    pub cost: Option<Usd>,
    /// Whether that is our estimate, which then counts up to what was reserved and no more.
    pub estimated: bool,
}

/// How much room the rate limits of a call leave behind it: `x-ratelimit-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rooms {
    /// Of calls in a minute, for the limit with the least room.
    pub requests: Option<Room>,
    /// Of tokens in a minute, likewise.
    pub tokens: Option<Room>,
}

/// How much room a rate limit leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The limit.
    pub limit: u64,
    /// What is left of it.
    pub remaining: u64,
    /// When all of it will be left, if nothing more comes.
    pub resets_in: Duration,
}

impl Rooms {
    /// Notes the room of a further limit.
    pub(super) fn note(kept: &mut Option<Room>, room: Room) {
        if kept.is_none_or(|kept| room.remaining < kept.remaining) {
            *kept = Some(room);
        }
    }
}

/// How a reservation ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// With what was used.
    Settled(Actual),
    /// As if it had not been.
    Refunded,
    /// Without a word.
    Lost,
}

/// Whoever keeps what is held.
pub(super) trait Keeper: Send + Sync + Debug {
    /// Ends the reservation. It is called once.
    fn end(&mut self, end: End);
}

impl Reservation {
    pub(super) fn new(keeper: Box<dyn Keeper>, shadowed: Vec<Exceeded>, rooms: Rooms) -> Self {
        Self(Some(Box::new(Held { keeper, shadowed, rooms })))
    }

    /// Replaces what was reserved by what was used. The call counts for its rates as one that was made.
    pub fn settle(mut self, actual: Actual) {
        self.end(End::Settled(actual));
    }

    /// Gives everything back, as if the call had not come: nothing was asked of a provider.
    pub fn refund(mut self) {
        self.end(End::Refunded);
    }

    /// Tells whether anything is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What limits in shadow would have refused it for.
    pub fn shadowed(&self) -> &[Exceeded] {
        self.0.as_ref().map_or(&[], |held| &held.shadowed)
    }

    /// How much room its rate limits leave.
    pub fn rooms(&self) -> Rooms {
        self.0.as_ref().map(|held| held.rooms).unwrap_or_default()
    }

    fn end(&mut self, end: End) {
        if let Some(mut held) = self.0.take() {
            held.keeper.end(end);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.end(End::Lost);
    }
}
