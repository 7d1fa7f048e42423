//! OpenAI's API, and the many that speak it: chat, completions, embeddings, Responses, transcription, images.
//!
//! Sources: platform.openai.com/docs/api-reference (chat, completions, embeddings, responses, responses-streaming, audio,
//! images, images-streaming); what others add is named where it is read.
//! Never does: tell the APIs apart by anything but the members that stand in an answer.

use serde_json::Value;

use crate::error::Refusal;
use crate::units::Usage;

use super::counts::{Number, counts};
use super::picture::{Does, Mark, Node, Part, Slot};
use super::{Class, Dialect, Event, Lacks, Read, Unasked};

/// The dialect.
#[derive(Debug)]
pub(super) struct OpenAi;

impl Dialect for OpenAi {
    fn name(&self) -> &'static str {
        "openai"
    }

    fn picture(&self) -> &'static Node {
        &ANSWER
    }

    fn is_end(&self, data: &[u8]) -> bool {
        data.trim_ascii() == b"[DONE]"
    }

    fn event(&self, read: &Read<'_>) -> Event {
        let found = read.found;
        let kind = read.kind();
        let error = found.is(Mark::Error) || matches!(kind, b"error" | b"response.failed");
        if found.is(Mark::Choices) || kind.is_empty() {
            // A stream of choices has its own end, `[DONE]`; the tap counts choices that finished.
            let content = found.delta_bytes > 0 || found.is(Mark::Content) || found.is(Mark::Finish);
            return Event { content, terminal: false, error, visible_bytes: found.delta_bytes };
        }
        let terminal = TERMINAL.contains(&kind);
        let ends_with = |end: &str| kind.ends_with(end.as_bytes());
        let content = terminal || ends_with(".delta") || ends_with(".done") || ends_with(".partial_image");
        // What `response.audio.delta` and `speech.audio.delta` carry is base64.
        let visible_bytes = if ends_with("audio.delta") { 0 } else { found.delta_bytes };
        Event { content, terminal, error, visible_bytes }
    }

    fn usage(&self, read: &Read<'_>, _: Option<&Usage>, _: Lacks) -> Option<(Usage, Lacks)> {
        let of = |slot| read.raw(slot).and_then(usage);
        of(Slot::Usage).or_else(|| of(Slot::OtherUsage))
    }

    fn without_usage(&self, read: &Read<'_>) -> Unasked {
        match read.raw(Slot::Usage) {
            // What asking for the usage adds, and no more: `null` everywhere, and an event of its own. Some providers tell it
            // unasked beside a choice: Mistral, DeepSeek.
            Some(b"null") => Unasked::IsCut,
            Some(_) if read.found.is(Mark::Choice) || read.found.is(Mark::Error) => Unasked::Passes,
            Some(_) if read.found.is(Mark::Choices) => Unasked::IsDropped,
            _ => Unasked::Passes,
        }
    }

    /// By `code`, or else `type`. Sources: platform.openai.com/docs/guides/error-codes; Azure tells what its filter found
    /// inside: learn.microsoft.com/azure/ai-services/openai/concepts/content-filter; both read 2026-11.
    fn class(&self, error: &Value) -> Class {
        let text = |at: &str| error.pointer(at).and_then(Value::as_str);
        let told = [text("/code"), text("/type")].into_iter().flatten().map(|code| match code {
            "context_length_exceeded" | "string_above_max_length" => Class::ContextLength,
            "content_filter" | "content_policy_violation" | "moderation_blocked" => Class::ContentFilter,
            "insufficient_quota" | "billing_hard_limit_reached" => Class::Quota,
            _ => Class::Plain,
        });
        let filtered = text("/innererror/code") == Some("ResponsibleAIPolicyViolation");
        let inner = if filtered { Class::ContentFilter } else { Class::Plain };
        told.into_iter().find(|class| *class != Class::Plain).unwrap_or(inner)
    }

    fn refusal(&self, refusal: &Refusal, _: &str) -> String {
        refusal.body()
    }

    /// SDKs raise on an event with an `error`; `[DONE]` never follows.
    fn refusal_in_stream(&self, refusal: &Refusal, _: &str) -> String {
        format!("data: {}\n\n", refusal.body())
    }
}

/// Reads a `usage`. Absent where it holds no count.
fn usage(raw: &[u8]) -> Option<(Usage, Lacks)> {
    let mut told = Told::default();
    counts(raw, Side::of, |side, name, number| told.hear(side, name, number));
    told.usage()
}

/// The counts of a `usage`.
#[derive(Default)]
struct Told {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    kinds: Usage,
}

impl Told {
    fn hear(&mut self, side: Side, name: &[u8], number: Number) {
        let count = number.count();
        let kinds = &mut self.kinds;
        let kind = match (side, name) {
            // Chat, completions, embeddings | Responses, transcription, images.
            (Side::Both, b"prompt_tokens" | b"input_tokens") => return self.input = count.or(self.input),
            (Side::Both, b"completion_tokens" | b"output_tokens") => return self.output = count.or(self.output),
            (Side::Both, b"total_tokens") => return self.total = count.or(self.total),
            // Transcription that is charged by time: `{"type":"duration","seconds":9}`.
            (Side::Both, b"seconds") => return self.kinds.audio_ms = number.milliseconds().unwrap_or_default(),
            (Side::Input, b"cached_tokens") => &mut kinds.cached_input,
            (Side::Input, b"audio_tokens") => &mut kinds.input_audio,
            (Side::Input, b"image_tokens") => &mut kinds.input_image,
            // OpenRouter: openrouter.ai/docs/use-cases/usage-accounting.
            (Side::Input, b"cache_write_tokens") => &mut kinds.cache_write,
            (Side::Cached, b"audio_tokens") => &mut kinds.cached_audio,
            (Side::Output, b"reasoning_tokens") => &mut kinds.reasoning,
            (Side::Output, b"audio_tokens") => &mut kinds.output_audio,
            (Side::Output, b"image_tokens") => &mut kinds.output_image,
            // DeepSeek (api-docs.deepseek.com/guides/kv_cache) | Moonshot (platform.moonshot.ai/docs/api/chat).
            (Side::Both, b"prompt_cache_hit_tokens" | b"cached_tokens") => &mut kinds.cached_input,
            _ => return,
        };
        // Some name one kind in two places, and one of them 0.
        *kind = count.unwrap_or_default().max(*kind);
    }

    fn usage(self) -> Option<(Usage, Lacks)> {
        let Self { input, output, total, mut kinds } = self;
        if (input, output, total) == (None, None, None) {
            return (kinds.audio_ms > 0).then_some((kinds, Lacks::default()));
        }
        // The total tells a side beside the other one; alone it is taken for the input.
        let lacks = Lacks {
            input: input.is_none() && total.is_none(),
            output: output.is_none() && (input.is_none() || total.is_none()),
        };
        kinds.input = input.or_else(|| total?.checked_sub(output.unwrap_or(0))).unwrap_or(0);
        kinds.output = output.or_else(|| total?.checked_sub(kinds.input)).unwrap_or(0);
        // xAI and Gemini count reasoning in the total alone, Gemini without saying that it is (docs.x.ai/docs/guides/reasoning;
        // ai.google.dev/gemini-api/docs/thinking; issue 5528 of UKGovernmentBEIS/inspect_ai has figures).
        let beyond = total.unwrap_or(0).saturating_sub(kinds.input.saturating_add(kinds.output));
        if beyond > 0 && (kinds.reasoning == 0 || kinds.reasoning == beyond) {
            kinds.output += beyond;
            kinds.reasoning = beyond;
        }
        Some((parts_of_the_whole(kinds), lacks))
    }
}

/// A kind is a part, whatever a provider says.
fn parts_of_the_whole(mut usage: Usage) -> Usage {
    let Usage { input, output, .. } = usage;
    for kind in [&mut usage.cached_input, &mut usage.cache_write, &mut usage.input_audio, &mut usage.input_image] {
        *kind = input.min(*kind);
    }
    for kind in [&mut usage.reasoning, &mut usage.output_audio, &mut usage.output_image] {
        *kind = output.min(*kind);
    }
    usage.cached_audio = usage.cached_audio.min(usage.cached_input).min(usage.input_audio);
    usage.cache_write_1h = usage.cache_write_1h.min(usage.cache_write);
    usage
}

/// Which part of a `usage` an object in it tells about. Details in the plural: chat, Responses, images; in the singular:
/// transcription and realtime.
#[derive(Clone, Copy)]
enum Side {
    Both,
    Input,
    Output,
    /// The part of the input that came from the cache.
    Cached,
    Other,
}

impl Side {
    fn of(object: &[u8]) -> Self {
        match object {
            b"" => Self::Both,
            b"prompt_tokens_details" | b"input_tokens_details" | b"input_token_details" => Self::Input,
            b"completion_tokens_details" | b"output_tokens_details" | b"output_token_details" => Self::Output,
            b"cached_tokens_details" => Self::Cached,
            _ => Self::Other,
        }
    }
}

/// The events that end a stream, of Responses, transcription, speech and images.
const TERMINAL: [&[u8]; 7] = [
    b"response.completed",
    b"response.incomplete",
    b"response.failed",
    b"transcript.text.done",
    b"speech.audio.done",
    b"image_generation.completed",
    b"image_edit.completed",
];

/// A whole answer, or the data of an event.
static ANSWER: Node = Node::of(&[
    ("model", Node::leaf(Does::Keep(Slot::Model))),
    ("service_tier", Node::leaf(Does::Keep(Slot::Tier))),
    ("choices", Node::new(Does::Choices, CHOICE)),
    ("usage", Node::leaf(Does::Keep(Slot::Usage))),
    ("error", Node::leaf(Does::Mark(Mark::Error))),
    ("obfuscation", Node::leaf(Does::Varies)),
    ("sequence_number", Node::leaf(Does::Varies)),
    ("type", Node::leaf(Does::Keep(Slot::Kind))),
    // Responses and transcription.
    ("delta", Node::leaf(Does::Text(Part::Delta))),
    (
        "response",
        Node::of(&[
            ("model", Node::leaf(Does::Keep(Slot::Model))),
            ("service_tier", Node::leaf(Does::Keep(Slot::Tier))),
            ("usage", Node::leaf(Does::Keep(Slot::Usage))),
            ("error", Node::leaf(Does::Mark(Mark::Error))),
        ]),
    ),
    ("output", Node::of(OUTPUT)),
    ("text", Node::leaf(Does::Text(Part::Whole))),
    // Groq: console.groq.com/docs/api-reference, the chunk object.
    ("x_groq", Node::of(&[("usage", Node::leaf(Does::Keep(Slot::OtherUsage)))])),
]);

const CHOICE: &[(&str, Node)] = &[
    ("index", Node::leaf(Does::Index)),
    ("delta", Node::of(MESSAGE_DELTA)),
    ("finish_reason", Node::leaf(Does::Finish)),
    ("message", Node::of(MESSAGE)),
    // Completions.
    ("text", Node::leaf(Does::Text(Part::Either))),
    // Moonshot: platform.moonshot.ai/docs/api/chat, streaming.
    ("usage", Node::leaf(Does::Keep(Slot::OtherUsage))),
];

const MESSAGE_DELTA: &[(&str, Node)] = &message(Part::Delta, TEXTS_DELTA, CALL_DELTA, CALLS_DELTA);
const MESSAGE: &[(&str, Node)] = &message(Part::Whole, TEXTS, CALL, CALLS);

/// A message, or a piece of one. `reasoning_content`: DeepSeek and others; `reasoning`: OpenRouter, Groq.
const fn message(
    part: Part,
    texts: &'static [(&'static str, Node)],
    call: &'static [(&'static str, Node)],
    calls: &'static [(&'static str, Node)],
) -> [(&'static str, Node); 7] {
    [
        ("content", Node::new(Does::Text(part), texts)),
        ("reasoning_content", Node::leaf(Does::Text(part))),
        ("reasoning", Node::leaf(Does::Text(part))),
        ("refusal", Node::leaf(Does::Text(part))),
        ("tool_calls", Node::new(Does::Mark(Mark::Content), calls)),
        ("function_call", Node::new(Does::Mark(Mark::Content), call)),
        ("audio", Node::leaf(Does::Mark(Mark::Content))),
    ]
}

/// Content in parts: docs.mistral.ai/capabilities/reasoning.
const fn texts(part: Part, inner: &'static [(&'static str, Node)]) -> [(&'static str, Node); 2] {
    [("text", Node::leaf(Does::Text(part))), ("thinking", Node::new(Does::Text(part), inner))]
}

const fn inner(part: Part) -> [(&'static str, Node); 1] {
    [("text", Node::leaf(Does::Text(part)))]
}

const TEXTS_DELTA: &[(&str, Node)] = &texts(Part::Delta, &inner(Part::Delta));
const TEXTS: &[(&str, Node)] = &texts(Part::Whole, &inner(Part::Whole));

const fn call(part: Part) -> [(&'static str, Node); 2] {
    [("arguments", Node::leaf(Does::Text(part))), ("input", Node::leaf(Does::Text(part)))]
}

const CALL_DELTA: &[(&str, Node)] = &call(Part::Delta);
const CALL: &[(&str, Node)] = &call(Part::Whole);
const CALLS_DELTA: &[(&str, Node)] = &[("function", Node::of(CALL_DELTA)), ("custom", Node::of(CALL_DELTA))];
const CALLS: &[(&str, Node)] = &[("function", Node::of(CALL)), ("custom", Node::of(CALL))];

/// The items of a whole Responses answer.
const OUTPUT: &[(&str, Node)] = &[
    (
        "content",
        Node::of(&[("text", Node::leaf(Does::Text(Part::Whole))), ("refusal", Node::leaf(Does::Text(Part::Whole)))]),
    ),
    ("summary", Node::of(&inner(Part::Whole))),
    ("arguments", Node::leaf(Does::Text(Part::Whole))),
    ("input", Node::leaf(Does::Text(Part::Whole))),
];
