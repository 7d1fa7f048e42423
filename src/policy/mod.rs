//! What a program that embeds the gateway has to say about each call: a [`Policy`] looks at it before it goes anywhere, and
//! sees its record when it is over.
//!
//! ```
//! use ai_gateway::flow::Record;
//! use ai_gateway::policy::{Denial, Look, Policy, PolicyError, Verdict};
//!
//! /// Guests get the small model, and nothing else but chat.
//! struct Guests;
//!
//! impl Policy for Guests {
//!     fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
//!         if call.team() != Some("guests") {
//!             return Ok(Verdict::Allow);
//!         }
//!         if !call.path().ends_with("/chat/completions") {
//!             return Ok(Verdict::Refuse(Denial::forbidden("guests_chat_only", "Guests may only chat")));
//!         }
//!         call.use_model("gpt-4o-mini")?;
//!         call.set_header("x-priority", "low")?;
//!         Ok(Verdict::Allow)
//!     }
//!
//!     fn settled(&self, record: &Record) {
//!         assert!(record.status >= 100);
//!     }
//! }
//! ```
//!
//! Policies are given to [`crate::server::start`] in [`crate::server::Options::policies`] and asked in that order.
//! `examples/` has three programs.
//!
//! Invariant: a policy that fails or panics fails its call (500 `policy_failed`) and nothing else; it never sees the key
//! that the client sent; what it changes has to pass the same checks as what the client sent.
//! Never does: wait, read a clock, or know the adapter.

mod look;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::error::Refusal;
use crate::flow::Record;

pub use crate::error::{Denial, PolicyError};
pub use look::{Content, Head, Look};

/// A rule of the program that embeds the gateway. All of it is optional.
///
/// It runs on the worker threads that carry every other call, so it must not block: no IO, no lock that is held for long,
/// no sleep. What it needs from elsewhere, a task of the program's own keeps at hand for it.
pub trait Policy: Send + Sync + 'static {
    /// What the log calls it: its type, unless it says otherwise.
    fn name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// Looks at a call and says whether it may go on. It is asked once a call, after route, key and scope were found good
    /// (a call without a good key is never seen); on a `json` route also after the body was read and the key was found
    /// good for its model, on the others before anything of the body is read.
    ///
    /// # Errors
    /// [`PolicyError`] where it cannot say: the call is refused with 500 `policy_failed`, and the log says why. Every
    /// change that [`Look`] refuses is one, so that `?` fails closed.
    fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
        let _ = call;
        Ok(Verdict::Allow)
    }

    /// Sees the record of a call that is over: exactly once for each call, served, refused (by a policy or before any was
    /// asked) or cut. Health checks and CORS preflights are no calls. Metrics and access line are written before.
    fn settled(&self, record: &Record) {
        let _ = record;
    }
}

/// What a policy says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on, to the next policy or to the provider.
    Allow,
    /// It is not served; no further policy is asked.
    Refuse(Denial),
}

/// The policies of a gateway, in their order. Where there are none, asking them is one branch.
#[derive(Clone, Default)]
pub struct Policies(Option<Arc<[Arc<dyn Policy>]>>);

impl Policies {
    /// Takes over what the program hands in.
    pub fn new(policies: Vec<Arc<dyn Policy>>) -> Self {
        Self((!policies.is_empty()).then(|| policies.into()))
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Asks each, until one does not allow the call.
    ///
    /// # Errors
    /// `Denied`, and `PolicyFailed` where one failed or panicked.
    pub fn look(&self, call: &mut Look<'_>) -> Result<(), Refusal> {
        for policy in self.each() {
            let verdict = catch_unwind(AssertUnwindSafe(|| policy.look(call))).unwrap_or(Err(PolicyError::Panicked));
            match verdict {
                Ok(Verdict::Allow) => {}
                Ok(Verdict::Refuse(denial)) => return Err(Refusal::Denied(Box::new(denial))),
                Err(error) => return Err(Refusal::PolicyFailed(policy.name(), Box::new(error))),
            }
        }
        Ok(())
    }

    /// Shows each the record of a call that is over; yields how many of them panicked.
    pub fn settled(&self, record: &Record) -> usize {
        let panics = |policy: &&Arc<dyn Policy>| catch_unwind(AssertUnwindSafe(|| policy.settled(record))).is_err();
        self.each().filter(panics).count()
    }

    fn each(&self) -> impl Iterator<Item = &Arc<dyn Policy>> {
        self.0.iter().flat_map(|policies| policies.iter())
    }
}

#[cfg(test)]
mod tests;
