//! Where a request carries its key.
//!
//! Invariant: a request with two credentials that could be read differently is refused, never resolved.
//! Never does: look at a query, a cookie or any header but the three, and a WebSocket's sub-protocols.

use http::header::{AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{KeyFault, Refusal};
use crate::route::headers::is_credential;

/// The key that a request presents: `Authorization: Bearer KEY` (the scheme in any case), else `api-key` or `x-api-key`.
///
/// Source: RFC 6750 section 2.1 for the first, Azure OpenAI's and Anthropic's API references (2026-11) for the others.
///
/// # Errors
/// `InvalidKey(Missing)` where there is none, `InvalidKey(Conflicting)` where there are two `Authorization` headers or
/// credentials that differ, `InvalidKey(Malformed)` where the header is no bearer credential.
pub fn presented(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut found: Option<&[u8]> = None;
    let mut bearers = headers.get_all(AUTHORIZATION).iter();
    if let Some(value) = bearers.next() {
        if bearers.next().is_some() {
            return Err(Refusal::InvalidKey(KeyFault::Conflicting));
        }
        found = Some(bearer(value.as_bytes()).ok_or(Refusal::InvalidKey(KeyFault::Malformed))?);
    }
    for name in [API_KEY, X_API_KEY] {
        for value in headers.get_all(name) {
            let key = value.as_bytes();
            if found.is_some_and(|other| other != key) {
                return Err(Refusal::InvalidKey(KeyFault::Conflicting));
            }
            found = Some(key);
        }
    }
    found.filter(|key| !key.is_empty()).ok_or(Refusal::InvalidKey(KeyFault::Missing))
}

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The key that a WebSocket's handshake presents: as [`presented`], or in the sub-protocol
/// `openai-insecure-api-key.KEY`, which is all that a browser can set.
///
/// Source: platform.openai.com/docs/guides/realtime-websocket, read 2026-11.
///
/// # Errors
/// As [`presented`]; a sub-protocol counts as one more header.
pub fn presented_by_websocket(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut found = match presented(headers) {
        Err(Refusal::InvalidKey(KeyFault::Missing)) => None,
        other => Some(other?),
    };
    for key in protocols(headers).filter_map(|protocol| protocol.strip_prefix(KEY_PROTOCOL)) {
        if found.is_some_and(|other| other != key) {
            return Err(Refusal::InvalidKey(KeyFault::Conflicting));
        }
        found = Some(key);
    }
    found.filter(|key| !key.is_empty()).ok_or(Refusal::InvalidKey(KeyFault::Missing))
}

/// The sub-protocols that a handshake asks for, without the one that is a key; absent where there is no other.
pub fn protocols_without_key(headers: &HeaderMap) -> Option<Vec<u8>> {
    let rest: Vec<&[u8]> = protocols(headers).filter(|protocol| !protocol.starts_with(KEY_PROTOCOL)).collect();
    (!rest.is_empty()).then(|| rest.join(&b", "[..]))
}

/// The headers of a request without what may carry its key, and without its cookies. Nothing that is left presents one.
pub fn without_credentials(headers: &HeaderMap) -> HeaderMap {
    let kept = |name: &HeaderName| !is_credential(name) && name != SEC_WEBSOCKET_PROTOCOL;
    let kept = headers.iter().filter(|(name, _)| kept(name));
    let mut rest: HeaderMap = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(protocols) = protocols_without_key(headers)
        && let Ok(protocols) = HeaderValue::from_bytes(&protocols)
    {
        rest.insert(SEC_WEBSOCKET_PROTOCOL, protocols);
    }
    rest
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lists = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes);
    lists.flat_map(|list| list.split(|&byte| byte == b',')).map(<[u8]>::trim_ascii).filter(|name| !name.is_empty())
}

const KEY_PROTOCOL: &[u8] = b"openai-insecure-api-key.";

/// The token of a bearer credential: the scheme, one space, and no white space after that.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?;
    let plain = !token.is_empty() && !token.iter().any(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(b"bearer") && plain).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    fn read(pairs: &[(&str, &str)]) -> Result<String, Refusal> {
        presented(&headers(pairs)).map(|key| String::from_utf8_lossy(key).into_owned())
    }

    #[test]
    fn reads_each_of_the_three_headers() {
        for pair in [("authorization", "Bearer k"), ("authorization", "bEaReR k"), ("api-key", "k"), ("x-api-key", "k")]
        {
            assert_eq!(read(&[pair]), Ok("k".to_owned()));
        }
        assert_eq!(read(&[("authorization", "Bearer k"), ("x-api-key", "k")]), Ok("k".to_owned()));
    }

    #[test]
    fn refuses_two_that_differ() {
        let conflicting = Err(Refusal::InvalidKey(KeyFault::Conflicting));
        assert_eq!(read(&[("authorization", "Bearer k"), ("authorization", "Bearer k")]), conflicting);
        assert_eq!(read(&[("authorization", "Bearer k"), ("api-key", "other")]), conflicting);
        assert_eq!(read(&[("api-key", "k"), ("api-key", "other")]), conflicting);
        assert_eq!(read(&[("api-key", "k"), ("x-api-key", "other")]), conflicting);
    }

    #[test]
    fn refuses_what_is_no_bearer_credential() {
        for value in [
            "fake",
            "Bearer",
            "Bearer ",
            "Bearer  fake",
            "Basic fake",
            "Bearer fake more",
            "Bearer\tfake",
            "Bearerfake",
        ] {
            assert_eq!(read(&[("authorization", value)]), Err(Refusal::InvalidKey(KeyFault::Malformed)), "{value}");
        }
        assert_eq!(read(&[]), Err(Refusal::InvalidKey(KeyFault::Missing)));
        assert_eq!(read(&[("api-key", "")]), Err(Refusal::InvalidKey(KeyFault::Missing)));
    }

    #[test]
    fn a_websocket_may_carry_its_key_among_the_sub_protocols() {
        let read = |pairs: &[(&str, &str)]| {
            let headers = headers(pairs);
            let key = presented_by_websocket(&headers).map(|key| String::from_utf8_lossy(key).into_owned());
            let rest = protocols_without_key(&headers).map(|rest| String::from_utf8_lossy(&rest).into_owned());
            (key, rest.unwrap_or_default())
        };
        const NAME: &str = "sec-websocket-protocol";
        let good = |rest: &str| (Ok("k".to_owned()), rest.to_owned());
        assert_eq!(read(&[(NAME, "realtime, openai-insecure-api-key.k")]), good("realtime"));
        assert_eq!(
            read(&[(NAME, "openai-insecure-api-key.k,openai-beta.realtime-v1"), (NAME, "realtime")]),
            good("openai-beta.realtime-v1, realtime")
        );
        assert_eq!(read(&[(NAME, "openai-insecure-api-key.k"), ("authorization", "Bearer k")]), good(""));
        assert_eq!(read(&[("authorization", "Bearer k"), (NAME, "realtime")]), good("realtime"));
        let fault = |pairs: &[(&str, &str)]| read(pairs).0;
        let conflicting = Err(Refusal::InvalidKey(KeyFault::Conflicting));
        assert_eq!(fault(&[(NAME, "openai-insecure-api-key.k"), ("authorization", "Bearer other")]), conflicting);
        assert_eq!(fault(&[(NAME, "openai-insecure-api-key.k, openai-insecure-api-key.l")]), conflicting);
        let missing = Err(Refusal::InvalidKey(KeyFault::Missing));
        assert_eq!(fault(&[(NAME, "realtime")]), missing);
        assert_eq!(fault(&[(NAME, "openai-insecure-api-key.")]), missing);
        assert_eq!(fault(&[("authorization", "Basic k")]), Err(Refusal::InvalidKey(KeyFault::Malformed)));
    }
}
