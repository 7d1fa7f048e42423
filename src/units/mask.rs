//! A key in what a provider answers, made unreadable in passing.
//!
//! Invariant: what passes has the length that it came with, so that no framing changes, and nowhere the key, however its
//! bytes were cut; only the beginning of what may become the key is held back, and only until that is known.
//! Never does: look for a key in another spelling (base64, percent-encoded, compressed).

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

/// Shorter keys are not looked for: they stand in ordinary words too, and guard nothing.
const SHORTEST: usize = 8;

/// What is looked for.
#[derive(Clone)]
pub struct Mask(Arc<Finder<'static>>);

/// The search through one body.
#[derive(Debug)]
pub struct Masking {
    mask: Mask,
    /// The end of what came that may be the beginning of the key.
    held: Bytes,
}

impl Mask {
    /// Looks for this key. Absent where it is shorter than 8 bytes.
    pub fn of(key: &[u8]) -> Option<Self> {
        (key.len() >= SHORTEST).then(|| Self(Arc::new(Finder::new(key).into_owned())))
    }

    /// The value with an asterisk for each byte of the key; absent where the key is not in it.
    pub fn masked(&self, value: &[u8]) -> Option<Vec<u8>> {
        // Most headers are shorter than any key.
        if value.len() < self.len() {
            return None;
        }
        let first = self.0.find(value)?;
        let mut value = value.to_vec();
        self.cover(&mut value, first);
        Some(value)
    }

    /// Begins with a body.
    pub fn begin(&self) -> Masking {
        Masking { mask: self.clone(), held: Bytes::new() }
    }

    fn len(&self) -> usize {
        self.0.needle().len()
    }

    /// Covers the key where it stands at `first`, and where else it follows.
    fn cover(&self, bytes: &mut [u8], first: usize) {
        let mut at = first;
        loop {
            bytes[at..at + self.len()].fill(b'*');
            let Some(next) = self.0.find(&bytes[at..]) else { return };
            at += next;
        }
    }

    /// Bytes at the end that may be the beginning of the key.
    fn begun(&self, bytes: &[u8]) -> usize {
        let needle = self.0.needle();
        // The end of an event, for one, is in no key.
        if bytes.last().is_none_or(|last| memchr::memchr(*last, needle).is_none()) {
            return 0;
        }
        let last = bytes.len().min(needle.len() - 1);
        let tail = &bytes[bytes.len() - last..];
        let mut starts = memchr::memchr_iter(needle[0], tail);
        starts.find(|start| needle.starts_with(&tail[*start..])).map_or(0, |start| last - start)
    }
}

impl Masking {
    /// Whether all that came has gone on.
    pub fn holds_nothing(&self) -> bool {
        self.held.is_empty()
    }

    /// What goes on now of a piece that came: mostly the piece itself. Absent: nothing does yet.
    pub fn push(&mut self, piece: Bytes) -> Option<Bytes> {
        let mut piece = if self.held.is_empty() { piece } else { [&self.held[..], &piece].concat().into() };
        if let Some(first) = self.mask.0.find(&piece) {
            let mut bytes = BytesMut::from(piece);
            self.mask.cover(&mut bytes, first);
            piece = bytes.freeze();
        }
        self.held = match self.mask.begun(&piece) {
            0 => Bytes::new(),
            begun => piece.split_off(piece.len() - begun),
        };
        (!piece.is_empty()).then_some(piece)
    }

    /// What is looked for.
    pub fn mask(&self) -> &Mask {
        &self.mask
    }

    /// At the end: what was held back was not the key. Absent: nothing was.
    pub fn end(&mut self) -> Option<Bytes> {
        let held = std::mem::take(&mut self.held);
        (!held.is_empty()).then_some(held)
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = b"sk-sk-secret";

    fn through(pieces: &[&[u8]]) -> Vec<u8> {
        let mut masking = Mask::of(KEY).expect("long enough").begin();
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend(masking.push(Bytes::copy_from_slice(piece)).unwrap_or_default());
        }
        passed.extend(masking.end().unwrap_or_default());
        passed
    }

    #[test]
    fn a_key_is_covered_wherever_it_is_cut() {
        let body = b"{\"echo\":\"Bearer sk-sk-sk-secretsk-sk-secret\"}";
        let covered = b"{\"echo\":\"Bearer sk-************************\"}";
        for cut in 0..body.len() {
            let (before, after) = body.split_at(cut);
            assert_eq!(through(&[before, after]), covered, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(through(&bytes), covered);
    }

    #[test]
    fn nothing_else_is_touched_or_held_back() {
        let mut masking = Mask::of(KEY).expect("long enough").begin();
        let piece = Bytes::from_static(b"data: {\"sk-\":1}\n\n");
        let passed = masking.push(piece.clone()).expect("at once");
        assert_eq!((passed.as_ptr(), passed.len()), (piece.as_ptr(), piece.len()), "not a copy");
        assert_eq!(masking.push(Bytes::from_static(b"ask")).as_deref(), Some(&b"a"[..]));
        assert_eq!(masking.push(Bytes::from_static(b"-")), None);
        assert_eq!(masking.end().as_deref(), Some(&b"sk-"[..]));
        assert_eq!(masking.end(), None);
    }

    #[test]
    fn values_of_headers_are_covered() {
        let mask = Mask::of(KEY).expect("long enough");
        assert_eq!(mask.masked(b"Bearer sk-sk-secret").as_deref(), Some(&b"Bearer ************"[..]));
        assert_eq!(mask.masked(b"sk-sk-secre"), None);
        assert!(Mask::of(b"sk-1234").is_none());
        assert_eq!(format!("{mask:?}"), "[secret]");
    }

    proptest! {
        #[test]
        fn any_body_passes_without_the_key_and_in_its_length(pieces in prop::collection::vec("[sk-]{0,5}(sk-sk-secret)?[scret]{0,5}", 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(String::as_bytes).collect();
            let (whole, passed) = (pieces.concat(), through(&pieces));
            prop_assert_eq!(passed.len(), whole.len());
            prop_assert!(memchr::memmem::find(&passed, KEY).is_none());
            let changed = whole.iter().zip(&passed).filter(|(came, went)| came != went);
            prop_assert!(changed.into_iter().all(|(_, went)| *went == b'*'));
            prop_assert_eq!(memchr::memmem::find(&whole, KEY).is_some(), whole != passed);
        }
    }
}
