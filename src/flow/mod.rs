//! The life of a call as values that change type: [`Arrived`] -> [`Underway`], and the [`Record`] when it has settled.
//!
//! Invariant: an [`Underway`] exists only for a call whose route, key and scope were found good, in this order; a call
//! settles exactly once, because settling consumes it.
//! Never does: any IO; clocks are arguments.

mod client;
mod credential;
mod listing;
mod reckon;
mod record;
mod spent;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::config::Snapshot;
use crate::dialect::{Dialect, OPENAI};
use crate::error::Refusal;
use crate::keys::Key;
use crate::meter::{Scan, Seen, Tap};
use crate::route::{Kind, ModelSource, Provider, Route, Routing, Target};
use crate::units::ProviderId;

pub use client::client_address;
pub use credential::{presented, presented_by_websocket, protocols_without_key, without_credentials};
pub use listing::{Listing, listed_model};
pub use reckon::reckon;
pub use record::{Certainty, Pace, Record, Reserved, Spent, Tried};
pub use spent::Asked;

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
    /// What was asked of a provider.
    pub asked: Asked,
    /// When the attempt began that is under way.
    pub attempt_started: Option<Instant>,
    /// Looks at the answer in passing, once there is one.
    pub tap: Option<Tap>,
    /// Whether the last attempt was sent and had no answer, and the record does not count it yet.
    is_unanswered: bool,
    /// Whether the record tells already what it used: its whole answer was there before the client got any of it.
    is_reckoned: bool,
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
    /// The model that the path or the route tells.
    pub model: Option<String>,
    /// Headers to set on the request to the provider, in place of any others of their names.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Underway {
    /// The targets that the call may come to, by the model that its body asks for; absent where only listed models may be
    /// asked for, and this one is not. A policy that chose a provider has chosen the target.
    pub fn routing<'s>(&self, snapshot: &'s Snapshot, body_model: Option<&str>) -> Option<&'s Arc<Routing>> {
        let (models, provider) = (&snapshot.models, &self.target.provider.id);
        match &self.model {
            Some(named) if self.route.tells_a_model() && !self.target.is_chosen => {
                models.of_call(provider, Some(named))
            }
            // What else a path names is not renamed: it goes to the provider in the path, where its name may be asked for.
            Some(named) if models.only_listed() => models.find(named).and_then(|_| models.of_call(provider, None)),
            Some(_) => models.of_call(provider, None),
            None => models.of_call(provider, body_model.filter(|_| !self.target.is_chosen)),
        }
    }
}

const ON_BEHALF_OF: HeaderName = HeaderName::from_static("on-behalf-of");
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
            tried: Vec::new(),
            unanswered: 0,
            asked_model: None,
            upstream_status: None,
            duration: Duration::ZERO,
            upstream_head: None,
            overhead: Duration::ZERO,
            reserved: Reserved::default(),
            spent: Spent::default(),
            pace: Pace::default(),
        };
        let (waited, asked) = Default::default();
        let (attempt_started, tap, is_unanswered, is_reckoned) = Default::default();
        Self { snapshot, record, started, waited, asked, attempt_started, tap, is_unanswered, is_reckoned }
    }

    /// Notes what the request line says.
    pub fn noted(&mut self, method: &Method, path: &str) {
        self.record.method = method.clone();
        self.record.path = cut(path, MAX_PATH);
    }

    /// Decides whether the call may go on: route (404), key (401), scope (403).
    ///
    /// # Errors
    /// `UnknownRoute`, `InvalidKey`, `ExpiredKey`, `RevokedKey`, `ScopeMissing`, `ModelNotAllowed` where path or route
    /// tell the model (`UnknownModel` where it is only looked up), `BadQuery` where it is to be in the query and is not plain there, and `RouteNotMetered` where nothing
    /// would tell it and the key has a list of models.
    pub fn admit(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Underway, Refusal> {
        let path = uri.path();
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
            headers.get(ON_BEHALF_OF).and_then(|value| value.to_str().ok()).map(|value| cut(value, MAX_NAME));
        key.permits(found.route.id, found.method.as_str(), path)?;
        let model = match found.model {
            Some(model) => Some(model.into()),
            None => found.route.model_of(uri.query())?,
        };
        match (&model, &found.route.model) {
            (Some(model), _) => {
                self.record.model = Some(cut(model, MAX_NAME));
                // What a key may not use is not in its list of models either.
                let is_hidden = found.route.tells_a_model();
                key.permits_model(Some(model)).map_err(|no| if is_hidden { Refusal::UnknownModel } else { no })?;
            }
            (None, ModelSource::Unseen) if found.route.kind.is_unread() && key.record.models.is_some() => {
                return Err(Refusal::RouteNotMetered);
            }
            (None, ModelSource::Unseen) => {}
            (None, _) => key.permits_model(None)?,
        }
        Ok(Underway {
            route: Arc::clone(found.route),
            target: found.route.target(),
            key: Arc::clone(key),
            model: model.map(Cow::into_owned),
            headers: Vec::new(),
        })
    }

    /// Takes in what the body asks for and decides whether the key may use that model, again where the body was changed. A
    /// model in the path was decided upon when the call was admitted, and stays the one that is told; the body's must be
    /// allowed too.
    ///
    /// # Errors
    /// `ModelNotAllowed`, also for a call that makes something and names no model: the provider would choose one.
    pub fn understand(&mut self, underway: &Underway, scan: &Scan<'_>) -> Result<(), Refusal> {
        if underway.model.is_none() {
            self.record.model = scan.model.as_deref().map(|model| cut(model, MAX_NAME));
        }
        self.asked.max_output_tokens = scan.max_output_tokens;
        self.asked.choices = scan.choices;
        match (&scan.model, &underway.model) {
            (Some(model), _) => underway.key.permits_model(Some(model)),
            (None, None) if underway.route.generates(&self.record.method) => underway.key.permits_model(None),
            (None, _) => Ok(()),
        }
    }

    /// The API family that its client speaks: that of its provider, and below a provider's name also where no route is.
    pub fn dialect(&self) -> &'static dyn Dialect {
        let of_route = self.record.route.as_ref().map(|route| route.provider.dialect);
        let named = || {
            let name = self.record.path.split('/').nth(1)?;
            Some(self.snapshot.providers.iter().find(|provider| provider.id.as_str() == name)?.dialect)
        };
        of_route.or_else(named).unwrap_or(OPENAI)
    }

    /// Takes note that an attempt begins. One before it whose end nobody told was repeated on a new connection.
    pub fn asks(&mut self, provider: &Provider, model: Option<&Arc<str>>, now: Instant) {
        self.tried("retried", now);
        self.record.asks(provider);
        self.record.asked_model = model.cloned();
        self.attempt_started = Some(now);
        self.tap = None;
        self.record.pace = Pace::default();
    }

    /// Takes note of what came of the attempt that is under way, where one is.
    pub fn tried(&mut self, outcome: &'static str, now: Instant) {
        let (Some(started), Some(provider)) = (self.attempt_started.take(), &self.record.provider) else { return };
        self.record.tried.push(Tried {
            provider: provider.clone(),
            model: self.record.asked_model.clone(),
            outcome,
            status: self.record.upstream_status,
            duration: now.saturating_duration_since(started),
        });
    }

    /// The same of one that failed before its answer went to the client. Nobody charges for an answer that says no; where
    /// there was none, or it broke off, somebody may.
    pub fn failed(&mut self, refusal: Option<&Refusal>, now: Instant) {
        self.failed_as(record::outcome(refusal, self.record.upstream_status), now);
    }

    /// The same, where what came of it has a name of its own.
    pub fn failed_as(&mut self, outcome: &'static str, now: Instant) {
        let says_no = self.record.upstream_status.is_some_and(|status| !(200..300).contains(&status));
        self.is_unanswered = std::mem::take(&mut self.asked.sent) && !says_no;
        self.tried(outcome, now);
    }

    /// Takes note that the answer of an earlier attempt goes to the client, for want of a better one. A stream that told an
    /// error had counted as not answered, and it tells itself what it used.
    pub fn returns_to(&mut self, provider: &ProviderId, status: u16, head: Duration) {
        self.record.provider = Some(provider.clone());
        self.record.upstream_status = Some(status);
        self.record.upstream_head = Some(head);
        if (200..300).contains(&status) {
            self.goes_on();
            self.record.unanswered = self.record.unanswered.saturating_sub(1);
            self.asked.sent = true;
        }
    }

    /// Whether the last attempt was sent and had no answer, so that one more is beside what may be charged already.
    pub fn is_unanswered(&self) -> bool {
        self.is_unanswered
    }

    /// Takes note that there is to be another attempt beside one that was not answered.
    pub fn goes_on(&mut self) {
        self.record.unanswered += u32::from(std::mem::take(&mut self.is_unanswered));
    }

    /// Shows a piece of the answer to the meter, and gives what goes on to the client.
    /// Absent: nothing does for now.
    pub fn passes(&mut self, piece: Bytes, now: Instant) -> Option<Bytes> {
        let Some(tap) = &mut self.tap else { return Some(piece) };
        let passed = tap.push(piece);
        let events = tap.seen().events;
        let pace = &mut self.record.pace;
        if events > pace.events {
            let since = now.saturating_duration_since(self.started);
            pace.tokens = since - *pace.first_token.get_or_insert(since);
            pace.events = events;
        }
        passed
    }

    /// Notes an answer that is there as a whole, of which nothing was noted.
    pub fn comes_whole(&mut self, answer: &Bytes) {
        if let Some(tap) = &mut self.tap {
            tap.whole(answer);
        }
    }

    /// What was seen of the answer so far.
    pub fn seen(&self) -> Seen {
        self.tap.as_ref().map(Tap::seen).unwrap_or_default()
    }

    /// Reckons, once its answer is there as a whole, what the call used and cost. Nothing of the answer passes later.
    pub fn reckon(&mut self) -> &Spent {
        let metered = self.tap.take().map(|tap| tap.finish());
        self.record.spent = spent::spent(&self.record, self.asked, metered, &self.snapshot);
        self.is_reckoned = true;
        &self.record.spent
    }

    /// Ends the call: what is left to say is how long it took, and what it used where that is not reckoned yet.
    pub fn settle(&mut self, now: Instant) -> &Record {
        if !self.record.tried.is_empty() || self.record.asked_model.is_some() {
            self.tried(self.record.outcome(), now);
        }
        if !self.is_reckoned {
            self.reckon();
        }
        // Where this side left before the answer began, its input is billed. A budget keeps more: all that was reserved.
        let was_left = self.record.spent.certainty == Certainty::Estimated && self.record.upstream_status.is_none();
        self.is_unanswered |= was_left;
        self.goes_on();
        self.record.duration = now.saturating_duration_since(self.started);
        self.record.overhead = self.record.duration.saturating_sub(self.waited);
        &self.record
    }
}

/// The first bytes of a text, cut at a character.
fn cut(text: &str, max: usize) -> String {
    text[..text.floor_char_boundary(max)].to_owned()
}

#[cfg(test)]
mod tests;
