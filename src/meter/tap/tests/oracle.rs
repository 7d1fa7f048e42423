//! What may become of a stream where a usage is hidden, told without the tap's own splitter and walk.
//!
//! Invariant: an event of plain JSON has one fate, and any other one at least passes.
//! Never does: look at what was told of a stream.

use serde_json::Value;

/// What may become of a part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fate {
    passes: bool,
    is_cut: bool,
    is_gone: bool,
}

const PASSES: Fate = Fate { passes: true, is_cut: false, is_gone: false };

/// Says what is wrong with what passed of a stream.
pub(super) fn check(text: &str, passed: &[u8]) -> Result<(), String> {
    let mut left = passed;
    for (number, part) in parts(text).into_iter().enumerate() {
        let part_data = data(part, number == 0);
        let fate = part_data.as_deref().map_or(PASSES, fate);
        if fate.passes && left.starts_with(part.as_bytes()) {
            left = &left[part.len()..];
        } else if let Some(cut) = part_data.filter(|_| fate.is_cut).and_then(|data| cut(part, number == 0, &data, left))
        {
            left = &left[part.len() - cut..];
        } else if !fate.is_gone {
            let left = String::from_utf8_lossy(&left[..left.len().min(part.len())]);
            return Err(format!("part {number}, {part:?}, is to be {fate:?}, and there is {left:?}"));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(format!("of no event: {:?}", left.escape_ascii().to_string())) }
}

/// The lines of a text, each with its end.
fn lines(text: &str) -> Vec<&str> {
    let (mut lines, mut left) = (Vec::new(), text);
    while !left.is_empty() {
        let end = left.find(['\r', '\n']).map_or(left.len(), |at| at + 1);
        let end = end + usize::from(left[..end].ends_with('\r') && left[end..].starts_with('\n'));
        let (line, rest) = left.split_at(end);
        lines.push(line);
        left = rest;
    }
    lines
}

/// The events of a text, each with its blank line, and the comments before them.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut at) = (Vec::new(), 0, 0);
    for line in lines(text) {
        let is_comment = from == at && line.starts_with(':');
        at += line.len();
        if is_comment || line.trim_matches(['\r', '\n']).is_empty() {
            parts.push(&text[from..at]);
            from = at;
        }
    }
    parts.extend(Some(&text[from..]).filter(|rest| !rest.is_empty()));
    parts
}

/// The data of an event.
fn data(event: &str, is_first: bool) -> Option<String> {
    let event = if is_first { event.strip_prefix('\u{feff}').unwrap_or(event) } else { event };
    let fields = lines(event).into_iter().map(|line| line.trim_end_matches(['\r', '\n']));
    let fields = fields.map(|line| line.split_once(':').unwrap_or((line, "")));
    let data = fields.filter(|(name, _)| *name == "data").map(|(_, value)| value.strip_prefix(' ').unwrap_or(value));
    let data: Vec<&str> = data.collect();
    (!data.is_empty()).then(|| data.join("\n"))
}

/// A member that stands there twice, or whose name is spelt by escapes, or what is nearly JSON, is nobody's promise.
fn fate(data: &str) -> Fate {
    let told = |name: &str| data.matches(name).count();
    let is_escaped = ["\\u006", "\\u007"].iter().any(|letter| data.contains(letter));
    let is_plain = !is_escaped && ["usage", "choices", "error"].iter().all(|name| told(name) <= 1);
    let document = serde_json::from_str::<Value>(data).ok().filter(|_| is_plain);
    let Some(document) = document else {
        return Fate { passes: true, is_cut: told("usage") > 0, is_gone: told("usage") > 0 && told("choices") > 0 };
    };
    let asked = document.get("choices") == Some(&Value::Array(Vec::new()));
    let is_error = document.get("error").is_some_and(|error| !error.is_null());
    match document.get("usage") {
        Some(Value::Null) => Fate { passes: false, is_cut: true, is_gone: false },
        Some(_) if asked && !is_error => Fate { passes: false, is_cut: false, is_gone: true },
        _ => PASSES,
    }
}

/// How many bytes are taken out of an event in one place, where what is left says the same without its usage.
fn cut(event: &str, is_first: bool, data_before: &str, left: &[u8]) -> Option<usize> {
    /// `"usage":null` and a comma, with blanks and line ends between.
    const LONGEST: usize = 96;
    let same = event.bytes().zip(left).take_while(|(one, other)| one == *other).count();
    let before = serde_json::from_str::<Value>(data_before).ok().map(|mut document| {
        document.as_object_mut().map(|members| members.remove("usage"));
        document
    });
    (12..=LONGEST.min(event.len())).find(|cut| {
        let Some(shown) = left.get(..event.len() - cut) else { return false };
        let is_one_place = (0..=same.min(shown.len())).any(|at| event.as_bytes()[at + cut..] == shown[at..]);
        let Some(shown) = std::str::from_utf8(shown).ok().filter(|_| is_one_place) else { return false };
        let Some(before) = &before else { return true };
        let after = data(shown, is_first).and_then(|data| serde_json::from_str::<Value>(&data).ok());
        after.as_ref() == Some(before)
    })
}

#[test]
fn what_is_lost_left_in_or_put_in_is_found() {
    use super::{HIDDEN, STREAM};
    assert_eq!(check(STREAM, HIDDEN.as_bytes()), Ok(()));
    let events: Vec<&str> = HIDDEN.split_inclusive("\n\n").collect();
    for lost in 0..events.len() {
        let without: Vec<&str> =
            events.iter().enumerate().filter(|(at, _)| *at != lost).map(|(_, event)| *event).collect();
        assert!(check(STREAM, without.concat().as_bytes()).is_err(), "without event {lost}");
    }
    let (member, event) = (",\"usage\":null", STREAM.split_inclusive("\n\n").nth(3).expect("the usage"));
    for wrong in [
        STREAM.to_owned(),
        String::new(),
        format!("{HIDDEN}\n"),
        STREAM.replacen(member, "", 1),
        HIDDEN.replacen("data: [DONE]", &format!("{event}data: [DONE]"), 1),
        HIDDEN.replacen("\\u00e4", "ä", 1),
        HIDDEN.replacen("\"role\":\"assistant\",", "", 1),
    ] {
        assert!(check(STREAM, wrong.as_bytes()).is_err(), "{wrong}");
    }
}
