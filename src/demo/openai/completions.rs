//! `POST /v1/completions`. Source: platform.openai.com/docs/api-reference/completions.
//!
//! Invariant: a stream says the same as the whole answer would.
//! Never does: more than 16 words, unless `max_tokens` asks for them.

use serde_json::{Value, json};

use super::seed::tokens;
use super::{Answer, Call, Fault, pretty, stream};

/// Completes a prompt, or each of a list.
pub(super) fn answer(call: &Call<'_>) -> Result<Answer, Fault> {
    let prompts: Vec<String> = match call.required("prompt")? {
        Value::String(prompt) => vec![prompt.clone()],
        Value::Array(prompts) if prompts.iter().all(Value::is_string) => {
            prompts.iter().filter_map(Value::as_str).map(str::to_string).collect()
        }
        other => vec![other.to_string()],
    };
    let mut seed = call.seed.clone();
    let (id, created) = (seed.id("cmpl-", 29), seed.time());
    let ceiling = call.words.or_else(|| call.count("max_tokens")).unwrap_or(16);
    let n = call.choices()?;
    let choices: Vec<(Vec<String>, &str)> = (0..prompts.len() * n)
        .map(|index| {
            let prompt = prompts.get(index / n).map_or("", String::as_str);
            let mut words = call.seed.part(index + 1).words(prompt, call.words);
            let finish = if words.len() > ceiling { "length" } else { "stop" };
            words.truncate(ceiling);
            (words, finish)
        })
        .collect();
    let prompt: u64 = prompts.iter().map(|prompt| tokens(prompt)).sum();
    let completion = choices.iter().map(|(words, _)| words.len() as u64).sum::<u64>();
    let usage =
        json!({ "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion });
    let object = |choices: Value, usage: Option<&Value>| {
        let mut object = json!({
            "id": id, "object": "text_completion", "created": created, "model": call.model, "choices": choices,
        });
        if let (Some(usage), Some(object)) = (usage, object.as_object_mut()) {
            object.insert("usage".to_string(), usage.clone());
        }
        object
    };
    if !call.flag("stream") {
        let choices: Vec<Value> = (choices.iter().enumerate())
            .map(|(index, (words, finish))| choice(index, &words.concat(), Some(finish)))
            .collect();
        return Ok(pretty(&object(choices.into(), Some(&usage))).using(prompt, completion));
    }
    let null = call.includes_usage().then_some(&Value::Null);
    let events = choices.iter().enumerate().flat_map(|(index, (words, finish))| {
        let words = words.iter().map(move |word| choice(index, word, None));
        words.chain(std::iter::once(choice(index, "", Some(finish))))
    });
    let events = events.map(|choice| object(json!([choice]), null));
    let last = call.includes_usage().then(|| object(json!([]), Some(&usage)));
    Ok(stream(events.chain(last)).using(prompt, completion))
}

fn choice(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({ "text": text, "index": index, "logprobs": null, "finish_reason": finish })
}
