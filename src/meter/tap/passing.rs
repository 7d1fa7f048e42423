//! What passes of a piece of a stream, while some is taken out.
//!
//! Invariant: copies nothing until something is taken out, or held bytes come before it.
//! Never does: decide what passes.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// What passes of one piece.
pub(super) struct Passing<'p> {
    piece: &'p Bytes,
    /// How much of the piece passes as it is, where nothing had to be copied.
    clean: usize,
    out: Option<BytesMut>,
    capacity: usize,
}

impl<'p> Passing<'p> {
    /// Of a piece that comes behind so many held bytes.
    pub(super) fn new(piece: &'p Bytes, held: usize) -> Self {
        Self { piece, clean: 0, out: None, capacity: held + piece.len() }
    }

    /// A part passes. `taken`: where its end lies in the piece; all of it, unless some was held.
    pub(super) fn pass(&mut self, part: &[u8], taken: &Range<usize>) {
        if self.out.is_none() && part.len() == taken.len() && taken.start == self.clean {
            self.clean = taken.end;
        } else {
            self.copied().extend_from_slice(part);
        }
    }

    /// A part passes without some of it.
    pub(super) fn pass_without(&mut self, part: &[u8], cut: &Range<usize>) {
        let out = self.copied();
        out.extend_from_slice(&part[..cut.start]);
        out.extend_from_slice(&part[cut.end..]);
    }

    /// All that passes.
    pub(super) fn finish(self) -> Option<Bytes> {
        match self.out {
            Some(out) => Some(out.freeze()),
            None if self.clean == self.piece.len() => Some(self.piece.clone()),
            None => Some(self.piece.slice(..self.clean)),
        }
        .filter(|out| !out.is_empty())
    }

    fn copied(&mut self) -> &mut BytesMut {
        let Self { piece, clean, capacity, .. } = *self;
        self.out.get_or_insert_with(|| {
            let mut out = BytesMut::with_capacity(capacity);
            out.extend_from_slice(&piece[..clean]);
            out
        })
    }
}
