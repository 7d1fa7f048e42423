//! The tap: what passes, what is seen, what is told.
//!
//! Never does: read a recorded answer; `tests/fixtures/dialect` has those.

use super::*;
use crate::dialect;

mod recorded;

fn tap(shape: Shape, hide: bool) -> Tap {
    Tap::new(dialect::ALL[0], shape, hide)
}

/// What passes of pieces, and what is told.
fn run(mut tap: Tap, pieces: &[&str]) -> (String, Metered) {
    let mut passed = Vec::new();
    for piece in pieces {
        passed.extend(tap.push(Bytes::copy_from_slice(piece.as_bytes())).unwrap_or_default());
    }
    passed.extend(tap.end().unwrap_or_default());
    (String::from_utf8(passed).expect("UTF-8"), tap.finish())
}

const STREAM: &str = "\
    data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null}\n\n\
    data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"n\\u00e4\\n\"},\"finish_reason\":null}],\"usage\":null}\n\n\
    data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n\
    data: {\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,\"total_tokens\":7}}\n\n\
    data: [DONE]\n\n";

const HIDDEN: &str = "\
    data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n\
    data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"n\\u00e4\\n\"},\"finish_reason\":null}]}\n\n\
    data: {\"model\":\"gpt-4o\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
    data: [DONE]\n\n";

#[test]
fn tells_what_a_stream_used_and_hides_it_where_it_was_not_asked_for() {
    for hide in [false, true] {
        let (passed, told) = run(tap(Shape::Events, hide), &[STREAM]);
        assert_eq!(passed, if hide { HIDDEN } else { STREAM });
        let usage = Usage { input: 5, output: 2, ..Usage::default() };
        let model = Some("gpt-4o".into());
        let told_too =
            Metered { usage: Some(usage), model, visible_bytes: 4, events: 2, complete: true, ..told.clone() };
        assert_eq!(told, told_too);
    }
}
