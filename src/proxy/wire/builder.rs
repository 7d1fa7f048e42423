//! The head of an answer while it is put together: in a map, or, where Pingora writes only what frames the body, as lines.
//!
//! Invariant: what is set once stands once; no value holds what a header may not.
//! Never does: decide what an answer tells, but for what stands on every one.

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_LENGTH, ORIGIN, STRICT_TRANSPORT_SECURITY,
    TRANSFER_ENCODING, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use crate::config::Cors;

use super::{Built, Facts, REQUEST_ID, Unspeakable};

/// As the original's helmet sent it. In clear text browsers ignore it (RFC 6797 section 8.1), and it would mislead.
const HSTS: &str = "max-age=15552000; includeSubDomains";

pub(super) const EXPOSED: &str = "x-request-id, request-id, x-upstream-request-id, retry-after, retry-after-ms, x-ratelimit-limit-requests, \
    x-ratelimit-limit-tokens, x-ratelimit-remaining-requests, x-ratelimit-remaining-tokens, \
    x-ratelimit-reset-requests, x-ratelimit-reset-tokens, provider-name, provider-response-time, server-timing, \
    x-gateway-cost-usd, x-gateway-max-output-tokens, x-upstream-ratelimit-limit-requests, \
    x-upstream-ratelimit-limit-tokens, x-upstream-ratelimit-remaining-requests, \
    x-upstream-ratelimit-remaining-tokens, x-upstream-ratelimit-reset-requests, x-upstream-ratelimit-reset-tokens, \
    x-should-retry";

/// Lines of our own, and where their names are.
#[derive(Default)]
pub(super) struct Own {
    /// Others may stand behind them.
    pub(super) text: Vec<u8>,
    /// Where each name begins, and its length.
    names: Vec<(usize, usize)>,
    /// The lengths of the names, a bit each; the last one for all that are longer.
    lengths: u64,
}

impl Own {
    /// Whether one of these lines has this name, given in lower case. Most that are asked for differ in their length from all.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.lengths & bit(name.len()) != 0
            && self.names.iter().any(|&(at, length)| self.text.get(at..at + length) == Some(name))
    }

    fn line(&mut self, name: &HeaderName, value: &[u8]) {
        let (at, name) = (self.text.len(), name.as_str().as_bytes());
        self.names.push((at, name.len()));
        self.lengths |= bit(name.len());
        line(&mut self.text, name, value);
    }
}

fn bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Writes a line.
pub(super) fn line(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.reserve(name.len() + value.len() + 4);
    text.extend_from_slice(name);
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

/// A reply that is put together.
pub(super) struct Builder {
    parts: Parts,
    /// Where only what frames the body goes into the map: the lines of all else.
    lines: Option<Own>,
}

impl Builder {
    pub(super) fn new(status: StatusCode, headers: HeaderMap) -> Self {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = status;
        parts.headers = headers;
        Self { parts, lines: None }
    }

    /// Of lines, with room for so many bytes of them.
    pub(super) fn lines(status: StatusCode, room: usize) -> Self {
        let own = Own { text: Vec::with_capacity(room), names: Vec::with_capacity(16), lengths: 0 };
        Self { lines: Some(own), ..Self::new(status, HeaderMap::with_capacity(2)) }
    }

    /// Sets a header to what it may have been given by others.
    pub(super) fn set(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Unspeakable> {
        // As `HeaderValue` has it. All bytes are looked at, which goes by the dozen.
        let is_odd = |byte: u8| (byte < b' ' && byte != b'\t') || byte == 127;
        if value.iter().fold(false, |any, &byte| any | is_odd(byte)) {
            return Err(Unspeakable);
        }
        match self.line_of(name) {
            Some(own) => own.line(name, value),
            None => self.put(name, HeaderValue::from_bytes(value).map_err(|_| Unspeakable)?),
        }
        Ok(())
    }

    /// Sets a header to what it always is.
    pub(super) fn fixed(&mut self, name: &HeaderName, value: &'static str) {
        match self.line_of(name) {
            Some(own) => own.line(name, value.as_bytes()),
            None => self.put(name, HeaderValue::from_static(value)),
        }
    }

    /// Sets a header to a number.
    pub(super) fn number(&mut self, name: &HeaderName, value: u64) {
        match self.line_of(name) {
            Some(own) => own.line(name, itoa::Buffer::new().format(value).as_bytes()),
            None => self.put(name, HeaderValue::from(value)),
        }
    }

    /// The lines, where this header is one of them.
    fn line_of(&mut self, name: &HeaderName) -> Option<&mut Own> {
        self.lines.as_mut().filter(|_| *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING)
    }

    fn put(&mut self, name: &HeaderName, value: HeaderValue) {
        self.parts.headers.insert(name, value);
    }

    /// Adds what stands on every answer.
    pub(super) fn finish(mut self, facts: &Facts<'_>) -> Built {
        self.complete(facts)?;
        Ok(Box::new(ResponseHeader::from(self.parts)))
    }

    /// The same, with the lines beside it.
    pub(super) fn finish_lines(mut self, facts: &Facts<'_>) -> Result<(Box<ResponseHeader>, Own), Unspeakable> {
        self.complete(facts)?;
        Ok((Box::new(ResponseHeader::from(self.parts)), self.lines.unwrap_or_default()))
    }

    fn complete(&mut self, facts: &Facts<'_>) -> Result<(), Unspeakable> {
        self.set(&REQUEST_ID, facts.request_id.as_bytes())?;
        self.fixed(&X_CONTENT_TYPE_OPTIONS, "nosniff");
        for (name, value) in facts.limits.headers() {
            self.set(name, value.as_bytes())?;
        }
        if facts.secure {
            self.fixed(&STRICT_TRANSPORT_SECURITY, HSTS);
        }
        match facts.cors {
            Cors::Any => self.fixed(&ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            Cors::Only(origins) if origins.is_empty() => return Ok(()),
            Cors::Only(origins) => {
                match &mut self.lines {
                    // Beside the provider's own.
                    Some(own) => own.text.extend_from_slice(b"vary: origin\r\n"),
                    None => drop(self.parts.headers.append(VARY, HeaderValue::from_name(ORIGIN))),
                }
                let is_allowed = |origin: &&HeaderValue| origins.iter().any(|one| one.as_bytes() == origin.as_bytes());
                let Some(origin) = facts.request.get(ORIGIN).filter(is_allowed) else { return Ok(()) };
                self.set(&ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_bytes())?;
            }
        }
        self.fixed(&ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        Ok(())
    }
}
