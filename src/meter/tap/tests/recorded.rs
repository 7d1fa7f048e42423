//! Recorded answers: `tests/fixtures/dialect/DIALECT/CASE.{json,sse}`, beside what is to be told of them, and for a stream
//! what a client gets that did not ask for the usage (`CASE.hidden.sse`; without it, the same bytes).
//!
//! Never does: depend on where an answer is cut.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

/// What is to be told of an answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    usage: Option<Usage>,
    /// The sides that it lacks: `input`, `output`.
    #[serde(default)]
    lacks: Vec<String>,
    model: Option<Box<str>>,
    service_tier: Option<Box<str>>,
    visible_bytes: u64,
    events: u64,
    complete: bool,
    error: bool,
}

struct Case {
    name: String,
    dialect: &'static dyn Dialect,
    shape: Shape,
    body: Bytes,
    hidden: Option<Bytes>,
    told: Metered,
    seen: Seen,
}

impl Case {
    fn read(dialect: &'static dyn Dialect, path: &Path) -> Option<Self> {
        let (name, ending) = path.file_name()?.to_str()?.rsplit_once('.')?;
        let shape = match ending {
            "json" if !name.ends_with(".usage") => Shape::Json,
            "sse" if !name.ends_with(".hidden") => Shape::Events,
            _ => return None,
        };
        let expected = fs::read(path.with_extension("usage.json")).expect(name);
        let Expected { usage, lacks, model, service_tier, visible_bytes, events, complete, error } =
            serde_json::from_slice(&expected).expect(name);
        let lacks = |side: &str| lacks.iter().any(|lacked| lacked == side);
        let lacks = Lacks { input: lacks("input"), output: lacks("output") };
        let content = events > 0 || (shape == Shape::Json && complete && !error);
        Some(Self {
            name: format!("{}/{name}.{ending}", dialect.name()),
            dialect,
            shape,
            body: fs::read(path).expect(name).into(),
            hidden: fs::read(path.with_extension("hidden.sse")).ok().map(Bytes::from),
            told: Metered { usage, lacks, model, service_tier, visible_bytes, events, complete },
            seen: Seen { content, terminal: complete, error, events },
        })
    }

    fn all() -> Vec<Self> {
        let folder = |dialect: &dyn Dialect| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dialect").join(dialect.name());
            fs::read_dir(folder).expect("a folder of answers").map(|entry| entry.expect("an entry").path())
        };
        let all =
            dialect::ALL.iter().flat_map(|dialect| folder(*dialect).filter_map(|path| Self::read(*dialect, &path)));
        let all: Vec<_> = all.collect();
        let names: std::collections::HashSet<_> = all.iter().map(|case| case.name.split('.').next()).collect();
        assert_eq!(names.len(), all.len(), "two answers share what is expected of them");
        assert!(all.len() > 50, "only {} answers were found", all.len());
        all
    }

    /// Whether it is walked through where it is there at once, which says the same.
    fn is_walked(&self) -> bool {
        says_the_same_at_once(self.dialect, self.shape, &self.body)
    }

    /// Checks what passes and what is told where the answer comes in pieces that end there.
    fn check(&self, ends: &[usize]) {
        for hide in [false, true] {
            let mut tap = Tap::new(self.dialect, self.shape, hide);
            let mut passed = Vec::new();
            let mut from = 0;
            for end in ends.iter().copied().chain([self.body.len()]) {
                passed.extend(tap.push(self.body.slice(from..end)).unwrap_or_default());
                from = end;
            }
            passed.extend(tap.end().unwrap_or_default());
            let expected = if hide { self.hidden.as_ref().unwrap_or(&self.body) } else { &self.body };
            assert_eq!(passed.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{}", self.name);
            assert_eq!(
                tap.seen(),
                self.seen,
                "{} in {} pieces, the first {:?} long",
                self.name,
                ends.len() + 1,
                ends.first()
            );
            assert_eq!(
                tap.finish(),
                self.told,
                "{} in {} pieces, the first {:?} long",
                self.name,
                ends.len() + 1,
                ends.first()
            );
        }
    }
}

#[test]
fn what_an_answer_used_is_told_and_what_was_not_asked_for_is_hidden() {
    for case in Case::all() {
        case.check(&[]);
    }
}

#[test]
fn it_is_all_the_same_where_each_byte_comes_alone_or_in_two_pieces() {
    for case in Case::all() {
        case.check(&(1..case.body.len()).collect::<Vec<_>>());
        for end in (1..case.body.len()).step_by(29) {
            case.check(&[end]);
        }
    }
}

#[test]
fn most_documents_that_are_there_at_once_need_no_walk() {
    let (mut walked, mut not) = (0, 0);
    for case in Case::all() {
        match case.is_walked() {
            true => walked += usize::from(case.shape == Shape::Json),
            false => not += 1,
        }
    }
    assert!(not > walked, "{walked} of {} are walked through", walked + not);
}

proptest! {
    #![proptest_config(crate::units::tests::cases(16))]
    #[test]
    fn it_is_all_the_same_wherever_it_is_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        for case in Case::all() {
            let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(case.body.len())).collect();
            ends.sort_unstable();
            case.check(&ends);
        }
    }
}
