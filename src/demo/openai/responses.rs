//! `POST /v1/responses`, as far as text goes. Source: platform.openai.com/docs/api-reference/responses and
//! .../responses-streaming.
//!
//! Invariant: a stream ends with `response.completed`, which holds what the whole answer would be.
//! Never does: keep a response for later; call a tool.

use bytes::Bytes;
use serde_json::{Value, json};

use super::chat::text;
use super::seed::tokens;
use super::{Answer, Call, Fault, pretty};

/// Answers an input.
pub(super) fn answer(call: &Call<'_>) -> Result<Answer, Fault> {
    let question = match call.required("input")? {
        Value::String(question) => question.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        _ => return Err(Fault::new(400, "Invalid type for 'input'.").param("input")),
    };
    let mut seed = call.seed.clone();
    let ceiling = call.count("max_output_tokens").unwrap_or(usize::MAX);
    let mut words = seed.part(1).words(&question, call.words);
    let complete = words.len() <= ceiling;
    words.truncate(ceiling);
    let response = Response {
        id: seed.id("resp_", 48),
        message: seed.id("msg_", 48),
        created: seed.time(),
        model: call.model,
        input: tokens(&question),
        words,
        complete,
    };
    let answer = if call.flag("stream") { response.stream() } else { pretty(&response.object(true)) };
    Ok(answer.using(response.input, response.words.len() as u64))
}

struct Response<'a> {
    id: String,
    message: String,
    created: u64,
    model: &'a str,
    input: u64,
    words: Vec<String>,
    complete: bool,
}

impl Response<'_> {
    fn object(&self, ended: bool) -> Value {
        let output = self.words.len() as u64;
        let usage = json!({
            "input_tokens": self.input, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": self.input + output,
        });
        let reason = (ended && !self.complete).then(|| json!({ "reason": "max_output_tokens" }));
        json!({
            "id": self.id, "object": "response", "created_at": self.created,
            "status": if ended { self.status() } else { "in_progress" },
            "error": null, "incomplete_details": reason, "instructions": null, "metadata": {}, "model": self.model,
            "output": if ended { json!([self.item(true)]) } else { json!([]) },
            "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "usage": if ended { usage } else { Value::Null },
        })
    }

    fn status(&self) -> &'static str {
        if self.complete { "completed" } else { "incomplete" }
    }

    fn item(&self, ended: bool) -> Value {
        json!({
            "id": self.message, "type": "message", "role": "assistant",
            "status": if ended { self.status() } else { "in_progress" },
            "content": if ended { json!([part(&self.words.concat())]) } else { json!([]) },
        })
    }

    fn stream(&self) -> Answer {
        let place = json!({ "item_id": self.message, "output_index": 0, "content_index": 0 });
        let text = self.words.concat();
        let last = if self.complete { "response.completed" } else { "response.incomplete" };
        let mut events = vec![
            ("response.created", json!({ "response": self.object(false) })),
            ("response.in_progress", json!({ "response": self.object(false) })),
            ("response.output_item.added", json!({ "output_index": 0, "item": self.item(false) })),
            ("response.content_part.added", with(&place, "part", part(""))),
        ];
        events.extend(self.words.iter().map(|word| ("response.output_text.delta", with(&place, "delta", json!(word)))));
        events.extend([
            ("response.output_text.done", with(&place, "text", json!(text))),
            ("response.content_part.done", with(&place, "part", part(&text))),
            ("response.output_item.done", json!({ "output_index": 0, "item": self.item(true) })),
            (last, json!({ "response": self.object(true) })),
        ]);
        let pieces = events.into_iter().enumerate().map(|(number, (kind, members))| {
            let mut event = json!({ "type": kind, "sequence_number": number });
            if let (Some(event), Value::Object(members)) = (event.as_object_mut(), members) {
                event.extend(members);
            }
            Bytes::from(format!("event: {kind}\ndata: {event}\n\n"))
        });
        Answer::events(pieces.collect())
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text })
}

fn with(place: &Value, name: &str, value: Value) -> Value {
    let mut place = place.clone();
    if let Some(place) = place.as_object_mut() {
        place.insert(name.to_string(), value);
    }
    place
}
