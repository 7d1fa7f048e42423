//! The limiter in memory: exact, in shards, and bounded.
//!
//! Invariant: a call's limits are checked and taken under the locks of all its subjects at once, which are locked in one
//! order; so no call sees half of another, and none waits for another in a circle.
//! Never does: hold a lock while something is waited for.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::reservation::{End, Keeper, Rooms};
use super::state::{At, Findings, Hold, State};
use super::{Ask, Bound, Denied, Grant, Limiter, Now, Reservation, Returned, Standing, Tally, Wanted};
use crate::error::{Exceeded, Excess};
use crate::units::Subject;

/// The limiter in memory.
#[derive(Debug)]
pub struct LocalLimiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    began: Instant,
    /// Whether budgets are spent against leases only.
    durable: bool,
    /// Most subjects of a shard.
    most: usize,
    outstanding: AtomicU64,
    overruns: AtomicU64,
    full: AtomicU64,
}

type Shard = HashMap<Subject, State>;

/// Shards, so that calls of different keys seldom meet.
const SHARDS: usize = 64;
/// Subjects that are kept. They come from the configuration and the key file, never from what a client sends.
const MOST_SUBJECTS: usize = 2_000_000;

impl LocalLimiter {
    /// A limiter whose budgets live as long as it does.
    pub fn new(now: Instant) -> Self {
        Self::with(now, false, MOST_SUBJECTS)
    }

    /// A limiter that spends budgets only against what was leased from a store.
    pub fn leasing(now: Instant) -> Self {
        Self::with(now, true, MOST_SUBJECTS)
    }

    pub(super) fn with(began: Instant, durable: bool, most_subjects: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self(Arc::new(Inner {
            shards,
            hasher: RandomState::new(),
            began,
            durable,
            most: most_subjects.div_ceil(SHARDS),
            outstanding: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            full: AtomicU64::new(0),
        }))
    }
}

impl Limiter for LocalLimiter {
    fn reserve(&self, bounds: &[&[Bound]], ask: &Ask, now: Now) -> Result<Reservation, Denied> {
        if bounds.iter().all(|bounds| bounds.is_empty()) {
            return Ok(Reservation::default());
        }
        let at = self.0.at(now);
        let all = || bounds.iter().flat_map(|bounds| bounds.iter());
        let mut locked = self.0.lock(all().map(|bound| &bound.subject));
        let mut findings = Findings::default();
        for bound in all() {
            match locked.state(&bound.subject, at) {
                Some(state) => state.check(bound, ask, at, &mut findings),
                None => findings.refused.push(self.0.no_room(bound)),
            }
        }
        if let Some(worst) = findings.refused.into_iter().reduce(longer) {
            return Err(Denied::Exceeded(Box::new(worst)));
        }
        if !findings.wanted.is_empty() {
            return Err(Denied::NeedsLease(findings.wanted));
        }
        let mut rooms = Rooms::default();
        let holds = all()
            .filter_map(|bound| Some(locked.state(&bound.subject, at)?.take(bound, ask, at, &mut rooms)))
            .collect();
        self.0.outstanding.fetch_add(1, Relaxed);
        let kept = Kept { inner: Arc::clone(&self.0), holds };
        Ok(Reservation::new(Box::new(kept), findings.shadowed, rooms))
    }

    fn granted(&self, wanted: &Wanted, grant: Grant, now: Now) -> Option<Returned> {
        let subject = &wanted.budget.subject;
        let mut shard = self.0.shards[self.0.index(subject)].lock();
        match shard.get_mut(subject).and_then(|state| state.leased(wanted)) {
            Some(account) => {
                account.granted(wanted.value, wanted.amount, grant, now.steady);
                None
            }
            // The call that asked made it; a sweep forgets it when its window is over.
            None => {
                let (budget, window) = (wanted.budget.clone(), wanted.window);
                Some(Returned { budget, window, unused: grant.amount, spent: 0 })
            }
        }
    }

    fn sweep(&self, now: Now) -> Vec<Returned> {
        let at = self.0.at(now);
        let mut returned = Vec::new();
        for shard in &self.0.shards {
            sweep(&mut shard.lock(), at, &mut returned);
        }
        returned
    }

    fn close(&self) -> Vec<Returned> {
        let mut returned = Vec::new();
        for shard in &self.0.shards {
            shard.lock().iter_mut().for_each(|(subject, state)| state.close(subject, &mut returned));
        }
        returned
    }

    fn standing(&self, bounds: &[Bound], now: Now) -> Vec<Standing> {
        let at = self.0.at(now);
        let mut standings = Vec::new();
        for bound in bounds {
            let mut shard = self.0.shards[self.0.index(&bound.subject)].lock();
            let mut unknown = State::default();
            let state = shard.get_mut(&bound.subject).unwrap_or(&mut unknown);
            standings.extend(bound.limits.all().map(|limit| state.standing(bound, limit, at)));
        }
        standings
    }

    fn tally(&self) -> Tally {
        Tally {
            subjects: self.0.shards.iter().map(|shard| shard.lock().len()).sum(),
            outstanding: self.0.outstanding.load(Relaxed),
            overruns: self.0.overruns.load(Relaxed),
            full: self.0.full.load(Relaxed),
        }
    }
}

fn sweep(shard: &mut Shard, at: At, returned: &mut Vec<Returned>) {
    shard.retain(|subject, state| !state.prune(subject, at, returned));
}

/// Of two refusals the one that lasts longer: what waiting cannot mend, then a budget that is spent, then by time; of two
/// equal ones the first.
fn longer(one: Exceeded, other: Exceeded) -> Exceeded {
    let rank = |exceeded: &Exceeded| {
        let kind = match exceeded.why {
            Excess::NotPriced | Excess::Unbounded => 2,
            Excess::Spent => 1,
            Excess::Rate | Excess::Held => 0,
        };
        // One that never resets lasts longest.
        (kind, kind == 1 && exceeded.resets_in.is_none(), exceeded.resets_in)
    };
    if rank(&other) > rank(&one) { other } else { one }
}

impl Inner {
    fn at(&self, now: Now) -> At {
        At { now, since: now.steady.saturating_duration_since(self.began), durable: self.durable }
    }

    fn index(&self, subject: &Subject) -> usize {
        // Less than the number of shards.
        (self.hasher.hash_one(subject) % SHARDS as u64) as usize
    }

    /// Locks the shards of all these subjects, each once, in their order.
    fn lock<'s>(&self, subjects: impl Iterator<Item = &'s Subject>) -> Locked<'_> {
        let mut indices: Vec<usize> = subjects.map(|subject| self.index(subject)).collect();
        indices.sort_unstable();
        indices.dedup();
        let shards = indices.into_iter().map(|index| (index, self.shards[index].lock())).collect();
        Locked { inner: self, shards }
    }

    fn no_room(&self, bound: &Bound) -> Exceeded {
        self.full.fetch_add(1, Relaxed);
        let (limit, value) = bound.limits.all().next().unwrap_or((crate::units::Limit::ConcurrentRequests, 0));
        Exceeded {
            subject: bound.subject.clone(),
            limit,
            why: Excess::Rate,
            value,
            used: 0,
            held: 0,
            needed: 0,
            resets_in: None,
            resets_at: None,
        }
    }
}

/// Some shards, locked.
struct Locked<'l> {
    inner: &'l Inner,
    shards: Vec<(usize, MutexGuard<'l, Shard>)>,
}

impl Locked<'_> {
    /// What is kept of a subject, which is made where nothing is; `None` where there is no room for that.
    fn state(&mut self, subject: &Subject, at: At) -> Option<&mut State> {
        let index = self.inner.index(subject);
        let (_, shard) = self.shards.iter_mut().find(|(own, _)| *own == index)?;
        if shard.contains_key(subject) {
            return shard.get_mut(subject);
        }
        if shard.len() >= self.inner.most && !self.inner.durable {
            sweep(shard, at, &mut Vec::new());
        }
        (shard.len() < self.inner.most).then(|| shard.entry(subject.clone()).or_default())
    }
}

/// What a call holds, and where.
#[derive(Debug)]
struct Kept {
    inner: Arc<Inner>,
    holds: Vec<Hold>,
}

impl Keeper for Kept {
    fn end(&mut self, end: End) {
        let mut overrun = false;
        for hold in &self.holds {
            let mut shard = self.inner.shards[self.inner.index(&hold.subject)].lock();
            if let Some(state) = shard.get_mut(&hold.subject) {
                overrun |= state.end(hold, end);
            }
        }
        self.inner.outstanding.fetch_sub(1, Relaxed);
        self.inner.overruns.fetch_add(overrun.into(), Relaxed);
    }
}
