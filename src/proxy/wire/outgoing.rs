//! The head of an upstream request, out of the client's.
//!
//! Invariant: one place decides which of the client's headers go upstream; the provider's key goes nowhere else.
//! Never does: any IO.

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;

use crate::flow::protocols_without_key;
use crate::route::{Target, headers};

use super::{named_by, reply};

/// What an upstream request consists of.
pub(in crate::proxy) struct Outgoing<'a> {
    pub(in crate::proxy) method: &'a Method,
    pub(in crate::proxy) path: &'a str,
    pub(in crate::proxy) headers: &'a HeaderMap,
    pub(in crate::proxy) target: &'a Target,
    /// Headers that stand in place of any others of their names.
    pub(in crate::proxy) set: &'a [(HeaderName, HeaderValue)],
    pub(in crate::proxy) carries: Carries<'a>,
    pub(in crate::proxy) request_id: &'a str,
}

/// What an upstream request carries behind its head.
pub(in crate::proxy) enum Carries<'a> {
    /// A body that is at hand.
    Whole {
        content_type: Option<&'a [u8]>,
        /// Absent where the request has no body and its method needs none.
        length: Option<usize>,
    },
    /// The client's body as it comes, described by the client's own headers.
    Stream {
        /// Whether there is none.
        empty: bool,
    },
    /// A WebSocket.
    Upgrade,
}

impl Outgoing<'_> {
    /// The head as bytes, ready to send.
    pub(in crate::proxy) fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(1024);
        for part in [self.method.as_str(), " ", self.path, " HTTP/1.1\r\n"] {
            head.extend_from_slice(part.as_bytes());
        }
        self.each_header(|name, value| reply::line(&mut head, name.as_bytes(), value));
        head.extend_from_slice(b"\r\n");
        head
    }

    /// The head as Pingora's native loop sends it.
    pub(in crate::proxy) fn native_head(&self) -> pingora_core::Result<RequestHeader> {
        let mut head = RequestHeader::build(self.method.clone(), self.path.as_bytes(), None)?;
        let mut outcome = Ok(());
        self.each_header(|name, value| {
            if outcome.is_ok() {
                outcome = head.append_header(name.to_owned(), value).map(drop);
            }
        });
        outcome.map(|()| head)
    }

    /// All headers in their order. The one place that decides which of the client's go upstream.
    fn each_header(&self, mut put: impl FnMut(&str, &[u8])) {
        let provider = &*self.target.provider;
        put("host", provider.authority.as_bytes());
        if let Some(credential) = self.target.credential() {
            put(provider.auth_header.as_str(), credential.as_bytes());
        }
        put("accept-encoding", b"identity");
        put("x-request-id", self.request_id.as_bytes());
        self.each_of_the_body(&mut put);
        let is_set = |name: &HeaderName| self.set.iter().any(|(set, _)| set == name);
        let set = self.set.iter().filter(|(name, _)| *name != provider.auth_header);
        for (name, value) in provider.headers.iter().filter(|(name, _)| !is_set(name)).chain(set) {
            put(name.as_str(), value.as_bytes());
        }
        let is_given = |name: &str| {
            let own = provider.headers.iter().chain(self.set).any(|(set, _)| set == name);
            own || provider.auth_header == name || self.headers.contains_key(name)
        };
        for (name, value) in provider.dialect.default_headers().iter().filter(|(name, _)| !is_given(name)) {
            put(name, value.as_bytes());
        }
        let of_this_hop = named_by(self.headers.get_all(CONNECTION).iter().map(HeaderValue::as_bytes));
        for (name, value) in self.headers {
            let ours = *name == provider.auth_header || provider.headers.iter().any(|(set, _)| set == name);
            if !ours && !is_set(name) && !headers::stays_here(name) && !of_this_hop.contains(name) {
                put(name.as_str(), value.as_bytes());
            }
        }
    }

    fn each_of_the_body(&self, put: &mut dyn FnMut(&str, &[u8])) {
        let pass = |put: &mut dyn FnMut(&str, &[u8]), names: &[HeaderName]| {
            for name in names {
                self.headers.get_all(name).iter().for_each(|value| put(name.as_str(), value.as_bytes()));
            }
        };
        match self.carries {
            Carries::Whole { content_type, length } => {
                if let Some(content_type) = content_type {
                    put("content-type", content_type);
                }
                if let Some(length) = length {
                    put("content-length", length.to_string().as_bytes());
                }
            }
            Carries::Stream { empty } => {
                pass(put, &[CONTENT_TYPE, CONTENT_ENCODING]);
                let needs_length = matches!(*self.method, Method::POST | Method::PUT | Method::PATCH);
                let length = self.headers.get(CONTENT_LENGTH).filter(|_| !self.headers.contains_key(TRANSFER_ENCODING));
                let length = length.filter(|length| length.as_bytes().iter().all(u8::is_ascii_digit));
                match length {
                    // Said twice alike it is good; once is enough.
                    Some(length) => put("content-length", length.as_bytes()),
                    None if empty && needs_length => put("content-length", b"0"),
                    // Pingora chunks it.
                    None => {}
                }
            }
            Carries::Upgrade => {
                put("connection", b"Upgrade");
                put("upgrade", b"websocket");
                pass(put, &[SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS]);
                if let Some(protocols) = protocols_without_key(self.headers) {
                    put("sec-websocket-protocol", &protocols);
                }
            }
        }
    }
}
