//! Facts about budgets: windows, clocks, leases.
//!
//! Never does: sleep.

use super::bank::{Bank, Book};
use super::*;
use crate::units::{Measure, Per};

fn day(limit: &str) -> [Bound; 1] {
    [bound(key("a"), &[limit])]
}

fn id(per: Per) -> BudgetId {
    BudgetId { subject: key("a"), measure: Measure::Tokens, per }
}

/// Monday, 2026-11-23 00:00.
const MONDAY: i64 = 1_795_392_000;

#[test]
fn held_is_told_from_spent() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bounds = day("tokens/day=100");
    let reserve = |tokens| limiter.reserve(&[&bounds], &ask(tokens), clock.at(0));
    let first = reserve(60).expect("fits");
    let held = refused(reserve(50));
    assert_eq!((held.why, held.used, held.held, held.needed), (Excess::Held, 0, 60, 50));
    first.settle(used(55));
    let spent = refused(reserve(50));
    assert_eq!((spent.why, spent.used, spent.held), (Excess::Spent, 55, 0));
    assert_eq!(spent.resets_in, Some(Duration::from_millis(12 * HOUR)));
    assert!(reserve(45).is_ok());
    // More than the budget never fits.
    assert_eq!(refused(reserve(101)).why, Excess::Spent);
}

#[test]
fn what_costs_nothing_passes_a_budget_that_is_spent() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bounds = day("usd/day=0.000001");
    limiter.reserve(&[&bounds], &ask(1), clock.at(0)).expect("fits").settle(used(5));
    assert_eq!(limiter.tally().overruns, 1);
    assert_eq!(refused(limiter.reserve(&[&bounds], &ask(1), clock.at(0))).used, 5_000_000);
    let free = Ask { worst_cost: Some(Usd::ZERO), ..ask(1000) };
    assert!(limiter.reserve(&[&bounds], &free, clock.at(0)).is_ok());
}

#[test]
fn an_estimate_counts_up_to_what_was_reserved_and_the_unknown_as_all_of_it() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bounds = day("tokens/day=100");
    let end = |actual| limiter.reserve(&[&bounds], &ask(10), clock.at(0)).expect("fits").settle(actual);
    end(Actual { estimated: true, ..used(25) });
    assert_eq!(stands(&limiter, &bounds[0], clock.at(0)), [(10, 0)]);
    end(Actual { estimated: true, ..used(3) });
    assert_eq!(stands(&limiter, &bounds[0], clock.at(0)), [(13, 0)]);
    end(Actual::default());
    assert_eq!((stands(&limiter, &bounds[0], clock.at(0)), limiter.tally().overruns), (vec![(23, 0)], 0));
    end(used(25));
    assert_eq!((stands(&limiter, &bounds[0], clock.at(0)), limiter.tally().overruns), (vec![(48, 0)], 1));
}

#[test]
fn a_call_over_midnight_counts_for_the_day_it_began_in() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bounds = day("tokens/day=100");
    let late = limiter.reserve(&[&bounds], &ask(100), clock.at(12 * HOUR - 1)).expect("fits");
    assert!(limiter.reserve(&[&bounds], &ask(1), clock.at(12 * HOUR - 1)).is_err());
    let early = limiter.reserve(&[&bounds], &ask(100), clock.at(12 * HOUR)).expect("a new day");
    limiter.sweep(clock.at(12 * HOUR));
    late.settle(used(100));
    assert_eq!(stands(&limiter, &bounds[0], clock.at(12 * HOUR)), [(0, 100)]);
    early.refund();
    assert!(limiter.reserve(&[&bounds], &ask(100), clock.at(12 * HOUR)).is_ok());
}

#[test]
fn a_clock_that_steps_back_never_gives_a_budget_twice() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bounds = day("tokens/day=100");
    let spend = |now: Now, tokens| {
        limiter.sweep(now);
        limiter.reserve(&[&bounds], &ask(tokens), now).map(|reservation| reservation.settle(used(tokens))).is_ok()
    };
    let hour = 3_600_000_i64;
    assert!(spend(clock.at(0), 100));
    // Tuesday, half of it; then back on Monday by a few minutes, where Tuesday goes on.
    assert!(spend(clock.set(12 * HOUR, 12 * hour), 50));
    assert!(!spend(clock.set(12 * HOUR + 1, 12 * hour - 300_000), 51));
    assert!(spend(clock.set(12 * HOUR + 2, 12 * hour - 300_000), 25));
    assert!(!spend(clock.set(13 * HOUR, 13 * hour), 26));
    // A clock that was a month ahead for an hour: Monday and Tuesday are known on its return.
    assert!(spend(clock.set(13 * HOUR, 732 * hour), 10));
    assert!(!spend(clock.set(14 * HOUR, 0), 1));
    assert!(!spend(clock.set(14 * HOUR, 14 * hour), 26));
    assert!(spend(clock.set(14 * HOUR, 14 * hour), 25));
    // A day that was never seen before the clock was ahead is charged with what was spent then.
    assert!(!spend(clock.set(40 * HOUR, 40 * hour), 91));
    assert!(spend(clock.set(40 * HOUR, 40 * hour), 90));
}

#[test]
fn budgets_renew_by_their_own_calendar() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bounds = [bound(key("a"), &["tokens/day=10", "tokens/week=25", "tokens/month=32", "tokens/total=50"])];
    let at = |days: u64| clock.at(days * 24 * HOUR);
    let spent = |days| {
        let mut count = 0;
        loop {
            match limiter.reserve(&[&bounds], &ask(1), at(days)) {
                Ok(reservation) => reservation.settle(used(1)),
                Err(Denied::Exceeded(exceeded)) => return (count, exceeded.limit.name()),
                Err(other) => panic!("{other:?}"),
            }
            count += 1;
        }
    };
    assert_eq!(spent(0), (10, "tokens/day"));
    assert_eq!(spent(1), (10, "tokens/day"));
    assert_eq!(spent(2), (5, "tokens/week"));
    assert_eq!(spent(3), (0, "tokens/week"));
    // 2026-11-30, a Monday, and December.
    assert_eq!(spent(7), (7, "tokens/month"));
    assert_eq!(spent(8), (10, "tokens/day"));
    assert_eq!(spent(9), (8, "tokens/total"));
    assert_eq!(spent(400), (0, "tokens/total"));
}

#[test]
fn a_budget_is_leased_in_blocks_and_given_back() {
    let clock = Clock::new();
    let (limiter, bank) = (LocalLimiter::leasing(clock.start), Bank::default());
    let bounds = day("tokens/day=1000");
    let Err(Denied::NeedsLease(wanted)) = limiter.reserve(&[&bounds], &ask(3), clock.at(0)) else { panic!() };
    assert_eq!((wanted.len(), wanted[0].amount, wanted[0].least, wanted[0].value), (1, 10, 3, 1000));
    assert_eq!((&wanted[0].budget, wanted[0].window.start), (&id(Per::Day), MONDAY));
    bank.reserve(&limiter, &[&bounds], &ask(3), clock.at(0)).expect("fits").settle(used(2));
    assert_eq!(bank.most(), 10);
    bank.reserve(&limiter, &[&bounds], &ask(8), clock.at(0)).expect("fits").settle(used(8));
    assert_eq!(bank.most(), 10);
    // At least what the call needs.
    let held = bank.reserve(&limiter, &[&bounds], &ask(500), clock.at(0)).expect("fits");
    assert_eq!(bank.most(), 510);
    bank.give_back_now(&limiter.sweep(clock.at(12 * HOUR)));
    assert_eq!(bank.most(), 510);
    held.settle(used(100));
    bank.give_back_now(&limiter.sweep(clock.at(12 * HOUR)));
    assert_eq!((bank.books()[0].leased, bank.books()[0].spent), (0, 110));
    assert_eq!(limiter.tally().subjects, 0);
}

#[test]
fn a_clean_stop_gives_back_all_but_what_is_held() {
    let clock = Clock::new();
    let (limiter, bank) = (LocalLimiter::leasing(clock.start), Bank::default());
    let bounds = day("tokens/total=1000");
    bank.reserve(&limiter, &[&bounds], &ask(20), clock.at(0)).expect("fits").settle(used(15));
    let held = bank.reserve(&limiter, &[&bounds], &ask(40), clock.at(0)).expect("fits");
    bank.give_back_now(&limiter.close());
    assert_eq!((bank.books()[0].leased, bank.books()[0].spent), (0, 55));
    drop(held);
    // The next process knows what was spent.
    let next = LocalLimiter::leasing(clock.start);
    assert_eq!(refused(bank.reserve(&next, &[&bounds], &ask(946), clock.at(0))).why, Excess::Spent);
    assert!(bank.reserve(&next, &[&bounds], &ask(945), clock.at(0)).is_ok());
    assert_eq!(stands(&next, &bounds[0], clock.at(0)), [(55 + 945, 0)]);
}

#[test]
fn what_others_hold_is_held_and_asked_for_again_in_a_second() {
    let clock = Clock::new();
    let (limiter, bank) = (LocalLimiter::leasing(clock.start), Bank::default());
    let bounds = day("tokens/day=100");
    bank.set(id(Per::Day), MONDAY, Book { leased: 0, spent: 20, others: 50 });
    let reserve = |tokens, at| bank.reserve(&limiter, &[&bounds], &ask(tokens), clock.at(at));
    let exceeded = refused(reserve(31, 0));
    assert_eq!((exceeded.why, exceeded.used, exceeded.held), (Excess::Held, 20, 50));
    assert_eq!(refused(reserve(81, 0)).why, Excess::Spent);
    bank.set(id(Per::Day), MONDAY, Book { leased: bank.books()[0].leased, spent: 30, others: 0 });
    assert_eq!(refused(reserve(70, 999)).why, Excess::Held);
    let held = reserve(70, 1000).expect("others gave back");
    assert_eq!(refused(reserve(1, 2000)).why, Excess::Held);
    // A budget that was raised is asked for at once.
    bank.reserve(&limiter, &[&day("tokens/day=101")], &ask(1), clock.at(2000)).expect("fits").settle(used(1));
    held.refund();
    assert!(reserve(69, 2000).is_ok());
}

#[test]
fn a_lease_that_comes_too_late_goes_back() {
    let clock = Clock::new();
    let limiter = LocalLimiter::leasing(clock.start);
    let bounds = day("tokens/day=100");
    let Err(Denied::NeedsLease(wanted)) = limiter.reserve(&[&bounds], &ask(3), clock.at(0)) else { panic!() };
    assert!(limiter.sweep(clock.at(24 * HOUR)).is_empty());
    let grant = Grant { amount: 3, ..Grant::default() };
    let back = limiter.granted(&wanted[0], grant, clock.at(24 * HOUR)).expect("of no use");
    assert_eq!((back.unused, back.spent), (3, 0));
}

#[test]
fn limits_that_leave_the_shadow_lease_what_was_spent_in_it() {
    let clock = Clock::new();
    let (limiter, bank) = (LocalLimiter::leasing(clock.start), Bank::default());
    let shadow = [bound(key("a"), &["tokens/day=100", "shadow"])];
    limiter.reserve(&[&shadow], &ask(70), clock.at(0)).expect("fits").settle(used(70));
    assert_eq!(bank.most(), 0);
    let bounds = day("tokens/day=100");
    assert_eq!(refused(bank.reserve(&limiter, &[&bounds], &ask(31), clock.at(0))).why, Excess::Spent);
    bank.reserve(&limiter, &[&bounds], &ask(30), clock.at(0)).expect("fits").settle(used(30));
    bank.give_back_now(&limiter.close());
    assert_eq!((bank.books()[0].leased, bank.books()[0].spent), (0, 100));
    // What was counted in shadow alone was never leased, so there is nothing to give back.
    let next = LocalLimiter::leasing(clock.start);
    next.reserve(&[&shadow], &ask(70), clock.at(0)).expect("fits").settle(used(70));
    assert!(next.close().is_empty());
}
