//! What it costs to find things: a key among many, its scopes, a route and a model among a thousand; and to tell of a call.
//!
//! `cargo bench --bench lookup`. A look-up must cost the same however many there are.

#![expect(missing_docs, clippy::expect_used, reason = "a bench is no library and may panic")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ai_gateway::config::{Environment, Snapshot, Sources, load};
use ai_gateway::flow::{Arrived, Record};
use ai_gateway::keys::{Allowance, KeyFile, KeyRing, NewKey, Scope, create_alone};
use ai_gateway::telemetry::{LogSettings, LogWriter, Telemetry, TelemetrySettings};
use ai_gateway::units::{ProviderId, RouteId, RouteSet};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Uri};

/// A key file with so many keys, and the text of one of them.
fn key_file(count: usize) -> (String, String) {
    let scopes = ["get:/openai/v1/models", "post:/openai/v1/embeddings", "post:/openai/v1/chat/completions"];
    let scopes: Vec<Scope> = scopes.iter().map(|scope| scope.parse().expect("a scope")).collect();
    let new = NewKey {
        username: "jane.doe".to_owned(),
        scopes,
        expires_at: None,
        models: None,
        team: None,
        allowance: Allowance::default(),
        now: SystemTime::UNIX_EPOCH,
    };
    let (created, one) = create_alone(new).expect("a key");
    let parsed: serde_json::Value = serde_json::from_str(&one).expect("a key file");
    let entry = parsed.as_object().and_then(|file| file.values().next()).expect("an entry").to_string();
    let mut file = one.trim_end().strip_suffix('}').expect("an object").to_owned();
    for number in 1..count {
        let entry = entry.replacen(created.id.as_str(), &format!("key_{number:012x}"), 1);
        write!(file, ",\"{number:064x}\":{entry}").expect("text");
    }
    (file + "}", created.token.expose().to_owned())
}

fn keys(c: &mut Criterion) {
    let mut group = c.benchmark_group("keys");
    // A million keys take long to make; whether a bench works shows with fewer.
    let most = if std::env::args().any(|arg| arg == "--test") { 20_000 } else { 1_000_000 };
    for count in [1_000, most] {
        let (file, key) = key_file(count);
        let read = || KeyFile::parse(file.as_bytes(), None).expect("keys");
        let mut routes = RouteSet::default();
        routes.insert(RouteId(0));
        let build = |file| KeyRing::build(file, |_| routes.clone());
        // A reload's share that grows with the keys. Ten times are few, and with a million of them half a minute.
        group.sample_size(10);
        group.bench_function(format!("read {count}"), |b| b.iter_with_large_drop(read));
        group.bench_function(format!("build {count}"), |b| b.iter_batched(read, build, BatchSize::PerIteration));
        group.sample_size(100);
        let ring = build(read());
        assert_eq!(ring.len(), count);
        group.bench_function(format!("find among {count}"), |b| {
            b.iter(|| black_box(ring.find(black_box(key.as_bytes()))).expect("the key"));
        });
        let found = ring.find(key.as_bytes()).expect("the key");
        group.bench_function(format!("scopes by route among {count}"), |b| {
            b.iter(|| black_box(found).permits(RouteId(0), "POST", "/openai/v1/chat/completions"));
        });
        group.bench_function(format!("scopes by path among {count}"), |b| {
            b.iter(|| black_box(found).permits(RouteId(1), "POST", "/openai/v1/chat/completions"));
        });
    }
    group.finish();
}

/// A configuration with so many providers, of one route each, and as many models.
fn snapshot(count: usize) -> Arc<Snapshot> {
    let mut yaml = "keys: { file: none.json }\nledger: off\nproviders:\n".to_owned();
    for number in 0..count {
        let route = "routes: [ post /v1/chat/completions ]";
        writeln!(yaml, "  p{number}: {{ base_url: \"http://127.0.0.1:9\", api_key: x, {route} }}").expect("text");
    }
    yaml.push_str("models:\n");
    for number in 0..count {
        writeln!(yaml, "  model-{number}: {{ targets: [ {{ provider: p{number} }} ] }}").expect("text");
    }
    let environment = Environment::default();
    let sources = Sources { file: None, yaml: Some(yaml), directory: std::env::temp_dir(), environment };
    load(&sources).expect("a configuration").snapshot
}

fn routes(c: &mut Criterion) {
    let mut group = c.benchmark_group("routes");
    for count in [1, 1_000] {
        let snapshot = snapshot(count);
        let (path, model) = (format!("/p{}/v1/chat/completions", count / 2), format!("model-{}", count / 2));
        group.bench_function(format!("route among {count}"), |b| {
            b.iter(|| black_box(snapshot.routes.find(&Method::POST, black_box(&path))).expect("a route"));
        });
        let provider = ProviderId::new("p0");
        group.bench_function(format!("model among {count}"), |b| {
            b.iter(|| black_box(snapshot.models.of_call(&provider, Some(black_box(&model)))).expect("a model"));
        });
    }
    group.finish();
}

/// A call that is over.
fn record() -> Record {
    let snapshot = snapshot(1);
    let now = Instant::now();
    let mut arrived = Arrived::new(snapshot, "req_0123456789abcdef000000000001".into(), now, SystemTime::now());
    arrived.noted(&Method::POST, "/p0/v1/chat/completions");
    let mut headers = HeaderMap::new();
    headers.insert("authorization", HeaderValue::from_static("Bearer nobody"));
    let uri = Uri::from_static("/p0/v1/chat/completions");
    let refusal = arrived.admit(&Method::POST, &uri, &headers, SystemTime::now()).expect_err("there are no keys");
    arrived.record.status = refusal.status();
    arrived.settle(Instant::now()).clone()
}

fn telling(c: &mut Criterion) {
    let log = LogWriter::new(Box::new(io::sink()), LogSettings::default()).expect("a log");
    let settings = TelemetrySettings { max_series: 10_000, compat_metrics: false, version: "0" };
    let telemetry = Telemetry::new(&settings, log).expect("telemetry");
    let record = record();
    let mut group = c.benchmark_group("telling");
    group.bench_function("metrics", |b| b.iter(|| telemetry.observe(black_box(&record), false)));
    group.bench_function("metrics and access line", |b| b.iter(|| telemetry.observe(black_box(&record), true)));
    group.bench_function("a record's copy", |b| b.iter_batched(|| (), |()| record.clone(), BatchSize::SmallInput));
    group.finish();
}

criterion_group!(benches, keys, routes, telling);
criterion_main!(benches);
