//! Fuzzed: YAML that is nearly a configuration.
//!
//! Never does: say what a good one means; `good` does.

use std::time::SystemTime;

use super::*;
use crate::units::tests::fuzz::{fuzz, text};

const CANARY: &str = "sk-canary-7f3a";

const WORDS: [&str; 64] = [
    "server:\n",
    "  listen: ",
    "  limits:\n",
    "    max_body: ",
    "    max_in_flight: ",
    "    body_timeout: ",
    "providers:\n",
    "  openai:\n",
    "  a b:\n",
    "    base_url: ",
    "    api_key: ",
    "    routes:\n",
    "      - get /v1/models\n",
    "      - any /v1/* opaque\n",
    "      - { route: get /v1/x websocket, model: query }\n",
    "    timeouts: { idle: ",
    "keys:\n",
    "  file: ",
    "models:\n",
    "  gpt-4o: { targets: [ { provider: openai } ] }\n",
    "limits:\n",
    "  zone: ",
    "  key: { budgets: [ { usd: ",
    ", per: day } ] }\n",
    "admin:\n",
    "  token: ",
    "ledger: off\n",
    "prices:\n",
    "attempts: { max_attempts: ",
    "https://api.openai.com",
    "http://127.0.0.1:9",
    "${KEY}",
    "${KEY:-x}",
    "${file:/none}",
    "${",
    "$${x}",
    "1",
    "0",
    "-1",
    "32MiB",
    "1GiB",
    "30s",
    "10m",
    "auto",
    "[",
    "]",
    "{",
    "}",
    ",",
    ": ",
    "- ",
    "\n",
    "  ",
    "\"",
    "'",
    "#",
    "&a ",
    "*a",
    "<<: ",
    "!t ",
    "|\n",
    "\u{feff}",
    "\0",
    "\u{e9}",
];

#[test]
fn fuzz_a_configuration_is_put_in_force_whole_or_refused_with_a_place() {
    fuzz!(2_000, |input: &[u8]| {
        let yaml = text(input, &WORDS);
        let variables = [("KEY", CANARY), ("OPENAI_API_KEY", CANARY)];
        match load_text(&yaml, &variables) {
            Ok(loaded) => {
                let shown = format!("{:?} {}", loaded.snapshot, loaded.warnings_at(SystemTime::UNIX_EPOCH).count());
                assert!(!shown.contains(CANARY), "{yaml}");
                let [one, again] = [loaded, load_text(&yaml, &variables).expect("as before")].map(|loaded| {
                    let routes = loaded.snapshot.routes.iter();
                    routes.map(|route| format!("{} {}", route.method_name(), route.upstream_url())).collect::<Vec<_>>()
                });
                assert_eq!(one, again);
            }
            Err(report) => {
                assert!(!report.problems().is_empty(), "a refusal has a reason: {yaml}");
                assert!(!report.to_string().contains(CANARY), "{yaml}");
            }
        }
    });
}
