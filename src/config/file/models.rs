//! The picture of `models`, `attempts` and `api_keys`: names that clients may ask for, how persistent the gateway is, and
//! pools of keys.
//!
//! Never does: checks that need more than one field; that is `compile`.

use serde::Deserialize;

use crate::config::values::{Hidden, Percent, Period, list, mapping};

/// A name that clients may ask for.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// Who serves it. Needed.
    #[serde(deserialize_with = "list")]
    pub targets: Vec<Target>,
    /// Names of other models, whose targets are tried after its own, in this order; then the fallbacks of those. Each
    /// target is tried once. Default: none.
    pub fallbacks: Vec<String>,
    /// Which of its targets goes first: `weighted`, by chance as their weights say, or `ordered`, as they stand. Default
    /// `weighted`.
    pub order: Order,
}

/// Which target goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// By chance, as the weights say.
    #[default]
    Weighted,
    /// As they stand.
    Ordered,
}

/// One who serves a model.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Target {
    /// The provider's name. Needed.
    pub provider: String,
    /// The provider's name for the model. Default: the name that the client asks for.
    pub model: Option<String>,
    /// How often it goes first, compared with the others. 1 to 1000. Default 1.
    pub weight: u32,
    /// Whether requests that are too long for another target are sent here. Default false.
    pub larger_context: bool,
}

/// One of several keys for a provider.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKey {
    /// The key. Needed.
    pub key: Option<Hidden>,
    /// How often it is taken, compared with the others. 1 to 1000. Default 1.
    pub weight: u32,
}

/// How persistent the gateway is with providers that fail, before anything of an answer was sent to the client.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attempts {
    /// Attempts at one target for one call. 1 to 10. Default 3.
    pub max_attempts: u32,
    /// The longest `retry-after` that is waited for; after a longer one the next target is tried. 0s to 1m. Default 2s.
    pub max_wait: Period,
    /// The longest first wait before a retry, of which a random part is waited; each further one is twice as long. 0s to
    /// 1m. Default 250ms.
    pub backoff: Period,
    /// The longest such wait at all. At least `backoff`, up to 1m. Default 2s.
    pub max_backoff: Period,
    /// Retries at a target, as a share of its calls of the last ten seconds, and five. 0% to 100%; 0% is none at all.
    /// Default 20%.
    pub retry_budget: Percent,
    /// When a target or a key that fails is left in peace.
    #[serde(deserialize_with = "mapping")]
    pub cooldown: Cooldown,
}

/// When a target or a key that fails is left in peace. After a 429 it is for as long as the provider says.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cooldown {
    /// As many failures in a row begin it. 1 to 1000. Default 5.
    pub consecutive_failures: u32,
    /// How long it lasts at first; then one call tries whether all is well again. 100ms to 10m. Default 5s.
    pub first: Period,
    /// How long it lasts at most: each that follows another is twice as long. At least `first`, up to 1h. Default 60s.
    pub longest: Period,
}

impl Default for Target {
    fn default() -> Self {
        Self { provider: String::new(), model: None, weight: 1, larger_context: false }
    }
}

impl Default for ApiKey {
    fn default() -> Self {
        Self { key: None, weight: 1 }
    }
}

impl Default for Attempts {
    fn default() -> Self {
        let plain = crate::route::Attempts::default();
        Self {
            max_attempts: plain.max_attempts.into(),
            max_wait: Period(plain.max_wait),
            backoff: Period(plain.backoff),
            max_backoff: Period(plain.max_backoff),
            retry_budget: Percent(plain.retry_budget_percent),
            cooldown: Cooldown::default(),
        }
    }
}

impl Default for Cooldown {
    fn default() -> Self {
        let plain = crate::route::Cooldown::default();
        Self {
            consecutive_failures: plain.consecutive_failures,
            first: Period(plain.first),
            longest: Period(plain.longest),
        }
    }
}
