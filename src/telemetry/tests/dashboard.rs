//! `provision/grafana/ai-gateway.json` against what is exported.
//!
//! Never does: keep a list of metrics; the dashboard's are looked for in a real exposition.

use super::*;
use std::collections::BTreeSet;

const DASHBOARD: &str = include_str!("../../../provision/grafana/ai-gateway.json");

/// The words of all queries that are names of metrics.
fn named() -> BTreeSet<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let targets = dashboard["panels"].as_array().expect("panels").iter().flat_map(|panel| panel["targets"].as_array());
    let queries = targets.flatten().map(|target| target["expr"].as_str().expect("a query"));
    let words = queries.flat_map(|query| query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    let prefixes = ["gateway_", "provider_request", "process_"];
    words.filter(|word| prefixes.iter().any(|prefix| word.starts_with(prefix))).map(str::to_owned).collect()
}

#[test]
fn each_metric_of_the_dashboard_is_exported() {
    let (telemetry, _) = telemetry(10_000, true);
    telemetry.observe(&spending::metered(), false);
    telemetry.observe(&spending::unpriced(), false);
    let text = telemetry.render(at(1_764_064_801));
    let exported: BTreeSet<_> = series(&text).into_iter().map(|line| line.split(['{', ' ']).next()).collect();
    let named = named();
    assert!(named.len() > 10, "{named:?}");
    for name in &named {
        assert!(exported.contains(&Some(name)), "the dashboard shows {name}, which is not exported");
    }
    // What the gateway itself counts is shown; of the process and in the original's dashboards there is more.
    let shown = |name: &str| named.iter().any(|other| other.strip_suffix("_bucket").unwrap_or(other) == name);
    let own = text.lines().filter_map(|line| line.strip_prefix("# TYPE gateway_")?.split(' ').next());
    for name in own.filter(|name| *name != "request_duration_ms") {
        assert!(shown(&format!("gateway_{name}")), "the dashboard lacks gateway_{name}");
    }
}
