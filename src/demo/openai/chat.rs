//! `POST /v1/chat/completions`. Source: platform.openai.com/docs/api-reference/chat, the object and the chunk object.
//!
//! Invariant: a stream says the same as the whole answer would, in the order role, content, finish reason, usage, end.
//! Never does: send a usage that was not asked for.

use std::iter::once;

use serde_json::{Value, json};

use super::seed::tokens;
use super::{Answer, Call, Fault, pretty, stream, tools};

/// Answers a chat.
pub(super) fn answer(call: &Call<'_>) -> Result<Answer, Fault> {
    let Some(messages) = call.required("messages")?.as_array().filter(|messages| !messages.is_empty()) else {
        return Err(Fault::new(400, "Invalid 'messages': expected a non-empty array.").param("messages"));
    };
    let mut seed = call.seed.clone();
    let id = seed.id("chatcmpl-", 29);
    let choices: Vec<Choice> = (0..call.choices()?).map(|index| Choice::new(call, messages, index)).collect();
    let prompt = messages.iter().map(|message| tokens(&text(message)) + 4).sum();
    let completion = choices.iter().map(Choice::tokens).sum();
    let chat = Chat { id, created: seed.time(), model: call.model, usage: usage(prompt, completion), choices };
    let answer = if call.flag("stream") { chat.stream(call.includes_usage()) } else { chat.whole() };
    Ok(answer.using(prompt, completion))
}

/// The text of a message, without what is no text.
pub(super) fn text(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

/// The text of the last message from the user.
pub(super) fn last_question(messages: &[Value]) -> String {
    let from_user = |message: &&Value| message.get("role").and_then(Value::as_str) == Some("user");
    messages.iter().rev().find(from_user).map(text).unwrap_or_default()
}

struct Chat<'a> {
    id: String,
    created: u64,
    model: &'a str,
    choices: Vec<Choice>,
    usage: Value,
}

/// One of the answers that were asked for.
struct Choice {
    said: Said,
    finish: &'static str,
}

enum Said {
    Words(Vec<String>),
    Call(tools::ToolCall),
}

impl Choice {
    fn new(call: &Call<'_>, messages: &[Value], index: usize) -> Self {
        let mut seed = call.seed.part(index + 1);
        if let Some(tool) = tools::called(call.request, messages, &mut seed) {
            return Self { said: Said::Call(tool), finish: "tool_calls" };
        }
        let ceiling = call.count("max_completion_tokens").or_else(|| call.count("max_tokens")).unwrap_or(usize::MAX);
        let mut words = seed.words(&last_question(messages), call.words);
        let finish = if words.len() > ceiling { "length" } else { "stop" };
        words.truncate(ceiling);
        Self { said: Said::Words(words), finish }
    }

    fn tokens(&self) -> u64 {
        match &self.said {
            Said::Words(words) => words.len() as u64,
            Said::Call(call) => call.fragments().len() as u64,
        }
    }

    fn message(&self) -> Value {
        match &self.said {
            Said::Words(words) => {
                json!({ "role": "assistant", "content": words.concat(), "refusal": null, "annotations": [] })
            }
            Said::Call(call) => json!({
                "role": "assistant", "content": null, "tool_calls": [call.object(&call.arguments)],
                "refusal": null, "annotations": [],
            }),
        }
    }

    fn deltas(&self) -> Vec<Value> {
        match &self.said {
            Said::Words(words) => {
                let role = json!({ "role": "assistant", "content": "", "refusal": null });
                once(role).chain(words.iter().map(|word| json!({ "content": word }))).collect()
            }
            Said::Call(call) => {
                let mut opening = call.object("");
                if let Some(object) = opening.as_object_mut() {
                    object.shift_insert(0, "index".to_string(), json!(0));
                }
                let role = json!({ "role": "assistant", "content": null, "tool_calls": [opening], "refusal": null });
                let fragments = call
                    .fragments()
                    .into_iter()
                    .map(|fragment| json!({ "tool_calls": [{ "index": 0, "function": { "arguments": fragment } }] }));
                once(role).chain(fragments).collect()
            }
        }
    }
}

impl Chat<'_> {
    fn whole(&self) -> Answer {
        let choices: Vec<Value> = (self.choices.iter().enumerate())
            .map(|(index, choice)| {
                json!({
                    "index": index, "message": choice.message(), "logprobs": null, "finish_reason": choice.finish,
                })
            })
            .collect();
        pretty(&json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": choices, "usage": self.usage, "service_tier": "default", "system_fingerprint": FINGERPRINT,
        }))
    }

    fn stream(&self, includes_usage: bool) -> Answer {
        let all: Vec<Vec<Value>> = self.choices.iter().map(Choice::deltas).collect();
        let longest = all.iter().map(Vec::len).max().unwrap_or_default();
        let deltas = (0..longest)
            .flat_map(|at| all.iter().enumerate().filter_map(move |(index, deltas)| Some((index, deltas.get(at)?))));
        let deltas = deltas
            .map(|(index, delta)| json!([{ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }]));
        let ends = self.choices.iter().enumerate().map(|(index, choice)| {
            json!([{ "index": index, "delta": {}, "logprobs": null, "finish_reason": choice.finish }])
        });
        let null = includes_usage.then_some(&Value::Null);
        let events = deltas.chain(ends).map(|choices| self.event(choices, null));
        let usage = includes_usage.then(|| self.event(json!([]), Some(&self.usage)));
        stream(events.chain(usage))
    }

    /// `usage` is in every event where it was asked for, and null in all but the last.
    fn event(&self, choices: Value, usage: Option<&Value>) -> Value {
        let mut event = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "service_tier": "default", "system_fingerprint": FINGERPRINT, "choices": choices,
        });
        if let (Some(usage), Some(event)) = (usage, event.as_object_mut()) {
            event.insert("usage".to_string(), usage.clone());
        }
        event
    }
}

fn usage(prompt: u64, completion: u64) -> Value {
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": { "cached_tokens": 0, "audio_tokens": 0 },
        "completion_tokens_details": {
            "reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
        },
    })
}

const FINGERPRINT: &str = "fp_a1b2c3d4e5";
