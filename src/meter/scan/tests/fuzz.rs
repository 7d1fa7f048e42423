//! Fuzzed: the change that makes a stream tell its usage.
//!
//! Never does: hold to a JSON tree, which keeps the last of two members where the scan refuses both.

use super::*;
use crate::units::tests::fuzz::{fuzz, text};

/// JSON that is often nearly a request.
const WORDS: [&str; 24] = [
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
    "false",
    "1",
    "-2.5e3",
    "\"x\"",
    "\"stream\":true",
    "\"stream_options\":",
    "\"stream_options\":{",
    "\"include_usage\":",
    "\"include_usage\":false",
    "\"include_us\\u0061ge\":null",
    "\"include_usage\" : true",
    "\"model\":\"m\"",
    "\"stream_options\":null",
    "{\"include_obfuscation\":false}",
];

#[test]
fn fuzz_asking_for_the_usage_is_the_only_change() {
    fuzz!(20_000, |input: &[u8]| {
        let inner = text(input, &WORDS);
        for body in [format!("{{{inner}}}"), format!("{{\"stream_options\":{{{inner}}}}}"), inner] {
            let body = Bytes::from(body);
            let Ok(read) = scan(&body) else { continue };
            let Some(splice) = read.ask_for_usage() else { continue };
            assert!(!read.asks_for_usage());
            let taken_out = body.slice(splice.at.clone());
            let changed = spliced(&body, vec![splice.clone()]);
            let again = scan(&changed).map_err(Fault::into_text).expect("still a request");
            assert!(again.asks_for_usage() && again.ask_for_usage().is_none(), "{changed:?}");
            assert_eq!((again.stream, again.model.as_deref()), (read.stream, read.model.as_deref()));
            let back = Splice {
                at: splice.at.start..splice.at.start + splice.with.len(),
                with: String::from_utf8(taken_out.to_vec()).expect("UTF-8"),
            };
            assert_eq!(spliced(&changed, vec![back]), body);
        }
    });
}
