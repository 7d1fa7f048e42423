//! Sequences of calls against a simple reference, which keeps every call and adds them up anew each time.
//!
//! Never does: know how the limiter counts.

use proptest::prelude::*;

use super::bank::Bank;
use super::*;
use crate::units::{Budget, Per};

#[derive(Clone, Debug)]
enum Step {
    Reserve {
        subjects: usize,
        tokens: u64,
    },
    Settle {
        which: usize,
        share: u64,
    },
    Refund {
        which: usize,
    },
    Drop {
        which: usize,
    },
    Wait {
        millis: u64,
    },
    /// The wall clock alone.
    ClockBack {
        millis: i64,
    },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..4, 0_u64..30).prop_map(|(subjects, tokens)| Step::Reserve { subjects, tokens }),
        3 => (any::<usize>(), 0_u64..=100).prop_map(|(which, share)| Step::Settle { which, share }),
        1 => any::<usize>().prop_map(|which| Step::Refund { which }),
        1 => any::<usize>().prop_map(|which| Step::Drop { which }),
        2 => (0_u64..30_000).prop_map(|millis| Step::Wait { millis }),
        1 => (0_u64..30 * HOUR).prop_map(|millis| Step::Wait { millis }),
        1 => (0_i64..3_600_000).prop_map(|millis| Step::ClockBack { millis }),
        1 => Just(Step::Sweep),
    ]
}

/// The subjects of a call: the gateway always, and one or both keys.
fn bounds(subjects: usize) -> Vec<Bound> {
    let gateway = bound(
        Subject::of(Owner::Gateway),
        &["requests_per_minute=9", "tokens/day=120", "tokens/week=300", "usd/month=0.0007"],
    );
    let first = bound(key("a"), &["concurrent_requests=3", "tokens_per_minute=60", "tokens/day=70"]);
    let second = bound(key("b"), &["requests_per_minute=4", "usd/day=0.00005", "tokens/total=250"]);
    let mut all = vec![gateway];
    all.extend((subjects & 1 > 0).then_some(first));
    all.extend((subjects & 2 > 0).then_some(second));
    all
}

/// One call as it was reserved: for each of its budgets the window, what was held and what was used.
struct Call {
    subjects: usize,
    second: u64,
    tokens: u64,
    /// `None`: in flight.
    used: Option<u64>,
    refunded: bool,
    windows: Vec<(Subject, Limit, i64)>,
    reservation: Option<Reservation>,
}

#[derive(Default)]
struct Reference {
    calls: Vec<Call>,
    /// The latest window that was reached, by subject and budget.
    reached: Vec<(Subject, Limit, Window)>,
}

impl Reference {
    fn window(&mut self, bound: &Bound, budget: &Budget, now: Now) -> i64 {
        let window = Window::around(budget.per, &Zone::UTC, now.wall);
        let known = self.reached.iter_mut().find(|(own, limit, _)| *own == bound.subject && *limit == budget.limit());
        match known {
            Some((.., reached)) => {
                if window.start > reached.start {
                    *reached = window;
                }
                reached.start
            }
            None => {
                self.reached.push((bound.subject.clone(), budget.limit(), window));
                window.start
            }
        }
    }

    fn calls_of<'r>(&'r self, bound: &'r Bound) -> impl Iterator<Item = &'r Call> {
        self.calls.iter().filter(|call| bounds(call.subjects).iter().any(|own| own.subject == bound.subject))
    }

    fn in_budget(&self, bound: &Bound, budget: &Budget, start: i64) -> u128 {
        let window = (bound.subject.clone(), budget.limit(), start);
        let calls = self.calls.iter().filter(|call| call.windows.contains(&window));
        let tokens: u64 = calls.map(|call| call.used.unwrap_or(call.tokens)).sum();
        amount(budget, tokens)
    }

    /// Whether the call fits all its limits, and the windows that its budgets are in.
    fn judge(&mut self, subjects: usize, tokens: u64, now: Now, second: u64) -> (bool, Vec<(Subject, Limit, i64)>) {
        let (mut fits, mut windows) = (true, Vec::new());
        for bound in &bounds(subjects) {
            let recent = |call: &&Call| call.second + 61 > second && !call.refunded;
            if let Some(limit) = bound.limits.requests_per_minute {
                fits &= (self.calls_of(bound).filter(recent).count() as u64) < limit;
            }
            if let Some(limit) = bound.limits.tokens_per_minute {
                let sum: u64 = self.calls_of(bound).filter(recent).map(|call| call.used.unwrap_or(call.tokens)).sum();
                fits &= sum + tokens.min(limit) <= limit;
            }
            if let Some(limit) = bound.limits.concurrent_requests {
                fits &= (self.calls_of(bound).filter(|call| call.reservation.is_some()).count() as u64) < limit;
            }
            for budget in &bound.limits.budgets {
                let start = self.window(bound, budget, now);
                let need = amount(budget, tokens);
                fits &= need == 0 || self.in_budget(bound, budget, start) + need <= budget.amount.count();
                windows.push((bound.subject.clone(), budget.limit(), start));
            }
        }
        (fits, windows)
    }
}

fn amount(budget: &Budget, tokens: u64) -> u128 {
    match budget.amount {
        crate::units::Amount::Usd(_) => ask(tokens).worst_cost.map_or(0, Usd::picos),
        crate::units::Amount::Tokens(_) => tokens.into(),
    }
}

/// The limiter beside the reference.
struct World {
    clock: Clock,
    limiter: LocalLimiter,
    bank: Bank,
    reference: Reference,
    steady: u64,
    back: i64,
    durable: bool,
}

impl World {
    fn now(&self) -> Now {
        self.clock.set(self.steady, i64::try_from(self.steady).expect("small") - self.back)
    }

    fn reserve(&mut self, subjects: usize, tokens: u64) {
        let (now, second) = (self.now(), self.steady / 1000);
        let (fits, windows) = self.reference.judge(subjects, tokens, now, second);
        let result = self.bank.reserve(&self.limiter, &[&bounds(subjects)], &ask(tokens), now);
        assert_eq!(result.is_ok(), fits, "{result:?}");
        if let Ok(reservation) = result {
            let reservation = Some(reservation);
            let call = Call { subjects, second, tokens, used: None, refunded: false, windows, reservation };
            self.reference.calls.push(call);
        }
    }

    /// Ends one of the calls in flight; `used` says by its tokens what it used.
    fn end(&mut self, which: usize, used: impl Fn(u64) -> u64, refunded: bool, end: impl Fn(Reservation, u64)) {
        let mut held: Vec<_> = self.reference.calls.iter_mut().filter(|call| call.reservation.is_some()).collect();
        if held.is_empty() {
            return;
        }
        let index = which % held.len();
        let call = &mut held[index];
        let actual = used(call.tokens);
        (call.used, call.refunded) = (Some(actual), refunded);
        end(call.reservation.take().expect("in flight"), actual);
    }

    /// What the limiter shows is what the reference adds up to, and within the limit.
    fn check(&self) {
        let now = self.now();
        for standing in self.limiter.standing(&bounds(3), now) {
            let Limit::Budget(_, per) = standing.limit else { continue };
            assert!(standing.used + standing.reserved <= standing.value, "{standing:?}");
            // Of a window that was given back to the store only the store knows, until a call leases from it again.
            if self.durable && standing.used + standing.reserved == 0 {
                continue;
            }
            let bound = bounds(3).into_iter().find(|bound| bound.subject == standing.subject).expect("a bound");
            let budget = bound.limits.budgets.iter().find(|budget| budget.limit() == standing.limit).expect("a budget");
            let is_it = |(own, limit, _): &&(Subject, Limit, Window)| *own == bound.subject && *limit == standing.limit;
            let reached = self.reference.reached.iter().find(is_it);
            let window = Window::around(per, &Zone::UTC, now.wall).start;
            let start = reached.map_or(window, |(.., reached)| reached.start.max(window));
            assert_eq!(
                standing.used + standing.reserved,
                self.reference.in_budget(&bound, budget, start),
                "{standing:?}"
            );
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Reserve { subjects, tokens } => self.reserve(subjects, tokens),
            Step::Settle { which, share } => {
                let share = |tokens| tokens * share / 100;
                self.end(which, share, false, |reservation, actual| reservation.settle(used(actual)));
            }
            Step::Refund { which } => self.end(which, |_| 0, true, |reservation, _| reservation.refund()),
            Step::Drop { which } => self.end(which, |tokens| tokens, false, |reservation, _| drop(reservation)),
            Step::Wait { millis } => self.steady += millis,
            Step::ClockBack { millis } => self.back += millis,
            Step::Sweep => self.bank.give_back_now(&self.limiter.sweep(self.now())),
        }
        self.check();
    }
}

fn run(steps: Vec<Step>, durable: bool) {
    let clock = Clock::new();
    let limiter = LocalLimiter::with(clock.start, durable, 1_000_000);
    let (bank, reference) = (Bank::default(), Reference::default());
    let mut world = World { clock, limiter, bank, reference, steady: 0, back: 0, durable };
    let count = steps.len();
    steps.into_iter().for_each(|step| world.step(step));
    // In the end all is refunded.
    (0..count).for_each(|_| world.step(Step::Refund { which: 0 }));
    assert_eq!(world.limiter.tally().outstanding, 0);
    let standing = world.limiter.standing(&bounds(3), world.now());
    assert!(standing.iter().all(|standing| standing.reserved == 0));
    world.bank.give_back_now(&world.limiter.close());
    assert!(world.bank.books().iter().all(|book| book.leased == 0));
}

proptest! {
    #![proptest_config(crate::units::tests::cases(300))]

    #[test]
    fn counts_as_a_simple_reference_does(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps, false);
    }

    #[test]
    fn counts_the_same_against_leases(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps, true);
    }
}

#[test]
fn all_windows_are_in_use() {
    let kinds: Vec<_> =
        bounds(3).iter().flat_map(|bound| bound.limits.budgets.clone()).map(|budget| budget.per).collect();
    assert!(Per::ALL.iter().all(|per| kinds.contains(per)));
}
