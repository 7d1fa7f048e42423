//! Facts about how usage, cost and pace are exported and logged.
//!
//! Never does: reckon a cost; the records here say what they say.

use super::*;
use crate::flow::{Certainty, Pace, Spent};
use crate::units::{Usage, Usd};

/// A stream that was answered, metered and priced.
pub(super) fn metered() -> Record {
    let usage = Usage { input: 1000, cached_input: 400, output: 50, reasoning: 20, ..Usage::default() };
    Record {
        spent: Spent {
            certainty: Certainty::Settled,
            usage: Some(usage),
            cost: Some("0.00225".parse().expect("an amount")),
            prices: Some("2026-11".into()),
            model: Some("gpt-4o-2024-08-06".into()),
            service_tier: None,
        },
        pace: Pace { first_token: Some(Duration::from_millis(80)), tokens: Duration::from_millis(490), events: 50 },
        ..served()
    }
}

/// The same where nothing tells what it cost.
pub(super) fn unpriced() -> Record {
    let mut record = metered();
    record.spent.cost = None;
    record.spent.certainty = Certainty::Unknown;
    record
}

#[test]
fn tokens_cost_and_pace_are_exported() {
    let (telemetry, _) = telemetry(10_000, false);
    telemetry.observe(&metered(), false);
    telemetry.observe(&metered(), false);
    telemetry.observe(&unpriced(), false);
    let text = telemetry.render(NOW);
    let of = |kind: &str| {
        format!(r#"gateway_tokens_total{{model="gpt-4o",provider="openai",type="{kind}",user="john.doe"}}"#)
    };
    for wanted in [
        format!("{} 3000", of("input")),
        format!("{} 1200", of("cached_input")),
        format!("{} 150", of("output")),
        format!("{} 60", of("reasoning")),
        r#"gateway_cost_usd_total{model="gpt-4o",provider="openai",user="john.doe"} 0.0045"#.to_owned(),
        r#"gateway_cost_unknown_total{model="gpt-4o",provider="openai"} 1"#.to_owned(),
        r#"gateway_metered_total{certainty="settled"} 2"#.to_owned(),
        r#"gateway_metered_total{certainty="unknown"} 1"#.to_owned(),
        r#"gateway_metered_total{certainty="failed"} 0"#.to_owned(),
        r#"gateway_time_to_first_token_seconds_bucket{model="gpt-4o",provider="openai",le="0.05"} 0"#.to_owned(),
        r#"gateway_time_to_first_token_seconds_bucket{model="gpt-4o",provider="openai",le="0.1"} 3"#.to_owned(),
        r#"gateway_inter_token_seconds_bucket{model="gpt-4o",provider="openai",le="0.01"} 3"#.to_owned(),
        r#"gateway_inter_token_seconds_bucket{model="gpt-4o",provider="openai",le="0.005"} 0"#.to_owned(),
    ] {
        assert_has(&text, &wanted);
    }
    assert!(!text.contains("input_audio"), "kinds that nobody used have no series");
}

#[test]
fn a_call_without_a_key_adds_nothing() {
    let (telemetry, _) = telemetry(10_000, false);
    telemetry.observe(&Record { key: None, ..metered() }, false);
    let text = telemetry.render(NOW);
    for name in ["gateway_tokens_total{", "gateway_cost_usd_total{", "gateway_metered_total{certainty=\"settled\"} 1"] {
        assert!(!text.contains(name), "{name}");
    }
}

#[test]
fn the_ceiling_of_series_holds_and_every_token_is_counted() {
    let (telemetry, _) = telemetry(1_000, false);
    for user in 0..300 {
        let mut record = metered();
        record.key = Some(key(&format!("user{user}")));
        record.model = Some(format!("model{}", user % 150));
        telemetry.observe(&record, false);
    }
    let text = telemetry.render(NOW);
    let lines = series(&text);
    assert!(lines.len() <= 1_000, "{}", lines.len());
    let value = |line: &&str| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number");
    let sum = |start: &str| lines.iter().filter(|line| line.starts_with(start)).map(value).sum::<f64>();
    let tokens: f64 = ["input", "cached_input", "output", "reasoning", "other"]
        .iter()
        .flat_map(|kind| lines.iter().filter(move |line| line.contains(&format!("type=\"{kind}\""))))
        .map(value)
        .sum();
    assert!((tokens - 300.0 * 1_470.0).abs() < 0.5, "{tokens}");
    assert!((sum("gateway_cost_usd_total{") - 300.0 * 0.00225).abs() < 1e-9);
}

#[test]
fn the_access_line_carries_usage_and_cost() {
    let (telemetry, sink) = telemetry(10_000, false);
    telemetry.observe(&metered(), true);
    telemetry.observe(&unpriced(), true);
    let lines = sink.lines(telemetry.log());
    let meta = &lines[0]["meta"];
    assert_eq!(meta["usage"], json!({"input": 1000, "cached_input": 400, "output": 50, "reasoning": 20}));
    assert_eq!((&meta["cost"], &meta["certainty"]), (&json!("0.00225"), &json!("settled")));
    assert_eq!((&meta["ttftMs"], &meta["answeredModel"]), (&json!(80), &json!("gpt-4o-2024-08-06")));
    assert!(lines[1]["meta"].get("cost").is_none());
    assert_eq!(Usd::ZERO.to_string(), "0");
}
