//! Facts about what outlives a configuration.
//!
//! Never does: load one; tables are made by hand.

use std::time::Duration;

use http::HeaderValue;

use super::super::tests::provider;
use super::super::{Attempts, Cause, Outcome, Plan, Pool, Provider, Routing, Step};
use super::*;
use crate::error::{Refusal, UpstreamFault};
use crate::route::Answer;

fn provider_with(id: &str, keys: &[&'static str]) -> Arc<Provider> {
    let mut own = Arc::into_inner(provider(id)).expect("the only one");
    own.keys = Pool::new(&own.id, keys.iter().map(|key| (HeaderValue::from_static(key), 1)).collect());
    Arc::new(own)
}

fn table(provider: &Arc<Provider>) -> ModelTable {
    let mut table = ModelTable::new(std::slice::from_ref(provider), false);
    let target = |model: &str| Deployment::new(Arc::clone(provider), Some(model.into()));
    table.add("a", Routing::new(vec![target("a")]).expect("a target"));
    table.add("b", Routing::new(vec![target("b"), Deployment { rank: 1, ..target("a") }]).expect("targets"));
    table
}

/// Makes one attempt for a model and tells what came of it.
fn attempt(table: &ModelTable, model: &str, outcome: Outcome, now: Instant) {
    let mut plan = Plan::new(Arc::clone(table.find(model).expect("listed")), &Attempts::default(), 0, now);
    let Step::Try(_) = plan.next(now, 0) else { panic!("no attempt") };
    plan.judge(outcome, now);
}

fn limited(seconds: u64) -> Outcome {
    Outcome::Answered(Answer { status: 429, reset: Some(Duration::from_secs(seconds)), ..Answer::default() })
}

/// The causes that bar each key of a target.
fn causes(table: &ModelTable, model: Option<&str>, now: Instant) -> Vec<Option<Cause>> {
    let views = Health::view(table, now);
    let target = views.iter().find(|target| target.model.as_deref() == model).expect("the target");
    target.keys.iter().map(|key| key.breaker.cause).collect()
}

#[test]
fn state_survives_a_reload() {
    let (health, now) = (Health::default(), Instant::now());
    let old = table(&provider_with("p", &["k1", "k2"]));
    health.attach(&old);
    attempt(&old, "a", limited(60), now);
    for _ in 0..5 {
        attempt(&old, "b", Outcome::Failed(Refusal::Upstream(UpstreamFault::Reset)), now);
    }
    let before = causes(&old, Some("a"), now);
    assert_eq!(before.iter().flatten().count(), 1);
    let new = table(&provider_with("p", &["k2", "k1", "k3"]));
    health.attach(&new);
    drop(old);
    let [first, second] = before[..] else { panic!("two keys") };
    assert_eq!(causes(&new, Some("a"), now), [second, first, None], "the keys stand in another order now");
    let state = |model: &str| {
        let views = Health::view(&new, now);
        views.iter().find(|target| target.model.as_deref() == Some(model)).map(|target| target.breaker.state)
    };
    assert_eq!((state("a"), state("b")), (Some("closed"), Some("open")));
}

#[test]
fn a_limit_of_one_model_is_not_anothers_and_a_refused_key_is_refused_for_all() {
    let (health, now) = (Health::default(), Instant::now());
    let table = table(&provider_with("p", &["k1"]));
    health.attach(&table);
    attempt(&table, "a", limited(60), now);
    assert_eq!(causes(&table, Some("a"), now), [Some(Cause::RateLimit)]);
    assert_eq!(causes(&table, Some("b"), now), [None]);
    attempt(&table, "b", Outcome::Answered(Answer { status: 401, ..Answer::default() }), now);
    for model in [Some("a"), Some("b"), None] {
        assert_eq!(causes(&table, model, now), [Some(Cause::Refused)], "{model:?}");
    }
}

#[test]
fn a_target_is_the_same_wherever_it_is_named() {
    let (health, now) = (Health::default(), Instant::now());
    let table = table(&provider_with("p", &["k1"]));
    health.attach(&table);
    attempt(&table, "a", limited(60), now);
    let fallback = &table.find("b").expect("listed").targets()[1];
    assert!(fallback.lanes[0].get().is_open_to(now).is_err());
    assert_eq!(Health::view(&table, now).len(), 3, "each place once: p as such, a, b");
}

#[test]
fn what_vanished_is_forgotten() {
    let (health, now) = (Health::default(), Instant::now());
    let old = table(&provider_with("p", &["k1"]));
    health.attach(&old);
    attempt(&old, "a", limited(60), now);
    let other = table(&provider_with("q", &["k1"]));
    health.attach(&other);
    drop(old);
    health.attach(&other);
    let known = health.0.lock();
    assert_eq!((known.targets.len(), known.keys.len(), known.refused.len()), (3, 3, 1));
    drop(known);
    let again = table(&provider_with("p", &["k1"]));
    health.attach(&again);
    assert_eq!(causes(&again, Some("a"), now), [None]);
}

#[test]
fn no_view_shows_a_key() {
    let table = table(&provider_with("p", &["sk-canary"]));
    let shown = format!("{:?}", Health::view(&table, Instant::now()));
    assert!(!shown.contains("canary"), "{shown}");
}
