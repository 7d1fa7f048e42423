//! Refusals of limits and budgets: which limit, its value, what of it is used, and when it is whole again.
//!
//! Invariant: each text names the limit by the name that the configuration has for it, and holds whole numbers or exact
//! decimals, never an estimate that is not called one.
//! Never does: decide that something is too much.

use std::time::{Duration, SystemTime};

use crate::units::{Limit, Subject};

/// Why a limit does not let a call through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Too many calls, tokens or calls at once, for now.
    Rate,
    /// The budget would do, were it not held by calls in flight.
    Held,
    /// What is left of the budget is less than the call may cost.
    Spent,
    /// Nobody knows what the model costs.
    NotPriced,
    /// Nobody knows how many tokens the call may use at most.
    Unbounded,
}

/// What the gateway has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// Bytes of request bodies: `server.limits.max_buffered`.
    Bodies,
    /// Calls at once: `server.limits.max_in_flight`.
    Calls,
}

impl Overload {
    /// As metrics label it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bodies => "max_buffered",
            Self::Calls => "max_in_flight",
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Bodies => "The gateway is holding as many request bodies as it may; try again",
            Self::Calls => "The gateway is serving as many calls at once as it may; try again",
        }
    }
}

/// A limit that does not let a call through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose limit.
    pub subject: Subject,
    /// Which of them.
    pub limit: Limit,
    /// Why.
    pub why: Excess,
    /// The limit's value, in pico-dollars, tokens or calls, as all below.
    pub value: u128,
    /// What is used for good.
    pub used: u128,
    /// What calls in flight hold beside that.
    pub held: u128,
    /// What this call asks for.
    pub needed: u128,
    /// After what time asking again can help.
    pub resets_in: Option<Duration>,
    /// When the budget's window ends.
    pub resets_at: Option<SystemTime>,
}

impl Exceeded {
    /// Status, type and code: OpenAI's for rate limits and spent quotas (its guide on error codes, read 2026-11), ours for
    /// the rest.
    pub(super) fn row(&self) -> (u16, &'static str, &'static str) {
        match (self.why, self.limit) {
            (Excess::Rate, Limit::TokensPerMinute) => (429, "tokens", "rate_limit_exceeded"),
            (Excess::Rate, _) => (429, "requests", "rate_limit_exceeded"),
            (Excess::Held, _) => (429, "tokens", "budget_reserved"),
            (Excess::Spent, _) => (429, "insufficient_quota", "insufficient_quota"),
            (Excess::NotPriced | Excess::Unbounded, _) => (400, super::INVALID_REQUEST, "model_not_priced"),
        }
    }

    /// After what time the client should ask again, where that can help.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self.why {
            Excess::Rate => Some(self.resets_in.unwrap_or(A_SECOND)),
            Excess::Held => Some(A_SECOND),
            Excess::Spent => self.resets_in,
            Excess::NotPriced | Excess::Unbounded => None,
        }
    }

    /// What the client reads. The form of a rate limit's text is that of OpenAI's own.
    pub(super) fn message(&self) -> String {
        let Self { subject, limit, .. } = self;
        let name = limit.name();
        let [value, used, held, needed] = [self.value, self.used, self.held, self.needed].map(|n| limit.spell(n));
        match (self.why, limit) {
            (Excess::Rate, Limit::ConcurrentRequests) => format!(
                "Too many requests of {subject} at once ({name}): limit {value}, running {used}. Try again when one has \
                 ended."
            ),
            (Excess::Rate, _) => {
                let wait = self.resets_in.unwrap_or(A_SECOND);
                format!(
                    "Rate limit reached for {subject} ({name}): limit {value}, used {used} in the last minute, requested \
                     {needed}. Try again in {}.",
                    span(wait)
                )
            }
            (Excess::Held, _) => format!(
                "The budget of {subject} ({name}) is held by calls in flight: limit {value}, spent {used}, held {held}, \
                 and this call may need up to {needed}. Try again in a moment."
            ),
            (Excess::Spent, _) => format!(
                "The budget of {subject} ({name}) does not allow this call: limit {value}, spent {used}, and this call \
                 may need up to {needed}. {}",
                self.reset()
            ),
            (Excess::NotPriced, _) => format!(
                "The model that the request asks for has no known price, and {subject} has a budget ({name}): such calls \
                 are refused"
            ),
            (Excess::Unbounded, _) => format!(
                "The most tokens that this call may use are not known, and {subject} has a budget ({name}): send \
                 max_completion_tokens (max_output_tokens for responses, max_tokens for messages)"
            ),
        }
    }

    fn reset(&self) -> String {
        match (self.resets_at, self.resets_in) {
            (Some(at), Some(wait)) => {
                format!("It is whole again at {} (in {}).", humantime::format_rfc3339_seconds(at), span(wait))
            }
            _ => "It is not renewed by itself.".to_owned(),
        }
    }
}

/// In whole seconds, rounded up.
fn span(wait: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(whole_seconds(wait))
}

fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

const A_SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::super::Refusal;
    use super::*;
    use crate::units::{Measure, Owner, Per};

    fn refusal(why: Excess, limit: Limit) -> Refusal {
        let budget = matches!(limit, Limit::Budget(..));
        let unit = if matches!(limit, Limit::Budget(Measure::Usd, _)) { 1_000_000_000_000 } else { 1 };
        Refusal::Limited(Box::new(Exceeded {
            subject: Subject::of(Owner::User("ann".into())),
            limit,
            why,
            value: 100 * unit,
            used: 90 * unit,
            held: 8 * unit,
            needed: 5 * unit,
            resets_in: Some(Duration::from_millis(11_200)),
            resets_at: budget.then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)),
        }))
    }

    const USD: Limit = Limit::Budget(Measure::Usd, Per::Month);

    #[test]
    fn each_names_the_limit_its_value_and_its_reset() {
        let text = |why, limit| refusal(why, limit).message().into_owned();
        assert_eq!(
            text(Excess::Rate, Limit::RequestsPerMinute),
            "Rate limit reached for the user ann (requests_per_minute): limit 100, used 90 in the last minute, \
             requested 5. Try again in 12s."
        );
        assert_eq!(
            text(Excess::Rate, Limit::ConcurrentRequests),
            "Too many requests of the user ann at once (concurrent_requests): limit 100, running 90. Try again when one \
             has ended."
        );
        assert_eq!(
            text(Excess::Held, USD),
            "The budget of the user ann (usd/month) is held by calls in flight: limit 100 USD, spent 90 USD, held 8 USD, \
             and this call may need up to 5 USD. Try again in a moment."
        );
        assert_eq!(
            text(Excess::Spent, Limit::Budget(Measure::Tokens, Per::Day)),
            "The budget of the user ann (tokens/day) does not allow this call: limit 100 tokens, spent 90 tokens, and \
             this call may need up to 5 tokens. It is whole again at 2027-01-15T08:00:00Z (in 12s)."
        );
    }

    #[test]
    fn each_has_the_looks_of_the_table() {
        let looks = |why, limit| {
            let refusal = refusal(why, limit);
            let wait = refusal.retry_after().map(|wait| wait.as_millis());
            (refusal.status(), refusal.kind(), refusal.code(), wait, refusal.should_retry())
        };
        let tokens = looks(Excess::Rate, Limit::TokensPerMinute);
        assert_eq!(tokens, (429, "tokens", "rate_limit_exceeded", Some(11_200), None));
        let requests = looks(Excess::Rate, Limit::ConcurrentRequests);
        assert_eq!(requests, (429, "requests", "rate_limit_exceeded", Some(11_200), None));
        assert_eq!(looks(Excess::Held, USD), (429, "tokens", "budget_reserved", Some(1000), None));
        let spent = looks(Excess::Spent, USD);
        assert_eq!(spent, (429, "insufficient_quota", "insufficient_quota", Some(11_200), Some(false)));
        let unpriced = looks(Excess::NotPriced, USD);
        assert_eq!(unpriced, (400, "invalid_request_error", "model_not_priced", None, None));
        assert_eq!(refusal(Excess::NotPriced, USD).param(), Some("model"));
        let store = Refusal::BudgetStoreUnavailable;
        assert_eq!((store.status(), store.code()), (503, "budget_store_unavailable"));
    }

    #[test]
    fn a_label_of_metrics_is_the_limits_name() {
        assert_eq!(refusal(Excess::Spent, USD).limit(), Some("usd/month"));
        assert_eq!(Refusal::UnknownRoute.limit(), None);
        assert_eq!(Refusal::BudgetStoreUnavailable.limit(), Some("budget_store"));
    }
}
