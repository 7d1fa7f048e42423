//! The keys that the gateway issued: who may do what.
//!
//! Invariant: a key's text is never kept; only its HMAC is.
//! Never does: any IO but in `store`; reading of a clock.

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Refusal;
use crate::units::{KeyId, RouteId, RouteSet};

/// What the key file says of one key.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// Its public name.
    pub id: KeyId,
    /// Whom it was issued to.
    pub username: Arc<str>,
}

/// A key of the ring: what the file says of it, and the routes that its scopes open in this snapshot.
#[derive(Debug)]
pub struct Key {
    /// What the file says.
    pub record: KeyRecord,
    /// The routes that its scopes open.
    pub routes: RouteSet,
}

impl Key {
    /// Tells whether the key may be used now on this route. `path` is the client's path.
    ///
    /// # Errors
    /// `ExpiredKey`, `RevokedKey`, `ScopeMissing`.
    pub fn usable(&self, _now: SystemTime) -> Result<(), Refusal> {
        Ok(())
    }
    /// x
    pub fn permits(&self, _route: RouteId, _method: &str, _path: &str) -> Result<(), Refusal> {
        Err(Refusal::ScopeMissing)
    }

    /// Tells whether the key may use this model; `None` stands for a call that names none.
    ///
    /// # Errors
    /// `ModelNotAllowed`.
    pub fn permits_model(&self, _model: Option<&str>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// All keys of a snapshot.
#[derive(Debug, Default)]
pub struct KeyRing;

impl KeyRing {
    /// Finds the key that a client presented.
    ///
    /// # Errors
    /// `InvalidKey`.
    pub fn find(&self, _presented: &[u8]) -> Result<&Arc<Key>, Refusal> {
        Err(Refusal::InvalidKey(crate::error::KeyFault::Unknown))
    }
}
