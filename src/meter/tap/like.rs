//! Events that are like one before but for their text, as nearly all events of a stream are: those need not be read.
//!
//! Invariant: says of an event exactly what reading it would say.
//! Never does: guess; an event that differs anywhere else, or whose text has an escape, is for others to read.

use std::ops::Range;

use crate::dialect::{Event, Found, Unasked};

/// What an event says, and what becomes of it where a usage is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) event: Event,
    pub(super) unasked: Unasked,
    /// What is cut out of it then.
    pub(super) cut: Range<usize>,
}

/// An event that was read.
#[derive(Debug, Default)]
pub(super) struct Like {
    event: Vec<u8>,
    /// Where another may differ, and whether that is text.
    holes: Vec<(Range<usize>, bool)>,
    said: Option<Said>,
}

impl Like {
    /// Remembers an event whose data is one line, beginning there, and without a usage.
    pub(super) fn learn(&mut self, event: &[u8], line: usize, found: &Found, said: Said) {
        let Event { content, terminal, error, visible_bytes } = said.event;
        let is_plain = content && !terminal && !error && found.whole && visible_bytes == found.delta_bytes;
        let Some(places) = found.holes.places().filter(|_| is_plain && event.len() <= MAX) else { return };
        self.event.clear();
        self.event.extend_from_slice(event);
        self.holes.clear();
        self.holes.extend(places.iter().map(|(at, is_text)| (at.start + line..at.end + line, *is_text)));
        self.said = Some(said);
    }

    /// What an event says that is like the one before.
    pub(super) fn says(&self, event: &[u8]) -> Option<Said> {
        let mut said = self.said.clone()?;
        let learnt = said.cut.clone();
        said.event.visible_bytes = 0;
        let (mut at, mut before, mut shift) = (0, 0, None);
        for (hole, is_text) in &self.holes {
            let same = &self.event[before..hole.start];
            let rest = event.get(at..)?.strip_prefix(same)?;
            if before <= learnt.start && learnt.end <= hole.start {
                shift = Some(at.wrapping_sub(before));
            }
            let length = value(rest, self.event.get(hole.end) == Some(&b'"'))?;
            if *is_text {
                said.event.visible_bytes += (length > 0).then_some(length as u64)?;
            }
            (at, before) = (at + same.len() + length, hole.end);
        }
        if event.get(at..)? != self.event.get(before..)? {
            return None;
        }
        let shift = shift.or_else(|| (before <= learnt.start).then_some(at.wrapping_sub(before)))?;
        said.cut = learnt.start.wrapping_add(shift)..learnt.end.wrapping_add(shift);
        Some(said)
    }
}

/// How long a string without escapes is, or a number, that is followed by something.
fn value(text: &[u8], is_string: bool) -> Option<usize> {
    if !is_string {
        return text.iter().position(|byte| !byte.is_ascii_digit()).filter(|length| *length > 0);
    }
    let length = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\r'))?;
    (text[length] == b'"').then_some(length)
}

/// The most bytes of an event that is remembered.
const MAX: usize = 2048;
