//! Splits an event stream that comes in pieces into its events (HTML standard, sections 9.2.5 and 9.2.6).
//!
//! Invariant: what it gives, put together, is what it got; an event is given as soon as its blank line is there, and the
//! same events are given however the stream is cut.
//! Never does: hold more than a ceiling and a piece, or copy an event that lies in one piece.

use std::borrow::Cow;
use std::mem::take;
use std::ops::Range;

use memchr::{memchr, memchr2};

/// The splitter of one stream.
#[derive(Debug)]
pub struct Splitter {
    /// The beginning of an event whose end has not come.
    held: Vec<u8>,
    /// Whether what is held was given.
    is_given: bool,
    ceiling: usize,
    /// Whether nothing of the line has come.
    line_is_empty: bool,
    /// Whether a carriage return was the last byte: a line feed behind it belongs to it.
    after_return: bool,
    /// Whether that carriage return ended an event.
    event_ended: bool,
    /// Whether the event is longer than the ceiling.
    is_long: bool,
}

/// A part of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A whole event, its blank line included.
    Event(&'a [u8]),
    /// The line feed that belongs to the carriage return at the end of the event before.
    Feed(&'a [u8]),
    /// Some of an event that is longer than the ceiling.
    Long(&'a [u8]),
}

impl Splitter {
    /// At the beginning of a stream. An event that is longer than the ceiling, in bytes, is not given as one.
    pub fn new(ceiling: usize) -> Self {
        Self {
            held: Vec::new(),
            is_given: false,
            ceiling,
            line_is_empty: true,
            after_return: false,
            event_ended: false,
            is_long: false,
        }
    }

    /// The next part of a piece, which is taken off its front. Absent: what is left is held until the next piece.
    pub fn next<'a, 'p: 'a>(&'a mut self, piece: &mut &'p [u8]) -> Option<Part<'a>> {
        if take(&mut self.is_given) {
            self.held.clear();
            self.held.shrink_to(KEPT);
        }
        let text = *piece;
        let first = text.first()?;
        if take(&mut self.event_ended) && *first == b'\n' {
            *piece = &text[1..];
            return Some(Part::Feed(&text[..1]));
        }
        let Some(end) = self.end(text) else {
            *piece = &[];
            return self.hold(text);
        };
        self.event_ended = take(&mut self.after_return);
        *piece = &text[end..];
        let event = &text[..end];
        if take(&mut self.is_long) {
            return Some(Part::Long(event));
        }
        let event = if self.held.is_empty() {
            event
        } else {
            self.held.extend_from_slice(event);
            self.is_given = true;
            &self.held
        };
        Some(if event.len() > self.ceiling { Part::Long(event) } else { Part::Event(event) })
    }

    /// What is held of an event whose end never came.
    pub fn rest(&mut self) -> Vec<u8> {
        if take(&mut self.is_given) { Vec::new() } else { take(&mut self.held) }
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        if self.is_given { 0 } else { self.held.len() }
    }

    /// Where the event ends that goes on here.
    fn end(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < text.len() {
            if take(&mut self.after_return) && text[at] == b'\n' {
                at += 1;
                continue;
            }
            let Some(length) = memchr2(b'\n', b'\r', &text[at..]) else {
                self.line_is_empty = false;
                return None;
            };
            let is_blank = length == 0 && self.line_is_empty;
            self.line_is_empty = true;
            at += length + 1;
            self.after_return = text[at - 1] == b'\r';
            if is_blank {
                return Some(at);
            }
        }
        None
    }

    fn hold<'a>(&'a mut self, text: &'a [u8]) -> Option<Part<'a>> {
        if self.is_long {
            return Some(Part::Long(text));
        }
        self.held.extend_from_slice(text);
        if self.held.len() <= self.ceiling {
            return None;
        }
        self.is_long = true;
        self.is_given = true;
        Some(Part::Long(&self.held))
    }
}

/// What is kept of the buffer between events.
const KEPT: usize = 4096;

/// An event's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<'a> {
    /// Its data, joined by line feeds.
    pub data: Cow<'a, [u8]>,
    /// The last `event` field.
    pub name: Option<&'a [u8]>,
    /// Where the lines of the data are in the event: one, or all of several.
    at: usize,
    lines: Vec<Range<usize>>,
}

impl<'a> Fields<'a> {
    /// Reads an event; absent where it has no data, and so is none to a client. A byte order mark stands before the first.
    pub fn read(event: &'a [u8], is_first: bool) -> Option<Self> {
        let mark = if is_first && event.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let mut fields = Self { data: Cow::Borrowed(&[]), name: None, at: usize::MAX, lines: Vec::new() };
        let mut from = mark;
        while from < event.len() {
            let length = memchr2(b'\n', b'\r', &event[from..]).unwrap_or(event.len() - from);
            fields.line(event, from..from + length);
            from += length + 1;
        }
        (fields.at != usize::MAX).then_some(fields)
    }

    fn line(&mut self, event: &'a [u8], at: Range<usize>) {
        let line = &event[at.clone()];
        let colon = if line.starts_with(b"data:") { Some(4) } else { memchr(b':', line) };
        let name = &line[..colon.unwrap_or(line.len())];
        let from = colon.map_or(line.len(), |colon| colon + 1);
        let from = from + usize::from(line.get(from) == Some(&b' '));
        let value = &line[from..];
        match name {
            b"data" if self.at == usize::MAX => {
                self.data = Cow::Borrowed(value);
                self.at = at.start + from;
            }
            b"data" => {
                if self.lines.is_empty() {
                    self.lines.push(self.at..self.at + self.data.len());
                }
                self.lines.push(at.start + from..at.end);
                let data = self.data.to_mut();
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            b"event" => self.name = Some(value),
            _ => {}
        }
    }

    /// Where the data begins in the event, if it is one line.
    pub fn line_at(&self) -> Option<usize> {
        self.lines.is_empty().then_some(self.at)
    }

    /// Where in the event a place in the data is.
    pub fn place(&self, in_data: usize) -> usize {
        let mut before = 0;
        for line in &self.lines {
            if in_data <= before + line.len() {
                return line.start + (in_data - before);
            }
            before += line.len() + 1;
        }
        self.at + in_data
    }
}

#[cfg(test)]
mod tests;
