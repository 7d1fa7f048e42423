//! Many threads at once: what is settled and reserved never passes the budget, and in the end all is given back.
//!
//! Never does: sleep; what it finds must not depend on who comes first.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::bank::Bank;
use super::*;

const THREADS: u64 = 8;
const CALLS: u64 = 2_000;

/// A cheap, seeded sequence.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn hammer(durable: bool) {
    let clock = Clock::new();
    let limiter = LocalLimiter::with(clock.start, durable, 1000);
    let bank = Bank::default();
    let shared = bound(Subject::of(Owner::Gateway), &["tokens/day=20000", "concurrent_requests=5"]);
    let (spent, running, most) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            let (limiter, bank, shared) = (&limiter, &bank, &shared);
            let (spent, running, most) = (&spent, &running, &most);
            scope.spawn(move || {
                let mut seed = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                // In another order for each other thread.
                let own = bound(key(&thread.to_string()), &["usd/day=1", "concurrent_requests=5"]);
                let bounds = if thread % 2 == 0 { [shared.clone(), own] } else { [own, shared.clone()] };
                for _ in 0..CALLS {
                    let tokens = next(&mut seed) % 20;
                    let Ok(reservation) = bank.reserve(limiter, &[&bounds], &ask(tokens), clock.at(0)) else {
                        continue;
                    };
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    let standing = limiter.standing(&bounds, clock.at(0));
                    assert!(standing.iter().all(|standing| standing.used + standing.reserved <= standing.value));
                    let actual = next(&mut seed) % (tokens + 1);
                    running.fetch_sub(1, SeqCst);
                    match next(&mut seed) % 4 {
                        0 => reservation.refund(),
                        1 => {
                            spent.fetch_add(tokens, SeqCst);
                            drop(reservation);
                        }
                        _ => {
                            spent.fetch_add(actual, SeqCst);
                            reservation.settle(used(actual));
                        }
                    }
                }
            });
        }
    });
    let standing = limiter.standing(std::slice::from_ref(&shared), clock.at(0));
    let budget = standing.iter().find(|standing| standing.window.is_some()).expect("a budget");
    assert_eq!((budget.used, budget.reserved), (spent.load(SeqCst).into(), 0));
    assert!(budget.used <= 20_000 && most.load(SeqCst) <= 5);
    assert!(standing.iter().all(|standing| standing.reserved == 0));
    // Nothing is lost on the way: all that is left can be spent.
    let left = u64::try_from(20_000 - budget.used).expect("small");
    let bounds = std::slice::from_ref(&shared);
    assert!(bank.reserve(&limiter, &[bounds], &ask(left), clock.at(0)).is_ok());
    assert!(bank.reserve(&limiter, &[bounds], &ask(1), clock.at(0)).is_err());
    assert!(bank.most() <= 20_000 * 1_000_000 && limiter.tally().outstanding == 0);
}

#[test]
fn budgets_and_places_hold_under_threads() {
    hammer(false);
}

#[test]
fn budgets_hold_under_threads_with_leases() {
    hammer(true);
}

#[test]
fn a_budget_is_used_up_to_its_last_token_under_threads() {
    let clock = Clock::new();
    let (limiter, bank) = (LocalLimiter::leasing(clock.start), Bank::default());
    let bounds = [bound(key("a"), &["tokens/day=1003"])];
    let served = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..500 {
                    if let Ok(reservation) = bank.reserve(&limiter, &[&bounds], &ask(1), clock.at(0)) {
                        served.fetch_add(1, SeqCst);
                        reservation.settle(used(1));
                    }
                }
            });
        }
    });
    assert_eq!(served.load(SeqCst), 1003);
}
