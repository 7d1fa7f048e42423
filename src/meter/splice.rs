//! Splices: changes of a JSON body at known places, byte for byte the same everywhere else.
//!
//! Invariant: what no splice names keeps its bytes and its order.
//! Never does: know what a body means.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

/// One change of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The bytes that are taken out; empty where something is only put in.
    pub at: Range<usize>,
    /// What stands there instead.
    pub with: String,
}

/// Tells whether changes can all be made as they stand: each within the body, and no two of them overlapping.
pub fn are_apart(body: &Bytes, splices: &[Splice]) -> bool {
    let mut places: Vec<&Range<usize>> = splices.iter().map(|splice| &splice.at).collect();
    places.sort_by_key(|at| (at.start, at.end));
    let within = places.iter().all(|at| at.start <= at.end && at.end <= body.len());
    within && places.windows(2).all(|pair| pair[0].end <= pair[1].start)
}

/// A body with changes made. Of two that overlap the later one in the body is left out; a place outside of the body is its
/// end. Two insertions at one place keep their order.
pub fn spliced(body: &Bytes, mut splices: Vec<Splice>) -> Bytes {
    if splices.is_empty() {
        return body.clone();
    }
    splices.sort_by_key(|splice| splice.at.start);
    let mut changed =
        BytesMut::with_capacity(body.len() + splices.iter().map(|splice| splice.with.len()).sum::<usize>());
    let mut done = 0;
    for splice in splices {
        let from = splice.at.start.min(body.len());
        let to = splice.at.end.clamp(from, body.len());
        if from < done {
            continue;
        }
        changed.extend_from_slice(&body[done..from]);
        changed.extend_from_slice(splice.with.as_bytes());
        done = to;
    }
    changed.extend_from_slice(&body[done..]);
    changed.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_only_what_is_named() {
        let body = Bytes::from_static(b"0123456789");
        let splice = |at: Range<usize>, with: &str| Splice { at, with: with.to_owned() };
        assert_eq!(spliced(&body, vec![]), body);
        let changed = spliced(&body, vec![splice(8..9, ""), splice(0..0, "a"), splice(0..0, "b"), splice(2..4, "xyz")]);
        assert_eq!(changed, "ab01xyz45679");
        assert_eq!(spliced(&body, vec![splice(2..5, "-"), splice(4..6, "+")]), "01-56789");
        assert_eq!(spliced(&body, vec![splice(20..30, "!")]), "0123456789!");
        assert!(are_apart(&body, &[splice(8..10, ""), splice(0..0, "a"), splice(0..0, "b"), splice(2..4, "xyz")]));
        let backwards = Splice { at: Range { start: 5, end: 2 }, with: String::new() };
        for wrong in [vec![splice(2..5, "-"), splice(4..6, "+")], vec![splice(9..11, "")], vec![backwards]] {
            assert!(!are_apart(&body, &wrong), "{wrong:?}");
        }
    }
}
