//! The few values that are kept of a JSON answer while it passes in pieces.
//!
//! Invariant: needs no more than a ceiling for each, however long the answer is.
//! Never does: find them; that is the [`Walk`].

use std::ops::Range;

use crate::dialect::{Found, Read, Slot, Walk};

/// The bytes at the places that a walk notes, and where each began.
#[derive(Debug, Default)]
pub(super) struct Kept([(usize, Vec<u8>); Slot::COUNT]);

impl Kept {
    /// Walks on, and keeps what of the piece is a value to keep.
    pub(super) fn push(&mut self, walk: &mut Walk, piece: &[u8]) {
        let base = walk.position();
        walk.push(piece);
        for slot in Slot::ALL {
            let place = match (walk.open(slot), walk.found().at(slot)) {
                (Some(began), _) => began..base + piece.len(),
                (None, Some(place)) => place,
                (None, None) => continue,
            };
            self.keep(slot, &place, base, piece);
        }
    }

    fn keep(&mut self, slot: Slot, place: &Range<usize>, base: usize, piece: &[u8]) {
        let (began, bytes) = &mut self.0[slot as usize];
        if *began != place.start {
            bytes.clear();
            *began = place.start;
        }
        let from = place.start.max(base) - base;
        let to = place.end.min(base + piece.len()).saturating_sub(base);
        if let Some(more) = piece.get(from..to)
            && bytes.len() + more.len() <= Slot::MAX_BYTES
        {
            bytes.extend_from_slice(more);
        }
    }

    /// How many bytes are kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.0.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// What was read so far.
    pub(super) fn read<'a>(&'a self, found: &'a Found) -> Read<'a> {
        let whole = |slot: Slot| {
            let place = found.at(slot)?;
            let (began, bytes) = &self.0[slot as usize];
            // One that was too long lacks some of it.
            (*began == place.start && bytes.len() == place.len()).then_some(&bytes[..])
        };
        Read { found, slots: Slot::ALL.map(whole), name: None }
    }
}
