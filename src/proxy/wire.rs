//! Translations between the wire and the domain: request head to upstream head, provider's head to ours, refusal to reply.
//!
//! Invariant: the provider's key goes into the upstream head and nowhere else; the client's key, its cookies and what
//! belongs to one hop never reach the provider.
//! Never does: any IO, any decision.

mod outgoing;

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ALT_SVC, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_KEY, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VARY, VIA,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pingora::http::ResponseHeader;

use crate::config::{AnswerHeaders, Cors};
use crate::dialect::Dialect;
use crate::error::Refusal;
use crate::route::{Provider, Route};
use crate::units::Usd;

use super::limits::{Leeway, refusal_headers};
use super::upstream::{AnswerHead, Length};
pub(super) use outgoing::{Carries, Outgoing};

/// Headers of an answer that stay with the provider: of that hop, or about its own host.
const STAY_THERE: [HeaderName; 19] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TRANSFER_ENCODING,
    TE,
    TRAILER,
    UPGRADE,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    VIA,
    SET_COOKIE,
    ALT_SVC,
    STRICT_TRANSPORT_SECURITY,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    // What another gateway behind us reckoned.
    COST,
];

/// What the content type of a request means on a JSON route.
///
/// # Errors
/// `UnsupportedMediaType` and `UnsupportedContentEncoding`.
pub(super) fn content_type(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    const JSON: &[u8] = b"application/json";
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::UnsupportedContentEncoding);
    }
    let Some(given) = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes) else {
        return Ok(JSON);
    };
    let essence = given.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    match essence.as_slice() {
        // What `curl -d` and `fetch` with a string say of JSON; the body is scanned as JSON in any case.
        b"" | b"application/x-www-form-urlencoded" | b"text/plain" => Ok(JSON),
        json if json == JSON || json.ends_with(b"+json") => Ok(given),
        _ => Err(Refusal::UnsupportedMediaType),
    }
}

/// Tells whether a head asks for a WebSocket. Source: RFC 6455 section 4.2.1.
pub(super) fn is_upgrade(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, token: &str| {
        let mut tokens = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    let asks = has(UPGRADE, "websocket") && has(CONNECTION, "upgrade") && headers.contains_key(SEC_WEBSOCKET_KEY);
    *method == Method::GET && version == Version::HTTP_11 && asks
}

/// What is told on each answer, whoever made it.
pub(super) struct Facts<'a> {
    pub(super) request_id: &'a str,
    pub(super) cors: &'a Cors,
    pub(super) shown: AnswerHeaders,
    pub(super) request: &'a HeaderMap,
    /// HTTP/1.0 has no chunks, HTTP/2 frames bodies itself.
    pub(super) version: Version,
    /// Whether the client came over TLS.
    pub(super) secure: bool,
    /// What it tells of limits.
    pub(super) limits: Leeway,
    /// The API family in whose shape the gateway's own errors are.
    pub(super) dialect: &'static dyn Dialect,
}

/// What an answer's own headers tell of its call: the times of `server-timing` and `provider-response-time`, and the cost.
pub(super) struct Told {
    /// Absent where it is not known, or not known yet.
    pub(super) cost: Option<Usd>,
    pub(super) upstream_head: Duration,
    pub(super) gateway: Duration,
}

/// A header was made of bytes that no header may have. Impossible for what was parsed as one; told as a bug.
#[derive(Debug)]
pub(super) struct Unspeakable;

type Built = Result<Box<ResponseHeader>, Unspeakable>;

/// As the original's helmet sent it. In clear text browsers ignore it (RFC 6797 section 8.1), and it would mislead.
const HSTS: &str = "max-age=15552000; includeSubDomains";

const COST: HeaderName = HeaderName::from_static("x-gateway-cost-usd");

const EXPOSED: &str = "x-request-id, request-id, x-upstream-request-id, retry-after, retry-after-ms, x-ratelimit-limit-requests, \
    x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, \
    x-ratelimit-reset-requests, x-ratelimit-reset-tokens, provider-name, provider-response-time, server-timing, \
    x-gateway-cost-usd, x-gateway-max-output-tokens, x-upstream-ratelimit-limit-requests, \
    x-upstream-ratelimit-limit-tokens, x-upstream-ratelimit-remaining-requests, \
    x-upstream-ratelimit-remaining-tokens, x-upstream-ratelimit-reset-requests, x-upstream-ratelimit-reset-tokens, \
    x-should-retry";

/// The provider's head as the client sees it.
pub(super) fn answer(head: AnswerHead, provider: &Provider, told: &Told, facts: &Facts<'_>) -> Built {
    let mut headers = head.headers;
    let http2 = facts.version == Version::HTTP_2;
    if head.status == StatusCode::NO_CONTENT || (http2 && head.status == StatusCode::NOT_MODIFIED) {
        // RFC 9110 section 8.6 forbids it with 204; clients may wait for the bytes, or miss them behind a 304.
        headers.remove(CONTENT_LENGTH);
    }
    // What frames the body is ours to keep, whatever `connection` says of it.
    for name in named_by(headers.get_all(CONNECTION).iter()).into_iter().filter(|name| *name != CONTENT_LENGTH) {
        headers.remove(name);
    }
    for name in &STAY_THERE {
        headers.remove(name);
    }
    if let Some(theirs) = headers.remove("x-request-id") {
        headers.insert("x-upstream-request-id", theirs);
    }
    facts.limits.make_way(&mut headers);
    let mut reply = Builder::new(head.status, headers);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        reply.set(CONNECTION, HeaderValue::from_static("Upgrade"));
        reply.set(UPGRADE, HeaderValue::from_static("websocket"));
    }
    match head.length {
        Length::Chunked | Length::ToClose if facts.version == Version::HTTP_11 => {
            reply.set(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        // Said twice alike it is good, but a client may mind.
        Length::Known(length) => reply.set(CONTENT_LENGTH, HeaderValue::from(length)),
        _ => {}
    }
    reply.text("provider-name", provider.id.as_str())?;
    reply.set(HeaderName::from_static("provider-response-time"), whole_milliseconds(told.upstream_head));
    if facts.shown.server_timing {
        let [gateway, upstream] = [told.gateway, told.upstream_head].map(|time| time.as_secs_f64() * 1e3);
        reply.text("server-timing", &format!("gateway;dur={gateway:.2}, provider;dur={upstream:.2}"))?;
    }
    if let Some(cost) = told.cost.filter(|_| facts.shown.cost) {
        reply.set(COST, HeaderValue::from_str(&cost.to_string()).map_err(|_| Unspeakable)?);
    }
    reply.finish(facts)
}

fn whole_milliseconds(duration: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A refusal as the client sees it: the head, and the body to send behind it. `route` is where the call was to go,
/// `provider` who was asked.
pub(super) fn refusal(
    refusal: &Refusal,
    route: Option<&Route>,
    provider: Option<&str>,
    facts: &Facts<'_>,
) -> Result<(Box<ResponseHeader>, String), Unspeakable> {
    let body = facts.dialect.refusal(refusal, facts.request_id);
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = Builder::new(status, HeaderMap::with_capacity(16));
    reply.text("content-type", "application/json")?;
    reply.text("content-length", &body.len().to_string())?;
    reply.text(facts.dialect.request_id_header(), facts.request_id)?;
    if let Some(wait) = refusal.retry_after() {
        // Rounded up: sooner would be refused again.
        reply.set(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
    }
    for (name, value) in refusal_headers(refusal) {
        reply.text(name, &value)?;
    }
    let method = |route: &Route| route.method.as_ref().map_or("*", Method::as_str).to_ascii_lowercase();
    let scope = route.map(|route| format!("{}:{}", method(route), route.pattern));
    if let Some(challenge) = refusal.challenge(scope.as_deref()) {
        reply.text("www-authenticate", &challenge)?;
    }
    // The original named the provider on every answer that reached it, and on no other.
    if let Some(provider) = provider.filter(|_| refusal.is_of_upstream()) {
        reply.text("provider-name", provider)?;
    }
    Ok((reply.finish(facts)?, body))
}

/// A short answer of the gateway's own: a health check.
pub(super) fn own(status: StatusCode, body: &str, facts: &Facts<'_>) -> Built {
    let mut reply = Builder::new(status, HeaderMap::with_capacity(16));
    reply.text("content-type", "application/json")?;
    reply.text("cache-control", "no-store")?;
    reply.text("content-length", &body.len().to_string())?;
    reply.finish(facts)
}

/// The answer to a CORS preflight. Source: the Fetch standard, section 3.3 "HTTP extensions", read 2026-11.
pub(super) fn preflight(facts: &Facts<'_>) -> Built {
    let mut reply = Builder::new(StatusCode::NO_CONTENT, HeaderMap::with_capacity(16));
    reply.text("access-control-allow-methods", "GET,HEAD,PUT,PATCH,POST,DELETE")?;
    if let Some(asked) = facts.request.get("access-control-request-headers") {
        reply.set(HeaderName::from_static("access-control-allow-headers"), asked.clone());
    }
    reply.text("access-control-max-age", "600")?;
    reply.finish(facts)
}

/// The headers that `connection` makes headers of one hop (RFC 9110 section 7.6.1). Mostly none, which costs nothing.
fn named_by<'a>(connection: impl Iterator<Item = &'a HeaderValue>) -> Vec<HeaderName> {
    let tokens = connection.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let named =
        tokens.filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"));
    named.filter_map(|token| HeaderName::from_bytes(token).ok()).collect()
}

struct Builder(Parts);

impl Builder {
    fn new(status: StatusCode, headers: HeaderMap) -> Self {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = status;
        parts.headers = headers;
        Self(parts)
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.headers.insert(name, value);
    }

    fn text(&mut self, name: &'static str, value: &str) -> Result<(), Unspeakable> {
        self.set(HeaderName::from_static(name), HeaderValue::from_str(value).map_err(|_| Unspeakable)?);
        Ok(())
    }

    /// Adds what stands on every answer.
    fn finish(mut self, facts: &Facts<'_>) -> Built {
        self.text("x-request-id", facts.request_id)?;
        self.text("x-content-type-options", "nosniff")?;
        for (name, value) in facts.limits.headers() {
            self.text(name, &value)?;
        }
        if facts.secure {
            self.set(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
        }
        let origin = facts.request.get(ORIGIN);
        let allowed = match facts.cors {
            Cors::Any => Some(HeaderValue::from_static("*")),
            Cors::Only(origins) => {
                origin.filter(|origin| origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())).cloned()
            }
        };
        if matches!(facts.cors, Cors::Only(origins) if !origins.is_empty()) {
            self.0.headers.append(VARY, HeaderValue::from_name(ORIGIN));
        }
        if let Some(allowed) = allowed {
            self.set(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            self.set(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
        Ok(Box::new(ResponseHeader::from(self.0)))
    }
}

#[cfg(test)]
mod tests;
