//! `POST /v1/messages`, whole and as a stream, and `POST /v1/messages/count_tokens`.
//!
//! Invariant: a stream adds up to the whole answer, usage included; the three kinds of input are apart from each other.
//! Never does: remember a cache: what is marked is written at the beginning of a conversation, and read later in it.

use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::openai::tools::value;
use super::super::seed::tokens;
use super::{Call, Fault};

/// Answers with a message.
pub(super) fn answer(call: &Call<'_>) -> Result<Answer, Fault> {
    let messages = messages(call)?;
    let Some(ceiling) = call.request.get("max_tokens").filter(|ceiling| !ceiling.is_null()) else {
        return Err(Fault::invalid("max_tokens: Field required"));
    };
    let Some(ceiling) = ceiling.as_u64().filter(|ceiling| *ceiling > 0) else {
        return Err(Fault::invalid("max_tokens: Input should be greater than or equal to 1"));
    };
    let mut seed = call.seed.clone();
    let id = seed.id("msg_01", 22);
    let (block, stop) = said(call, messages, usize::try_from(ceiling).unwrap_or(usize::MAX));
    let message = Message { id, model: call.model, block, stop, input: Input::of(call, messages) };
    let is_stream = call.request.get("stream").and_then(Value::as_bool).unwrap_or_default();
    let (input, output) = (message.input.total(), message.block.tokens());
    let answer = if is_stream { message.stream() } else { Answer::json(200, &message.whole()) };
    Ok(answer.using(input, output))
}

/// Answers with a count of the input.
pub(super) fn count(call: &Call<'_>) -> Result<Answer, Fault> {
    let input = Input::of(call, messages(call)?);
    Ok(Answer::json(200, &json!({ "input_tokens": input.total() })))
}

fn messages<'a>(call: &Call<'a>) -> Result<&'a [Value], Fault> {
    match call.request.get("messages").map(Value::as_array) {
        Some(Some(messages)) if !messages.is_empty() => Ok(messages),
        Some(Some(_)) => Err(Fault::invalid("messages: at least one message is required")),
        Some(None) => Err(Fault::invalid("messages: Input should be a valid array")),
        None => Err(Fault::invalid("messages: Field required")),
    }
}

/// The text of a content: a text, or blocks of which some are.
fn text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let texts: Vec<&str> = blocks.iter().filter_map(|block| block.get("text")?.as_str()).collect();
            texts.join(" ")
        }
        _ => String::new(),
    }
}

/// The one block of an answer.
enum Block {
    Words(Vec<String>),
    Tool { id: String, name: String, input: Value },
}

/// A tool where the question names it, else words.
fn said(call: &Call<'_>, messages: &[Value], ceiling: usize) -> (Block, &'static str) {
    let mut seed = call.seed.part(1);
    let question = messages.last().map(|message| text(message.get("content"))).unwrap_or_default();
    let tools = call.request.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |tool: &&Value| tool["name"].as_str().is_some_and(|name| question.contains(name));
    if let Some(tool) = tools.iter().find(named) {
        let name = tool["name"].as_str().unwrap_or_default().to_string();
        let input = value(&tool["input_schema"], &mut seed, 0);
        return (Block::Tool { id: seed.id("toolu_01", 22), name, input }, "tool_use");
    }
    let mut words = seed.words(&question, call.words);
    let stop = if words.len() > ceiling { "max_tokens" } else { "end_turn" };
    words.truncate(ceiling);
    (Block::Words(words), stop)
}

impl Block {
    fn tokens(&self) -> u64 {
        match self {
            Self::Words(words) => words.len() as u64,
            Self::Tool { input, .. } => fragments(input).len() as u64,
        }
    }

    fn whole(&self) -> Value {
        match self {
            Self::Words(words) => json!({ "type": "text", "text": words.concat() }),
            Self::Tool { id, name, input } => json!({ "type": "tool_use", "id": id, "name": name, "input": input }),
        }
    }

    fn start(&self) -> Value {
        match self {
            Self::Words(_) => json!({ "type": "text", "text": "" }),
            Self::Tool { id, name, .. } => json!({ "type": "tool_use", "id": id, "name": name, "input": {} }),
        }
    }

    fn deltas(&self) -> Vec<Value> {
        match self {
            Self::Words(words) => words.iter().map(|word| json!({ "type": "text_delta", "text": word })).collect(),
            Self::Tool { input, .. } => {
                let delta = |fragment| json!({ "type": "input_json_delta", "partial_json": fragment });
                fragments(input).into_iter().map(delta).collect()
            }
        }
    }
}

fn fragments(input: &Value) -> Vec<String> {
    let chars: Vec<char> = input.to_string().chars().collect();
    chars.chunks(8).map(|chars| chars.iter().collect()).collect()
}

/// The tokens of a request, each kind apart.
#[derive(Default)]
struct Input {
    uncached: u64,
    read: u64,
    written_5m: u64,
    written_1h: u64,
}

impl Input {
    fn of(call: &Call<'_>, messages: &[Value]) -> Self {
        let mut input = Self::default();
        let goes_on = messages.iter().any(|message| message["role"] == "assistant");
        let system = match call.request.get("system") {
            Some(Value::Array(blocks)) => blocks.clone(),
            Some(Value::String(text)) => vec![json!({ "text": text })],
            _ => Vec::new(),
        };
        for block in &system {
            let count = block["text"].as_str().map(tokens).unwrap_or_default();
            let place = match (block.get("cache_control"), goes_on) {
                (None, _) => &mut input.uncached,
                (Some(_), true) => &mut input.read,
                (Some(control), false) if control["ttl"] == "1h" => &mut input.written_1h,
                (Some(_), false) => &mut input.written_5m,
            };
            *place += count;
        }
        input.uncached += messages.iter().map(|message| tokens(&text(message.get("content"))) + 4).sum::<u64>();
        input
    }

    fn total(&self) -> u64 {
        self.uncached + self.read + self.written_5m + self.written_1h
    }

    fn usage(&self, output: u64) -> Value {
        json!({
            "input_tokens": self.uncached,
            "cache_creation_input_tokens": self.written_5m + self.written_1h,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.written_5m, "ephemeral_1h_input_tokens": self.written_1h,
            },
            "output_tokens": output,
            "service_tier": "standard",
        })
    }
}

struct Message<'a> {
    id: String,
    model: &'a str,
    block: Block,
    stop: &'static str,
    input: Input,
}

impl Message<'_> {
    fn object(&self, content: Value, stop: Option<&str>, output: u64) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": stop, "stop_sequence": null, "usage": self.input.usage(output),
        })
    }

    fn whole(&self) -> Value {
        self.object(json!([self.block.whole()]), Some(self.stop), self.block.tokens())
    }

    fn stream(&self) -> Answer {
        let start = json!({ "type": "message_start", "message": self.object(json!([]), None, 1) });
        let block = json!({ "type": "content_block_start", "index": 0, "content_block": self.block.start() });
        let deltas = self.block.deltas();
        let deltas = deltas.iter().map(|delta| json!({ "type": "content_block_delta", "index": 0, "delta": delta }));
        let end = json!({
            "type": "message_delta", "delta": { "stop_reason": self.stop, "stop_sequence": null },
            "usage": { "output_tokens": self.block.tokens() },
        });
        let begin = [start, block, json!({ "type": "ping" })];
        let rest = [json!({ "type": "content_block_stop", "index": 0 }), end, json!({ "type": "message_stop" })];
        let events = begin.into_iter().chain(deltas).chain(rest);
        let named = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        Answer::events(events.map(|event| named(event).into()).collect())
    }
}
