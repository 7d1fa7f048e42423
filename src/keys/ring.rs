//! The ring of all keys of a snapshot, found by the HMAC of what a client presents.
//!
//! Invariant: a look-up costs one HMAC for each distinct salt of the file, however many keys there are.
//! Never does: judge whether a key that was found may do what it is used for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use foldhash::fast::RandomState;

use super::Key;
use super::file::{KeyFile, Salt};
use super::scope::Scope;
use super::token::{Digest, KeyedHash, is_mistyped};
use crate::error::{KeyFault, Refusal};
use crate::units::RouteSet;

/// All keys of a snapshot.
#[derive(Debug, Default)]
pub struct KeyRing {
    /// In the file's order.
    keys: Vec<Arc<Key>>,
    /// One for each salt. A digest counts under its own salt only.
    salts: Vec<Salted>,
}

#[derive(Debug)]
struct Salted {
    hash: KeyedHash,
    keys: HashMap<Digest, Arc<Key>, RandomState>,
}

/// How many keys there are, by whether they work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys that work.
    pub active: usize,
    /// Keys whose time is over.
    pub expired: usize,
    /// Keys that were revoked or switched off.
    pub revoked: usize,
}

impl Tally {
    /// All of them.
    pub fn total(&self) -> usize {
        self.active + self.expired + self.revoked
    }
}

impl fmt::Display for Tally {
    /// `2 keys (1 active, 1 revoked)`; where all work, `2 keys`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        write!(f, "{total} {}", if total == 1 { "key" } else { "keys" })?;
        if total == self.active {
            return Ok(());
        }
        let states = [(self.active, "active"), (self.expired, "expired"), (self.revoked, "revoked")];
        let states = states.iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}"));
        write!(f, " ({})", states.collect::<Vec<_>>().join(", "))
    }
}

impl KeyRing {
    /// Builds the ring of a key file. `routes_of` gives the routes that a list of scopes opens
    /// ([`Scope::permits_route`]); it is asked once for each list that differs.
    pub fn build(file: KeyFile, routes_of: impl Fn(&[Scope]) -> RouteSet) -> Self {
        let mut counts = vec![0; file.salts.len()];
        for entry in &file.entries {
            counts[usize::from(entry.salt)] += 1;
        }
        let salted = |(salt, count): (Salt, usize)| Salted {
            hash: salt.hash,
            keys: HashMap::with_capacity_and_hasher(count, RandomState::default()),
        };
        let mut salts: Vec<Salted> = file.salts.into_iter().zip(counts).map(salted).collect();
        let mut keys = Vec::with_capacity(file.entries.len());
        // The file shares one allocation among equal lists, so that its address stands for the list.
        let mut known: HashMap<*const Scope, Arc<RouteSet>, RandomState> = HashMap::default();
        for entry in file.entries {
            let scopes = &entry.record.scopes;
            let routes = Arc::clone(known.entry(scopes.as_ptr()).or_insert_with(|| Arc::new(routes_of(scopes))));
            let key = Arc::new(Key { record: entry.record, routes });
            if let Some(salted) = salts.get_mut(usize::from(entry.salt)) {
                salted.keys.insert(entry.digest, Arc::clone(&key));
            }
            keys.push(key);
        }
        Self { keys, salts }
    }

    /// Finds the key that a client presented, whatever its state: ask [`Key::usable`] next.
    ///
    /// # Errors
    /// `InvalidKey`: `Mistyped` for a key of ours with a wrong checksum, which is not looked up; else `Unknown`.
    pub fn find(&self, presented: &[u8]) -> Result<&Arc<Key>, Refusal> {
        if is_mistyped(presented) {
            return Err(Refusal::InvalidKey(KeyFault::Mistyped));
        }
        self.salts
            .iter()
            .find_map(|salted| salted.keys.get(&salted.hash.digest(presented)))
            .ok_or(Refusal::InvalidKey(KeyFault::Unknown))
    }

    /// How many keys there are, revoked and expired ones included.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Tells whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys work now, and how many do not.
    pub fn tally(&self, now: SystemTime) -> Tally {
        let mut tally = Tally::default();
        for key in &self.keys {
            match key.usable(now) {
                Ok(()) => tally.active += 1,
                Err(Refusal::ExpiredKey) => tally.expired += 1,
                Err(_) => tally.revoked += 1,
            }
        }
        tally
    }

    /// All keys, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.keys.iter()
    }
}
