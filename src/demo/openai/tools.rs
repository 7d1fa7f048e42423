//! Tool calls: whether the model makes one, and with which arguments.
//!
//! Invariant: the arguments are a JSON object that has every property of the tool's schema, with a value of its type.
//! Never does: call a tool after a tool's result, so that a conversation ends.

use serde_json::{Map, Value, json};

use super::Object;
use super::chat::last_question;
use super::seed::Seed;

/// A call of a function.
pub(super) struct ToolCall {
    id: String,
    name: String,
    pub(super) arguments: String,
}

impl ToolCall {
    /// As it stands in a message, with these arguments.
    pub(super) fn object(&self, arguments: &str) -> Value {
        json!({ "id": self.id, "type": "function", "function": { "name": self.name, "arguments": arguments } })
    }

    /// The arguments in pieces, as they are streamed.
    pub(super) fn fragments(&self) -> Vec<String> {
        let chars: Vec<char> = self.arguments.chars().collect();
        chars.chunks(FRAGMENT).map(|chars| chars.iter().collect()).collect()
    }
}

/// The call that a request leads to: the tool that `tool_choice` names, the first one where any is required, the one
/// whose name the user's last message mentions.
pub(super) fn called(request: &Object, messages: &[Value], seed: &mut Seed) -> Option<ToolCall> {
    let functions: Vec<&Value> =
        request.get("tools")?.as_array()?.iter().filter_map(|tool| tool.get("function")).collect();
    if messages.last().and_then(|message| message.get("role")).and_then(Value::as_str) == Some("tool") {
        return None;
    }
    let named = |name: &str| functions.iter().copied().find(|function| name_of(function) == Some(name));
    let function = match request.get("tool_choice") {
        Some(Value::String(choice)) if choice == "none" => None,
        Some(Value::String(choice)) if choice == "required" => functions.first().copied(),
        Some(Value::Object(choice)) => named(name_of(choice.get("function")?)?),
        _ => {
            let question = last_question(messages);
            functions.iter().copied().find(|function| name_of(function).is_some_and(|name| question.contains(name)))
        }
    }?;
    let arguments = value(function.get("parameters").unwrap_or(&Value::Null), seed, 0);
    let arguments = if arguments.is_object() { arguments } else { json!({}) };
    let name = name_of(function)?.to_string();
    Some(ToolCall { id: seed.id("call_", 24), name, arguments: arguments.to_string() })
}

fn name_of(function: &Value) -> Option<&str> {
    function.get("name").and_then(Value::as_str)
}

/// A value that a JSON schema allows, as far as that is told by `enum`, `type`, `properties` and `items`.
pub(in crate::demo) fn value(schema: &Value, seed: &mut Seed, depth: usize) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        kind => kind.and_then(Value::as_str),
    };
    match kind {
        Some("string") => Value::String(seed.words("", None).into_iter().next_back().unwrap_or_default().trim().into()),
        Some("integer") => json!(seed.below(100)),
        Some("number") => json!(seed.below(1000) as f64 / 8.0),
        Some("boolean") => json!(seed.below(2) == 1),
        Some("array") if depth < MAX_DEPTH => {
            json!([value(schema.get("items").unwrap_or(&Value::Null), seed, depth + 1)])
        }
        Some("object") if depth < MAX_DEPTH => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties.into_iter().flatten();
            let members = members.map(|(name, schema)| (name.clone(), value(schema, seed, depth + 1)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        _ => Value::Null,
    }
}

const FRAGMENT: usize = 5;
const MAX_DEPTH: usize = 8;
