//! Facts about `check`: what it shows, to people and to programs, and what it never shows.
//!
//! Never does: read the process's own environment or folder.

use super::*;

pub(super) fn run_with(yaml: Option<&str>, json: bool) -> (u8, String, String) {
    let directory = tempfile::tempdir().expect("a directory");
    if let Some(yaml) = yaml {
        std::fs::create_dir(directory.path().join("conf")).expect("made");
        std::fs::write(directory.path().join("conf/gateway.yaml"), yaml).expect("written");
    }
    let sources = Sources {
        file: None,
        yaml: None,
        directory: directory.path().to_owned(),
        environment: [("OPENAI_API_KEY", "sk-canary")].into_iter().collect(),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = CheckArgs { config: None, json };
    let code = check(&args, &sources, &mut out, &mut err).expect("written");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (code, text(out), text(err))
}

#[test]
fn shows_what_the_defaults_come_to() {
    let (code, out, err) = run_with(None, false);
    assert_eq!((code, err.as_str()), (FINE, ""));
    assert!(out.starts_with("configuration  built-in defaults\nlisten "), "{out}");
    assert!(out.contains("provider openai, key in authorization\n"), "{out}");
    let route = "  GET    /openai/v1/models/{model} -> https://api.openai.com/v1/models/{model}\n";
    assert!(out.contains(route), "{out}");
    assert!(out.contains("\nwarning: no key file at /"), "{out}");
    for line in [
        "bodies         32 MiB each, ",
        "heads          64 KiB within 10s\n",
        "connections    up to 20000, idle for up to 1m\n",
        "browsers       of all origins\n",
        "proxies        none",
        "telemetry      up to 10000 series; a line a call, log level info\n",
        "ledger         /",
        "keys           0 keys from /",
        &format!("prices         {}\n", crate::meter::price::PriceBook::built_in().expect("fine").version()),
        "  prices of section openai, ",
        "  timeouts connect 3s, first byte 2m (stream) or 10m, idle 2m, total 15m\n",
    ] {
        assert!(out.contains(&format!("\n{line}")), "{line} in {out}");
    }
    assert!(!out.contains("canary"), "{out}");
}

#[test]
fn tells_programs_the_same() {
    let yaml = "providers: { local: { base_url: 'http://127.0.0.1:11434/v1', query: { key: canary } } }";
    let (code, out, _) = run_with(Some(yaml), true);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &told["ok"]), (FINE, &true.into()));
    assert_eq!(told["configuration"], "conf/gateway.yaml");
    assert!(told["prices"]["version"].as_str().is_some_and(|version| version.starts_with("20")), "{out}");
    assert_eq!(
        (&told["providers"][0]["priced_as"], &told["providers"][0]["inject_usage"]),
        (&serde_json::Value::Null, &true.into())
    );
    let warned = told["warnings"].as_array().expect("a list").iter().filter_map(|warning| warning.as_str());
    assert_eq!(warned.filter(|warning| warning.starts_with("providers.local has no prices")).count(), 1, "{out}");
    assert_eq!(told["routes"][0]["upstream"], "http://127.0.0.1:11434/v1/models");
    assert!(!out.contains("canary"), "{out}");
}

#[test]
fn shows_what_prices_are_missing() {
    let provider = "base_url: 'http://127.0.0.1:1', api_key: ''";
    let own = "prices: { models: { b: { m: { usd_per_million_tokens: { input: 1, output: 1 } } } } }";
    let yaml = format!("providers: {{ a: {{ {provider} }}, b: {{ {provider} }} }}\n{own}\n");
    let (_, out, _) = run_with(Some(&yaml), false);
    assert!(out.contains("\n  prices none: costs are unknown\n"), "{out}");
    assert!(out.contains("\n  prices of section b, 1 model\n"), "{out}");
    assert_eq!(out.matches("has no prices").count(), 1, "{out}");
}

#[test]
fn shows_who_may_use_how_much() {
    let yaml = "limits:\n  zone: Europe/Berlin\n  gateway: { budgets: [ { usd: 5000, per: month } ] }\n  \
                key: { concurrent_requests: 50 }\n  models: { gpt-4o: { tokens_per_minute: 9 } }\n  \
                users: { ann: { requests_per_minute: 6, shadow: true, models: { gpt-4o: \
                { budgets: [ { usd: 0.5, per: day } ] } } } }\n";
    let (_, out, _) = run_with(Some(yaml), false);
    let lines = "\nlimits by the midnights of Europe/Berlin\n  \
                 gateway                 usd/month=5000\n  \
                 gateway, model gpt-4o   tokens_per_minute=9\n  \
                 each key                concurrent_requests=50\n  \
                 user ann                requests_per_minute=6, shadow\n  \
                 user ann, model gpt-4o  usd/day=0.5\n";
    assert!(out.contains(lines), "{out}");
    let (_, out, _) = run_with(Some(yaml), true);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let (limits, last) = (&told["call_limits"], &told["call_limits"]["rules"][4]);
    assert_eq!((&limits["zone"], &limits["keys_with_own"]), (&"Europe/Berlin".into(), &0.into()));
    assert_eq!((&last["kind"], &last["name"], &last["model"]), (&"user".into(), &"ann".into(), &"gpt-4o".into()));
    assert_eq!(last["budgets"][0]["usd"], "0.5");
    let (_, out, _) = run_with(Some("{}"), false);
    assert!(out.contains("\nlimits none\n"), "{out}");
}

#[test]
fn shows_what_a_route_costs_and_for_how_many_days_records_are_kept() {
    let yaml = "providers: { openai: { routes: [ get /v1/realtime websocket, \
                { route: post /v1/listen stream, price_per_request: 0.020 } ] } }";
    let (code, out, err) = run_with(Some(yaml), false);
    assert_eq!((code, err.as_str()), (FINE, ""));
    assert!(out.contains("/v1/listen (stream, USD 0.02 a call)\n"), "{out}");
    assert!(out.contains("/v1/realtime (websocket)\n"), "{out}");
    assert!(out.contains(", kept for 90days, up to "), "{out}");
    let (_, out, _) = run_with(Some(yaml), true);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let prices: Vec<_> = told["routes"].as_array().expect("a list").iter().map(|r| &r["price_per_request"]).collect();
    assert_eq!(prices, [&serde_json::Value::Null, &"0.02".into()]);
    assert_eq!([span(Duration::from_secs(86400)), span(Duration::from_secs(176_400))], ["1day", "2days 1h"]);
}

#[test]
fn shows_what_differs_from_the_defaults() {
    let yaml = "server: { cors: { allow_origins: ['https://a', 'https://b'] }, trusted_proxies: ['10.0.0.0/8', '::1'] }\n\
                telemetry: { compat_metrics: on, access_log: off }\nledger: off\n";
    let (_, out, _) = run_with(Some(yaml), false);
    for line in [
        "browsers       of https://a, https://b\n",
        "proxies        10.0.0.0/8, ::1/128\n",
        "telemetry      up to 10000 series, the NodeJS gateway's summaries too; no line for calls, log level info\n",
    ] {
        assert!(out.contains(&format!("\n{line}")), "{line} in {out}");
    }
    let (_, out, _) = run_with(Some(yaml), true);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["cors"]["allow_origins"][1], "https://b");
    assert_eq!(told["telemetry"]["access_log"], false);
    assert_eq!(told["providers"][0]["timeouts"]["total_ms"], 900_000);
}

#[test]
fn sizes_are_in_the_units_of_the_file() {
    assert_eq!(size(32 << 20), "32 MiB");
    assert_eq!(size(1536 << 20), "1.5 GiB");
    assert_eq!(size(u64::MAX), "17179869183.9 GiB");
    assert_eq!(size(7), "7 bytes");
}

/// The block of the README that begins with this line, and the one behind it.
fn blocks_of_the_readme(begin: &str) -> (String, String) {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once(begin).expect("the block");
    let mut parts = rest.split("```");
    let yaml = parts.next().expect("its end").to_owned();
    let next = parts.nth(1).and_then(|block| block.split_once('\n')).expect("the next block");
    (yaml, next.1.to_owned())
}

#[test]
fn the_readmes_report_is_what_is_printed() {
    let (yaml, report) = blocks_of_the_readme("```yaml\n");
    let (code, _, err) = run_with(Some(&yaml), false);
    assert_eq!((code, err.as_str()), (FINE, ""), "the example itself is fine");
    let wrong = yaml.replace("stream: 30s", "stream: 30");
    assert_ne!(wrong, yaml);
    let (code, _, err) = run_with(Some(&wrong), false);
    assert_eq!((code, err), (WRONG, report));
}

#[test]
fn reports_all_problems_with_exit_code_2() {
    let yaml = "server: { threads: canary }\nadmin: { listen: canary }\n";
    let (code, out, err) = run_with(Some(yaml), false);
    assert_eq!((code, out.as_str()), (WRONG, ""));
    assert_eq!(
        err,
        "conf/gateway.yaml:1:20 server.threads: expected a whole number\n\
         conf/gateway.yaml:2:18 admin.listen: expected an address with a port (hint: such as \"127.0.0.1:8080\", or \
         \"[::]:8080\" for all addresses)\n2 problems; nothing would be put in force\n"
    );
    let (code, out, _) = run_with(Some(yaml), true);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &told["problems"][0]["line"]), (WRONG, &1.into()));
}

#[test]
fn the_readmes_prices_are_fine() {
    let readme = include_str!("../../../README.md");
    let block =
        readme.split("```yaml\n").filter_map(|rest| rest.split("```").next()).find(|yaml| yaml.contains("prices:"));
    let (code, out, err) = run_with(block, false);
    assert_eq!((code, err.as_str()), (FINE, ""));
    assert!(out.contains("\n  prices of section vllm, 1 model\n") && !out.contains("warning: prices"), "{out}");
}
