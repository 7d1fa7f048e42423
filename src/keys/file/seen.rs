//! What has been seen of a file so far, so that a second time is noticed.
//!
//! Invariant: where nothing stands twice, nothing is remembered but a number for each: to keep a million of them in a table
//! takes longer than all other reading of the file.
//! Never does: say where something stood before.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash};

use foldhash::fast::RandomState;

/// Keys that were seen, with a value for each.
pub(super) struct Seen<K, V> {
    hasher: RandomState,
    /// A hash of each.
    hashes: Vec<u64>,
    /// Each, where a second time is told at once.
    all: Option<HashMap<K, V, RandomState>>,
}

impl<K: Clone + Eq + Hash, V> Seen<K, V> {
    /// Takes every key for a new one, and tells at the end only whether that may have been wrong.
    pub(super) fn trusting(count: usize) -> Self {
        Self { hasher: RandomState::default(), hashes: Vec::with_capacity(count), all: None }
    }

    /// Tells of each key whether it is new.
    pub(super) fn careful() -> Self {
        Self { hasher: RandomState::default(), hashes: Vec::new(), all: Some(HashMap::default()) }
    }

    /// Adds a key. Gives the value that it had before, where that is remembered; the new one takes its place.
    pub(super) fn insert(&mut self, key: &K, value: V) -> Option<V> {
        let Some(all) = &mut self.all else {
            self.hashes.push(self.hasher.hash_one(key));
            return None;
        };
        all.insert(key.clone(), value)
    }

    /// Whether a key may have been taken for a new one that was not.
    pub(super) fn may_be_wrong(&mut self) -> bool {
        self.hashes.sort_unstable();
        self.hashes.windows(2).any(|pair| pair[0] == pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_time_is_told_at_once_or_at_the_end() {
        let (mut careful, mut trusting) = (Seen::careful(), Seen::trusting(3));
        for (key, value, before) in [("a", 1, None), ("b", 2, None), ("a", 3, Some(1)), ("a", 4, Some(3))] {
            assert_eq!(careful.insert(&key, value), before);
            assert!(!trusting.may_be_wrong() || key == "a");
            assert_eq!(trusting.insert(&key, value), None);
        }
        assert!(trusting.may_be_wrong() && !careful.may_be_wrong());
    }
}
