//! What is known of one call when it is over: metrics, access log and later the ledger are readers of it.
//!
//! Invariant: what metrics use as a label is configured or verified (`route`, `key`, `answered_model`), never something
//! that a client merely sent.
//! Never does: hold a secret, a body, a header's value but the request's `on-behalf-of`, or a query string.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::error::Refusal;
use crate::keys::Key;
use crate::route::{Provider, Route};
use crate::units::ProviderId;

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
    /// The provider's own status, where it answered.
    pub upstream_status: Option<u16>,
    /// From the head's arrival to the end of the answer.
    pub duration: Duration,
    /// From the start of the upstream request to its answer's head.
    pub upstream_head: Option<Duration>,
    /// What the gateway itself took: the duration less the waits for client and provider.
    pub overhead: Duration,
}

impl Record {
    /// Takes note of an attempt at a provider.
    pub fn asks(&mut self, provider: &Provider) {
        self.attempts += 1;
        if self.provider.as_ref() != Some(&provider.id) {
            self.provider = Some(provider.id.clone());
        }
    }

    /// The model where it may be a label: the provider answered a request that names it with success.
    pub fn answered_model(&self) -> Option<&str> {
        let answered = self.upstream_status.is_some_and(|status| (200..300).contains(&status));
        self.model.as_deref().filter(|_| answered)
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
