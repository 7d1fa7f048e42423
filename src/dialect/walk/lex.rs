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

/// Where the next quote or backslash is. Most strings are short, for which a loop is quicker than setting up a search.
pub(super) fn stop(text: &[u8]) -> Option<usize> {
    let is_stop = |byte: &u8| matches!(byte, b'"' | b'\\');
    let near = &text[..text.len().min(NEAR)];
    near.iter().position(is_stop).or_else(|| memchr2(b'"', b'\\', text.get(NEAR..)?).map(|at| NEAR + at))
}

/// Where the next quote, bracket or brace is. A long list of numbers is searched in two quick passes.
pub(super) fn bracket(text: &[u8]) -> Option<usize> {
    let is_one = |byte: &u8| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']');
    let near = &text[..text.len().min(NEAR)];
    if let Some(at) = near.iter().position(is_one) {
        return Some(at);
    }
    let mut from = near.len();
    while from < text.len() {
        // The window bounds what is searched twice.
        let window = &text[from..text.len().min(from + WINDOW)];
        let ahead = &window[..memchr2(b'"', b']', window).map_or(window.len(), |at| at + 1)];
        let first = memchr3(b'{', b'[', b'}', ahead);
        let Some(at) = first.or_else(|| ahead.len().checked_sub(1).filter(|last| is_one(&ahead[*last]))) else {
            from += window.len();
            continue;
        };
        return Some(from + at);
    }
    None
}

/// How long a character is in UTF-8 whose UTF-16 code unit this is; half of it for half of a pair.
pub(super) fn utf8_length(code: u16) -> u64 {
    match code {
        0..0x80 => 1,
        0x80..0x800 | 0xd800..=0xdfff => 2,
        _ => 3,
    }
}

const NEAR: usize = 24;
const WINDOW: usize = 4096;
