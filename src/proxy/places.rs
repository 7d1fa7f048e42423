//! The calls that are worked for at once: a place for each, from its admission to its end.
//!
//! Invariant: never more are taken than were allowed when the last one was; one is given back by drop, whatever ends the
//! call.
//! Never does: wait for a place, or give one to somebody whose key was not found good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Overload, Refusal};

/// The places that are taken.
#[derive(Debug, Default)]
pub(super) struct Places(AtomicU32);

/// A place of one call.
#[derive(Debug)]
pub(super) struct Place(Arc<Places>);

impl Places {
    /// Takes one, where fewer than `most` are taken.
    ///
    /// # Errors
    /// `Overloaded`.
    pub(super) fn take(self: &Arc<Self>, most: u32) -> Result<Place, Refusal> {
        let next = |taken: u32| (taken < most).then(|| taken + 1);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next) {
            Ok(_) => Ok(Place(Arc::clone(self))),
            Err(_) => Err(Refusal::Overloaded(Overload::Calls)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_and_a_smaller_limit_counts_those_that_are_taken() {
        let places = Arc::<Places>::default();
        let first = places.take(2).expect("a place");
        let second = places.take(2).expect("a place");
        assert_eq!(places.take(2).err(), Some(Refusal::Overloaded(Overload::Calls)));
        drop(first);
        assert!(places.take(1).is_err(), "one is still taken");
        drop(second);
        assert!(places.take(1).is_ok());
        assert_eq!(places.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_rush_never_takes_more_than_there_are() {
        let (places, most) = (Arc::<Places>::default(), 3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let place = places.take(most);
                        assert!(places.0.load(Ordering::Relaxed) <= most);
                        drop(place);
                    }
                });
            }
        });
        assert!(places.take(1).is_ok(), "all are free again");
    }
}
