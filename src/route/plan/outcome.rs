//! What can come of an attempt.
//!
//! Invariant: every fault that an attempt can have is one of these, so that the plan's rules are total.
//! Never does: judge; read an answer's body, whose meaning is the dialect's to tell.

use std::time::Duration;

use crate::dialect::Class;
use crate::error::{Refusal, Silence};

/// What came of an attempt, or of the answer after its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No answer: no connection, a reset, rubbish, or silence, as the client would be told.
    Failed(Refusal),
    /// An answer other than 2xx, read as far as it is needed to judge it.
    Answered(Answer),
    /// A stream told an error before its first content.
    StreamFailed(Class),
    /// A stream ended, by itself or cut, before its first content.
    StreamEmpty,
    /// The answer goes to the client from here on: no other attempt follows.
    Committed,
    /// The answer is complete.
    Completed,
    /// The answer broke after its commit: cut, stalled, or without its end.
    Broke,
}

/// An answer that is not 2xx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The provider's status.
    pub status: u16,
    /// What its body says of it.
    pub class: Class,
    /// When the provider may be asked again, where it says so ([`super::super::time_to_reset`]).
    pub reset: Option<Duration>,
}

/// What a fault means to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The same target may be tried once more.
    Passing,
    /// It was silent: a second attempt would be as long.
    Silent,
    /// Not the target's fault: the call is over.
    Ours,
}

impl Fault {
    pub(super) fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Upstream(_) | Refusal::UpstreamTimeout(Silence::Connect) => Self::Passing,
            Refusal::UpstreamTimeout(_) => Self::Silent,
            _ => Self::Ours,
        }
    }
}
