//! The retry budget of a target: retries are at most a share of the calls of the last ten seconds, so that a provider that
//! is down does not get a multiple of its usual load.
//!
//! Invariant: in no window are there more retries than the share of its calls, plus a floor with which a quiet gateway
//! can still retry.
//! Never does: read a clock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// Calls and retries of the last seconds.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    /// What seconds are counted from.
    start: OnceLock<Instant>,
    calls: Ring,
    retries: Ring,
    /// Held where a retry is granted, so that two do not take the last one.
    granting: Mutex<()>,
}

/// Counts by the second: each slot holds the second in its upper half and the count in its lower one.
#[derive(Debug, Default)]
struct Ring([AtomicU64; SECONDS as usize]);

/// The window's length.
const SECONDS: u64 = 10;
/// Retries that each window has whatever the calls. A share alone would leave none to the first calls.
pub(super) const FLOOR: u64 = 5;

impl RetryBudget {
    /// Takes note of a call's first attempt at the target.
    pub(super) fn called(&self, now: Instant) {
        self.calls.add(self.second(now));
    }

    /// Takes one retry out of the budget, where there is one left.
    pub(super) fn take(&self, now: Instant, percent: u8) -> bool {
        let second = self.second(now);
        let _granting = self.granting.lock();
        let allowed = FLOOR + self.calls.sum(second) * u64::from(percent) / 100;
        let granted = percent > 0 && self.retries.sum(second) < allowed;
        if granted {
            self.retries.add(second);
        }
        granted
    }

    fn second(&self, now: Instant) -> u64 {
        // From 1, because an empty slot says 0.
        now.saturating_duration_since(*self.start.get_or_init(|| now)).as_secs() + 1
    }
}

impl Ring {
    fn slot(&self, second: u64) -> &AtomicU64 {
        let index = usize::try_from(second % SECONDS).unwrap_or_default();
        &self.0[index]
    }

    fn add(&self, second: u64) {
        let add = |slot: u64| {
            Some(match slot >> 32 {
                own if own >= second => slot.saturating_add(u64::from(slot & COUNT < COUNT)),
                _ => second << 32 | 1,
            })
        };
        let _ = self.slot(second).fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn sum(&self, second: u64) -> u64 {
        let slots = self.0.iter().map(|slot| slot.load(Ordering::Relaxed));
        slots.filter(|slot| slot >> 32 > 0 && (slot >> 32) + SECONDS > second).map(|slot| slot & COUNT).sum()
    }
}

const COUNT: u64 = u32::MAX as u64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_quiet_gateway_can_retry() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        budget.called(now);
        let granted = (0..20).filter(|_| budget.take(now, 20)).count();
        assert_eq!(granted as u64, FLOOR);
    }

    #[test]
    fn retries_are_a_share_of_the_calls() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        (0..1000).for_each(|_| budget.called(now));
        assert_eq!((0..1000).filter(|_| budget.take(now, 20)).count() as u64, 200 + FLOOR);
        let later = now + Duration::from_secs(9);
        assert!(!budget.take(later, 20), "still the same window");
        let later = now + Duration::from_secs(10);
        assert_eq!((0..1000).filter(|_| budget.take(later, 20)).count() as u64, FLOOR, "a new one, without calls");
    }

    #[test]
    fn no_share_is_no_retry() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        budget.called(now);
        assert!(!budget.take(now, 0));
    }

    #[test]
    fn threads_do_not_take_the_same_retry() {
        let (budget, now) = (RetryBudget::default(), Instant::now());
        let take = || (0..100).filter(|_| budget.take(now, 20)).count();
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(granted as u64, FLOOR);
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_its_share(steps in prop::collection::vec((0_u64..3000, any::<bool>()), 1..200)) {
            let (budget, mut now) = (RetryBudget::default(), Instant::now());
            let start = now;
            // Seconds are counted from the first question.
            budget.take(now, 0);
            let (mut calls, mut retries) = (Vec::new(), Vec::new());
            for (wait, retry) in steps {
                now += Duration::from_millis(wait);
                let second = (now - start).as_secs();
                if !retry {
                    budget.called(now);
                    calls.push(second);
                } else if budget.take(now, 20) {
                    retries.push(second);
                    let within = |times: &[u64]| times.iter().filter(|time| **time + SECONDS > second).count() as u64;
                    prop_assert!(within(&retries) <= FLOOR + within(&calls) / 5);
                }
            }
        }
    }
}
