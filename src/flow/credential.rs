//! Where a request carries its key.
//!
//! Invariant: a request with two credentials that could be read differently is refused, never resolved.
//! Never does: look at a query, a cookie or any header but the three.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::error::{KeyFault, Refusal};

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
    for name in ["api-key", "x-api-key"] {
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
    use http::{HeaderName, HeaderValue};

    fn read(pairs: &[(&str, &str)]) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        presented(&headers).map(|key| String::from_utf8_lossy(key).into_owned())
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
}
