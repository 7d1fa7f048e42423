//! Every reason not to serve a call, and what each looks like from outside.
//!
//! Invariant: the functions are total: each reason has a status, a type, a code, a public text and a metric label, and
//! the public text never holds a secret, an internal address or a cause of another system.
//! Never does: any IO; what really happened upstream goes to the log, not through here.

mod limits;
mod policy;
mod upstream;

use std::borrow::Cow;
use std::time::Duration;

pub use limits::{Exceeded, Excess, Overload};
pub use policy::{Denial, PolicyError};
use upstream::{told_of_fault, told_of_silence};

/// Why a call was not served. See design.md section 5 for the table that this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No configured route has this method and path.
    UnknownRoute,
    /// No credential, one that we did not issue, or several that differ.
    InvalidKey(KeyFault),
    /// The key's `expires_at` has passed.
    ExpiredKey,
    /// The key was disabled or revoked.
    RevokedKey,
    /// The key has no scope for this route.
    ScopeMissing,
    /// The key's `models` list does not hold the model that was asked for.
    ModelNotAllowed,
    /// The key has a list of models, and nobody knows which model this route's calls are for.
    RouteNotMetered,
    /// The body is no JSON object, or names a field twice that we read. The text says where, never what.
    InvalidJson(Cow<'static, str>),
    /// The body is larger than `server.limits.max_body`, in bytes.
    BodyTooLarge(u64),
    /// The body did not arrive within `server.limits.body_timeout`.
    BodyTooSlow,
    /// The body could not be read: bad chunk framing, or it ended early.
    BadBody,
    /// A content type that a JSON route cannot take.
    UnsupportedMediaType,
    /// A `content-encoding` other than `identity`.
    UnsupportedContentEncoding,
    /// A request target of more than 8 KiB.
    UriTooLong,
    /// A head of more than `server.limits.max_header_bytes`.
    HeadersTooLarge,
    /// A header that HTTP or this route does not allow. The text names it.
    BadHeader(&'static str),
    /// The model that was asked for is not listed, where only listed ones may be asked for, or not served on this route.
    UnknownModel,
    /// A query that does not tell the model plainly, on a route that reads it there. The text says how.
    BadQuery(&'static str),
    /// A policy of the program that embeds the gateway refuses.
    Denied(Box<Denial>),
    /// The policy of this name failed, so that nobody knows whether the call may go on.
    PolicyFailed(&'static str, Box<PolicyError>),
    /// The provider refused the key that *we* hold for it (its 401 or 403).
    UpstreamAuth,
    /// All targets are left in peace for now; the first may be asked again after this time.
    NoHealthyUpstream(Duration),
    /// No connection, a reset, or an answer that is no HTTP.
    Upstream(UpstreamFault),
    /// The provider was silent for longer than its `timeouts` allow.
    UpstreamTimeout(Silence),
    /// A rate limit or a budget does not let the call through.
    Limited(Box<Exceeded>),
    /// The key has a budget, and where budgets are kept cannot be asked.
    BudgetStoreUnavailable,
    /// As much is being worked for at once as may be.
    Overloaded(Overload),
    /// The gateway is draining.
    ShuttingDown,
    /// An invariant of ours does not hold. Counted; the text is for the log.
    Bug(&'static str),
    /// The client left before an answer was complete. Nobody reads the answer; it is what the record says.
    ClientGone,
}

/// What was wrong with the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFault {
    /// There was none.
    Missing,
    /// `Authorization` is not `Bearer KEY`.
    Malformed,
    /// Two that differ, or two `Authorization` headers.
    Conflicting,
    /// Starts like one of ours, but its checksum does not fit: mistyped or cut.
    Mistyped,
    /// Nothing that we issued.
    Unknown,
}

/// How the way to the provider broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// Its name has not been resolved so far.
    Resolve,
    /// No TCP connection, or no verified TLS on it.
    Connect,
    /// The HTTP proxy on the way to it refused, cannot be reached, or answered rubbish.
    Proxy,
    /// It did not answer within `connect`.
    ProxySilent,
    /// The connection ended before the answer was complete.
    Reset,
    /// What came back is no valid HTTP/1.1.
    BadAnswer,
}

/// Which of a provider's `timeouts` ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// `connect`
    Connect,
    /// `first_byte`
    FirstByte,
    /// `first_token`
    FirstToken,
    /// `idle`
    Idle,
    /// `total`
    Total,
}

/// OpenAI's `error.type`. Source: openai-python and platform.openai.com/docs/guides/error-codes, read 2026-11.
const INVALID_REQUEST: &str = "invalid_request_error";
/// How each challenge begins.
const CHALLENGE: &str = "Bearer realm=\"AI Gateway\"";
/// OpenAI's `error.type` of a fault on the serving side.
const SERVER: &str = "server_error";

impl Refusal {
    /// The HTTP status. 499, as nginx logs it, stands for a client that left and is never sent.
    pub fn status(&self) -> u16 {
        self.row().0
    }

    /// OpenAI's `error.type`.
    pub fn kind(&self) -> &'static str {
        self.row().1
    }

    /// OpenAI's `error.code`; also the metric and log label.
    pub fn code(&self) -> &'static str {
        self.row().2
    }

    fn row(&self) -> (u16, &'static str, &'static str) {
        match self {
            Self::UnknownRoute => (404, INVALID_REQUEST, "unknown_url"),
            Self::InvalidKey(_) => (401, INVALID_REQUEST, "invalid_api_key"),
            Self::ExpiredKey => (401, INVALID_REQUEST, "expired_api_key"),
            Self::RevokedKey => (401, INVALID_REQUEST, "revoked_api_key"),
            Self::ScopeMissing => (403, INVALID_REQUEST, "insufficient_permissions"),
            Self::ModelNotAllowed => (403, INVALID_REQUEST, "model_not_allowed"),
            Self::RouteNotMetered => (403, INVALID_REQUEST, "route_not_metered"),
            Self::InvalidJson(_) => (400, INVALID_REQUEST, "invalid_json"),
            Self::BodyTooLarge(_) => (413, INVALID_REQUEST, "request_too_large"),
            Self::BodyTooSlow => (408, INVALID_REQUEST, "request_timeout"),
            Self::BadBody => (400, INVALID_REQUEST, "invalid_body"),
            Self::UnsupportedMediaType => (415, INVALID_REQUEST, "unsupported_media_type"),
            Self::UnsupportedContentEncoding => (415, INVALID_REQUEST, "unsupported_content_encoding"),
            Self::UriTooLong => (414, INVALID_REQUEST, "uri_too_long"),
            Self::HeadersTooLarge => (431, INVALID_REQUEST, "headers_too_large"),
            Self::BadHeader(_) => (400, INVALID_REQUEST, "invalid_header"),
            Self::UnknownModel => (404, INVALID_REQUEST, "model_not_found"),
            Self::BadQuery(_) => (400, INVALID_REQUEST, "invalid_query"),
            Self::Denied(denial) => (denial.status, INVALID_REQUEST, denial.code),
            Self::PolicyFailed(..) => (500, SERVER, "policy_failed"),
            Self::UpstreamAuth => (502, SERVER, "upstream_auth_error"),
            Self::NoHealthyUpstream(_) => (503, SERVER, "no_healthy_upstream"),
            Self::Upstream(_) => (502, SERVER, "upstream_error"),
            Self::UpstreamTimeout(_) => (504, SERVER, "upstream_timeout"),
            Self::Limited(exceeded) => exceeded.row(),
            Self::BudgetStoreUnavailable => (503, SERVER, "budget_store_unavailable"),
            Self::Overloaded(_) => (503, SERVER, "overloaded"),
            Self::ShuttingDown => (503, SERVER, "shutting_down"),
            Self::Bug(_) => (500, SERVER, "internal_error"),
            Self::ClientGone => (499, INVALID_REQUEST, "client_closed_request"),
        }
    }

    /// OpenAI's `error.param`: the field of the request that was wrong, where there is one.
    pub fn param(&self) -> Option<&'static str> {
        match self {
            Self::ModelNotAllowed | Self::UnknownModel | Self::BadQuery(_) => Some("model"),
            Self::Limited(exceeded) if exceeded.why == Excess::NotPriced => Some("model"),
            _ => None,
        }
    }

    /// What the client reads. The original gateway's three texts stand unchanged or begin the message: clients compare
    /// them (`shared/original.md` section 1.4).
    pub fn message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::UnknownRoute => "Route not found",
            Self::InvalidKey(KeyFault::Missing | KeyFault::Malformed | KeyFault::Unknown) => {
                "Invalid AI Gateway API key"
            }
            Self::InvalidKey(KeyFault::Conflicting) => {
                "Invalid AI Gateway API key: the request carries more than one credential"
            }
            Self::InvalidKey(KeyFault::Mistyped) => {
                "Invalid AI Gateway API key: its checksum does not match, so it was mistyped or cut short"
            }
            Self::ExpiredKey => "Invalid AI Gateway API key: it has expired",
            Self::RevokedKey => "Invalid AI Gateway API key: it was revoked",
            Self::ScopeMissing => "Invalid AI Gateway API scope",
            Self::ModelNotAllowed => "This API key may not use the model that the request asks for",
            Self::RouteNotMetered => {
                "This API key is limited to some models, tokens or cost, and on this route the gateway does not see which model is asked for, nor what a call uses"
            }
            Self::InvalidJson(what) => return format!("The request body is not valid JSON: {what}").into(),
            Self::BodyTooLarge(limit) => {
                return format!("The request body is larger than the {limit} bytes that this gateway accepts").into();
            }
            Self::BodyTooSlow => "The request body did not arrive in time",
            Self::BadBody => "The request body could not be read: its framing is broken or it ended early",
            Self::UnsupportedMediaType => "This route takes a JSON body: send content-type: application/json",
            Self::UnsupportedContentEncoding => {
                "Compressed request bodies are not accepted: leave out content-encoding"
            }
            Self::UriTooLong => "The request target is longer than 8192 bytes",
            Self::HeadersTooLarge => "The request headers are larger than this gateway accepts",
            Self::BadHeader(what) => return format!("The request has an invalid header: {what}").into(),
            Self::UnknownModel => "The model that the request asks for is not available here",
            Self::NoHealthyUpstream(_) => {
                "No provider is ready to serve this request: all that can have failed or are at their limits; try again later"
            }
            Self::BadQuery(what) => return format!("The request has an invalid query: {what}").into(),
            Self::Denied(denial) => return denial.message.clone(),
            Self::PolicyFailed(..) => "A policy of this gateway failed; the operator has to mend this",
            Self::UpstreamAuth => "The provider refused the gateway's own credential; the operator has to mend this",
            Self::Upstream(fault) => told_of_fault(*fault),
            Self::UpstreamTimeout(silence) => told_of_silence(*silence),
            Self::Limited(exceeded) => return exceeded.message().into(),
            Self::BudgetStoreUnavailable => "The budget of this API key cannot be looked up for now; try again",
            Self::Overloaded(what) => what.message(),
            Self::ShuttingDown => "The gateway is shutting down; try again",
            Self::Bug(_) => "The gateway failed to handle this request",
            Self::ClientGone => "The client closed the request",
        })
    }

    /// The value of `WWW-Authenticate`, which a 401 must have (RFC 9110 section 11.6.1) and which may say more than the
    /// message, whose text old clients compare: RFC 6750 section 3. `scope` is the one that was missing.
    pub fn challenge(&self, scope: Option<&str>) -> Option<String> {
        let (error, description) = match self {
            Self::InvalidKey(KeyFault::Missing) => {
                return Some(format!("{CHALLENGE}, error_description=\"no key was sent\""));
            }
            Self::InvalidKey(KeyFault::Malformed) => ("invalid_request", "Authorization is not Bearer KEY"),
            Self::InvalidKey(KeyFault::Conflicting) => ("invalid_request", "more than one credential"),
            Self::InvalidKey(KeyFault::Mistyped) => ("invalid_token", "the checksum of the key does not match"),
            Self::InvalidKey(KeyFault::Unknown) => ("invalid_token", "this gateway did not issue the key"),
            Self::ExpiredKey => ("invalid_token", "the key has expired"),
            Self::RevokedKey => ("invalid_token", "the key was revoked"),
            Self::ScopeMissing => ("insufficient_scope", "the key does not have the scope"),
            Self::Denied(denial) if denial.status == 401 => return Some(CHALLENGE.to_owned()),
            _ => return None,
        };
        let scope = scope.filter(|_| *self == Self::ScopeMissing).map(|scope| format!(", scope=\"{scope}\""));
        let scope = scope.unwrap_or_default();
        Some(format!("{CHALLENGE}, error=\"{error}\", error_description=\"{description}\"{scope}"))
    }

    /// How long the client should wait before it tries again, where waiting can help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited(exceeded) => exceeded.retry_after(),
            // Headers have whole seconds; one too few would find the target still at rest.
            Self::NoHealthyUpstream(wait) => {
                Some(Duration::from_secs((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)))
            }
            Self::Denied(denial) => denial.retry_after,
            Self::Overloaded(_) | Self::ShuttingDown | Self::BudgetStoreUnavailable => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// What the log says of a fault of ours, which no client is told.
    pub fn cause(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Bug(which) => Some(Cow::Borrowed(which)),
            Self::PolicyFailed(policy, error) => Some(format!("policy {policy}: {error}").into()),
            _ => None,
        }
    }

    /// What OpenAI's SDKs are told by `x-should-retry`, where it is not what they make of the status themselves: a budget
    /// that is spent does not come back within their patience (openai-python, `_should_retry`, read 2026-11).
    pub fn should_retry(&self) -> Option<bool> {
        matches!(self, Self::Limited(exceeded) if exceeded.why == Excess::Spent).then_some(false)
    }

    /// The limit that refused, as metrics label it.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::Limited(exceeded) => Some(exceeded.limit.name()),
            Self::BudgetStoreUnavailable => Some("budget_store"),
            Self::Overloaded(what) => Some(what.name()),
            _ => None,
        }
    }

    /// Tells whether the way to the provider, or the provider, is what failed.
    pub fn is_of_upstream(&self) -> bool {
        matches!(self, Self::UpstreamAuth | Self::Upstream(_) | Self::UpstreamTimeout(_))
    }

    /// The answer's body: OpenAI's error object. All four members are always there, as its SDKs expect.
    pub fn body(&self) -> String {
        let error = serde_json::json!({
            "error": {
                "message": self.message(),
                "type": self.kind(),
                "param": self.param(),
                "code": self.code(),
            }
        });
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_texts_of_the_original_stand_unchanged() {
        let text = |refusal: Refusal| refusal.message().into_owned();
        assert_eq!(text(Refusal::UnknownRoute), "Route not found");
        assert_eq!(text(Refusal::InvalidKey(KeyFault::Missing)), "Invalid AI Gateway API key");
        assert_eq!(text(Refusal::InvalidKey(KeyFault::Unknown)), "Invalid AI Gateway API key");
        assert_eq!(text(Refusal::ScopeMissing), "Invalid AI Gateway API scope");
        for other in [Refusal::InvalidKey(KeyFault::Mistyped), Refusal::ExpiredKey, Refusal::RevokedKey] {
            assert!(text(other).starts_with("Invalid AI Gateway API key"));
        }
    }

    #[test]
    fn the_body_is_openais_error_object() {
        assert_eq!(
            Refusal::ScopeMissing.body(),
            r#"{"error":{"message":"Invalid AI Gateway API scope","type":"invalid_request_error","param":null,"code":"insufficient_permissions"}}"#
        );
    }

    #[test]
    fn a_challenge_says_more_than_the_message() {
        let missing = Refusal::InvalidKey(KeyFault::Missing).challenge(None);
        assert_eq!(missing.as_deref(), Some(r#"Bearer realm="AI Gateway", error_description="no key was sent""#));
        let scope = Refusal::ScopeMissing.challenge(Some("get:/openai/v1/models")).expect("a challenge");
        assert!(scope.ends_with(r#"scope="get:/openai/v1/models""#), "{scope}");
        assert_eq!(Refusal::UnknownRoute.challenge(None), None);
    }

    #[test]
    fn a_rest_is_told_in_whole_seconds_and_never_too_short() {
        let told =
            |ms| Refusal::NoHealthyUpstream(Duration::from_millis(ms)).retry_after().map(|wait| wait.as_millis());
        assert_eq!([0, 1, 1000, 1001].map(told), [Some(1000), Some(1000), Some(1000), Some(2000)]);
    }

    #[test]
    fn a_policy_that_refuses_speaks_and_one_that_failed_does_not() {
        let denial = Denial::new(429, "too_eager", "Once a minute").expect("a status");
        let refusal = Refusal::Denied(Box::new(denial.retry_after(Duration::from_secs(60))));
        assert_eq!((refusal.status(), refusal.retry_after()), (429, Some(Duration::from_secs(60))));
        let expected =
            r#"{"error":{"message":"Once a minute","type":"invalid_request_error","param":null,"code":"too_eager"}}"#;
        assert_eq!(refusal.body(), expected);
        for status in [0, 200, 399, 499, 500] {
            assert_eq!(Denial::new(status, "x", "y"), Err(PolicyError::Status(status)));
        }
        let failed = Refusal::PolicyFailed("hours", Box::new(PolicyError::UnknownProvider("inner".to_owned())));
        assert!(!failed.body().contains("inner"), "{}", failed.body());
        assert_eq!(failed.cause().as_deref(), Some("policy hours: there is no provider \"inner\""));
        let unknown = Refusal::Denied(Box::new(Denial::new(401, "no_badge", "Show a badge").expect("a status")));
        assert_eq!(unknown.challenge(None).as_deref(), Some(CHALLENGE));
    }

    #[test]
    fn a_message_of_a_bug_does_not_tell_the_invariant() {
        assert!(!Refusal::Bug("route 7 vanished").body().contains("route 7"));
    }
}
