//! `provision/grafana/ai-gateway.json` against what is exported.
//!
//! Never does: keep a list of metrics; the dashboard's are looked for in a real exposition.

use super::*;
use crate::limit::{Standing, Tally};
use crate::route::{Cause, KeyMark, KeyView, Pool, TargetView, View};
use crate::units::{Limit, Measure, Owner, Per, ProviderId, Subject};
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

/// A limit of everybody, half of which is used.
fn half_used(limit: Limit) -> Standing {
    let subject = Subject::of(Owner::Gateway);
    Standing { subject, limit, shadow: false, value: 100, used: 40, reserved: 10, window: None, resets_in: None }
}

#[test]
fn budgets_show_what_is_used_of_them_and_stay_under_the_ceiling() {
    let (telemetry, _) = telemetry(300, true);
    let rate = half_used(Limit::RequestsPerMinute);
    let shadow = Standing { shadow: true, ..half_used(Limit::Budget(Measure::Usd, Per::Week)) };
    let budgets = [half_used(Limit::Budget(Measure::Usd, Per::Day)), rate, shadow];
    let text = telemetry.scrape((&Tally::default(), &budgets), &[], at(1_764_064_801));
    let used = |text: &str| text.lines().filter(|line| line.starts_with("gateway_budget_used_ratio{")).count();
    assert!(
        text.contains("gateway_budget_used_ratio{kind=\"gateway\",limit=\"usd/day\",model=\"\",name=\"\"} 0.5\n"),
        "{text}"
    );
    assert_eq!(used(&text), 1);
    let subject = Subject { owner: Owner::User("a/b".into()), model: Some("org/m".into()) };
    let budgets = [Standing { subject, ..half_used(Limit::Budget(Measure::Usd, Per::Day)) }];
    let text = telemetry.scrape((&Tally::default(), &budgets), &[], at(1_764_064_801));
    let labels = "{kind=\"user_model\",limit=\"usd/day\",model=\"org/m\",name=\"a/b\"}";
    assert!(text.contains(&format!("gateway_budget_used_ratio{labels} 0.5\n")), "{text}");
    let owner = |number: usize| Owner::User(number.to_string().into());
    let budget = half_used(Limit::Budget(Measure::Usd, Per::Day));
    let many = (0..1000).map(|number| Standing { subject: Subject::of(owner(number)), ..budget.clone() });
    let text = telemetry.scrape((&Tally::default(), &many.collect::<Vec<_>>()), &[], at(1_764_064_801));
    assert!(used(&text) > 1 && series(&text).len() <= 300, "{} of {}", used(&text), series(&text).len());
}

fn breaker(state: &'static str) -> View {
    View { state, cause: (state != "closed").then_some(Cause::RateLimit), since: None, until: None, failures: 0 }
}

fn target(model: &str, state: &'static str, keys: &[&'static str]) -> TargetView {
    let provider = ProviderId::new("openai");
    let mark: KeyMark = Pool::new(&provider, Vec::new()).keys()[0].mark;
    let keys = keys.iter().map(|state| KeyView { mark, breaker: breaker(state) }).collect();
    TargetView { provider, model: Some(model.into()).filter(|_| !model.is_empty()), breaker: breaker(state), keys }
}

#[test]
fn targets_show_how_they_stand_and_stay_under_the_ceiling() {
    let (telemetry, _) = telemetry(300, true);
    let states = [
        target("", "closed", &["open", "closed"]),
        target("half", "half_open", &["closed"]),
        target("half key", "closed", &["open", "half_open"]),
        target("rests", "closed", &["open", "open"]),
        target("open", "open", &["closed"]),
    ];
    let none = Tally::default();
    let text = telemetry.scrape((&none, &[]), &states, at(1_764_064_801));
    for (model, value) in [("", 0), ("half", 1), ("half key", 1), ("rests", 2), ("open", 3)] {
        let line = format!("gateway_target_state{{model=\"{model}\",provider=\"openai\"}} {value}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
    let many: Vec<_> = (0..1000).map(|number| target(&number.to_string(), "closed", &["closed"])).collect();
    let text = telemetry.scrape((&none, &[]), &[&many[..], &states[4..]].concat(), at(1_764_064_801));
    assert!(text.contains("gateway_target_state{model=\"open\",provider=\"openai\"} 3\n"), "the worst first");
    assert!(!text.contains("model=\"rests\""), "what the configuration names no more is not shown");
    assert!(series(&text).len() <= 300);
}

/// Both kinds of series are set anew for each: a second one in the middle would show what is not set yet, to both.
#[test]
fn two_scrapes_at_once_have_all_series() {
    let (telemetry, _) = telemetry(10_000, false);
    let targets: Vec<_> = (0..20).map(|number| target(&number.to_string(), "closed", &["closed"])).collect();
    let budgets = [half_used(Limit::Budget(Measure::Usd, Per::Day))];
    let whole = || {
        let text = telemetry.scrape((&Tally::default(), &budgets), &targets, at(1_764_064_801));
        let count = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!((count("gateway_target_state{"), count("gateway_budget_used_ratio{")), (20, 1));
    };
    std::thread::scope(|scope| {
        let scraping = || (0..200).for_each(|_| whole());
        for _ in 0..4 {
            scope.spawn(scraping);
        }
    });
}

#[test]
fn each_metric_of_the_dashboard_is_exported() {
    let (telemetry, _) = telemetry(10_000, true);
    telemetry.observe(&spending::metered(), false);
    telemetry.observe(&spending::unpriced(), false);
    let limits = (&Tally::default(), &[half_used(Limit::Budget(Measure::Usd, Per::Day))][..]);
    let text = telemetry.scrape(limits, &[target("", "closed", &["closed"])], at(1_764_064_801));
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
