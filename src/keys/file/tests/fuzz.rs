//! Fuzzed: key files that are nearly one.
//!
//! Never does: say what a good one means; `keys/tests.rs` does.

use super::*;
use crate::units::tests::fuzz::{fuzz, text};

const CANARY: &str = "Y2FuYXJ5LXNhbHQ=";

const WORDS: [&str; 32] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    " ",
    "\n",
    "null",
    "true",
    "7",
    "\"\"",
    "\"a\":",
    "\\u0041",
    "\u{feff}",
    "\0",
    "\"ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69\":",
    "\"bceb75909fca623fcbcf1a2130035e3171dd200c7b4e6aaf5af15a622046011e\":",
    "{\"username\":\"a\",\"salt\":\"Y2FuYXJ5LXNhbHQ=\",\"scopes\":[]}",
    "\"username\":\"\u{e5}\"",
    "\"salt\":\"Y2FuYXJ5LXNhbHQ=\"",
    "\"scopes\":[",
    "{\"method\":\"get\",\"path\":\"/a/b\"}",
    "{\"method\":\"*\",\"path\":\"/*\"}",
    "\"id\":\"key_0123456789ab\"",
    "\"expires_at\":\"2026-01-01T00:00:00Z\"",
    "\"disabled\":true",
    "\"models\":[\"gpt-*\"]",
    "\"limits\":{",
    "\"requests_per_minute\":1",
    "\"budgets\":[{\"usd\":\"1.5\",\"per\":\"day\"}]",
    "\"team\":\"x\"",
];

#[test]
fn fuzz_a_key_file_is_read_whole_or_refused() {
    fuzz!(20_000, |input: &[u8]| {
        let inner = text(input, &WORDS);
        for json in [format!("{{{inner}}}"), inner] {
            match KeyFile::parse(json.as_bytes(), None) {
                // Another reader keeps the last of two members of one name, so that as many as it has is all there were.
                Ok(file) => {
                    let read: serde_json::Value = serde_json::from_str(&json).expect("what is read is JSON");
                    assert_eq!(read.as_object().map(serde_json::Map::len), Some(file.len()), "{json}");
                    assert!(!format!("{file:?}").contains(CANARY));
                }
                Err(problems) => {
                    assert!(!problems.is_empty(), "a refusal has a reason: {json}");
                    for problem in problems {
                        let told = format!("{} {} {:?}", problem.path, problem.message, problem.hint);
                        assert!(!told.contains(CANARY), "{told}");
                        assert!(problem.line >= 1 && problem.column >= 1);
                    }
                }
            }
        }
    });
}
