//! The words that every layer shares: identifiers, secrets, tokens and money as types of their own.
//!
//! Invariant: a [`Secret`] never prints what it holds, in no format and on no path.
//! Never does: any IO, any look-up, any decision.

mod limits;
mod mask;
mod money;
mod own_limits;
mod usage;

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

pub use limits::{Amount, Budget, Limit, Limits, Measure, Owner, Per, Subject};
pub use mask::{Mask, Masking};
pub use money::{NotMoney, Usd};
pub use own_limits::{OwnLimits, is_model as is_limitable_model};
pub use usage::Usage;

/// The public name of a gateway key: safe to show in logs, metrics and admin answers.
///
/// A new key gets `key_` and 12 hex digits; an entry of the original's key file is named by the first 12 hex digits of
/// its digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Arc<str>);

/// The name of a configured provider, which is also the first segment of its paths: `openai` in `/openai/v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(Arc<str>);

macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// Takes over a name that was checked by the caller.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(KeyId);
name!(ProviderId);

/// A value that must not be seen: a provider's key, the admin token, a salt from the environment.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a secret; the text is wiped from memory when the last copy is dropped.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// Hands out the secret for the one use it is meant for. Never format the result into anything that is shown.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The position of a route in its snapshot's table: dense from 0, so that a key's permissions fit a bit set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteId(pub u16);

/// A set of routes of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteSet(Vec<u64>);

impl RouteSet {
    /// Adds a route.
    pub fn insert(&mut self, route: RouteId) {
        let word = usize::from(route.0) / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (route.0 % 64);
    }

    /// Tells whether the route is in the set.
    pub fn contains(&self, route: RouteId) -> bool {
        self.0.get(usize::from(route.0) / 64).is_some_and(|word| word & (1 << (route.0 % 64)) != 0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
