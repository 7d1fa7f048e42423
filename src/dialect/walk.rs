//! One pass over a JSON document that comes in pieces, led by a [`Node`].
//!
//! Invariant: needs the same memory for every document, and finds the same in it however it is cut.
//! Never does: copy or keep a byte of it, but for a member's name at a cut; fail: what is no JSON ends the search.

use super::picture::{Does, Mark, Node, Slot};
pub use found::{Found, Holes};
pub(crate) use lex::stop;
use lex::{Escape, Name, bracket, is_space};

mod found;
mod lex;
mod strings;

/// Where a document is read, and what was found so far.
#[derive(Clone, Debug)]
pub struct Walk {
    picture: &'static Node,
    state: State,
    /// What is done about the value that is read or comes next.
    node: &'static Node,
    frames: [Frame; DEPTH],
    depth: usize,
    /// How many lists are open that are passed over, or objects: those in a list need not be counted to find its end, nor the
    /// other way round.
    skipped: u32,
    /// What opens and closes them.
    skips: (u8, u8),
    /// Where the piece begins in the document.
    base: usize,
    escape: Escape,
    name: Name,
    /// Where the last member name of the whole document's object began.
    name_at: usize,
    /// Where the last value of that object ended.
    ended_at: Option<usize>,
    /// Where the value began that goes into a slot.
    began: [usize; Slot::COUNT],
    /// Bytes of the string that is read, and where it began.
    length: u64,
    text_at: usize,
    /// The number that is read.
    number: u64,
    /// The choice that is read, and whether it has ended.
    choice: (u64, bool),
    /// Whether the cut goes on to the next member.
    cut_is_open: bool,
    found: Found,
}

impl Walk {
    /// At the beginning of a document.
    pub fn new(picture: &'static Node) -> Self {
        Self {
            picture,
            state: State::Value,
            node: picture,
            frames: [Frame { node: &Node::NOTHING, is_object: false }; DEPTH],
            depth: 0,
            skipped: 0,
            skips: (b'[', b']'),
            base: 0,
            escape: Escape::No,
            name: Name { bytes: [0; Name::MAX], length: 0 },
            name_at: 0,
            ended_at: None,
            began: [0; Slot::COUNT],
            length: 0,
            text_at: 0,
            number: 0,
            choice: (0, false),
            cut_is_open: false,
            found: Found::default(),
        }
    }

    /// Forgets the document; the next piece begins another.
    pub fn restart(&mut self) {
        self.state = State::Value;
        self.node = self.picture;
        (self.depth, self.skipped, self.base) = (0, 0, 0);
        self.escape = Escape::No;
        self.ended_at = None;
        self.cut_is_open = false;
        self.found = Found::default();
    }

    /// What was found so far.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// How many bytes of the document came.
    pub fn position(&self) -> usize {
        self.base
    }

    /// Where the value of a slot began that is not at its end yet.
    pub fn open(&self, slot: Slot) -> Option<usize> {
        let is_it = |node: &Node| node.does == Does::Keep(slot);
        let inside = self.frames[..self.depth].iter().any(|frame| is_it(frame.node));
        let reading = is_it(self.node) && matches!(self.state, State::Text | State::Scalar | State::Skip);
        (inside || reading).then_some(self.began[slot as usize])
    }

    /// Reads on.
    pub fn push(&mut self, piece: &[u8]) {
        let mut at = 0;
        while at < piece.len() {
            at = match self.state {
                State::Value | State::FirstElement => self.value(piece, at),
                State::FirstName | State::Name => self.before_name(piece, at),
                State::InName => self.name(piece, at),
                State::Colon => self.colon(piece, at),
                State::After => self.after(piece, at),
                State::Text => self.text(piece, at),
                State::Scalar => self.scalar(piece, at),
                State::Skip => self.skip(piece, at),
                State::Whole => self.behind(piece, at),
                State::Broken => break,
            };
        }
        self.base += piece.len();
    }

    fn broken(&mut self) -> usize {
        self.state = State::Broken;
        self.found.whole = false;
        usize::MAX
    }

    fn behind(&mut self, piece: &[u8], at: usize) -> usize {
        if is_space(piece[at]) { at + 1 } else { self.broken() }
    }

    fn colon(&mut self, piece: &[u8], at: usize) -> usize {
        match piece[at] {
            b':' => self.state = State::Value,
            byte if is_space(byte) => {}
            _ => return self.broken(),
        }
        at + 1
    }

    fn value(&mut self, piece: &[u8], at: usize) -> usize {
        let byte = piece[at];
        if is_space(byte) {
            return at + 1;
        }
        if self.state == State::FirstElement {
            if byte == b']' {
                return self.close(at, false);
            }
            self.fill();
        }
        if let Does::Keep(slot) = self.node.does {
            if byte == b'n' && self.found.slots[slot as usize].is_some() {
                // A `null` beside a value of the same name takes nothing back.
                self.node = &Node::NOTHING;
            } else {
                self.began[slot as usize] = self.base + at;
            }
        }
        match byte {
            b'"' => {
                self.state = State::Text;
                self.length = 0;
                self.text_at = self.base + at + 1;
                at + 1
            }
            b'{' | b'[' => self.open_container(at, byte == b'{'),
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                self.state = State::Scalar;
                self.number = 0;
                self.text_at = self.base + at;
                if !matches!(byte, b'n' | b'f') {
                    self.says_something();
                }
                at
            }
            _ => self.broken(),
        }
    }

    fn open_container(&mut self, at: usize, is_object: bool) -> usize {
        let node = self.node;
        if node.does == Does::Choices {
            if is_object {
                self.choice = (0, false);
            } else {
                self.mark(Mark::Choices);
            }
        }
        let looked_into = !node.members.is_empty() || matches!(node.does, Does::Mark(_) | Does::Text(_));
        if looked_into && self.depth < DEPTH {
            self.frames[self.depth] = Frame { node, is_object };
            self.depth += 1;
            self.state = if is_object { State::FirstName } else { State::FirstElement };
        } else {
            self.skipped = 1;
            self.skips = if is_object { (b'{', b'}') } else { (b'[', b']') };
            self.state = State::Skip;
        }
        at + 1
    }

    fn close(&mut self, at: usize, is_object: bool) -> usize {
        let Some(frame) = self.depth.checked_sub(1).map(|top| self.frames[top]) else { return self.broken() };
        if frame.is_object != is_object {
            return self.broken();
        }
        self.depth -= 1;
        if frame.node.does == Does::Choices && is_object {
            let bit = 1 << self.choice.0.min(63);
            self.found.choices |= bit;
            self.found.ended |= if self.choice.1 { bit } else { 0 };
        }
        self.ended(frame.node, at + 1);
        at + 1
    }

    /// A value is read; it ended before that place in the piece.
    fn ended(&mut self, node: &Node, at: usize) {
        let end = self.base + at;
        if let Does::Keep(slot) = node.does {
            self.found.slots[slot as usize] = Some(self.began[slot as usize]..end);
        }
        if self.depth == 1 && self.frames[0].is_object {
            if node.does == Does::Keep(Slot::Usage) {
                self.cut_is_open = self.ended_at.is_none();
                self.found.cut = Some(self.ended_at.unwrap_or(self.name_at)..end);
            }
            self.ended_at = Some(end);
        }
        self.found.whole = self.depth == 0;
        self.state = if self.depth == 0 { State::Whole } else { State::After };
    }

    /// The list or object that is open is not empty.
    fn fill(&mut self) {
        match self.depth.checked_sub(1).map(|top| self.frames[top].node.does) {
            Some(Does::Mark(mark)) => self.mark(mark),
            Some(Does::Choices) => self.mark(Mark::Choice),
            _ => {}
        }
    }

    /// The value that is read is not null, false or empty.
    fn says_something(&mut self) {
        match self.node.does {
            Does::Mark(mark) => self.mark(mark),
            Does::Finish => {
                self.mark(Mark::Finish);
                self.choice.1 = true;
            }
            _ => {}
        }
    }

    fn mark(&mut self, mark: Mark) {
        self.found.marks |= mark as u8;
    }

    fn after(&mut self, piece: &[u8], at: usize) -> usize {
        let byte = piece[at];
        match byte {
            b',' => {
                let Some(frame) = self.depth.checked_sub(1).map(|top| self.frames[top]) else { return self.broken() };
                self.node = frame.node;
                self.state = if frame.is_object { State::Name } else { State::Value };
                // As most stand.
                match piece.get(at + 1) {
                    Some(b'"') if frame.is_object => self.before_name(piece, at + 1),
                    _ => at + 1,
                }
            }
            b'}' | b']' => self.close(at, byte == b'}'),
            _ if is_space(byte) => at + 1,
            _ => self.broken(),
        }
    }

    fn before_name(&mut self, piece: &[u8], at: usize) -> usize {
        let byte = piece[at];
        match byte {
            b'"' => {
                if self.state == State::FirstName {
                    self.fill();
                }
                if self.depth == 1 {
                    self.name_at = self.base + at;
                    if let (true, Some(cut)) = (self.cut_is_open, &mut self.found.cut) {
                        cut.end = self.name_at;
                        self.cut_is_open = false;
                    }
                }
                self.name.length = 0;
                self.state = State::InName;
                at + 1
            }
            b'}' if self.state == State::FirstName => self.close(at, true),
            _ if is_space(byte) => at + 1,
            _ => self.broken(),
        }
    }

    fn scalar(&mut self, piece: &[u8], mut at: usize) -> usize {
        while let Some(byte) = piece.get(at) {
            match byte {
                b'0'..=b'9' => self.number = self.number.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
                b'a'..=b'z' | b'E' | b'.' | b'+' | b'-' => {}
                b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n' => {
                    match self.node.does {
                        Does::Index => self.choice.0 = self.number,
                        Does::Varies => self.found.holes.add(self.text_at..self.base + at, false),
                        _ => {}
                    }
                    self.ended(self.node, at);
                    return at;
                }
                _ => return self.broken(),
            }
            at += 1;
        }
        at
    }

    /// Passes over what is open. Strings that are whole and plain, as most are, do not leave this loop.
    fn skip(&mut self, piece: &[u8], mut at: usize) -> usize {
        while let Some(length) = bracket(&piece[at..], self.skips) {
            at += length;
            let byte = piece[at];
            at += 1;
            match byte {
                b'"' => match stop(&piece[at..]) {
                    Some(length) if piece[at + length] == b'"' => at += length + 1,
                    _ => {
                        self.length = 0;
                        self.state = State::Text;
                        return at;
                    }
                },
                b'{' | b'[' => self.skipped = self.skipped.saturating_add(1),
                _ => {
                    self.skipped -= 1;
                    if self.skipped == 0 {
                        self.ended(self.node, at);
                        return at;
                    }
                }
            }
        }
        piece.len()
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    node: &'static Node,
    is_object: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Value,
    /// A value or the list's end.
    FirstElement,
    /// A name or the object's end.
    FirstName,
    Name,
    InName,
    Colon,
    /// Behind a value: a comma or the end.
    After,
    Text,
    Scalar,
    /// In a list or object that is passed over.
    Skip,
    /// Behind the document.
    Whole,
    Broken,
}

/// How deep a picture is looked into: below it everything is passed over.
const DEPTH: usize = 12;
