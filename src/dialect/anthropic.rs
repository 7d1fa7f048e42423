//! Anthropic's API: Messages.
//!
//! Sources: platform.claude.com/docs/en/api/messages, .../api/errors, .../api/rate-limits, .../api/versioning,
//! .../build-with-claude/streaming and .../prompt-caching; anthropic-sdk-python 2.14 for what its clients look at.
//! Never does: hide a usage: every answer tells it.

use serde_json::{Value, json};

use crate::error::Refusal;
use crate::units::Usage;

use super::counts::counts;
use super::picture::{Does, Mark, Node, Part, Slot};
use super::{Class, Dialect, Event, Lacks, Read, Unasked};

/// The dialect.
#[derive(Debug)]
pub(super) struct Anthropic;

impl Dialect for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn picture(&self) -> &'static Node {
        &ANSWER
    }

    fn is_end(&self, _: &[u8]) -> bool {
        false
    }

    fn event(&self, read: &Read<'_>) -> Event {
        let kind = read.kind();
        Event {
            // A block that starts is empty, but that of a tool's use or result; `message_delta` has the reason of the end.
            content: match kind {
                b"content_block_delta" | b"message_delta" | b"message_stop" => true,
                b"content_block_start" => read.found.is(Mark::Content) || read.found.delta_bytes > 0,
                _ => false,
            },
            terminal: kind == b"message_stop",
            error: kind == b"error" || read.found.is(Mark::Error),
            visible_bytes: read.found.delta_bytes,
        }
    }

    /// `message_start` tells the input and `message_delta` the output so far, later ones also the input once more; a
    /// member that is not told is as it was.
    fn usage(&self, read: &Read<'_>, before: Option<&Usage>, lacked: Lacks) -> Option<(Usage, Lacks)> {
        let mut told = Told::default();
        counts(read.raw(Slot::Usage)?, Inside::of, |inside, name, number| {
            let place = match (inside, name) {
                (Inside::Nothing, b"input_tokens") => &mut told.uncached,
                (Inside::Nothing, b"cache_read_input_tokens") => &mut told.read,
                (Inside::Nothing, b"cache_creation_input_tokens") => &mut told.written,
                (Inside::CacheCreation, b"ephemeral_5m_input_tokens") => &mut told.written_5m,
                (Inside::CacheCreation, b"ephemeral_1h_input_tokens") => &mut told.written_1h,
                (Inside::Nothing, b"output_tokens") => &mut told.output,
                (Inside::OutputDetails, b"thinking_tokens") => &mut told.thinking,
                _ => return,
            };
            *place = number.count().or(*place);
        });
        let is_first = before.is_none();
        let lacks = Lacks {
            input: told.uncached.is_none() && (is_first || lacked.input),
            output: told.output.is_none() && (is_first || lacked.output),
        };
        Some((told.added_to(before)?, lacks))
    }

    /// Fast mode has prices of its own, whatever the tier (.../about-claude/pricing, "Fast mode pricing", read 2026-11).
    fn tier<'a>(&self, read: &Read<'a>) -> Option<&'a [u8]> {
        read.raw(Slot::Speed).filter(|speed| *speed == b"\"fast\"").or_else(|| read.raw(Slot::Tier))
    }

    fn without_usage(&self, _: &Read<'_>) -> Unasked {
        Unasked::Passes
    }

    /// By `details.error_code` where there is one (`types/shared` of the SDK has them all). A limit that an organisation set
    /// itself is a 400 that only its text tells apart, and so is what is too long (read 2026-11). Texts begin with the name
    /// of the member that is wrong, which the client may have made up.
    fn class(&self, error: &Value) -> Class {
        let text = |at: &str| error.pointer(at).and_then(Value::as_str).unwrap_or_default();
        let message = text("/message");
        let code = text("/details/error_code");
        let is_spent = code.ends_with("_spend_limit_reached")
            || code == "organization_on_hold"
            || text("/type") == "billing_error";
        match is_spent {
            true => Class::Quota,
            false if SPENT.iter().any(|start| message.starts_with(start)) => Class::SaysQuota,
            false if TOO_LONG.iter().any(|part| message.contains(part)) => Class::ContextLength,
            false => Class::Plain,
        }
    }

    /// The first of the two versions: it takes all that a client may send which names none. That of 2026-10-21 refuses
    /// `temperature` and others; nothing that is read here differs (.../api/migration-2026-10-21).
    fn default_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn request_id_header(&self) -> &'static str {
        "request-id"
    }

    /// `details.error_code` is where SDKs look for what names the cause; none of the gateway's codes is one of Anthropic's.
    fn refusal(&self, refusal: &Refusal, request_id: &str) -> String {
        let (kind, details) = (kind(refusal.status()), json!({ "error_code": refusal.code() }));
        let error = json!({ "type": kind, "message": refusal.message(), "details": details });
        json!({ "type": "error", "error": error, "request_id": request_id }).to_string()
    }

    /// SDKs raise on an event of this name, and pass over one without a name.
    fn refusal_in_stream(&self, refusal: &Refusal, request_id: &str) -> String {
        format!("event: error\ndata: {}\n\n", self.refusal(refusal, request_id))
    }
}

/// Which object in a `usage` a number stands in.
#[derive(Clone, Copy)]
enum Inside {
    Nothing,
    CacheCreation,
    OutputDetails,
    Other,
}

impl Inside {
    fn of(object: &[u8]) -> Self {
        match object {
            b"" => Self::Nothing,
            b"cache_creation" => Self::CacheCreation,
            b"output_tokens_details" => Self::OutputDetails,
            _ => Self::Other,
        }
    }
}

/// Anthropic's `error.type` of a status: its table of errors, and what it says of statuses that are not in there (read
/// 2026-11). It has no 502 and no 503; those are the gateway's, and what they say of it are these two.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// How texts begin that say that our account may spend no more.
const SPENT: [&str; 3] = [
    "You have reached your specified API usage limits",
    "You have reached your specified workspace API usage limits",
    "Your credit balance is too low",
];

/// What texts hold that say that the request is longer than the model's context.
const TOO_LONG: [&str; 2] = ["prompt is too long", "exceed context limit"];

/// The counts of a `usage`. The three kinds of input are apart from each other.
#[derive(Default)]
struct Told {
    uncached: Option<u64>,
    read: Option<u64>,
    written: Option<u64>,
    written_5m: Option<u64>,
    written_1h: Option<u64>,
    output: Option<u64>,
    thinking: Option<u64>,
}

impl Told {
    fn added_to(self, before: Option<&Usage>) -> Option<Usage> {
        if [self.uncached, self.read, self.written, self.output].iter().all(Option::is_none) {
            return None;
        }
        let before = before.copied().unwrap_or_default();
        let by_time = match (self.written_5m, self.written_1h) {
            (None, None) => None,
            (short, long) => Some(short.unwrap_or(0).saturating_add(long.unwrap_or(0))),
        };
        let uncached_before = before.input.saturating_sub(before.cached_input.saturating_add(before.cache_write));
        let cached_input = self.read.unwrap_or(before.cached_input);
        let cache_write = self.written.or(by_time).unwrap_or(before.cache_write);
        let output = self.output.unwrap_or(before.output);
        Some(Usage {
            input: self.uncached.unwrap_or(uncached_before).saturating_add(cached_input).saturating_add(cache_write),
            cached_input,
            cache_write,
            cache_write_1h: self.written_1h.unwrap_or(before.cache_write_1h).min(cache_write),
            output,
            reasoning: self.thinking.unwrap_or(before.reasoning).min(output),
            ..before
        })
    }
}

/// A whole answer, or the data of an event.
static ANSWER: Node = Node::of(&[
    ("type", Node::leaf(Does::Keep(Slot::Kind))),
    (
        "delta",
        Node::of(&[
            ("text", Node::leaf(Does::Text(Part::Delta))),
            ("thinking", Node::leaf(Does::Text(Part::Delta))),
            ("partial_json", Node::leaf(Does::Text(Part::Delta))),
        ]),
    ),
    (
        "content_block",
        Node::of(&[
            ("text", Node::leaf(Does::Text(Part::Delta))),
            ("thinking", Node::leaf(Does::Text(Part::Delta))),
            ("id", Node::leaf(Does::Mark(Mark::Content))),
            ("tool_use_id", Node::leaf(Does::Mark(Mark::Content))),
            ("data", Node::leaf(Does::Mark(Mark::Content))),
        ]),
    ),
    ("usage", USAGE),
    ("message", Node::of(&[("model", Node::leaf(Does::Keep(Slot::Model))), ("usage", USAGE)])),
    ("error", Node::leaf(Does::Mark(Mark::Error))),
    ("model", Node::leaf(Does::Keep(Slot::Model))),
    (
        "content",
        Node::of(&[("text", Node::leaf(Does::Text(Part::Whole))), ("thinking", Node::leaf(Does::Text(Part::Whole)))]),
    ),
]);

const USAGE: Node = Node::new(
    Does::Keep(Slot::Usage),
    &[("service_tier", Node::leaf(Does::Keep(Slot::Tier))), ("speed", Node::leaf(Does::Keep(Slot::Speed)))],
);

#[cfg(test)]
mod tests {
    use super::super::ANTHROPIC;
    use super::*;
    use crate::error::{KeyFault, Overload, UpstreamFault};

    #[test]
    fn refusals_have_anthropics_shape_and_types() {
        let kind = |refusal: Refusal| {
            let body: Value = serde_json::from_str(&ANTHROPIC.refusal(&refusal, "req_1")).expect("JSON");
            assert_eq!((&body["type"], &body["request_id"]), (&"error".into(), &"req_1".into()));
            body["error"]["type"].as_str().expect("a type").to_owned()
        };
        for (refusal, expected) in [
            (Refusal::InvalidKey(KeyFault::Missing), "authentication_error"),
            (Refusal::ScopeMissing, "permission_error"),
            (Refusal::ModelNotAllowed, "permission_error"),
            (Refusal::UnknownRoute, "not_found_error"),
            (Refusal::UnknownModel, "not_found_error"),
            (Refusal::InvalidJson("x".into()), "invalid_request_error"),
            (Refusal::UnsupportedMediaType, "invalid_request_error"),
            (Refusal::BodyTooLarge(1), "request_too_large"),
            (Refusal::Overloaded(Overload::Calls), "overloaded_error"),
            (Refusal::UpstreamAuth, "api_error"),
            (Refusal::Upstream(UpstreamFault::Reset), "api_error"),
            (Refusal::UpstreamTimeout(crate::error::Silence::Idle), "timeout_error"),
            (Refusal::Bug("x"), "api_error"),
        ] {
            assert_eq!(kind(refusal), expected);
        }
        assert_eq!(
            ANTHROPIC.refusal(&Refusal::UnknownRoute, "req_1"),
            r#"{"type":"error","error":{"type":"not_found_error","message":"Route not found","details":{"error_code":"unknown_url"}},"request_id":"req_1"}"#
        );
    }
}
