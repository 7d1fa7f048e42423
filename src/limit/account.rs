//! The arithmetic of a budget: what is spent, reserved and leased of it, window by window.
//!
//! Invariant: in each window `spent + reserved <= leased <= budget` (without a store all of the budget is leased), but for
//! what was spent beyond its reservation. A window that was spent from is never begun afresh, whatever the clock does.
//! Never does: read a clock; know whose budget it is.

use std::time::{Duration, Instant};

use super::window::{Window, Zone, seconds};
use super::{Grant, Now};
use crate::units::Per;

/// One budget's accounts: that of the window now, and earlier ones that are not over with. In the order of time.
#[derive(Debug, Default)]
pub(super) struct Purse {
    accounts: Vec<Account>,
}

/// What is known of one window.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) window: Window,
    /// For good, from what this process reserved.
    pub(super) spent: u128,
    /// By calls in flight.
    pub(super) reserved: u128,
    leased: u128,
    spent_elsewhere: u128,
    held_elsewhere: u128,
    /// Until when it is of no use to ask for more, as long as the budget's value is this.
    dry: Option<(u128, Instant)>,
    /// When a call last asked for it.
    touched: Instant,
}

/// Whether an amount fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fits,
    /// It will, when so much was leased: at best, and at least.
    NeedsLease(u128, u128),
    /// It will, when calls in flight need less than they hold.
    Held,
    /// It does not.
    Spent,
}

/// How far the clock may step back and still be believed to be in the window that was already reached.
const STEP_BACK: i64 = 86_400;
/// How long an account that is over is kept.
const REST: Duration = Duration::from_secs(86_400);
/// How long a store that has no more is not asked again.
const DRY: Duration = Duration::from_secs(1);
/// Blocks that a budget is leased in.
const BLOCKS: u128 = 100;

impl Purse {
    /// The account of the window that a time is in. Where the clock stepped back, that is the one which was reached before.
    pub(super) fn at(&mut self, per: Per, zone: &Zone, now: Now, durable: bool) -> &mut Account {
        let at = seconds(now.wall);
        let found = self.accounts.iter().rposition(|account| account.window.contains(at));
        let last = self.accounts.len().wrapping_sub(1);
        let newest = self.accounts.last().map(|account| account.window.start);
        let index = match (newest, found) {
            // Also where an older one contains it.
            (Some(start), _) if at < start && start - at <= STEP_BACK => last,
            (_, Some(found)) => found,
            (newest, None) => {
                let window = Window::around(per, zone, now.wall);
                // A clock that was ahead for long: what was spent then must do for the window that it is back in.
                let known = newest.is_some_and(|start| at < start) && !durable;
                let spent = self.accounts.last().filter(|_| known).map_or(0, |last| last.spent);
                let index = self.accounts.partition_point(|account| account.window.start <= window.start);
                self.accounts.insert(index, Account::new(window, spent, now.steady));
                index
            }
        };
        let account = &mut self.accounts[index];
        account.touched = account.touched.max(now.steady);
        account
    }

    /// The account of a window.
    pub(super) fn of(&mut self, start: i64) -> Option<&mut Account> {
        self.accounts.iter_mut().find(|account| account.window.start == start)
    }

    /// The account that a time is in, if there is one.
    pub(super) fn look(&self, at: i64) -> Option<&Account> {
        let newest = self.accounts.last().filter(|account| !account.window.is_over(at))?;
        if newest.window.contains(at) || newest.window.start - at <= STEP_BACK {
            return Some(newest);
        }
        self.accounts.iter().rfind(|account| account.window.contains(at))
    }

    /// Forgets accounts that are over and hold nothing. They stay for a day after their last call, as the clock may step
    /// back into them; but not with a store, which knows what was spent in them.
    pub(super) fn prune(&mut self, now: Now, durable: bool) -> Vec<Account> {
        let at = seconds(now.wall);
        let is_over = |account: &mut Account| {
            let rested = durable || now.steady.saturating_duration_since(account.touched) >= REST;
            account.reserved == 0 && rested && account.window.is_over(at)
        };
        self.accounts.extract_if(.., is_over).collect()
    }

    /// Tells whether nothing is kept.
    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// All accounts.
    pub(super) fn each(&mut self) -> impl Iterator<Item = &mut Account> {
        self.accounts.iter_mut()
    }
}

impl Account {
    fn new(window: Window, spent: u128, touched: Instant) -> Self {
        Self { window, spent, reserved: 0, leased: 0, spent_elsewhere: 0, held_elsewhere: 0, dry: None, touched }
    }

    /// Judges whether so much more fits a budget of this value.
    pub(super) fn judge(&self, value: u128, need: u128, durable: bool, now: Instant) -> Verdict {
        let used = self.spent.saturating_add(self.reserved);
        // What costs nothing passes a budget that is spent.
        if need == 0 {
            return Verdict::Fits;
        }
        if need > value.saturating_sub(self.used()) {
            return Verdict::Spent;
        }
        let ours = value.saturating_sub(self.spent_elsewhere).saturating_sub(self.held_elsewhere);
        let ceiling = if durable { ours.min(self.leased) } else { ours };
        let after = used.saturating_add(need);
        if after <= ceiling {
            return Verdict::Fits;
        }
        let dry = self.dry.is_some_and(|(at_value, until)| at_value == value && now < until);
        let (room, short) = (ours.saturating_sub(self.leased), after.saturating_sub(self.leased));
        // While others hold a part, more may be had from the store than is known of here.
        let may_be_had = short <= room || self.held_elsewhere > 0;
        if durable && !dry && may_be_had && short > 0 {
            return Verdict::NeedsLease(short.max(value / BLOCKS).min(room.max(short)), short);
        }
        Verdict::Held
    }

    /// All that is spent of the budget in this window.
    pub(super) fn used(&self) -> u128 {
        self.spent.saturating_add(self.spent_elsewhere)
    }

    /// All that is held of it: by calls in flight, and by others.
    pub(super) fn held(&self) -> u128 {
        self.reserved.saturating_add(self.held_elsewhere)
    }

    /// Holds so much for a call.
    pub(super) fn reserve(&mut self, amount: u128) {
        self.reserved = self.reserved.saturating_add(amount);
    }

    /// Replaces what a call held by what it used.
    pub(super) fn settle(&mut self, held: u128, used: u128) {
        self.reserved = self.reserved.saturating_sub(held);
        self.spent = self.spent.saturating_add(used);
    }

    /// Takes in what was leased.
    pub(super) fn granted(&mut self, value: u128, wanted: u128, grant: Grant, now: Instant) {
        self.leased = self.leased.saturating_add(grant.amount);
        self.spent_elsewhere = grant.spent_elsewhere;
        self.held_elsewhere = grant.held_elsewhere;
        self.dry = (grant.amount < wanted).then(|| (value, now + DRY));
    }

    /// Gives up what is leased: what of it is free, and what is spent or may yet be.
    pub(super) fn give_up(&mut self) -> (u128, u128) {
        let spent = self.spent.saturating_add(self.reserved);
        (std::mem::take(&mut self.leased).saturating_sub(spent), spent)
    }

    /// Tells whether anything is leased.
    pub(super) fn is_leased(&self) -> bool {
        self.leased > 0
    }
}
