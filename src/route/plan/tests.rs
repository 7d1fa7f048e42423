//! Facts about the plan of a call, with hand-set time. The rules are those of design.md section 6, one by one.
//!
//! Never does: sleep.

mod many;
mod rules;

use http::HeaderValue;

use super::super::tests::provider;
use super::super::{Cooldown, Health, Pool};
use super::*;
use crate::error::UpstreamFault;
use crate::units::ProviderId;

const RESET: Refusal = Refusal::Upstream(UpstreamFault::Reset);
const SILENT: Refusal = Refusal::UpstreamTimeout(Silence::FirstByte);

/// A target of a provider with so many keys.
fn target(name: &str, keys: usize) -> Deployment {
    let mut own = Arc::into_inner(provider(name)).expect("the only one");
    let key = |index| HeaderValue::from_str(&format!("Bearer {name}-{index}")).expect("a value");
    own.keys = Pool::new(&ProviderId::new(name), (0..keys).map(|index| (key(index), 1)).collect());
    Deployment::new(Arc::new(own), Some("m".into()))
}

/// Targets in this order, each of a rank of its own and with one key.
fn ordered(names: &[&str]) -> Vec<Deployment> {
    (0..).zip(names).map(|(rank, name)| Deployment { rank, ..target(name, 1) }).collect()
}

/// A call that is played by hand.
struct Game {
    routing: Arc<Routing>,
    plan: Plan,
    now: Instant,
    random: u64,
}

impl Game {
    fn of(targets: Vec<Deployment>) -> Self {
        Self::with(targets, &Attempts::default())
    }

    fn with(targets: Vec<Deployment>, settings: &Attempts) -> Self {
        let routing = Arc::new(Routing::new(targets).expect("targets"));
        let now = Instant::now();
        Self { plan: Plan::new(Arc::clone(&routing), settings, 0, now), routing, now, random: u64::MAX / 2 }
    }

    /// Another call at the same targets.
    fn again(&mut self) {
        self.plan = Plan::new(Arc::clone(&self.routing), &self.plan.settings.clone(), 0, self.now);
    }

    /// A call that only looks up models.
    fn looks_up(&mut self) {
        let plan = Plan::new(Arc::clone(&self.routing), &self.plan.settings.clone(), 0, self.now);
        self.plan = plan.looking_up(true);
    }

    fn next(&mut self) -> Step {
        self.plan.next(self.now, self.random)
    }

    /// The target and the key of the next attempt, waits in between passed over.
    fn tries(&mut self) -> (usize, usize) {
        loop {
            match self.next() {
                Step::Try(attempt) => return (attempt.target, attempt.key),
                Step::Wait(wait) => self.now += wait,
                end @ Step::End(_) => panic!("{end:?}"),
            }
        }
    }

    fn waits(&mut self) -> Duration {
        match self.next() {
            Step::Wait(wait) => wait,
            other => panic!("{other:?}"),
        }
    }

    fn ends(&mut self) -> End {
        match self.next() {
            Step::End(end) => end,
            other => panic!("{other:?}"),
        }
    }

    fn refuses(&mut self) -> Refusal {
        match self.ends() {
            End::Refuse(refusal) => refusal,
            End::PassOn => panic!("an answer is passed on"),
        }
    }

    fn judge(&mut self, outcome: Outcome) -> bool {
        self.plan.judge(outcome, self.now)
    }

    fn fails(&mut self, refusal: Refusal) {
        assert!(!self.judge(Outcome::Failed(refusal)), "there is nothing to keep");
    }

    /// The provider answers with this status; whether that is to be kept.
    fn answers(&mut self, status: u16) -> bool {
        self.judge(Outcome::Answered(Answer { status, ..Answer::default() }))
    }

    fn answers_as(&mut self, status: u16, class: Class) -> bool {
        self.judge(Outcome::Answered(Answer { status, class, reset: None }))
    }

    fn limited(&mut self, status: u16, millis: u64) -> bool {
        let reset = Some(Duration::from_millis(millis));
        self.judge(Outcome::Answered(Answer { status, reset, ..Answer::default() }))
    }
}
