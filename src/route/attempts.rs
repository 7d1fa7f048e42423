//! How persistent the gateway is: attempts, waits, the retry budget, and when what fails is left in peace.
//!
//! Never does: decide; these are the numbers that `plan` and `breaker` decide by.

use std::time::Duration;

/// The settings of attempts; the same for all models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Attempts at one target for one call, from 1.
    pub max_attempts: u8,
    /// The longest `retry-after` of a provider's that is waited for.
    pub max_wait: Duration,
    /// The longest first wait before a retry; each further one may last twice as long.
    pub backoff: Duration,
    /// The longest such wait at all.
    pub max_backoff: Duration,
    /// Retries for each hundred calls of a target, from 0 to 100.
    pub retry_budget_percent: u8,
    /// When what fails is left in peace.
    pub cooldown: Cooldown,
}

/// When a target or a key is left in peace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooldown {
    /// As many failures in a row open the breaker, from 1.
    pub consecutive_failures: u32,
    /// How long it rests at first; also how long one call alone may take to try it after that.
    pub first: Duration,
    /// How long it rests at most: each time that follows without a success is twice as long.
    pub longest: Duration,
}

impl Default for Attempts {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            max_wait: Duration::from_secs(2),
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(2),
            retry_budget_percent: 20,
            cooldown: Cooldown::default(),
        }
    }
}

impl Default for Cooldown {
    fn default() -> Self {
        Self { consecutive_failures: 5, first: Duration::from_secs(5), longest: Duration::from_secs(60) }
    }
}
