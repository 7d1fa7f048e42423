//! What a walk over a document found.
//!
//! Invariant: places are offsets from the document's beginning, however it was cut.
//! Never does: hold a byte of it.

use std::ops::Range;

use crate::dialect::picture::{Mark, Slot};

/// What was found in a document. Places are offsets from its beginning.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub(super) slots: [Option<Range<usize>>; Slot::COUNT],
    /// What taking the outermost `usage` out means: the member, with the comma that it needed.
    pub cut: Option<Range<usize>>,
    /// Where the next event may differ and say the same.
    pub holes: Holes,
    /// UTF-8 bytes of text in pieces.
    pub delta_bytes: u64,
    /// UTF-8 bytes of whole texts.
    pub whole_bytes: u64,
    pub(super) marks: u8,
    /// The choices that were met, a bit each.
    pub choices: u64,
    /// Those that ended.
    pub ended: u64,
    /// Whether the document is whole.
    pub whole: bool,
}

/// The values of an event that differ in the next one like it: its text, which is counted, and what says nothing.
#[derive(Clone, Debug, Default)]
pub struct Holes {
    places: [(Range<usize>, bool); Self::MAX],
    /// More than `MAX`: the event is like no other.
    count: usize,
}

impl Holes {
    const MAX: usize = 4;

    pub(super) fn add(&mut self, place: Range<usize>, is_text: bool) {
        if let Some(free) = self.places.get_mut(self.count) {
            *free = (place, is_text);
        }
        self.count += 1;
    }

    /// Their places, and which are text; absent where there is no text, or too much.
    pub fn places(&self) -> Option<&[(Range<usize>, bool)]> {
        self.places.get(..self.count).filter(|places| places.iter().any(|(_, is_text)| *is_text))
    }
}

impl Found {
    /// Where a value stands, if it is there and was read to its end.
    pub fn at(&self, slot: Slot) -> Option<Range<usize>> {
        self.slots[slot as usize].clone()
    }

    pub(in crate::dialect) fn is(&self, mark: Mark) -> bool {
        self.marks & mark as u8 != 0
    }
}
