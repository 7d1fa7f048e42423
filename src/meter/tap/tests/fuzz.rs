//! Fuzzed: streams and documents that are nearly what a provider sends.
//!
//! Never does: say what is right of an answer; recorded ones do that.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::meter::tap::like::Like;
use crate::units::tests::fuzz::{fuzz, text};

const WORDS: [&str; 46] = [
    "\n",
    "\r\n",
    "\r",
    "\n\n",
    "data: ",
    "data:",
    ": c\n",
    "event: error\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u00e9",
    " ",
    "null",
    "7",
    "-1.5",
    "\u{feff}",
    "é",
    "data: [DONE]\n\n",
    "\"usage\":null",
    "\"usage\":{\"prompt_tokens\":3}",
    "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}",
    "\"usage\":{\"input_tokens\":3,\"output_tokens\":2,\"service_tier\":\"x\",\"speed\":\"fast\"}",
    "\"message\":{\"model\":\"n\"}",
    "\"response\":{\"service_tier\":\"y\"}",
    "\"x_groq\":{\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}",
    "\"type\":\"error\"",
    "\"choices\":[]",
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]",
    "\"model\":\"m\"",
    "\"error\":{\"x\":1}",
    "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"bé\"}}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"c\\n\"}}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"\"}}],\"usage\":null}\n\n",
    "data: {\"choices\":[{\"delta\":{\"content\":\"d\"}}],\"obfuscation\":\"x\",\"usage\":null}\n\n",
    "data: {\"choices\":[],\"usage\":{\"completion_tokens\":2}}\n\n",
    "data: {\"usage\":null,\"choices\":[{\"finish_reason\":\"stop\"}]}\r\n\r\n",
    "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"e\"}\n\n",
    "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":55,\"delta\":\"ff\"}\n\n",
    "data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"g\"}}\n\n",
];

/// What passes, what is seen and what is told, where an answer comes in pieces of those lengths, in turn. `forget`: each
/// event is read, however like it is to the one before.
fn passes(mut tap: Tap, text: &[u8], lengths: &[u8], forget: bool) -> (Vec<u8>, Seen, Metered) {
    let mut passed = Vec::new();
    let mut lengths = lengths.iter().map(|length| usize::from(*length).max(1)).cycle();
    let mut left = Bytes::copy_from_slice(text);
    while !left.is_empty() {
        let piece = left.split_to(lengths.next().unwrap_or(usize::MAX).min(left.len()));
        passed.extend(tap.push(piece).unwrap_or_default());
        if let (true, State::Reading(reading)) = (forget, &mut tap.state) {
            reading.meter.like = Like::default();
        }
    }
    passed.extend(tap.end().unwrap_or_default());
    (passed, tap.seen(), tap.finish())
}

#[test]
fn fuzz_bytes_pass_unchanged_and_cuts_change_nothing() {
    fuzz!(2000, |input: &[u8]| {
        // The first byte says what kind of answer it is, the others are the words, and where they are cut.
        let (kind, lengths) = input.split_first().map_or((0, input), |(kind, lengths)| (*kind, lengths));
        let text = text(lengths, &WORDS).into_bytes();
        let cuts = if lengths.is_empty() { &[1][..] } else { lengths };
        let shape = if kind & 1 == 0 { Shape::Events } else { Shape::Json };
        let dialect = dialect::ALL[usize::from(kind >> 1) % dialect::ALL.len()];
        says_the_same_at_once(dialect, shape, &text);
        for hide in [false, true] {
            let tap = || Tap::new(dialect, shape, hide);
            let whole = passes(tap(), &text, &[], false);
            assert_eq!(passes(tap(), &text, cuts, false), whole);
            assert_eq!(passes(tap(), &text, &[1], true), whole, "as if each event were read");
            if hide && shape == Shape::Events && dialect.name() == "openai" {
                assert_eq!(oracle::check(std::str::from_utf8(&text).expect("text"), &whole.0), Ok(()));
            } else {
                assert_eq!(whole.0, text);
            }
        }
    });
}

/// Members in any order and number, most of which make a document that is whole.
#[test]
fn fuzz_a_document_that_is_there_at_once_says_what_the_walk_says() {
    let is_member = |word: &&str| word.starts_with('"') && word.contains(':');
    let members = WORDS.iter().copied().filter(is_member).chain(["\"\":7", "\"a\\u0062\":null"]);
    let members: Vec<&str> = members.collect();
    let read_at_once = AtomicUsize::new(0);
    fuzz!(2000, |input: &[u8]| {
        let (kind, picks) = input.split_first().map_or((0, input), |(kind, picks)| (*kind, picks));
        let mut picked: Vec<_> = picks.iter().take(8).map(|pick| members[usize::from(*pick) % members.len()]).collect();
        if kind & 2 == 0 {
            // One that stands twice ends it.
            picked.dedup_by_key(|member| member.split(':').next());
        }
        let dialect = dialect::ALL[usize::from(kind) % dialect::ALL.len()];
        let walked = says_the_same_at_once(dialect, Shape::Json, format!("{{{}}}", picked.join(",")).as_bytes());
        read_at_once.fetch_add(usize::from(!walked), Ordering::Relaxed);
    });
    assert!(read_at_once.load(Ordering::Relaxed) > 0, "all were walked through");
}
