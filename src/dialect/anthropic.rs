//! Anthropic's API: Messages.
//!
//! Sources: platform.claude.com/docs/en/api/messages, .../build-with-claude/streaming and .../prompt-caching.
//! Never does: hide a usage: every answer tells it.

use crate::units::Usage;

use super::counts::counts;
use super::picture::{Does, Mark, Node, Part, Slot};
use super::{Dialect, Event, Read, Unasked};

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
    fn usage(&self, read: &Read<'_>, before: Option<&Usage>) -> Option<Usage> {
        let mut told = Told::default();
        counts(read.raw(Slot::Usage)?, |outer, name, number| {
            let place = match (outer, name) {
                ("", "input_tokens") => &mut told.uncached,
                ("", "cache_read_input_tokens") => &mut told.read,
                ("", "cache_creation_input_tokens") => &mut told.written,
                ("cache_creation", "ephemeral_5m_input_tokens") => &mut told.written_5m,
                ("cache_creation", "ephemeral_1h_input_tokens") => &mut told.written_1h,
                ("", "output_tokens") => &mut told.output,
                ("output_tokens_details", "thinking_tokens") => &mut told.thinking,
                _ => return,
            };
            *place = number.count().or(*place);
        });
        told.added_to(before)
    }

    fn without_usage(&self, _: &Read<'_>) -> Unasked {
        Unasked::Passes
    }
}

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

const USAGE: Node = Node::new(Does::Keep(Slot::Usage), &[("service_tier", Node::leaf(Does::Keep(Slot::Tier)))]);
