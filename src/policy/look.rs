//! A call as a policy sees it, and what a policy may change of it.
//!
//! Invariant: a change is made at once or refused at once, so that the next policy sees it; after each one the body is
//! still a request that the gateway understands.
//! Never does: show a credential, of the client or of a provider; change a byte that no policy named.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::error::PolicyError;
use crate::flow::{Arrived, Underway, without_credentials};
use crate::meter::{self, Scan, Splice};
use crate::route::{Route, Target, headers};

/// One call, as far as it has come.
pub struct Look<'c> {
    arrived: &'c Arrived,
    underway: &'c mut Underway,
    head: Head<'c>,
    /// The client's, without its key.
    headers: HeaderMap,
    content: Option<Content>,
    now: SystemTime,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'c> {
    /// Its method.
    pub method: &'c Method,
    /// Its target: path and query.
    pub uri: &'c Uri,
    /// Its headers, the key among them.
    pub headers: &'c HeaderMap,
}

/// A body that was read, and what it asks for.
#[derive(Clone, Debug)]
pub struct Content {
    bytes: Bytes,
    model: Option<String>,
    stream: bool,
    changed: bool,
}

impl Content {
    /// A body and its scan; absent where there is none.
    pub fn of(bytes: &Bytes, scan: &Scan<'_>) -> Option<Self> {
        let model = scan.model.as_deref().map(str::to_owned);
        (!bytes.is_empty()).then(|| Self { bytes: bytes.clone(), model, stream: scan.stream, changed: false })
    }
}

impl<'c> Look<'c> {
    /// Makes a call visible. `content` is absent where there is no body, or where the route passes it unread.
    pub fn new(
        arrived: &'c Arrived,
        underway: &'c mut Underway,
        head: Head<'c>,
        content: Option<Content>,
        now: SystemTime,
    ) -> Self {
        let headers = without_credentials(head.headers);
        Self { arrived, underway, head, headers, content, now }
    }

    /// Ends the look: the body where it was changed.
    pub fn into_changed(self) -> Option<Bytes> {
        self.content.filter(|content| content.changed).map(|content| content.bytes)
    }

    /// The wall clock, read once for all policies of this call.
    pub fn now(&self) -> SystemTime {
        self.now
    }

    /// The `x-request-id` that the client will get, which the log lines have too.
    pub fn request_id(&self) -> &str {
        &self.arrived.record.request_id
    }

    /// The client's address, from a trusted proxy's `x-forwarded-for` where one is configured.
    pub fn client(&self) -> Option<IpAddr> {
        self.arrived.record.client
    }

    /// The public id of the key: `key_9f2c...`.
    pub fn key_id(&self) -> &str {
        self.underway.key.record.id.as_str()
    }

    /// The user that the key was issued to.
    pub fn user(&self) -> &str {
        &self.underway.key.record.username
    }

    /// The team that the key belongs to.
    pub fn team(&self) -> Option<&str> {
        self.underway.key.record.team.as_deref()
    }

    /// The method, as the client sent it.
    pub fn method(&self) -> &Method {
        self.head.method
    }

    /// The path, as the client sent it: `/openai/v1/models/gpt-4o`.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The query, as the client sent it, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.head.uri.query()
    }

    /// The pattern of the route that was found: `/openai/v1/models/{model}`.
    pub fn route(&self) -> &str {
        &self.underway.route.pattern
    }

    /// Whether the route passes bodies unread: uploads, media, WebSockets. There is no body to look at then.
    pub fn passes_unread(&self) -> bool {
        self.underway.route.kind.is_unread()
    }

    /// The name of the provider that the call goes to, as things stand.
    pub fn provider(&self) -> &str {
        self.underway.target.provider.id.as_str()
    }

    /// The client's headers without what may carry its key: `authorization`, `api-key`, `x-api-key`, a WebSocket's
    /// sub-protocol; and without its cookies. Most of the others go upstream.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The body, as things stand; absent where there is none, and on routes that pass it unread.
    pub fn body(&self) -> Option<&[u8]> {
        self.content.as_ref().map(|content| &content.bytes[..])
    }

    /// The model that the path or the route or else the body names, as things stand.
    pub fn model(&self) -> Option<&str> {
        let of_body = || self.content.as_ref()?.model.as_deref();
        self.underway.model.as_deref().or_else(of_body)
    }

    /// Whether the body asks for a stream.
    pub fn stream(&self) -> bool {
        self.content.as_ref().is_some_and(|content| content.stream)
    }

    /// Where the values of a member stand in the body, on its first level; each of them, where it stands there more than
    /// once, and in whatever way its name is escaped. For [`Self::splice`].
    pub fn values_of(&self, member: &str) -> Vec<Range<usize>> {
        self.body().map_or_else(Vec::new, |body| meter::values_of(body, member))
    }

    /// Sets a header of the request to the provider, in place of the client's and of the configuration's of this name.
    ///
    /// # Errors
    /// `Header` where it is the gateway's own (such as `host`, `content-length`, `x-request-id`), belongs to the
    /// connection, carries a credential, or could make another request of this one; `HeaderValue`.
    pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), PolicyError> {
        let reserved = || PolicyError::Header(name.to_owned());
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| reserved())?;
        let fixed = headers::is_own(&parsed) || headers::is_credential(&parsed) || headers::redirects(&parsed);
        if fixed || parsed.as_str().starts_with("sec-") || parsed == self.underway.target.provider.auth_header {
            return Err(reserved());
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| PolicyError::HeaderValue(name.to_owned()))?;
        // Nobody knows what it holds, so it is shown nowhere.
        value.set_sensitive(true);
        self.underway.headers.retain(|(other, _)| *other != parsed);
        self.underway.headers.push((parsed, value));
        Ok(())
    }

    /// Sends the call to another configured provider, under that one's base URL, key and timeouts. It must speak
    /// the same dialect and have a route of the same kind and model for the same method and path. The client's key needs no scope there: it is the policy's choice.
    /// It is the call's one target then: `models` and `only_listed_models` have no say.
    ///
    /// # Errors
    /// `UnknownProvider`, `NotServed`; `Header` where a header that was set carries that provider's key.
    pub fn use_provider(&mut self, name: &str) -> Result<(), PolicyError> {
        let snapshot = &self.arrived.snapshot;
        let found = snapshot.providers.iter().find(|provider| provider.id.as_str() == name);
        let provider = found.ok_or_else(|| PolicyError::UnknownProvider(name.to_owned()))?;
        let route = &self.underway.route;
        let path = format!("/{name}{}", route.below_provider(self.path()));
        let is_alike = |other: &Route| other.kind == route.kind && other.model == route.model;
        let speaks_alike = provider.dialect.name() == route.provider.dialect.name();
        if !speaks_alike || !snapshot.routes.find(self.method(), &path).is_some_and(|found| is_alike(found.route)) {
            return Err(PolicyError::NotServed(name.to_owned()));
        }
        if self.underway.headers.iter().any(|(set, _)| *set == provider.auth_header) {
            return Err(PolicyError::Header(provider.auth_header.as_str().to_owned()));
        }
        self.underway.target = Target { is_chosen: true, ..Target::new(provider.clone()) };
        Ok(())
    }

    /// Asks for another model: changes `model` in the body, or adds it. The key has to be good for it (otherwise 403
    /// `model_not_allowed`, once all policies were asked).
    ///
    /// # Errors
    /// `NoBody`, `TooLarge`.
    pub fn use_model(&mut self, model: &str) -> Result<(), PolicyError> {
        let bytes = self.content.as_ref().ok_or(PolicyError::NoBody)?.bytes.clone();
        let change = scan(&bytes)?.rename_model(model);
        self.splice_all(vec![change])
    }

    /// Puts a text in the place of a part of the body. All other bytes stay as they are.
    ///
    /// # Errors
    /// As [`Self::splice_all`].
    pub fn splice(&mut self, at: Range<usize>, with: impl Into<String>) -> Result<(), PolicyError> {
        self.splice_all(vec![Splice { at, with: with.into() }])
    }

    /// Makes several changes of the body at once, which costs one copy of it; all places are those before any change.
    ///
    /// # Errors
    /// `NoBody`; `OutOfBounds` where one is outside of the body or two overlap; `NotJson` where the gateway would not
    /// understand what comes of it; `TooLarge`. Nothing is changed then.
    pub fn splice_all(&mut self, changes: Vec<Splice>) -> Result<(), PolicyError> {
        let content = self.content.as_mut().ok_or(PolicyError::NoBody)?;
        if !meter::are_apart(&content.bytes, &changes) {
            return Err(PolicyError::OutOfBounds);
        }
        let bytes = meter::spliced(&content.bytes, changes);
        let max_body = self.arrived.snapshot.server.max_body;
        if bytes.len() as u64 > max_body {
            return Err(PolicyError::TooLarge(max_body));
        }
        let scan = scan(&bytes)?;
        let (model, stream) = (scan.model.map(Cow::into_owned), scan.stream);
        *content = Content { bytes, model, stream, changed: true };
        Ok(())
    }
}

fn scan(body: &Bytes) -> Result<Scan<'_>, PolicyError> {
    meter::scan(body).map_err(|fault| PolicyError::NotJson(fault.into_text()))
}
