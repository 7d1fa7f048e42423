//! Facts about the limiter in memory, with hand-set time.
//!
//! Never does: sleep, or read more of a clock than a first instant.

mod bank;
mod budgets;
mod fuzz;
mod model;
mod threads;

use super::*;
use crate::error::Excess;
use crate::units::{KeyId, Owner};

/// Monday, 2026-11-23 12:00 UTC, and an instant that stands for it.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// So many milliseconds later by both clocks.
    fn at(self, millis: u64) -> Now {
        self.set(millis, i64::try_from(millis).expect("small"))
    }

    /// The two clocks on their own.
    fn set(self, steady_millis: u64, wall_millis: i64) -> Now {
        let span = Duration::from_millis(wall_millis.unsigned_abs());
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200);
        let wall = if wall_millis < 0 { noon - span } else { noon + span };
        Now { wall, steady: self.start + Duration::from_millis(steady_millis) }
    }
}

const HOUR: u64 = 3_600_000;

fn key(name: &str) -> Subject {
    Subject::of(Owner::Key(KeyId::new(name)))
}

fn bound(subject: Subject, limits: &[&str]) -> Bound {
    let mut all = Limits::default();
    limits.iter().for_each(|text| all.set(text).expect(text));
    Bound { subject, limits: Arc::new(all), zone: Zone::UTC }
}

/// A call of so many tokens, of which each costs a millionth of a dollar.
fn ask(tokens: u64) -> Ask {
    let worst_cost = Some(Usd::from_picos(1_000_000).times(tokens));
    Ask { input_bound: Some(tokens), output_ceiling: Some(0), priced: true, worst_cost }
}

fn used(tokens: u64) -> Actual {
    Actual { tokens: Some(tokens), cost: ask(tokens).worst_cost, estimated: false }
}

#[track_caller]
fn refused(result: Result<Reservation, Denied>) -> Exceeded {
    match result {
        Err(Denied::Exceeded(exceeded)) => *exceeded,
        other => panic!("not refused: {other:?}"),
    }
}

/// What is used and reserved of each limit.
fn stands(limiter: &dyn Limiter, bound: &Bound, now: Now) -> Vec<(u128, u128)> {
    let standing = limiter.standing(std::slice::from_ref(bound), now);
    standing.into_iter().map(|limit| (limit.used, limit.reserved)).collect()
}

#[test]
fn a_call_without_limits_holds_nothing() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let reservation = limiter.reserve(&[&[], &[]], &ask(1), clock.at(0)).expect("fits");
    assert!(reservation.is_empty());
    assert_eq!(limiter.tally(), Tally::default());
}

#[test]
fn a_refused_call_consumes_nothing_of_any_subject() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let wide = bound(key("a"), &["requests_per_minute=10", "concurrent_requests=10", "tokens/day=100"]);
    let narrow = bound(Subject::of(Owner::Gateway), &["tokens/day=50"]);
    let bounds = [wide.clone(), narrow.clone()];
    let before = stands(&limiter, &wide, clock.at(0));
    let exceeded = refused(limiter.reserve(&[&bounds], &ask(51), clock.at(0)));
    assert_eq!((exceeded.why, exceeded.subject, exceeded.value), (Excess::Spent, narrow.subject.clone(), 50));
    assert_eq!(stands(&limiter, &wide, clock.at(0)), before);
    let held = limiter.reserve(&[&bounds[..1], &bounds[1..]], &ask(50), clock.at(0)).expect("fits");
    assert_eq!(stands(&limiter, &wide, clock.at(0)), [(1, 0), (0, 1), (0, 50)]);
    held.refund();
    assert_eq!(stands(&limiter, &wide, clock.at(0)), before);
    assert_eq!(stands(&limiter, &narrow, clock.at(0)), [(0, 0)]);
    assert_eq!(limiter.tally().outstanding, 0);
}

#[test]
fn a_dropped_reservation_frees_its_place_and_keeps_its_money_spent() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bound = bound(key("a"), &["concurrent_requests=1", "tokens_per_minute=100", "usd/day=1"]);
    let bounds = std::slice::from_ref(&bound);
    let held = limiter.reserve(&[bounds], &ask(40), clock.at(0)).expect("fits");
    let full = refused(limiter.reserve(&[bounds], &ask(40), clock.at(0)));
    assert_eq!((full.limit, full.why), (Limit::ConcurrentRequests, Excess::Rate));
    drop(held);
    assert_eq!(stands(&limiter, &bound, clock.at(0)), [(40, 0), (0, 0), (40_000_000, 0)]);
    assert!(limiter.reserve(&[bounds], &ask(40), clock.at(0)).is_ok());
}

#[test]
fn a_rate_tells_when_the_call_will_fit_and_how_much_room_there_is() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bounds = [bound(key("a"), &["requests_per_minute=2"]), bound(key("b"), &["requests_per_minute=9"])];
    let first = limiter.reserve(&[&bounds], &ask(1), clock.at(500)).expect("fits");
    let room = first.rooms().requests.expect("a rate");
    assert_eq!((room.limit, room.remaining, room.resets_in.as_millis()), (2, 1, 60_500));
    assert_eq!(first.rooms().tokens, None);
    let _second = limiter.reserve(&[&bounds], &ask(1), clock.at(30_000)).expect("fits");
    let exceeded = refused(limiter.reserve(&[&bounds], &ask(1), clock.at(40_000)));
    assert_eq!(exceeded.resets_in, Some(Duration::from_secs(21)));
    assert!(limiter.reserve(&[&bounds], &ask(1), clock.at(60_999)).is_err());
    assert!(limiter.reserve(&[&bounds], &ask(1), clock.at(61_000)).is_ok());
}

#[test]
fn the_refusal_that_lasts_longest_is_told() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let limits =
        ["requests_per_minute=1", "tokens_per_minute=1", "tokens/day=5", "usd/month=0.000005", "tokens/total=9"];
    let bound = bound(key("a"), &limits);
    let bounds = [bound];
    limiter.reserve(&[&bounds], &ask(5), clock.at(0)).expect("fits").settle(used(5));
    let limit = |tokens, at| refused(limiter.reserve(&[&bounds], &ask(tokens), clock.at(at))).limit;
    assert_eq!(limit(1, 0).name(), "usd/month");
    assert_eq!(limit(5, 0).name(), "tokens/total");
    assert_eq!(limit(0, 0).name(), "requests_per_minute");
    let unpriced = Ask { worst_cost: None, priced: false, ..ask(1) };
    let exceeded = refused(limiter.reserve(&[&bounds], &unpriced, clock.at(0)));
    assert_eq!((exceeded.limit.name(), exceeded.why), ("usd/month", Excess::NotPriced));
    let unbounded = Ask { worst_cost: None, output_ceiling: None, ..ask(1) };
    let exceeded = refused(limiter.reserve(&[&bounds], &unbounded, clock.at(0)));
    assert_eq!((exceeded.limit.name(), exceeded.why), ("tokens/day", Excess::Unbounded));
}

#[test]
fn shadow_counts_and_reports_and_refuses_nothing() {
    let clock = Clock::new();
    let limiter = LocalLimiter::leasing(clock.start);
    let bound = bound(key("a"), &["requests_per_minute=1", "tokens/day=5", "usd/day=1", "shadow"]);
    let bounds = std::slice::from_ref(&bound);
    let first = limiter.reserve(&[bounds], &ask(5), clock.at(0)).expect("fits");
    assert!(first.shadowed().is_empty() && first.rooms() == Rooms::default());
    let second =
        limiter.reserve(&[bounds], &Ask { priced: false, worst_cost: None, ..ask(5) }, clock.at(0)).expect("fits");
    let told: Vec<_> = second.shadowed().iter().map(|exceeded| (exceeded.limit.name(), exceeded.why)).collect();
    let held = [("requests_per_minute", Excess::Rate), ("tokens/day", Excess::Held), ("usd/day", Excess::NotPriced)];
    assert_eq!(told, held);
    second.settle(used(4));
    assert_eq!(stands(&limiter, &bound, clock.at(0)), [(2, 0), (4, 5), (4_000_000, 5_000_000)]);
    assert!(limiter.standing(bounds, clock.at(0)).iter().all(|standing| standing.shadow));
}

#[test]
fn a_call_larger_than_the_rate_of_tokens_goes_alone() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let bound = bound(key("a"), &["tokens_per_minute=100"]);
    let bounds = std::slice::from_ref(&bound);
    let small = limiter.reserve(&[bounds], &ask(1), clock.at(0)).expect("fits");
    let large = |at| limiter.reserve(&[bounds], &Ask { output_ceiling: None, ..ask(500) }, clock.at(at));
    assert_eq!(refused(large(0)).resets_in, Some(Duration::from_secs(61)));
    drop(small);
    let large = large(61_000).expect("alone");
    assert!(limiter.reserve(&[bounds], &ask(1), clock.at(61_000)).is_err());
    large.settle(used(30));
    assert!(limiter.reserve(&[bounds], &ask(70), clock.at(61_000)).is_ok());
}

#[test]
fn a_changed_limit_applies_at_once_to_what_is_used() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let with = |limits: &[&str]| [bound(key("a"), limits)];
    let held =
        limiter.reserve(&[&with(&["tokens/day=100", "concurrent_requests=2"])], &ask(60), clock.at(0)).expect("fits");
    let lower = with(&["tokens/day=50", "concurrent_requests=1"]);
    assert_eq!(refused(limiter.reserve(&[&lower], &ask(1), clock.at(0))).why, Excess::Held);
    let none = with(&["requests_per_minute=5"]);
    drop(limiter.reserve(&[&none], &ask(1), clock.at(0)));
    held.settle(used(10));
    assert!(limiter.reserve(&[&lower], &ask(40), clock.at(0)).is_ok());
    assert_eq!(stands(&limiter, &lower[0], clock.at(0)), [(0, 0), (50, 0)]);
}

#[test]
fn idle_subjects_are_forgotten_and_others_are_not() {
    let clock = Clock::new();
    let limiter = LocalLimiter::new(clock.start);
    let all = ["requests_per_minute=5", "tokens_per_minute=9", "concurrent_requests=1", "tokens/day=9"];
    let held = limiter.reserve(&[&[bound(key("held"), &all)]], &ask(1), clock.at(0)).expect("fits");
    limiter.reserve(&[&[bound(key("rate"), &all[..3])]], &ask(1), clock.at(0)).expect("fits").settle(used(1));
    limiter.reserve(&[&[bound(key("day"), &all)]], &ask(1), clock.at(0)).expect("fits").settle(used(1));
    limiter
        .reserve(&[&[bound(key("for ever"), &["tokens/total=9"])]], &ask(1), clock.at(0))
        .expect("fits")
        .settle(used(1));
    let left = |at| {
        limiter.sweep(clock.at(at));
        limiter.tally().subjects
    };
    assert_eq!(left(1000), 4);
    assert_eq!(left(61_000), 3);
    assert_eq!(left(11 * HOUR), 3);
    // The day is over, but the clock may step back into it.
    assert_eq!(left(12 * HOUR), 3);
    assert_eq!(left(24 * HOUR), 2);
    held.refund();
    assert_eq!(left(24 * HOUR), 1);
}

#[test]
fn no_more_subjects_are_kept_than_there_is_room_for() {
    let clock = Clock::new();
    let limiter = LocalLimiter::with(clock.start, false, 64);
    let call = |index: u32, at| {
        let bounds = [bound(key(&index.to_string()), &["requests_per_minute=5"])];
        limiter.reserve(&[&bounds], &ask(1), clock.at(at)).map(|reservation| reservation.settle(used(1)))
    };
    let fits = (0..1000).filter(|index| call(*index, 0).is_ok()).count();
    let tally = limiter.tally();
    assert!(fits <= 64 && tally.subjects == fits && tally.full == 1000 - fits as u64, "{fits} {tally:?}");
    // What is idle makes room.
    assert!((1000..1064).filter(|index| call(*index, 61_000).is_ok()).count() > 20);
    assert!(limiter.tally().subjects <= 64);
}
