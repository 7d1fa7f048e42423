//! The splitter: events by the HTML standard, however the stream is cut.
//!
//! Never does: read an event's data; that is the tap's.

use super::*;
use crate::units::tests::fuzz::{fuzz, text};
use std::collections::HashSet;

/// The parts that a stream is split into where it comes in pieces of those lengths, in turn.
fn parts(text: &[u8], lengths: &[u8], ceiling: usize) -> Vec<(char, Vec<u8>)> {
    let mut splitter = Splitter::new(ceiling);
    let mut all = Vec::new();
    let mut lengths = lengths.iter().map(|length| usize::from(*length).max(1)).cycle();
    let mut text = text;
    while !text.is_empty() {
        let (piece, rest) = text.split_at(lengths.next().unwrap_or(usize::MAX).min(text.len()));
        text = rest;
        let mut left = piece;
        while let Some(part) = splitter.next(&mut left) {
            all.push(match part {
                Part::Event(bytes) => ('e', bytes.to_vec()),
                Part::Comment(bytes) => ('c', bytes.to_vec()),
                Part::Feed(bytes) => ('f', bytes.to_vec()),
                Part::Long(bytes) => ('l', bytes.to_vec()),
            });
        }
        assert!(left.is_empty() && splitter.held() <= ceiling);
    }
    all.push(('r', splitter.rest()));
    all
}

fn data(event: &str) -> Option<String> {
    let fields = Fields::read(event.as_bytes(), false)?;
    Some(String::from_utf8(fields.data.to_vec()).expect("UTF-8"))
}

#[test]
fn an_event_ends_with_a_blank_line() {
    let events = |text: &str| {
        let events = parts(text.as_bytes(), &[255], 100).into_iter();
        events.map(|(kind, bytes)| format!("{kind}{}", bytes.escape_ascii())).collect::<Vec<_>>()
    };
    assert_eq!(events("a\n\nb\n\nc\n"), [r"ea\n\n", r"eb\n\n", r"rc\n"]);
    assert_eq!(events("a\r\n\r\nb\r\rc"), [r"ea\r\n\r", r"f\n", r"eb\r\r", "rc"]);
    assert_eq!(events("\n\r\n\ra\r\n\n"), [r"e\n", r"e\r", r"f\n", r"e\r", r"ea\r\n\n", "r"]);
    assert_eq!(events(":a\n:\r\nb\n:\n\n\n:"), [r"c:a\n", r"c:\r", r"f\n", r"eb\n:\n\n", r"e\n", "r:"]);
}

#[test]
fn fields_are_read_by_the_standard() {
    assert_eq!(data("data: a\n\n").as_deref(), Some("a"));
    assert_eq!(data("data:a\rdata:  b\r\ndata\n\n").as_deref(), Some("a\n b\n"));
    assert_eq!(data(": data: no\ndataset: no\n data: no\nDATA: no\n\n"), None);
    assert_eq!(data("data\n\n").as_deref(), Some(""));
    assert_eq!(data("\n"), None);
    let marked = "\u{feff}data: a\n\n".as_bytes();
    assert!(Fields::read(marked, true).is_some() && Fields::read(marked, false).is_none());
    let named = Fields::read(b"event: ping\nevent:error\ndata:\n\n", false).and_then(|fields| fields.name);
    assert_eq!(named, Some(&b"error"[..]));
}

#[test]
fn a_place_in_the_data_is_found_in_the_event() {
    let event = b"id: 1\ndata: ab\n: c\r\ndata:cd\n\n";
    let fields = Fields::read(event, false).expect("an event");
    assert_eq!(&*fields.data, b"ab\ncd");
    let found: Vec<_> = (0..=5).map(|at| event[fields.place(at)]).collect();
    assert_eq!(found, b"ab\ncd\n");
}

#[test]
fn a_long_event_is_passed_over_and_the_next_is_not() {
    let text = format!("data: {}\n\ndata: b\n\n", "a".repeat(300));
    for length in [1, 7, 100, 255] {
        let parts = parts(text.as_bytes(), &[length], 64);
        let (events, others): (Vec<_>, Vec<_>) = parts.iter().partition(|(kind, _)| *kind == 'e');
        assert_eq!(events.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>(), [b"data: b\n\n"]);
        assert!(others.iter().all(|(kind, bytes)| *kind == 'l' || bytes.is_empty()));
    }
}

/// Fuzzed: a text of few letters, so that line ends, marks and colons meet.
#[test]
fn fuzz_it_is_split_the_same_wherever_it_is_cut() {
    fuzz!(2000, |input: &[u8]| {
        let words = ["\n", "\r", "\r\n", "data:", " x", ":", "\u{feff}", "event: y"];
        // The same bytes are the words, and where they are cut.
        let (text, lengths) = (text(input, &words).into_bytes(), if input.is_empty() { &[1][..] } else { input });
        let whole = parts(&text, &[255], 40);
        let cut = parts(&text, lengths, 40);
        let events =
            |parts: &[(char, Vec<u8>)]| parts.iter().filter(|(kind, _)| *kind == 'e').cloned().collect::<Vec<_>>();
        assert_eq!(events(&whole), events(&cut));
        for parts in [whole, cut] {
            let kinds: HashSet<_> = parts.iter().map(|(kind, _)| *kind).collect();
            assert!(kinds.is_subset(&HashSet::from(['c', 'e', 'f', 'l', 'r'])));
            assert_eq!(parts.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>(), text);
        }
    });
}
