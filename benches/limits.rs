//! What limits cost a call: its look-up, the reservation and the settlement, without limits and with them.
//!
//! `cargo bench --bench limits`. Without limits there is no lock and no allocation, which a few nanoseconds show; `elsewhere`
//! is a call without limits in a gateway that has some for other keys. Only ratios within one run mean anything.

#![expect(missing_docs, clippy::expect_used, reason = "a bench is no library and may panic")]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use ai_gateway::config::{self, Loaded, Sources};
use ai_gateway::limit::{Actual, Ask, Limiter, LocalLimiter, Now};
use ai_gateway::units::{KeyId, Usd};
use criterion::{Criterion, criterion_group, criterion_main};

const ASK: Ask = Ask {
    input_bound: Some(900),
    output_ceiling: Some(100),
    priced: true,
    worst_cost: Some(Usd::from_picos(1_000_000_000)),
};

/// A configuration with these limits and two keys.
fn loaded(limits: &str) -> Loaded {
    let folder = tempfile::tempdir().expect("a folder");
    let entry = |index: u8| {
        let digest = format!("{index:02x}").repeat(32);
        format!(r#""{digest}": {{"id": "key_{index}", "salt": "ZmFrZQ==", "scopes": [], "username": "user-{index}"}}"#)
    };
    std::fs::write(folder.path().join("k.json"), format!("{{{},{}}}", entry(1), entry(2))).expect("written");
    let sources = Sources {
        file: None,
        yaml: Some(format!("keys: {{ file: k.json }}\nlimits: {limits}\n")),
        directory: PathBuf::from(folder.path()),
        environment: [("OPENAI_API_KEY", "k")].into_iter().collect(),
    };
    config::load(&sources).expect("a configuration")
}

fn admit(criterion: &mut Criterion) {
    let cases = [
        ("off", "{}"),
        ("elsewhere", "{ users: { user-2: { requests_per_minute: 1 } } }"),
        ("local", "{ key: { requests_per_minute: 1000000000, concurrent_requests: 1000 } }"),
        (
            "local_and_budgets",
            "{ key: { requests_per_minute: 1000000000, concurrent_requests: 1000 }, \
               gateway: { budgets: [ { usd: 1000000000, per: month } ] }, \
               users: { user-1: { budgets: [ { tokens: 1000000000000000, per: day } ] } } }",
        ),
    ];
    let mut group = criterion.benchmark_group("limits");
    for (name, limits) in cases {
        let (loaded, key) = (loaded(limits), KeyId::new("key_1"));
        let limiter = LocalLimiter::new(Instant::now());
        let now = || Now { wall: SystemTime::now(), steady: Instant::now() };
        let one = || {
            let bounds = loaded.snapshot.limits.of_call(black_box(&key), black_box(Some("gpt-4o-mini")));
            if bounds.iter().all(|bounds| bounds.is_empty()) {
                return;
            }
            let reservation = limiter.reserve(&bounds, &ASK, now()).expect("room");
            reservation.settle(Actual { tokens: Some(0), cost: Some(Usd::ZERO), estimated: false });
        };
        group.bench_function(name, |bencher| bencher.iter(one));
    }
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
