//! Fuzzed: paths that are nearly a route's, against a reader that takes them apart in the plainest way.
//!
//! Never does: share a line with what it checks.

use percent_encoding::percent_decode_str;

use super::*;
use crate::units::tests::fuzz::{fuzz, text};

const WORDS: [&str; 48] = [
    "/",
    "/",
    "/",
    "/",
    "openai",
    "openai",
    "v1",
    "v1",
    "models",
    "models",
    "chat",
    "completions",
    "files",
    "gpt-4o",
    "a",
    "..",
    ".",
    "%2e",
    "%2E",
    "%2f",
    "%2F",
    "%5c",
    "\\",
    "//",
    "%00",
    "%0a",
    "%",
    "%2",
    "%25",
    "%252f",
    "%41",
    ":",
    ";",
    "@",
    "*",
    "{model}",
    "{*rest}",
    "\u{e9}",
    "\u{2215}",
    "\u{ff0f}",
    "\0",
    "\n",
    " ",
    "+",
    "~",
    "OPENAI",
    "Models",
    "x",
];

fn routes() -> RouteTable {
    let opaque = [(None, "/openai/v1/files/*", Kind::Opaque), (Some(Method::POST), "/openai/v1/*", Kind::Opaque)];
    table(&[default_rows(), opaque.into()].concat())
}

/// What an encoded path is to somebody who decodes it, once or twice.
fn decoded(path: &str) -> String {
    percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Whether a path is below a prefix, segment by segment, for somebody who decodes it so often, or less often.
fn is_plainly_below(path: &str, prefix: &str, decodes: usize) -> bool {
    let spellings = [path.to_owned(), decoded(path), decoded(&decoded(path))];
    spellings[..=decodes].iter().all(|path| {
        let segments: Vec<&str> = path.split(['/', '\\']).collect();
        let wanted: Vec<&str> = prefix.split('/').collect();
        let odd =
            |segment: &&str| *segment == "." || *segment == ".." || segment.contains(|c: char| c.is_ascii_control());
        segments.len() > wanted.len() && segments.starts_with(&wanted) && !segments.iter().any(odd)
    })
}

#[test]
fn fuzz_a_path_finds_only_a_route_that_every_reader_finds() {
    let table = routes();
    fuzz!(20_000, |input: &[u8]| {
        let path = format!("/{}", text(input, &WORDS).trim_start_matches('/'));
        for path in [
            path.clone(),
            format!("/openai/v1{path}"),
            format!("/openai/v1/models{path}"),
            format!("/openai/v1/files{path}"),
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE, Method::HEAD] {
                let Some(found) = table.find(&method, &path) else { continue };
                let shorter = path.strip_suffix('/').unwrap_or(&path);
                let route = &found.route.pattern;
                match (route.strip_suffix("/*"), route.strip_suffix("/{model}")) {
                    (Some(above), _) => assert!(is_plainly_below(shorter, above, 2), "{path} is not below {above}"),
                    (_, Some(above)) => {
                        assert!(is_plainly_below(shorter, above, 1), "{path} is not below {above}");
                        assert_eq!(
                            Some(format!("{above}/{}", found.model.expect("a model"))),
                            Some(shorter.to_owned())
                        );
                        assert!(!found.model.expect("a model").contains('/'));
                    }
                    _ => assert_eq!(shorter, route),
                }
                let asked = if method == Method::HEAD { Method::GET } else { method };
                assert!(found.route.method.as_ref().is_none_or(|own| *own == asked), "{asked} {path}");
            }
        }
    });
}
