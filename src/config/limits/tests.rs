//! Facts about the limits of keys, put together from the configuration and the key file.
//!
//! Never does: count.

use super::super::tests::load_text;
use super::*;
use crate::config::{Loaded, with_keys_read_again};

/// Digests of keys that nobody has.
fn entry(index: u8, fields: &str) -> String {
    let digest = format!("{index:02x}").repeat(32);
    format!(r#""{digest}": {{"id": "key_{index}", "salt": "ZmFrZQ==", "scopes": [], {fields}}}"#)
}

fn load(limits: &str, entries: &[String]) -> Loaded {
    let file = format!("{{{}}}", entries.join(","));
    let variables = [("HASHED_API_KEYS", &*base64(&file)), ("OPENAI_API_KEY", "k")];
    load_text(&format!("limits: {limits}"), &variables).expect("a configuration")
}

fn base64(text: &str) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(text)
}

/// What limits a key: each subject with its limits.
fn of_key(loaded: &Loaded, id: &str) -> Vec<String> {
    of_call(loaded, id, None)
}

/// The same of its calls for a model, where that is more.
fn of_call(loaded: &Loaded, id: &str, model: Option<&str>) -> Vec<String> {
    let [all, of_both, of_model] = loaded.snapshot.limits.of_call(&KeyId::new(id), model);
    let bounds = if model.is_none() { all.iter().chain(of_model) } else { of_both.iter().chain(of_model) };
    bounds.map(|bound| format!("{}: {}", bound.subject, bound.limits)).collect()
}

#[test]
fn without_limits_nothing_limits_anything() {
    let loaded = load("{}", &[entry(1, r#""username": "ann""#)]);
    assert_eq!(of_key(&loaded, "key_1"), [""; 0]);
    assert!(of_call(&loaded, "key_1", Some("gpt-4o")).is_empty() && loaded.snapshot.limits.all().is_empty());
}

#[test]
fn a_key_has_its_own_limits_those_of_its_owners_and_the_gateways() {
    let limits = "{
        gateway: { budgets: [ { usd: 1000, per: month } ] },
        key: { requests_per_minute: 60, concurrent_requests: 5, budgets: [ { usd: 1, per: day } ] },
        keys: { key_2: { requests_per_minute: 120, shadow: true } },
        users: { ann: { tokens_per_minute: 9 } },
        teams: { blue: { budgets: [ { tokens: 7, per: total } ] } },
        models: { gpt-4o: { concurrent_requests: 3 }, idle: {} } }";
    let own = r#""username": "bob", "limits": {"budgets": [{"usd": 5, "per": "week"}, {"usd": 9, "per": "total"}]}"#;
    let entries = [entry(1, r#""username": "ann", "team": "blue""#), entry(2, own), entry(3, r#""username": "ann""#)];
    let loaded = load(limits, &entries);
    let gateway = "this gateway: usd/month=1000";
    let default = "this API key: requests_per_minute=60, concurrent_requests=5, usd/day=1";
    let ann = "the user ann: tokens_per_minute=9";
    assert_eq!(of_key(&loaded, "key_1"), [default, ann, "the team blue: tokens/total=7", gateway]);
    assert_eq!(of_key(&loaded, "key_3"), [default, ann, gateway]);
    let bob = [
        "this API key: usd/week=5, usd/total=9",
        "this API key: requests_per_minute=120, shadow",
        "this API key: concurrent_requests=5",
        gateway,
    ];
    assert_eq!(of_key(&loaded, "key_2"), bob);
    let of_model = |model| of_call(&loaded, "key_1", Some(model));
    assert_eq!(of_model("gpt-4o"), ["this gateway for the model gpt-4o: concurrent_requests=3"]);
    assert!(of_model("idle").is_empty() && of_model("gpt").is_empty());
    let all = loaded.snapshot.limits.all();
    let kinds: Vec<_> = all.iter().map(|bound| bound.subject.kind()).collect();
    assert_eq!(kinds, ["gateway", "model", "key", "key", "key", "key", "key", "user", "team"]);
    assert!(!loaded.warnings.iter().any(|warning| warning.contains("limited by")), "{:?}", loaded.warnings);
}

#[test]
fn somebody_has_limits_for_a_model_beside_those_for_all() {
    let limits = "{
        key: { requests_per_minute: 60, models: { a: { requests_per_minute: 6, concurrent_requests: 2 }, idle: {} } },
        keys: { key_1: { models: { a: { budgets: [ { usd: 2, per: day } ], shadow: true } } } },
        users: { ann: { models: { a: { tokens_per_minute: 9 }, b: { budgets: [ { usd: 3, per: month } ] } } } },
        models: { a: { concurrent_requests: 3 } } }";
    let own = r#""username": "ann", "limits": {"models": {"a": {"requests_per_minute": 7}}}"#;
    let loaded = load(limits, &[entry(1, own), entry(2, r#""username": "bob""#)]);
    assert_eq!(of_key(&loaded, "key_1"), ["this API key: requests_per_minute=60"]);
    let of_a = [
        "this API key for the model a: requests_per_minute=7",
        "this API key for the model a: usd/day=2, shadow",
        "this API key for the model a: concurrent_requests=2",
        "the user ann for the model a: tokens_per_minute=9",
        "this gateway for the model a: concurrent_requests=3",
    ];
    assert_eq!(of_call(&loaded, "key_1", Some("a")), of_a);
    assert_eq!(of_call(&loaded, "key_1", Some("b")), ["the user ann for the model b: usd/month=3"]);
    assert_eq!(of_call(&loaded, "key_2", Some("a")).len(), 2);
    assert!(of_call(&loaded, "key_2", Some("idle")).is_empty() && of_call(&loaded, "key_2", Some("b")).is_empty());
    assert!(loaded.snapshot.limits.has_budgets());
    assert_eq!(loaded.snapshot.limits.all().len(), 9);
}

#[test]
fn rules_for_nobody_are_told() {
    let limits = "{ users: { amn: { requests_per_minute: 1 } }, teams: { b: {} }, keys: { key_9: {}, key_8: {} },
        key: { shadow: true } }";
    let warnings = load(limits, &[entry(1, r#""username": "ann""#)]).warnings;
    let told = |text: &str| assert!(warnings.iter().any(|warning| warning == text), "{warnings:?}");
    told("no key is limited by limits.keys.key_8, limits.keys.key_9, limits.users.amn, ...");
    told("limits.key.shadow has no effect, because nothing is limited there");
}

#[test]
fn budgets_are_counted_in_the_zone() {
    let loaded = load("{ zone: Europe/Berlin, key: { requests_per_minute: 1 } }", &[entry(1, r#""username": "ann""#)]);
    let [bounds, ..] = loaded.snapshot.limits.of_call(&KeyId::new("key_1"), None);
    assert_eq!(Some(bounds[0].zone.clone()), Zone::named("Europe/Berlin"));
}

#[test]
fn a_change_of_the_key_file_alone_brings_its_limits() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("g.yaml", "keys: { file: k.json }\nlimits: { key: { requests_per_minute: 60 } }");
    write("k.json", &format!("{{{}}}", entry(1, r#""username": "ann""#)));
    let sources = crate::config::Sources {
        file: Some("g.yaml".into()),
        yaml: None,
        directory: folder.path().to_owned(),
        environment: [("OPENAI_API_KEY", "k")].into_iter().collect(),
    };
    let loaded = crate::config::load(&sources).expect("a configuration");
    write("k.json", &format!("{{{}}}", entry(1, r#""username": "ann", "limits": {"requests_per_minute": 7}"#)));
    let (snapshot, _) = with_keys_read_again(&sources, &loaded.snapshot).expect("keys");
    let limit = |table: &LimitTable| table.of_call(&KeyId::new("key_1"), None)[0][0].limits.requests_per_minute;
    assert_eq!((limit(&loaded.snapshot.limits), limit(&snapshot.limits)), (Some(60), Some(7)));
}
