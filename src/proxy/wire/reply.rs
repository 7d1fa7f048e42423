//! The head of an answer while it is put together: in a map, which Pingora writes, or as the lines that go out over HTTP/1.1.
//!
//! Invariant: what is set once stands once; no value holds what a header may not; a provider's line of a name that is set
//! here does not pass (`lines::pass` and what it asks have them all).
//! Never does: decide what an answer tells, but for what stands on every one.

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, STRICT_TRANSPORT_SECURITY, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::config::Cors;

use super::{Built, Facts, REQUEST_ID, Unspeakable};

/// As the original's helmet sent it. In clear text browsers ignore it (RFC 6797 section 8.1), and it would mislead.
const HSTS: &str = "max-age=15552000; includeSubDomains";

macro_rules! exposed {
    () => {
        "x-request-id, request-id, x-upstream-request-id, retry-after, retry-after-ms, x-ratelimit-limit-requests, \
         x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, \
         x-ratelimit-reset-requests, x-ratelimit-reset-tokens, provider-name, provider-response-time, server-timing, \
         x-gateway-cost-usd, x-gateway-max-output-tokens, x-upstream-ratelimit-limit-requests, \
         x-upstream-ratelimit-limit-tokens, x-upstream-ratelimit-remaining-requests, \
         x-upstream-ratelimit-remaining-tokens, x-upstream-ratelimit-reset-requests, x-upstream-ratelimit-reset-tokens, \
         x-should-retry"
    };
}

pub(super) const EXPOSED: &str = exposed!();
const SNIFF: &str = "nosniff";
const ANY: &str = "*";
/// What stands on every answer where any origin may read it, written at once.
const FOR_ANY_ORIGIN: &str = concat!(
    "x-content-type-options: nosniff\r\naccess-control-allow-origin: *\r\naccess-control-expose-headers: ",
    exposed!(),
    "\r\n"
);

/// The lines that the gateway writes itself.
pub(super) struct Own(pub(super) Vec<u8>);

/// Writes a line. Not inlined, as little here is: a head has a dozen of them, and between two calls the processor forgets their
/// code, so that less of it is what counts.
#[inline(never)]
pub(super) fn line(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.reserve(name.len() + value.len() + 4);
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// Writes a line of a number.
#[inline(never)]
pub(super) fn number(text: &mut Vec<u8>, name: &[u8], value: u64) {
    line(text, name, itoa::Buffer::new().format(value).as_bytes());
}

/// Whether a header may have this value, as `HeaderValue` has it. All bytes are looked at, which goes by the dozen.
#[inline(never)]
fn is_value(value: &[u8]) -> bool {
    let is_odd = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 127;
    !value.iter().fold(false, |any, &byte| any | is_odd(byte))
}

/// A head that is put together.
pub(super) trait Reply {
    /// Sets a header to a value that was looked at.
    fn put(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Unspeakable>;

    /// Sets a header to what it always is.
    fn fixed(&mut self, name: &HeaderName, value: &'static str);

    /// Sets a header to a number.
    fn number(&mut self, name: &HeaderName, value: u64);

    /// Adds what stands on every answer that any origin may read.
    fn open_to_any_origin(&mut self);

    /// Tells caches that the answer depends on who asks, beside what the provider tells them.
    fn varies_by_origin(&mut self);

    /// Sets a header to what it may have been given by others.
    fn set(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Unspeakable> {
        if is_value(value) { self.put(name, value) } else { Err(Unspeakable) }
    }

    /// Adds what stands on every answer.
    fn complete(&mut self, facts: &Facts<'_>) -> Result<(), Unspeakable> {
        self.set(&REQUEST_ID, facts.request_id.as_bytes())?;
        for (name, value) in facts.limits.headers() {
            self.set(name, value.as_bytes())?;
        }
        if facts.secure {
            self.fixed(&STRICT_TRANSPORT_SECURITY, HSTS);
        }
        let origins = match facts.cors {
            Cors::Any => {
                self.open_to_any_origin();
                return Ok(());
            }
            Cors::Only(origins) => origins,
        };
        self.fixed(&X_CONTENT_TYPE_OPTIONS, SNIFF);
        if origins.is_empty() {
            return Ok(());
        }
        self.varies_by_origin();
        let is_allowed = |origin: &&HeaderValue| origins.iter().any(|one| one.as_bytes() == origin.as_bytes());
        let Some(origin) = facts.request.get(ORIGIN).filter(is_allowed) else { return Ok(()) };
        self.set(&ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_bytes())?;
        self.fixed(&ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        Ok(())
    }
}

impl Reply for HeaderMap {
    fn put(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Unspeakable> {
        self.insert(name, HeaderValue::from_bytes(value).map_err(|_| Unspeakable)?);
        Ok(())
    }

    fn fixed(&mut self, name: &HeaderName, value: &'static str) {
        self.insert(name, HeaderValue::from_static(value));
    }

    fn number(&mut self, name: &HeaderName, value: u64) {
        self.insert(name, HeaderValue::from(value));
    }

    fn open_to_any_origin(&mut self) {
        self.fixed(&X_CONTENT_TYPE_OPTIONS, SNIFF);
        self.fixed(&ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        self.fixed(&ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }

    fn varies_by_origin(&mut self) {
        self.append(VARY, HeaderValue::from_name(ORIGIN));
    }
}

impl Reply for Own {
    fn put(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Unspeakable> {
        line(&mut self.0, name.as_str().as_bytes(), value);
        Ok(())
    }

    fn fixed(&mut self, name: &HeaderName, value: &'static str) {
        line(&mut self.0, name.as_str().as_bytes(), value.as_bytes());
    }

    fn number(&mut self, name: &HeaderName, value: u64) {
        number(&mut self.0, name.as_str().as_bytes(), value);
    }

    fn open_to_any_origin(&mut self) {
        self.0.extend_from_slice(FOR_ANY_ORIGIN.as_bytes());
    }

    fn varies_by_origin(&mut self) {
        self.0.extend_from_slice(b"vary: origin\r\n");
    }
}

/// Completes a head that Pingora writes.
pub(super) fn finish(status: StatusCode, mut headers: HeaderMap, facts: &Facts<'_>) -> Built {
    headers.complete(facts)?;
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    Ok(Box::new(ResponseHeader::from(parts)))
}
