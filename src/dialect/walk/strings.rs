//! Strings, wherever they are cut: member names, and text, whose bytes are counted.
//!
//! Invariant: text counts as the UTF-8 that a client makes of it, not as it is escaped.
//! Never does: keep text.

use super::lex::{Escape, stop, utf8_length};
use super::{State, Walk};
use crate::dialect::picture::{Does, Node, Part};

impl Walk {
    pub(super) fn name(&mut self, piece: &[u8], at: usize) -> usize {
        let rest = &piece[at..];
        if self.escape != Escape::No {
            self.escape = Escape::No;
            return at + 1;
        }
        let Some(length) = stop(rest) else {
            self.name.extend(rest);
            return piece.len();
        };
        if rest[length] == b'\\' {
            // A name with an escape is none of those that are looked for: providers do not write them so.
            self.name.length = usize::MAX;
            self.escape = Escape::Began;
            return at + length + 1;
        }
        let frame = self.depth.checked_sub(1).map_or(&Node::NOTHING, |top| self.frames[top].node);
        self.node = if self.name.length == 0 {
            frame.member(&rest[..length])
        } else {
            self.name.extend(&rest[..length]);
            self.name.get().map_or(&Node::NOTHING, |name| frame.member(name))
        };
        // As most stand.
        if piece.get(at + length + 1) == Some(&b':') {
            self.state = State::Value;
            return at + length + 2;
        }
        self.state = State::Colon;
        at + length + 1
    }

    pub(super) fn text(&mut self, piece: &[u8], mut at: usize) -> usize {
        while at < piece.len() {
            match self.escape {
                Escape::No => {
                    let rest = &piece[at..];
                    let length = stop(rest).unwrap_or(rest.len());
                    self.count(length as u64);
                    at += length + 1;
                    match rest.get(length) {
                        Some(b'"') => {
                            self.end_of_text(at);
                            return at;
                        }
                        Some(_) => self.escape = Escape::Began,
                        None => return piece.len(),
                    }
                }
                Escape::Began => {
                    self.escape = if piece[at] == b'u' { Escape::Hex(0, 0) } else { Escape::No };
                    self.count(u64::from(self.escape == Escape::No));
                    at += 1;
                }
                Escape::Hex(digits, code) => {
                    let code = (code << 4) | char::from(piece[at]).to_digit(16).unwrap_or(0) as u16;
                    self.escape = Escape::Hex(digits + 1, code);
                    if digits == 3 {
                        self.escape = Escape::No;
                        self.count(utf8_length(code));
                    }
                    at += 1;
                }
            }
        }
        at
    }

    fn end_of_text(&mut self, at: usize) {
        if self.skipped > 0 {
            self.state = State::Skip;
            return;
        }
        if self.length > 0 {
            self.says_something();
            let is_text = matches!(self.node.does, Does::Text(Part::Delta | Part::Either));
            if is_text || self.node.does == Does::Varies {
                self.found.holes.add(self.text_at..self.base + at - 1, is_text);
            }
        }
        self.ended(self.node, at);
    }

    /// So many bytes of the string that is read, as UTF-8.
    fn count(&mut self, bytes: u64) {
        self.length += bytes;
        if let (Does::Text(part), 0) = (self.node.does, self.skipped) {
            self.found.delta_bytes += if part == Part::Whole { 0 } else { bytes };
            self.found.whole_bytes += if part == Part::Delta { 0 } else { bytes };
        }
    }
}
