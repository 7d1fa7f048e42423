//! Translations between the wire and the domain: request head to upstream head, provider's head to ours, refusal to reply.
//!
//! Invariant: the provider's key goes into the upstream head and nowhere else; the client's key, its cookies and what
//! belongs to one hop never reach the provider.
//! Never does: any IO, any decision.

pub(super) mod lines;
mod outgoing;
mod reply;

use std::time::Duration;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE, CACHE_CONTROL, CONNECTION,
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE,
    WWW_AUTHENTICATE,
};
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
use reply::{Reply, finish};

/// Whether a header of an answer, by its name in lower case, stays with the provider: it is of that hop, or about its own
/// host.
fn stays_there(name: &[u8]) -> bool {
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"te" | b"trailer" => true,
        b"upgrade" | b"proxy-authenticate" | b"proxy-authorization" | b"via" | b"set-cookie" | b"alt-svc" => true,
        b"strict-transport-security" | b"access-control-allow-credentials" | b"access-control-allow-headers" => true,
        b"access-control-allow-methods" | b"access-control-allow-origin" | b"access-control-expose-headers" => true,
        // What another gateway behind us reckoned.
        b"x-gateway-cost-usd" => true,
        _ => false,
    }
}

/// What the content type of a request means on a JSON route.
///
/// # Errors
/// `UnsupportedMediaType` and `UnsupportedContentEncoding`.
pub(super) fn content_type(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Refusal::UnsupportedContentEncoding);
    }
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(JSON) };
    let essence = given.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is = |one: &[u8]| essence.eq_ignore_ascii_case(one);
    let suffix = essence.last_chunk().is_some_and(|end: &[u8; 5]| end.eq_ignore_ascii_case(b"+json"));
    if is(b"application/json") || suffix {
        return Ok(given.clone());
    }
    // What `curl -d` and `fetch` with a string say of JSON; the body is scanned as JSON in any case.
    if is(b"") || is(b"application/x-www-form-urlencoded") || is(b"text/plain") {
        return Ok(JSON);
    }
    Err(Refusal::UnsupportedMediaType)
}

/// Tells whether a head asks for a WebSocket. Source: RFC 6455 section 4.2.1.
pub(super) fn is_upgrade(method: &Method, version: Version, headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, token: &str| {
        let mut tokens = headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    let asks = || has(UPGRADE, "websocket") && has(CONNECTION, "upgrade") && headers.contains_key(SEC_WEBSOCKET_KEY);
    *method == Method::GET && version == Version::HTTP_11 && asks()
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

const COST: HeaderName = HeaderName::from_static("x-gateway-cost-usd");
const PROVIDER_NAME: HeaderName = HeaderName::from_static("provider-name");
const PROVIDER_RESPONSE_TIME: HeaderName = HeaderName::from_static("provider-response-time");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-upstream-request-id");

/// The provider's head as the client sees it.
pub(super) fn answer(head: AnswerHead, provider: &Provider, told: &Told, facts: &Facts<'_>) -> Built {
    let mut headers = head.headers.into_map();
    let http2 = facts.version == Version::HTTP_2;
    if head.status == StatusCode::NO_CONTENT || (http2 && head.status == StatusCode::NOT_MODIFIED) {
        // RFC 9110 section 8.6 forbids it with 204; clients may wait for the bytes, or miss them behind a 304.
        headers.remove(CONTENT_LENGTH);
    }
    // What frames the body is ours to keep, whatever `connection` says of it.
    for name in named_by(headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes))
        .into_iter()
        .filter(|name| *name != CONTENT_LENGTH)
    {
        headers.remove(name);
    }
    for name in headers.keys().filter(|name| stays_there(name.as_str().as_bytes())).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    if let Some(theirs) = headers.remove(REQUEST_ID) {
        headers.insert(UPSTREAM_REQUEST_ID, theirs);
    }
    facts.limits.make_way(&mut headers);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        headers.fixed(&CONNECTION, "Upgrade");
        headers.fixed(&UPGRADE, "websocket");
    }
    framed(&mut headers, head.length, facts.version);
    self::told(&mut headers, provider, told, facts)?;
    finish(head.status, headers, facts)
}

/// Says how the body ends.
fn framed(reply: &mut HeaderMap, length: Length, version: Version) {
    match length {
        Length::Chunked | Length::ToClose if version == Version::HTTP_11 => {
            reply.fixed(&TRANSFER_ENCODING, "chunked");
        }
        // Said twice alike it is good, but a client may mind.
        Length::Known(length) => reply.number(&CONTENT_LENGTH, length),
        _ => {}
    }
}

/// Adds what an answer tells of its call.
fn told(reply: &mut impl Reply, provider: &Provider, told: &Told, facts: &Facts<'_>) -> Result<(), Unspeakable> {
    reply.set(&PROVIDER_NAME, provider.id.as_str().as_bytes())?;
    reply.number(&PROVIDER_RESPONSE_TIME, u64::try_from(told.upstream_head.as_millis()).unwrap_or(u64::MAX));
    if facts.shown.server_timing {
        let mut text = Vec::with_capacity(64);
        server_timing(&mut text, told.gateway, told.upstream_head);
        reply.set(&SERVER_TIMING, &text)?;
    }
    if let Some(cost) = told.cost.filter(|_| facts.shown.cost) {
        let mut room = Usd::ROOM;
        reply.set(&COST, cost.decimal(&mut room).as_bytes())?;
    }
    Ok(())
}

/// Source: the W3C's Server Timing, section 3, read 2026-11.
fn server_timing(text: &mut Vec<u8>, gateway: Duration, upstream: Duration) {
    for (name, time) in [("gateway;dur=", gateway), (", provider;dur=", upstream)] {
        // Of a millisecond, rounded. Floating point would take ten times as long, 128 bits twice.
        let part = (u64::from(time.subsec_nanos()) + 5_000) / 10_000;
        let hundredths = time.as_secs().saturating_mul(100_000).saturating_add(part);
        text.extend_from_slice(name.as_bytes());
        text.extend_from_slice(itoa::Buffer::new().format(hundredths / 100).as_bytes());
        let part = hundredths % 100;
        text.extend([b'.', b'0' + (part / 10) as u8, b'0' + (part % 10) as u8]);
    }
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
    let mut reply = HeaderMap::with_capacity(16);
    reply.fixed(&CONTENT_TYPE, "application/json");
    reply.number(&CONTENT_LENGTH, body.len() as u64);
    reply.set(&HeaderName::from_static(facts.dialect.request_id_header()), facts.request_id.as_bytes())?;
    if let Some(wait) = refusal.retry_after() {
        // Rounded up: sooner would be refused again.
        reply.number(&RETRY_AFTER, wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
    }
    for (name, value) in refusal_headers(refusal) {
        reply.set(name, value.as_bytes())?;
    }
    let method = |route: &Route| route.method.as_ref().map_or("*", Method::as_str).to_ascii_lowercase();
    let scope = route.map(|route| format!("{}:{}", method(route), route.pattern));
    if let Some(challenge) = refusal.challenge(scope.as_deref()) {
        reply.set(&WWW_AUTHENTICATE, challenge.as_bytes())?;
    }
    // The original named the provider on every answer that reached it, and on no other.
    if let Some(provider) = provider.filter(|_| refusal.is_of_upstream()) {
        reply.set(&PROVIDER_NAME, provider.as_bytes())?;
    }
    Ok((finish(status, reply, facts)?, body))
}

/// A short answer of the gateway's own: a health check.
pub(super) fn own(status: StatusCode, body: &str, facts: &Facts<'_>) -> Built {
    let mut reply = HeaderMap::with_capacity(16);
    reply.fixed(&CONTENT_TYPE, "application/json");
    reply.fixed(&CACHE_CONTROL, "no-store");
    reply.number(&CONTENT_LENGTH, body.len() as u64);
    finish(status, reply, facts)
}

/// The answer to a CORS preflight. Source: the Fetch standard, section 3.3 "HTTP extensions", read 2026-11.
pub(super) fn preflight(facts: &Facts<'_>) -> Built {
    let mut reply = HeaderMap::with_capacity(16);
    reply.fixed(&ACCESS_CONTROL_ALLOW_METHODS, "GET,HEAD,PUT,PATCH,POST,DELETE");
    if let Some(asked) = facts.request.get("access-control-request-headers") {
        reply.set(&ACCESS_CONTROL_ALLOW_HEADERS, asked.as_bytes())?;
    }
    reply.fixed(&ACCESS_CONTROL_MAX_AGE, "600");
    finish(StatusCode::NO_CONTENT, reply, facts)
}

/// The headers that `connection` makes headers of one hop (RFC 9110 section 7.6.1). Mostly none, which costs nothing.
fn named_by<'a>(connection: impl Iterator<Item = &'a [u8]>) -> Vec<HeaderName> {
    let tokens = connection.flat_map(|value| value.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    let named =
        tokens.filter(|token| !token.eq_ignore_ascii_case(b"keep-alive") && !token.eq_ignore_ascii_case(b"close"));
    named.filter_map(|token| HeaderName::from_bytes(token).ok()).collect()
}

#[cfg(test)]
mod tests;
