//! API families: what an answer says about itself, and how errors are told, each family in a file.
//!
//! Invariant: everything that differs between families is behind [`Dialect`]; what is common reads the JSON.
//! Never does: IO; keep a byte of an answer; fail: what it cannot read is absent.

mod anthropic;
mod counts;
mod fault;
mod openai;
mod picture;
mod walk;

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use crate::error::Refusal;
use crate::units::Usage;

pub use counts::text;
pub use fault::{Class, class};
pub use picture::{Node, Slot};
pub(crate) use walk::stop;
pub use walk::{Found, Holes, Walk};

/// An API family.
pub trait Dialect: fmt::Debug + Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &'static str;

    /// What is looked at in an answer, or in the data of one of its events.
    fn picture(&self) -> &'static Node;

    /// Whether the data of an event, which is no JSON, ends the stream.
    fn is_end(&self, data: &[u8]) -> bool;

    /// What an event of a stream says.
    fn event(&self, read: &Read<'_>) -> Event;

    /// What was used, as far as this document says: added to what came before in the same answer. Absent: it does not.
    fn usage(&self, read: &Read<'_>, before: Option<&Usage>, lacked: Lacks) -> Option<(Usage, Lacks)>;

    /// What prices tell apart as a service tier, as a JSON string.
    fn tier<'a>(&self, read: &Read<'a>) -> Option<&'a [u8]> {
        read.raw(Slot::Tier)
    }

    /// What becomes of an event for a client that did not ask for the usage.
    fn without_usage(&self, read: &Read<'_>) -> Unasked;

    /// What the object of an error means.
    fn class(&self, error: &Value) -> Class;

    /// Headers that every request has, with what they are where neither the client nor the configuration says.
    fn default_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// The header in which this family's clients look for the id of a request.
    fn request_id_header(&self) -> &'static str {
        "x-request-id"
    }

    /// A refusal of the gateway's own as a body, in the shape that this family's clients read.
    fn refusal(&self, refusal: &Refusal, request_id: &str) -> String;

    /// The same as an event of a stream that has begun, with its blank line.
    fn refusal_in_stream(&self, refusal: &Refusal, request_id: &str) -> String;
}

/// OpenAI's, and of all who copy it.
pub const OPENAI: &dyn Dialect = &openai::OpenAi;

/// Anthropic's.
pub const ANTHROPIC: &dyn Dialect = &anthropic::Anthropic;

/// All dialects.
pub const ALL: &[&dyn Dialect] = &[OPENAI, ANTHROPIC];

/// A document that was read: what was found, and the bytes at the places that were noted.
#[derive(Clone, Debug)]
pub struct Read<'a> {
    /// What was found.
    pub found: &'a Found,
    /// The bytes, by [`Slot`].
    pub slots: [Option<&'a [u8]>; Slot::COUNT],
    /// The `event` field beside the data.
    pub name: Option<&'a [u8]>,
}

impl<'a> Read<'a> {
    /// The bytes at a place.
    pub fn raw(&self, slot: Slot) -> Option<&'a [u8]> {
        self.slots[slot as usize]
    }

    /// A string that says something, of at most so many bytes.
    pub fn text(&self, slot: Slot, max: usize) -> Option<Cow<'a, str>> {
        text(self.raw(slot)?, max)
    }

    /// What kind of event it is: its member `type`, or else its name. Kinds have no escapes.
    fn kind(&self) -> &'a [u8] {
        let quoted = self.raw(Slot::Kind).and_then(|raw| raw.strip_prefix(b"\"")?.strip_suffix(b"\""));
        quoted.or(self.name).unwrap_or_default()
    }
}

/// Which sides a usage does not tell: they are not there, or no count, and nothing else tells them. In the usage they are 0,
/// or too low.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacks {
    /// The input.
    pub input: bool,
    /// The output.
    pub output: bool,
}

/// What an event of a stream says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Whether it carries some of the answer.
    pub content: bool,
    /// Whether it is the last one.
    pub terminal: bool,
    /// Whether it tells an error.
    pub error: bool,
    /// UTF-8 bytes of text in it that a user can see.
    pub visible_bytes: u64,
}

/// What becomes of an event for a client that did not ask for the usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unasked {
    /// It passes as it is.
    Passes,
    /// It passes without the member.
    IsCut,
    /// It would not be there.
    IsDropped,
}
