//! What is known of one call when it is over: metrics, access log and later the ledger are readers of it.
//!
//! Invariant: what metrics use as a label is configured or verified (`route`, `key`, `answered_model`), never something
//! that a client merely sent.
//! Never does: hold a secret, a body, a header's value but the request's `on-behalf-of`, or a query string.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::{Refusal, Silence, UpstreamFault};
use crate::keys::Key;
use crate::route::{Provider, Route};
use crate::units::{ProviderId, Usage, Usd};

/// The facts of one call, complete once it has settled.
#[derive(Clone, Debug)]
pub struct Record {
    /// The `x-request-id` that the client got.
    pub request_id: String,
    /// When the head had arrived.
    pub started_at: SystemTime,
    /// As the client sent it.
    pub method: http::Method,
    /// As the client sent it, without the query, at most 1,024 bytes. For the log only.
    pub path: String,
    /// The configured route, once found.
    pub route: Option<Arc<Route>>,
    /// The caller's key, once found.
    pub key: Option<Arc<Key>>,
    /// The provider that was asked last; absent where none was. See [`Self::provider`].
    pub provider: Option<ProviderId>,
    /// The model that the request names, at most 256 bytes; read only after authentication. For the log.
    pub model: Option<String>,
    /// The request's `on-behalf-of`: asserted by the client, at most 256 bytes. For the log.
    pub on_behalf_of: Option<String>,
    /// The caller's address, from a trusted proxy's `x-forwarded-for` where one is configured.
    pub client: Option<IpAddr>,
    /// The status that the client got; 499 where it left before it got one, or in the middle of the answer.
    pub status: u16,
    /// Why the call was not served, or not served to its end.
    pub refusal: Option<Refusal>,
    /// Attempts at providers for this call, also those that found no connection.
    pub attempts: u32,
    /// Each of those attempts once the call is over; empty where there was one only, for the model that the request names,
    /// and it answered.
    pub tried: Vec<Tried>,
    /// Attempts that were sent and not answered, so that nothing tells what they used: also one whose answer broke before
    /// anything of it went to the client, or whose client left before it began. The call is billed nothing for them, but its
    /// input where its client left; the provider may charge more: of budgets each keeps what was reserved for a call.
    pub unanswered: u32,
    /// The model that the provider was asked for, where that is another one than the request names.
    pub asked_model: Option<Arc<str>>,
    /// The provider's own status, where it answered.
    pub upstream_status: Option<u16>,
    /// From the head's arrival to the end of the answer.
    pub duration: Duration,
    /// From the start of the upstream request to its answer's head.
    pub upstream_head: Option<Duration>,
    /// What the gateway itself took: the duration less the waits for client and provider.
    pub overhead: Duration,
    /// What was reserved of budgets for it.
    pub reserved: Reserved,
    /// What it used and cost.
    pub spent: Spent,
    /// When the parts of a stream's answer were there.
    pub pace: Pace,
}

/// What was reserved of budgets for a call: its worst case. Nothing, where it has no limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Tokens of input and output.
    pub tokens: Option<u64>,
    /// Money.
    pub cost: Option<Usd>,
}

/// An attempt at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Who was asked.
    pub provider: ProviderId,
    /// The model that it was asked for, where that is another one than the request names.
    pub model: Option<Arc<str>>,
    /// What came of it, as [`Record::outcome`] spells it.
    pub outcome: &'static str,
    /// The provider's status, where it answered.
    pub status: Option<u16>,
    /// From its start to its end.
    pub duration: Duration,
}

/// What a call used and cost, and how sure that is. By default nothing was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// How sure it is.
    pub certainty: Certainty,
    /// Tokens by kind; absent where nothing tells.
    pub usage: Option<Usage>,
    /// Absent where the usage is not known, or the model has no price; zero only where nothing is charged.
    pub cost: Option<Usd>,
    /// The price book that the cost was reckoned with; absent where there is no cost, or none was reckoned.
    pub prices: Option<Arc<str>>,
    /// The model that the answer names, at most 256 bytes: often a dated snapshot of the one that was asked for.
    pub model: Option<Box<str>>,
    /// The service tier that the answer names, where it does.
    pub service_tier: Option<Box<str>>,
}

impl Default for Spent {
    fn default() -> Self {
        Self {
            certainty: Certainty::Failed,
            usage: None,
            cost: Some(Usd::ZERO),
            prices: None,
            model: None,
            service_tier: None,
        }
    }
}

/// How sure it is what a call used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The provider told it, or nothing was used.
    Settled,
    /// The answer was cut, or the client left: reckoned from what had passed.
    Estimated,
    /// Nothing was answered, or nothing of it reached the client, so nothing is billed. Whether the provider may charge is told by [`Record::unanswered`].
    Failed,
    /// It was answered, and nothing tells what that used.
    Unknown,
}

/// When the parts of a stream's answer were there. Nothing of it is known of other answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// From the head's arrival to the first event with content.
    pub first_token: Option<Duration>,
    /// From the first event with content to the last one.
    pub tokens: Duration,
    /// Events with content.
    pub events: u64,
}

impl Certainty {
    /// As the ledger, the access line and `ai-gateway usage` spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Estimated => "estimated",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl Record {
    /// Takes note of an attempt at a provider.
    pub fn asks(&mut self, provider: &Provider) {
        self.attempts += 1;
        self.upstream_status = None;
        self.upstream_head = None;
        if self.provider.as_ref() != Some(&provider.id) {
            self.provider = Some(provider.id.clone());
        }
    }

    /// The model where it may be a label: the provider answered a request that names it with success, or opened the
    /// WebSocket that was asked for.
    pub fn answered_model(&self) -> Option<&str> {
        let answered = self.upstream_status.is_some_and(|status| status == 101 || (200..300).contains(&status));
        self.model.as_deref().filter(|_| answered)
    }

    /// The attempts, where the rest of the record does not tell them: several, one for a model of another name, or one whose
    /// failure is not the call's own.
    pub fn told_attempts(&self) -> &[Tried] {
        match &*self.tried {
            [one] if one.model.is_none() && (self.status >= 400 || one.outcome == "success") => &[],
            all => all,
        }
    }

    /// How the last attempt ended, in a word that a metric may have as a label.
    pub fn outcome(&self) -> &'static str {
        outcome(self.refusal.as_ref(), self.upstream_status)
    }

    /// The name of the provider that was asked, or else of the one whose route this is.
    pub fn provider(&self) -> Option<&str> {
        let of_route = || self.route.as_ref().map(|route| &route.provider.id);
        self.provider.as_ref().or_else(of_route).map(ProviderId::as_str)
    }

    /// The user that the caller's key was issued to.
    pub fn username(&self) -> Option<&str> {
        self.key.as_ref().map(|key| &*key.record.username)
    }
}

/// How an attempt ended, by why it failed and what the provider said.
pub(super) fn outcome(refusal: Option<&Refusal>, upstream_status: Option<u16>) -> &'static str {
    match refusal {
        Some(Refusal::UpstreamAuth) => "auth_refused",
        Some(Refusal::UpstreamTimeout(Silence::Connect)) => "connect_timeout",
        Some(Refusal::UpstreamTimeout(Silence::FirstByte)) => "first_byte_timeout",
        Some(Refusal::UpstreamTimeout(Silence::FirstToken)) => "first_token_timeout",
        Some(Refusal::UpstreamTimeout(Silence::Idle)) => "idle_timeout",
        Some(Refusal::UpstreamTimeout(Silence::Total)) => "total_timeout",
        Some(Refusal::Upstream(UpstreamFault::Resolve)) => "resolve_failed",
        Some(Refusal::Upstream(UpstreamFault::Connect)) => "connect_failed",
        Some(Refusal::Upstream(UpstreamFault::Proxy)) => "proxy_failed",
        Some(Refusal::Upstream(UpstreamFault::ProxySilent)) => "proxy_timeout",
        Some(Refusal::Upstream(UpstreamFault::Reset)) => "reset",
        Some(Refusal::Upstream(UpstreamFault::BadAnswer)) => "bad_answer",
        Some(Refusal::ClientGone) => "client_gone",
        Some(Refusal::ShuttingDown) => "cut",
        Some(Refusal::Bug(_)) => "internal_error",
        _ => match upstream_status {
            Some(100..=399) => "success",
            Some(429) => "rate_limited",
            Some(400..=499) => "client_error",
            Some(_) => "server_error",
            None => "no_answer",
        },
    }
}
