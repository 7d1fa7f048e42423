//! The life of a call as values that change type: [`Arrived`] -> [`Underway`], and the [`Record`] when it has settled.
//!
//! Invariant: an [`Underway`] exists only for a call whose route, key and scope were found good, in this order; a call
//! settles exactly once, because settling consumes it.
//! Never does: any IO; clocks are arguments.

mod client;
mod credential;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::config::Snapshot;
use crate::error::Refusal;
use crate::keys::Key;
use crate::meter::Scan;
use crate::route::{Kind, Route, Target};

pub use client::client_address;
pub use credential::{presented, presented_by_websocket, protocols_without_key, without_credentials};
pub use record::Record;

/// A call whose head is here. What becomes known of it is noted in its record as it is verified.
#[derive(Debug)]
pub struct Arrived {
    /// The configuration that this call sees to its end.
    pub snapshot: Arc<Snapshot>,
    /// The facts so far.
    pub record: Record,
    /// When the head had arrived.
    pub started: Instant,
    /// Time spent waiting for the client or the provider.
    pub waited: Duration,
}

/// A call that may go on: its route is configured and its key is good for it.
#[derive(Clone, Debug)]
pub struct Underway {
    /// Where it leads.
    pub route: Arc<Route>,
    /// Whom it is sent to: the route's own provider, unless another one is chosen.
    pub target: Target,
    /// Who asks.
    pub key: Arc<Key>,
    /// The model in the path, where the route has one.
    pub model: Option<String>,
    /// Headers to set on the request to the provider, in place of any others of their names.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Longest path that a record keeps, in bytes.
const MAX_PATH: usize = 1024;
/// Longest model name or `on-behalf-of` that a record keeps, in bytes.
const MAX_NAME: usize = 256;

impl Arrived {
    /// Takes note of a head.
    pub fn new(snapshot: Arc<Snapshot>, request_id: String, started: Instant, started_at: SystemTime) -> Self {
        let record = Record {
            request_id,
            started_at,
            method: Method::GET,
            path: String::new(),
            route: None,
            key: None,
            provider: None,
            model: None,
            on_behalf_of: None,
            client: None,
            status: 0,
            refusal: None,
            attempts: 0,
            upstream_status: None,
            duration: Duration::ZERO,
            upstream_head: None,
            overhead: Duration::ZERO,
        };
        Self { snapshot, record, started, waited: Duration::ZERO }
    }

    /// Notes what the request line says.
    pub fn noted(&mut self, method: &Method, path: &str) {
        self.record.method = method.clone();
        self.record.path = cut(path, MAX_PATH);
    }

    /// Decides whether the call may go on: route (404), key (401), scope (403).
    ///
    /// # Errors
    /// `UnknownRoute`, `InvalidKey`, `ExpiredKey`, `RevokedKey`, `ScopeMissing`, `ModelNotAllowed` where the path names a
    /// model, and `RouteNotMetered` where nothing would tell it and the key has a list of models.
    pub fn admit(
        &mut self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Underway, Refusal> {
        let found = self.snapshot.routes.find(method, path).ok_or(Refusal::UnknownRoute)?;
        self.record.route = Some(Arc::clone(found.route));
        let presented = match found.route.kind {
            Kind::Websocket => presented_by_websocket(headers)?,
            _ => presented(headers)?,
        };
        let key = self.snapshot.keys.find(presented)?;
        self.record.key = Some(Arc::clone(key));
        key.usable(now)?;
        self.record.on_behalf_of =
            headers.get("on-behalf-of").and_then(|value| value.to_str().ok()).map(|value| cut(value, MAX_NAME));
        key.permits(found.route.id, found.method.as_str(), path)?;
        if let Some(model) = found.model {
            self.record.model = Some(cut(model, MAX_NAME));
            key.permits_model(Some(model))?;
        } else if found.route.kind.is_native() && key.record.models.is_some() {
            return Err(Refusal::RouteNotMetered);
        }
        Ok(Underway {
            route: Arc::clone(found.route),
            target: found.route.target(),
            key: Arc::clone(key),
            model: found.model.map(str::to_owned),
            headers: Vec::new(),
        })
    }

    /// Takes in what the body asks for and decides whether the key may use that model, each time that the body is another
    /// one. A model in the path was decided upon when the call was admitted, and stays the one that is told; the body's must be allowed too.
    ///
    /// # Errors
    /// `ModelNotAllowed`, also for a call that makes something and names no model: the provider would choose one.
    pub fn understand(&mut self, underway: &Underway, scan: &Scan<'_>) -> Result<(), Refusal> {
        if underway.model.is_none() {
            self.record.model = scan.model.as_deref().map(|model| cut(model, MAX_NAME));
        }
        let makes = !matches!(underway.route.method, Some(Method::GET | Method::HEAD | Method::DELETE));
        match (&scan.model, &underway.model) {
            (Some(model), _) => underway.key.permits_model(Some(model)),
            (None, None) if makes => underway.key.permits_model(None),
            (None, _) => Ok(()),
        }
    }

    /// Ends the call: what is left to say is how long it took.
    pub fn settle(mut self, now: Instant) -> Record {
        self.record.duration = now.saturating_duration_since(self.started);
        self.record.overhead = self.record.duration.saturating_sub(self.waited);
        self.record
    }
}

/// The first bytes of a text, cut at a character.
fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

#[cfg(test)]
mod tests;
