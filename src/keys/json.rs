//! JSON with places: the members of an object as they stand in the text, and where in the file each of them is.
//!
//! Invariant: a [`Problem`] says where and what is wrong, and never holds a value of the file.
//! Never does: any IO; judge what a member means.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 where the problem has no place.
    pub line: usize,
    /// From 1, in characters; 0 where the problem has no place.
    pub column: usize,
    /// The field: `ebc5f4226c40.scopes[1].path`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}", self.line, self.column)?;
            if !self.path.is_empty() {
                write!(f, " {}", self.path)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// A member of an object, both parts as they stand in the text.
#[derive(Debug)]
pub(super) struct Member<'t> {
    /// The name, unescaped.
    pub(super) name: Cow<'t, str>,
    /// The value, borrowed from the text, so that its place can be told.
    pub(super) value: &'t RawValue,
}

/// Splits an object into its members, duplicates included, in their order.
///
/// # Errors
/// Where the text is no JSON, or its value is no object (`is_data`).
pub(super) fn members(text: &str) -> serde_json::Result<Vec<Member<'_>>> {
    let mut members = Vec::new();
    each_member(text, |member| members.push(member)).map(|()| members)
}

/// The same without a list: `take` gets one member after the other. Some may have been taken before an error is found.
///
/// # Errors
/// As [`members`].
pub(super) fn each_member<'t>(text: &'t str, take: impl FnMut(Member<'t>)) -> serde_json::Result<()> {
    let mut parser = serde_json::Deserializer::from_str(text);
    parser.deserialize_map(EachMember(take))?;
    parser.end()
}

/// Splits an array into its items.
pub(super) fn items(value: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(value.get()).ok()
}

/// Reads a string.
pub(super) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    // A raw value is JSON already: without an escape, the text is what stands between the quotes.
    match memchr::memchr(b'\\', text.as_bytes()) {
        None => Some(Cow::Borrowed(text)),
        Some(_) => serde_json::from_str::<Text<'_>>(value.get()).ok().map(|text| text.0),
    }
}

/// Tells whether the value is `null`, which stands for an absent one.
pub(super) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// The place of a piece of a text, in bytes from its start. The piece must be borrowed from the text.
pub(super) fn offset(text: &str, piece: &str) -> usize {
    (piece.as_ptr() as usize).saturating_sub(text.as_ptr() as usize)
}

/// Line and column, both from 1, of a place in a text.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines = before.bytes().filter(|byte| *byte == b'\n').count();
    (lines + 1, before[line_start..].chars().count() + 1)
}

/// The parser's own description of broken syntax, without its place; it never quotes the text.
pub(super) fn syntax_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// The known name that a misspelt one was probably meant to be: the closest, at most two edits away.
pub(super) fn nearest<'n>(misspelt: &str, known: &[&'n str]) -> Option<&'n str> {
    let reach = if misspelt.len() < 4 { 1 } else { 2 };
    known
        .iter()
        .map(|name| (edits(misspelt, name, reach), *name))
        .filter(|(edits, _)| *edits <= reach)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours between two texts; more than `reach` where the lengths
/// alone say so.
pub(super) fn edits(one: &str, other: &str, reach: usize) -> usize {
    if one.len().abs_diff(other.len()) > reach {
        return reach + 1;
    }
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                let swaps = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                let swapped = if swaps { rows[i - 2][j - 2] + 1 } else { replaced };
                replaced.min(swapped).min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1)
            };
        }
    }
    rows[one.len()][other.len()]
}

#[derive(Deserialize)]
struct Text<'t>(#[serde(borrow)] Cow<'t, str>);

struct EachMember<F>(F);

impl<'de, F: FnMut(Member<'de>)> Visitor<'de> for EachMember<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(name), value)) = map.next_entry()? {
            (self.0)(Member { name, value });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_order_duplicates_and_places() {
        let text = "{ \"b\": 1,\n  \"\\u0061\": [true, \"\u{e9}\"],\n\"b\" : {} }";
        let members = members(text).unwrap();
        let names: Vec<&str> = members.iter().map(|member| &*member.name).collect();
        assert_eq!(names, ["b", "a", "b"]);
        let items = items(members[1].value).unwrap();
        assert_eq!(string(items[1]).unwrap(), "\u{e9}");
        assert_eq!(line_and_column(text, offset(text, items[1].get())), (2, 20));
        assert_eq!(line_and_column(text, offset(text, members[2].value.get())), (3, 7));
    }

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let known = ["username", "salt", "scopes", "expires_at"];
        for (misspelt, meant) in [
            ("user_name", Some("username")),
            ("scope", Some("scopes")),
            ("slat", Some("salt")),
            ("expiresAt", Some("expires_at")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(misspelt, &known), meant, "{misspelt}");
        }
    }
}
