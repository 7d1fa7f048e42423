//! Facts about what is exported and logged for a record, and about what never becomes a label.
//!
//! Never does: read a clock; look into a family instead of at what is exported.

mod attempts;
mod dashboard;
mod spending;

use super::log::tests::Sink;
use super::*;
use crate::error::{KeyFault, Refusal, UpstreamFault};
use crate::keys::{Key, KeyRecord};
use crate::route::Route;
use crate::units::{KeyId, RouteId};
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn at(seconds: u64) -> SystemTime {
    NOW + Duration::from_secs(seconds)
}

/// Telemetry that writes into a sink.
fn telemetry(max_series: usize, compat_metrics: bool) -> (Telemetry, Sink) {
    let sink = Sink::default();
    let settings = TelemetrySettings { max_series, compat_metrics, version: "1.2.3" };
    (Telemetry::new(&settings, sink.writer()).expect("telemetry"), sink)
}

fn route(pattern: &str) -> Arc<Route> {
    Arc::new(Route {
        id: RouteId(0),
        method: Some(Method::POST),
        pattern: pattern.to_owned(),
        kind: crate::route::Kind::Json,
        model: crate::route::ModelSource::Unseen,
        price: None,
        provider: crate::route::tests::provider("openai"),
    })
}

pub(crate) fn key(username: &str) -> Arc<Key> {
    Arc::new(Key {
        record: KeyRecord {
            id: KeyId::new("key_1"),
            username: username.into(),
            scopes: [].into(),
            created_at: None,
            expires_at: None,
            revoked_at: None,
            disabled: false,
            team: None,
            models: None,
            allowance: Default::default(),
        },
        routes: Arc::default(),
    })
}

/// A call that was answered well.
fn served() -> Record {
    Record {
        request_id: "req-1".to_owned(),
        started_at: at(1_764_064_800),
        method: Method::POST,
        path: "/openai/v1/chat/completions".to_owned(),
        route: Some(route("/openai/v1/chat/completions")),
        key: Some(key("john.doe")),
        provider: None,
        model: Some("gpt-4o".to_owned()),
        on_behalf_of: None,
        client: Some([192, 0, 2, 1].into()),
        status: 200,
        refusal: None,
        attempts: 1,
        tried: Vec::new(),
        unanswered: 0,
        asked_model: None,
        upstream_status: Some(200),
        duration: Duration::from_micros(123_400),
        upstream_head: Some(Duration::from_micros(99_600)),
        overhead: Duration::from_micros(42),
        reserved: Default::default(),
        spent: crate::flow::Spent::default(),
        pace: crate::flow::Pace::default(),
    }
}

/// A call that was refused before anything about it was verified.
fn refused(path: &str, method: &str, model: &str) -> Record {
    Record {
        method: Method::from_bytes(method.as_bytes()).expect("a method"),
        path: path.to_owned(),
        route: None,
        key: None,
        model: Some(model.to_owned()),
        on_behalf_of: Some("somebody".to_owned()),
        status: 401,
        refusal: Some(Refusal::InvalidKey(KeyFault::Unknown)),
        attempts: 0,
        upstream_status: None,
        upstream_head: None,
        duration: Duration::from_micros(50),
        ..served()
    }
}

/// Lines of the exposition that are series.
fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[track_caller]
fn assert_has(text: &str, wanted: &str) {
    assert!(text.lines().any(|line| line == wanted), "no {wanted} in\n{text}");
}

#[test]
fn each_series_is_exported() {
    let (telemetry, _) = telemetry(10_000, true);
    telemetry.observe(&served(), true);
    let call = telemetry.enter();
    telemetry.reload(Part::Configuration, Reload::Refused);
    telemetry.restart_required(true);
    let text = telemetry.render(at(1_764_064_801));
    for wanted in [
        r#"gateway_requests_total{method="POST",model="gpt-4o",provider="openai",route="/openai/v1/chat/completions",status="200"} 1"#,
        r#"gateway_request_duration_seconds_bucket{provider="openai",route="/openai/v1/chat/completions",le="0.1"} 0"#,
        r#"gateway_request_duration_seconds_bucket{provider="openai",route="/openai/v1/chat/completions",le="0.25"} 1"#,
        r#"gateway_request_duration_seconds_sum{provider="openai",route="/openai/v1/chat/completions"} 0.1234"#,
        r#"gateway_overhead_seconds_bucket{le="0.000025"} 0"#,
        r#"gateway_overhead_seconds_bucket{le="0.00005"} 1"#,
        "gateway_overhead_seconds_count 1",
        r#"gateway_upstream_attempts_total{outcome="success",provider="openai"} 1"#,
        "gateway_inflight_requests 1",
        r#"gateway_config_reloads_total{result="applied"} 0"#,
        r#"gateway_config_reloads_total{result="refused"} 1"#,
        "gateway_restart_required 1",
        "gateway_config_stale 1",
        "gateway_keys_stale 0",
        "gateway_log_dropped_total 0",
        "gateway_panics_total 0",
        r#"gateway_build_info{version="1.2.3"} 1"#,
        "# TYPE gateway_request_duration_ms summary",
        r#"gateway_request_duration_ms{method="POST",path="/openai/v1/chat/completions",status_code="200",model="gpt-4o",username="john.doe",provider_name="openai",quantile="0.99"} 121"#,
        r#"gateway_request_duration_ms_sum{method="POST",path="/openai/v1/chat/completions",status_code="200",model="gpt-4o",username="john.doe",provider_name="openai"} 123"#,
        r#"provider_request_duration_ms_sum{method="POST",path="/openai/v1/chat/completions",status_code="200",model="gpt-4o",provider_name="openai"} 100"#,
        r#"provider_request_duration_ms_count{method="POST",path="/openai/v1/chat/completions",status_code="200",model="gpt-4o",provider_name="openai"} 1"#,
    ] {
        assert_has(&text, wanted);
    }
    for quantile in ["0.5", "0.75", "0.9", "0.95", "0.99"] {
        assert_eq!(text.matches(&format!("quantile=\"{quantile}\"")).count(), 2);
    }
    #[cfg(target_os = "linux")]
    assert!(text.contains("\nprocess_resident_memory_bytes "));
    assert_eq!(telemetry.in_flight(), 1);
    drop(call);
    assert_eq!(telemetry.in_flight(), 0);
}

#[test]
fn the_originals_words_stand_for_what_is_missing_and_0_ms_count() {
    let (telemetry, _) = telemetry(10_000, true);
    telemetry.observe(&refused("/x", "GET", "gpt-4o"), false);
    let text = telemetry.render(at(1_764_064_801));
    let labels = r#"method="GET",path="unknown",status_code="401",model="unknown",username="undefined",provider_name="undefined""#;
    assert_has(&text, &format!("gateway_request_duration_ms{{{labels},quantile=\"0.5\"}} 0"));
    assert_has(&text, &format!("gateway_request_duration_ms_count{{{labels}}} 1"));
    assert!(!text.contains("provider_request_duration_ms{"));
}

#[test]
fn the_summaries_are_left_out_where_nobody_wants_them() {
    let (telemetry, _) = telemetry(10_000, false);
    telemetry.observe(&served(), false);
    assert!(!telemetry.render(NOW).contains("duration_ms"));
}

#[test]
fn quantiles_forget_after_ten_minutes_and_counts_stay() {
    let (telemetry, _) = telemetry(10_000, true);
    telemetry.observe(&served(), false);
    let text = telemetry.render(at(1_764_064_800 + 601));
    let of = |name: &str| {
        let found = series(&text).into_iter().find(|line| line.starts_with(name) && line.contains("john.doe"));
        found.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
    };
    assert_eq!(of("gateway_request_duration_ms{").as_deref(), Some("NaN"));
    assert_eq!(of("gateway_request_duration_ms_count").as_deref(), Some("1"));
}

#[test]
fn nothing_that_was_not_verified_adds_a_series() {
    let (telemetry, _) = telemetry(10_000, true);
    telemetry.observe(&refused("/a", "GET", "a"), false);
    telemetry.observe(&refused("/a", "BREW", "a"), false);
    let before = series(&telemetry.render(NOW)).len();
    for number in 0..3_000 {
        telemetry.observe(&refused(&format!("/{number}"), "GET", &format!("m{number}")), false);
        telemetry.observe(&refused("/a", &format!("M{number}"), "a"), false);
        // A provider that says no has not verified the model either.
        let mut record = served();
        record.model = Some(format!("m{number}"));
        record.on_behalf_of = Some(format!("u{number}"));
        record.upstream_status = Some(404);
        record.status = 404;
        telemetry.observe(&record, false);
    }
    let text = telemetry.render(NOW);
    // The refused ones by the provider: one counter, one histogram, an outcome, two summaries.
    assert_eq!(series(&text).len(), before + 1 + 20 + 1 + 14);
    for invented in ["m77", "M77", "u77", "/77", "BREW", "somebody"] {
        assert!(!text.contains(&format!("\"{invented}\"")), "{invented} is a label");
    }
    assert!(text.contains(r#"method="OTHER""#));
}

#[test]
fn models_are_capped() {
    let (telemetry, _) = telemetry(100_000, false);
    for number in 0..1_000 {
        telemetry.observe(&Record { model: Some(format!("ft:{number}")), ..served() }, false);
    }
    let text = telemetry.render(NOW);
    assert_eq!(text.matches("gateway_requests_total{").count(), 201);
    let other = r#"gateway_requests_total{method="POST",model="other",provider="openai",route="/openai/v1/chat/completions",status="200"} 800"#;
    assert_has(&text, other);
}

#[test]
fn all_families_stay_under_the_ceiling_and_count_everything() {
    for ceiling in [0, 500, 3_000] {
        let (telemetry, _) = telemetry(ceiling, true);
        let mut calls = 0;
        for user in 0..60 {
            for pattern in 0..10 {
                for status in [200, 201, 202, 404, 500] {
                    let mut record = served();
                    record.key = Some(key(&format!("user{user}")));
                    record.route = Some(route(&format!("/openai/v1/r{pattern}")));
                    record.model = Some(format!("model{}", user * 7));
                    record.status = status;
                    record.upstream_status = Some(status);
                    telemetry.observe(&record, false);
                    calls += 1;
                }
            }
        }
        let text = telemetry.render(NOW);
        let lines = series(&text);
        assert!(lines.len() <= ceiling.max(200), "{} > {ceiling}", lines.len());
        let summaries = lines.iter().filter(|line| line.contains("duration_ms")).count();
        assert!(summaries <= compat::MAX_SERIES);
        for counter in ["gateway_requests_total{", "gateway_request_duration_ms_count{"] {
            let of_counter = lines.iter().filter(|line| line.starts_with(counter));
            let sum: u64 = of_counter
                .map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("a number"))
                .sum();
            assert_eq!(sum, calls, "{counter}");
        }
    }
}

#[test]
fn the_user_gives_way_after_the_model() {
    let (telemetry, _) = telemetry(10_000, true);
    for user in 0..500 {
        let mut record = served();
        record.key = Some(key(&format!("user{user}")));
        telemetry.observe(&record, false);
    }
    let text = telemetry.render(NOW);
    assert!(text.contains(r#"model="gpt-4o",username="user0""#));
    assert!(text.contains(r#"model="other",username="user150""#));
    assert!(text.contains(r#"model="other",username="other""#));
}

#[test]
fn reloads_add_no_series() {
    let (telemetry, _) = telemetry(10_000, true);
    telemetry.observe(&served(), false);
    let before = series(&telemetry.render(NOW)).len();
    for _ in 0..1_000 {
        telemetry.observe(&served(), false);
    }
    assert_eq!(series(&telemetry.render(NOW)).len(), before);
}

#[test]
fn what_is_stale_is_fresh_again_after_the_next_good_reload() {
    let (telemetry, _) = telemetry(10_000, false);
    let stale = |part, result| {
        telemetry.reload(part, result);
        let text = telemetry.render(NOW);
        ["gateway_config_stale 1", "gateway_keys_stale 1"].map(|line| text.lines().any(|other| other == line))
    };
    assert_eq!(stale(Part::Keys, Reload::Refused), [false, true]);
    assert_eq!(stale(Part::Configuration, Reload::Refused), [true, true]);
    assert_eq!(stale(Part::Keys, Reload::Applied), [true, false]);
    assert_eq!(stale(Part::Keys, Reload::Refused), [true, true]);
    assert_eq!(stale(Part::Configuration, Reload::Applied), [false, false]);
    assert_eq!(stale(Part::Keys, Reload::Refused), [false, true]);
    telemetry.keys_are_fresh();
    assert_has(&telemetry.render(NOW), "gateway_keys_stale 0");
}

#[test]
fn a_label_with_quotes_is_escaped() {
    let (telemetry, _) = telemetry(10_000, false);
    let record = Record { model: Some("a\"b\\c\nd".to_owned()), ..served() };
    telemetry.observe(&record, false);
    assert!(telemetry.render(NOW).contains(r#"model="a\"b\\c\nd""#));
}

#[test]
fn the_access_line_has_the_originals_shape() {
    let (telemetry, sink) = telemetry(10_000, false);
    telemetry.observe(&served(), true);
    telemetry.observe(&served(), false);
    let expected = json!({
        "level": "INFO",
        "timestamp": "2025-11-25T10:00:00.123Z",
        "pid": std::process::id(),
        "hostname": "a\"host",
        "meta": {
            "method": "POST",
            "path": "/openai/v1/chat/completions",
            "providerName": "openai",
            "model": "gpt-4o",
            "username": "john.doe",
            "keyId": "key_1",
            "onBehalfOf": "john.doe",
            "statusCode": "200",
            "requestId": "req-1",
            "durationMs": 123,
            "overheadUs": 42,
            "attempts": 1,
            "certainty": "failed",
            "cost": "0",
            "clientAddress": "192.0.2.1",
        },
        "message": "gateway request",
    });
    assert_eq!(sink.lines(telemetry.log()), [expected]);
}

#[test]
fn a_failed_call_has_a_second_line_with_the_same_meta() {
    let (telemetry, sink) = telemetry(10_000, false);
    let mut record = refused("/x", "GET", "m");
    (record.client, record.model, record.on_behalf_of) = (None, None, None);
    record.refusal = Some(Refusal::Bug("route 7 vanished"));
    telemetry.observe(&record, true);
    let lines = sink.lines(telemetry.log());
    let of = |line: &Value| (line["level"].clone(), line["message"].clone());
    assert_eq!(lines.len(), 2);
    assert_eq!(of(&lines[0]), (json!("INFO"), json!("gateway request")));
    assert_eq!(of(&lines[1]), (json!("ERROR"), json!("gateway request failed")));
    assert_eq!(lines[0]["meta"], lines[1]["meta"]);
    let meta = lines[0]["meta"].as_object().expect("an object");
    let names: Vec<_> = meta.keys().map(String::as_str).collect();
    let expected = "method path statusCode requestId durationMs overheadUs attempts code cause";
    assert_eq!(names.join(" "), expected);
    assert_eq!((&meta["code"], &meta["cause"]), (&json!("internal_error"), &json!("route 7 vanished")));
}

proptest! {
    #[test]
    fn an_access_line_is_json_whatever_the_client_sent(path in ".*", model in any::<String>(), user in any::<String>(), behalf in any::<String>()) {
        let (telemetry, sink) = telemetry(10_000, false);
        let mut record = served();
        record.path = path.clone();
        record.model = Some(model.clone());
        record.key = Some(key(&user));
        record.on_behalf_of = Some(behalf.clone());
        telemetry.observe(&record, true);
        let lines = sink.lines(telemetry.log());
        prop_assert_eq!(lines.len(), 1);
        let meta = &lines[0]["meta"];
        prop_assert_eq!(meta["path"].as_str(), Some(&*path));
        prop_assert_eq!(meta["model"].as_str(), Some(&*model));
        prop_assert_eq!(meta["username"].as_str(), Some(&*user));
        prop_assert_eq!(meta["onBehalfOf"].as_str(), Some(&*behalf));
    }
}
