//! What a policy of the program that embeds the gateway says no with, and how it can itself fail.
//!
//! Invariant: a policy refuses with a status that blames the request; where the policy is to blame, the client is told no
//! more than that the gateway failed, and the log why.
//! Never does: decide anything.

use std::borrow::Cow;
use std::time::Duration;

/// A policy's reason to refuse a call, as its client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub(super) status: u16,
    pub(super) code: &'static str,
    pub(super) message: Cow<'static, str>,
    pub(super) retry_after: Option<Duration>,
}

impl Denial {
    /// A refusal with status 403. See [`Self::new`].
    pub fn forbidden(code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status: 403, code, message: message.into(), retry_after: None }
    }

    /// A refusal. `code` is the answer's `error.code`, which programs compare and the access line tells; `message` is for
    /// people.
    ///
    /// # Errors
    /// [`PolicyError::Status`] for a status that is not 400 to 498. (499 is what records say of a client that left.)
    pub fn new(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Result<Self, PolicyError> {
        match status {
            400..=498 => Ok(Self { status, ..Self::forbidden(code, message) }),
            _ => Err(PolicyError::Status(status)),
        }
    }

    /// Tells the client when to try again, in whole seconds, as `retry-after`.
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }
}

/// Why a policy failed. The client gets a 500 `policy_failed` without the reason; the reason is logged with the policy's
/// name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A refusal was to have a status that does not blame the request.
    #[error("a policy refuses with a status from 400 to 498, not {0}")]
    Status(u16),
    /// A header that is the gateway's own, a credential, or makes another request of the one that was authorised.
    #[error("the header {0:?} is not for a policy to set")]
    Header(String),
    /// The value of this header holds what no header may.
    #[error("the value of the header {0:?} holds characters that a header cannot carry")]
    HeaderValue(String),
    /// No provider of this name is configured.
    #[error("there is no provider {0:?}")]
    UnknownProvider(String),
    /// The provider of this name has no route of the same kind for the method and the path of the call.
    #[error("the provider {0:?} has no such route as the call's")]
    NotServed(String),
    /// The body was to be changed of a call that has none, or whose route passes it unread.
    #[error("there is no body to change: the call has none, or its route passes it unread")]
    NoBody,
    /// A change names a place outside of the body, or one that another change of the same time names too.
    #[error("a change is outside of the body, or overlaps another one")]
    OutOfBounds,
    /// What a change leaves is no JSON object, or names a field twice that the gateway reads.
    #[error("the changed body is no request: {0}")]
    NotJson(String),
    /// The changed body is larger than `server.limits.max_body`, in bytes.
    #[error("the changed body is larger than the {0} bytes of server.limits.max_body")]
    TooLarge(u64),
    /// It panicked.
    #[error("it panicked")]
    Panicked,
    /// Its own reason.
    #[error("{0}")]
    Other(Cow<'static, str>),
}
