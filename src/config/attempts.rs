//! `attempts`: from what is written to the numbers that plans go by.
//!
//! Never does: anything but ranges.

use std::time::Duration;

use super::compile::Check;
use super::file;
use super::report::FieldPath;
use crate::route::{Attempts, Cooldown};

/// Checks and compiles `attempts`.
pub(super) fn compile(check: &mut Check<'_>, written: &file::Attempts) -> Attempts {
    let path = FieldPath::of("attempts");
    let max_attempts = check.number(&path.key("max_attempts"), written.max_attempts, 1, 10);
    let backoff = check.period(&path.key("backoff"), written.backoff, ["0s", "1m"]);
    let max_backoff = check.period(&path.key("max_backoff"), written.max_backoff, ["0s", "1m"]);
    not_less(check, &path.key("max_backoff"), max_backoff, backoff, "expected at least as much as backoff");
    let own = path.key("cooldown");
    let first = check.period(&own.key("first"), written.cooldown.first, ["100ms", "10m"]);
    let longest = check.period(&own.key("longest"), written.cooldown.longest, ["100ms", "1h"]);
    not_less(check, &own.key("longest"), longest, first, "expected at least as much as first");
    let failures = written.cooldown.consecutive_failures;
    Attempts {
        max_attempts: u8::try_from(max_attempts).unwrap_or(u8::MAX),
        max_wait: check.period(&path.key("max_wait"), written.max_wait, ["0s", "1m"]),
        backoff,
        max_backoff,
        retry_budget_percent: written.retry_budget.0,
        cooldown: Cooldown {
            consecutive_failures: check.number(&own.key("consecutive_failures"), failures, 1, 1000),
            first,
            longest,
        },
    }
}

fn not_less(check: &mut Check<'_>, path: &FieldPath, value: Duration, least: Duration, message: &'static str) {
    if value < least {
        check.refuse(path, message);
    }
}
