//! The keys that the gateway issued: who may do what, and until when.
//!
//! Invariant: a key's text is never kept; only its HMAC is.
//! Never does: any IO but in `store`; reading of a clock.

mod edit;
mod file;
mod json;
mod ring;
mod scope;
mod store;
mod token;

use std::sync::Arc;
use std::time::SystemTime;

use crate::error::Refusal;
use crate::units::{KeyId, OwnLimits, RouteId, RouteSet};

pub use edit::limits as limits_as_json;
pub use file::{KeyFile, MAX_PROBLEMS, MAX_SALTS};
pub use json::Problem;
pub use ring::{KeyRing, Tally};
pub use scope::{Scope, ScopeError};
pub use store::{
    Conflict, Created, Imported, Incoming, NewKey, Revoked, Rotated, Stamp, StoreError, create, create_alone, import,
    list, load, revoke, rotate,
};
pub use token::{NoRandomness, PREFIX, PlainToken};

/// What the key file says of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its public name.
    pub id: KeyId,
    /// Whom it was issued to. A user may have several keys.
    pub username: Arc<str>,
    /// What it opens.
    pub scopes: Arc<[Scope]>,
    /// When it was issued, where that is known.
    pub created_at: Option<SystemTime>,
    /// From when on it no longer works; absent means never.
    pub expires_at: Option<SystemTime>,
    /// When it was revoked. Any value revokes it, one in the future too.
    pub revoked_at: Option<SystemTime>,
    /// Whether it is switched off.
    pub disabled: bool,
    /// The group that it belongs to, for limits and reports.
    pub team: Option<Arc<str>>,
    /// The models that it may name, each exact or with a trailing `*`; absent means any.
    pub models: Option<Vec<String>>,
    /// How much of it. Most keys share an empty one.
    pub allowance: Arc<Allowance>,
}

/// How much a key may use, where the file says something of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// Limits of its own. They go before those that the configuration has for keys, field by field.
    pub limits: OwnLimits,
    /// The most tokens of output of a call that asks for no such ceiling itself.
    pub default_max_output_tokens: Option<u64>,
}

impl KeyRecord {
    /// Tells whether the key works at all now.
    ///
    /// # Errors
    /// `RevokedKey`, `ExpiredKey`, in this order.
    pub fn usable(&self, now: SystemTime) -> Result<(), Refusal> {
        if self.disabled || self.revoked_at.is_some() {
            return Err(Refusal::RevokedKey);
        }
        match self.expires_at {
            Some(end) if end <= now => Err(Refusal::ExpiredKey),
            _ => Ok(()),
        }
    }
}

/// A key of the ring: what the file says of it, and the routes that its scopes open in this snapshot.
#[derive(Debug)]
pub struct Key {
    /// What the file says.
    pub record: KeyRecord,
    /// The routes that its scopes open as a whole. Keys with the same list of scopes share it.
    pub routes: Arc<RouteSet>,
}

impl Key {
    /// Tells whether the key works at all now: the reasons for a 401.
    ///
    /// # Errors
    /// `RevokedKey`, `ExpiredKey`, in this order.
    pub fn usable(&self, now: SystemTime) -> Result<(), Refusal> {
        self.record.usable(now)
    }

    /// Tells whether the key opens this call: the reason for a 403. `route` is the route that was found, `method` the
    /// one it was found by (`GET` for a `HEAD`; any case), `path` the client's path without its query.
    ///
    /// # Errors
    /// `ScopeMissing`.
    pub fn permits(&self, route: RouteId, method: &str, path: &str) -> Result<(), Refusal> {
        let permitted =
            self.routes.contains(route) || self.record.scopes.iter().any(|scope| scope.permits_path(method, path));
        permitted.then_some(()).ok_or(Refusal::ScopeMissing)
    }

    /// Tells whether the key may use this model. `None` stands for a call that could name a model and does not: a
    /// provider would choose one itself, so a key with a list of models may not make it. Calls that take no model,
    /// such as the list of models, are not asked about.
    ///
    /// # Errors
    /// `ModelNotAllowed`.
    pub fn permits_model(&self, model: Option<&str>) -> Result<(), Refusal> {
        let Some(allowed) = &self.record.models else {
            return Ok(());
        };
        let matches = |model: &str| {
            allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => model.starts_with(prefix),
                None => model == pattern,
            })
        };
        match model {
            Some(model) if matches(model) => Ok(()),
            _ => Err(Refusal::ModelNotAllowed),
        }
    }
}

/// Tells whether a text can stand in a key's list of models: a name, or the beginning of names with a `*` at its end.
pub fn is_model_pattern(text: &str) -> bool {
    !text.is_empty() && !text.strip_suffix('*').unwrap_or(text).contains('*')
}

#[cfg(test)]
mod tests;
