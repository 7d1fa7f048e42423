//! The tap: what passes, what is seen, what is told.
//!
//! Never does: read a recorded answer; `tests/fixtures/dialect` has those.

use super::*;
use crate::dialect;

mod fuzz;
mod oracle;
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

/// The largest that a tap becomes while that passes, in bytes that it holds.
fn holds(tap: &Tap) -> usize {
    match &tap.state {
        State::Reading(reading) => match &reading.source {
            Source::Events(splitter) => splitter.held(),
            Source::Json(kept) => kept.held(),
        },
        _ => 0,
    }
}

#[test]
fn a_long_event_passes_as_it_is_and_what_follows_is_metered() {
    let long = format!("data: {{\"usage\":null,\"x\":\"{}\"}}\n\n", "a".repeat(2 * MAX_EVENT));
    let text = Bytes::from(format!("{long}{STREAM}"));
    for length in [1000, 16 * 1024, text.len()] {
        let mut tap = tap(Shape::Events, true);
        let mut passed = Vec::new();
        for from in (0..text.len()).step_by(length) {
            passed.extend(tap.push(text.slice(from..text.len().min(from + length))).unwrap_or_default());
            assert!(holds(&tap) <= MAX_EVENT);
        }
        assert!(passed == format!("{long}{HIDDEN}").as_bytes(), "in pieces of {length}");
        assert_eq!(tap.finish().usage.map(|usage| usage.total()), Some(7));
    }
}

#[test]
fn a_long_answer_takes_no_memory() {
    let vector = "[0.1,-0.25],".repeat(1 << 19);
    let text = format!(r#"{{"usage":"{}","model":"{}","data":[{vector}0],"#, "u".repeat(1 << 20), "m".repeat(1 << 20));
    let text =
        Bytes::from(format!(r#"{text}"service_tier":"default","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#));
    let mut tap = tap(Shape::Json, false);
    for from in (0..text.len()).step_by(16 * 1024) {
        let piece = text.slice(from..text.len().min(from + 16 * 1024));
        assert_eq!(tap.push(piece.clone()), Some(piece));
        assert!(holds(&tap) <= 5 * 16 * 1024);
    }
    let usage = Some(Usage { input: 8, ..Usage::default() });
    let service_tier = Some("default".into());
    assert_eq!(tap.finish(), Metered { usage, service_tier, complete: true, ..Metered::default() });
}

/// What is seen and told of an answer that is there at once, and whether it was walked through.
fn at_once(dialect: &'static dyn Dialect, shape: Shape, answer: &[u8]) -> (Seen, Metered, bool) {
    let mut tap = Tap::new(dialect, shape, false);
    tap.whole(&Bytes::copy_from_slice(answer));
    let walked = !matches!(tap.state, State::Read(..));
    (tap.seen(), tap.finish(), walked)
}

/// That it says what the walk says. Text is not counted where the usage is told.
fn says_the_same_at_once(dialect: &'static dyn Dialect, shape: Shape, answer: &[u8]) -> bool {
    let mut tap = Tap::new(dialect, shape, false);
    tap.push(Bytes::copy_from_slice(answer));
    let (seen, told, walked) = at_once(dialect, shape, answer);
    let (walk_seen, walk_told) = (tap.seen(), tap.finish());
    let visible_bytes = if walked { told.visible_bytes } else { walk_told.visible_bytes };
    assert_eq!((walk_seen, walk_told), (seen, Metered { visible_bytes, ..told }), "{}", answer.escape_ascii());
    walked
}

#[test]
fn an_answer_that_is_there_at_once_and_tells_its_usage_is_not_walked_through() {
    let usage = r#""usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}"#;
    let chat = r#""model":"gpt-4o","choices":[{"message":{"content":"\u00e4 {"},"finish_reason":"stop"}],"error":null"#;
    for (answer, walked) in [
        (format!("{{{chat},{usage}}}"), false),
        (format!(" {{ {usage} , {chat}, \"service_tier\": \"default\" }}\r\n"), false),
        // Nothing tells what was used, or not all.
        (format!("{{{chat}}}"), true),
        (format!("{{{chat},\"usage\":null}}"), true),
        (format!("{{{chat},\"usage\":{{\"prompt_tokens\":5}}}}"), true),
        // Something says more than a value that is kept.
        (format!("{{{usage},\"error\":{{\"code\":1}}}}"), true),
        (format!("{{{usage},\"model\":\"y\",\"response\":{{\"model\":\"x\"}}}}"), true),
        (format!("{{{usage},\"response\":null}}"), true),
        (format!("{{{usage},\"mod\\u0065l\":\"x\"}}"), true),
        (format!("{{{usage},{usage}}}"), true),
        // It is long.
        (format!("{{{usage},\"model\":\"{}\"}}", "x".repeat(Slot::MAX_BYTES)), true),
        (format!("{{{usage},\"data\":[{}1]}}", "0.5,".repeat(MAX_STEPPED / 4)), true),
        // It is not whole, or no document.
        (format!("{{{usage}"), true),
        (format!("{{{usage}}}x"), true),
        (format!("{{{usage},}}"), true),
        (format!("[{{{usage}}}]"), true),
        (String::new(), true),
    ] {
        assert_eq!(says_the_same_at_once(dialect::OPENAI, Shape::Json, answer.as_bytes()), walked, "{answer}");
    }
    let messages = r#"{"type":"message","model":"m","usage":{"input_tokens":1,"output_tokens":2,"speed":"fast","service_tier":"x"}}"#;
    assert!(!says_the_same_at_once(dialect::ANTHROPIC, Shape::Json, messages.as_bytes()));
    let failed = format!(r#"{{"type":"error",{usage}}}"#);
    assert!(at_once(dialect::OPENAI, Shape::Json, failed.as_bytes()).0.error);
    assert_eq!(at_once(dialect::OPENAI, Shape::Opaque, failed.as_bytes()), (Seen::default(), Metered::default(), true));
    says_the_same_at_once(dialect::OPENAI, Shape::Events, STREAM.as_bytes());
}

#[test]
fn what_is_opaque_or_of_another_shape_passes() {
    for (shape, text) in
        [(Shape::Opaque, STREAM), (Shape::Json, STREAM), (Shape::Events, r#"{"usage":{"prompt_tokens":1}}"#)]
    {
        for hide in [false, true] {
            let (passed, told) = run(tap(shape, hide), &[&text[..10], &text[10..]]);
            assert_eq!((&*passed, told), (text, Metered::default()));
        }
    }
}

#[test]
fn a_piece_without_anything_to_hide_is_not_copied() {
    let mut tap = tap(Shape::Events, true);
    let piece = Bytes::from_static(HIDDEN.as_bytes());
    assert_eq!(tap.push(piece.clone()).map(|passed| passed.as_ptr()), Some(piece.as_ptr()));
}

#[test]
fn an_event_passes_as_soon_as_it_is_complete() {
    let mut tap = tap(Shape::Events, true);
    assert_eq!(tap.push(Bytes::from_static(b"data: {\"choices\":[{\"index\":0,")), None);
    let passed = tap.push(Bytes::from_static(b"\"delta\":{\"content\":\"a\"}}],\"usage\":null}\r\n\r"));
    assert_eq!(passed, Some("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\r\n\r".into()));
    assert_eq!(tap.seen(), Seen { content: true, terminal: false, error: false, events: 1 });
    assert_eq!(tap.push(Bytes::from_static(b"\ndata: [DO")), Some("\n".into()));
    assert_eq!(tap.end(), Some("data: [DO".into()));
}

#[test]
fn a_comment_goes_on_at_once_though_no_blank_line_follows() {
    let mut tap = tap(Shape::Events, true);
    let mut push = |piece: &'static str| tap.push(Bytes::from_static(piece.as_bytes()));
    assert_eq!((push(":"), push(" alive"), push("\r")), (None, None, Some(": alive\r".into())));
    assert_eq!((push("\n:\n"), push("data: x")), (Some("\n:\n".into()), None));
    assert_eq!(push("\n:\n"), None, "inside of an event it is a part of that");
    assert_eq!(push("\n"), Some("data: x\n:\n\n".into()));
}

#[test]
fn an_event_that_lacks_its_blank_line_at_the_end_is_one() {
    let usage = Some(Usage { input: 5, output: 2, ..Usage::default() });
    let (all, last) = STREAM.split_once("data: [DONE]").expect("an end");
    assert_eq!(last, "\n\n");
    let shown = HIDDEN.strip_suffix("data: [DONE]\n\n").expect("an end");
    for end in ["data: [DONE]\n", "data: [DONE]"] {
        for hide in [false, true] {
            let (passed, told) = run(tap(Shape::Events, hide), &[all, end]);
            assert_eq!(passed, format!("{}{end}", if hide { shown } else { all }));
            assert!(told.complete && told.usage == usage);
        }
    }
    for ending in ["\n", ""] {
        let stream = format!("{}{ending}", all.trim_end());
        assert_eq!(run(tap(Shape::Events, false), &[&stream]).1.usage, usage);
        let (passed, told) = run(tap(Shape::Events, true), &[&stream]);
        assert_eq!((&*passed, told.usage), (shown, usage), "it is hidden");
    }
}
