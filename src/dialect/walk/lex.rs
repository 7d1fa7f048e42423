//! The bytes of JSON: where strings, names and brackets end.
//!
//! Invariant: each search is linear in what it looks at.
//! Never does: know what a member means.

use memchr::{memchr2, memchr3};

/// Where a string is in an escape: behind the backslash, or behind so many hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    No,
    Began,
    Hex(u8, u16),
}

/// A member's name that is cut: it goes on in the next piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) bytes: [u8; Self::MAX],
    /// More than `MAX`: none that is looked for.
    pub(super) length: usize,
}

impl Name {
    /// No name that is looked for is longer.
    pub(super) const MAX: usize = 24;

    pub(super) fn extend(&mut self, more: &[u8]) {
        let end = self.length.saturating_add(more.len());
        if let Some(free) = self.bytes.get_mut(self.length..end) {
            free.copy_from_slice(more);
        }
        self.length = if end > Self::MAX { usize::MAX } else { end };
    }

    pub(super) fn get(&self) -> Option<&[u8]> {
        self.bytes.get(..self.length)
    }
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Where the next quote or backslash is. Most strings are short, for which a few words are quicker than setting up a search.
pub(crate) fn stop(text: &[u8]) -> Option<usize> {
    let stops = |word: u64| zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'));
    let is_stop = |byte: &u8| matches!(byte, b'"' | b'\\');
    near(text, stops, is_stop).unwrap_or_else(|| memchr2(b'"', b'\\', text.get(NEAR..)?).map(|at| NEAR + at))
}

/// Where the next quote is, or the next of the two bytes that open and close what is passed over.
pub(super) fn bracket(text: &[u8], (open, close): (u8, u8)) -> Option<usize> {
    let brackets = |word: u64| zeros(word ^ every(b'"')) | zeros(word ^ every(open)) | zeros(word ^ every(close));
    let is_one = |byte: &u8| *byte == b'"' || *byte == open || *byte == close;
    near(text, brackets, is_one).unwrap_or_else(|| memchr3(b'"', open, close, text.get(NEAR..)?).map(|at| NEAR + at))
}

/// Where the first of the bytes is that are looked for, among the nearest; absent where it is to be looked for further on.
/// `hits` tells them in eight bytes, by the high bit of each; those behind the first need not be right.
fn near(text: &[u8], hits: impl Fn(u64) -> u64, is_one: impl Fn(&u8) -> bool) -> Option<Option<usize>> {
    let mut at = 0;
    while let Some(eight) = text.get(at..).and_then(<[u8]>::first_chunk) {
        if at >= NEAR {
            return None;
        }
        let hits = hits(u64::from_le_bytes(*eight));
        if hits != 0 {
            return Some(Some(at + hits.trailing_zeros() as usize / 8));
        }
        at += 8;
    }
    Some(text[at..].iter().position(is_one).map(|more| at + more))
}

const fn every(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of each byte that is zero, exact up to the first one. Source: Warren, Hacker's Delight, section 6-1.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(every(1)) & !word & every(0x80)
}

/// How long a character is in UTF-8 whose UTF-16 code unit this is; half of it for half of a pair.
pub(super) fn utf8_length(code: u16) -> u64 {
    match code {
        0..0x80 => 1,
        0x80..0x800 | 0xd800..=0xdfff => 2,
        _ => 3,
    }
}

const NEAR: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_loop_finds(text in prop::collection::vec(prop::sample::select(&b"\"\\{}[]az\x02\x00;\xfb\xdb\xa2"[..]), 0..60), fill in 0..70_usize) {
            for text in [text.clone(), [vec![b'x'; fill], text].concat()] {
                prop_assert_eq!(stop(&text), text.iter().position(|byte| matches!(byte, b'"' | b'\\')));
                for (open, close) in [(b'{', b'}'), (b'[', b']')] {
                    let is_one = |byte: &u8| [b'"', open, close].contains(byte);
                    prop_assert_eq!(bracket(&text, (open, close)), text.iter().position(is_one));
                }
            }
        }
    }
}
