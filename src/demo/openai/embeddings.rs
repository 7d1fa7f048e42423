//! `POST /v1/embeddings`. Source: platform.openai.com/docs/api-reference/embeddings.
//!
//! Invariant: a vector has length 1 and follows from model, input and number of dimensions; both encodings hold the
//! same `f32`s.
//! Never does: look at more than the input.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use super::seed::{Seed, tokens};
use super::{Answer, Call, Fault, pretty};

/// Embeds each input.
pub(super) fn answer(call: &Call<'_>) -> Result<Answer, Fault> {
    let inputs: Vec<&Value> = match call.required("input")? {
        Value::Array(list) if list.first().is_some_and(|first| first.is_string() || first.is_array()) => {
            list.iter().collect()
        }
        one => vec![one],
    };
    let empty = |input: &&Value| input.as_str() == Some("") || input.as_array().is_some_and(Vec::is_empty);
    if inputs.iter().any(empty) || !inputs.iter().all(|input| input.is_string() || input.is_array()) {
        return Err(Fault::new(
            400,
            "'$.input' is invalid. Please check the API reference: \
            https://platform.openai.com/docs/api-reference.",
        ));
    }
    let dimensions = dimensions(call)?;
    let encoded = match call.request.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let text = "Invalid value for 'encoding_format': expected 'float' or 'base64'.";
            return Err(Fault::new(400, text).param("encoding_format"));
        }
    };
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let vector = vector(call.model, input, dimensions);
        let embedding = if encoded { Vector::Base64(base64(&vector)) } else { Vector::Float(vector) };
        Embedding { object: "embedding", index, embedding }
    });
    let total: u64 = inputs.iter().map(|input| length(input)).sum();
    Ok(pretty(&List {
        object: "list",
        data: data.collect(),
        model: call.model,
        usage: json!({ "prompt_tokens": total, "total_tokens": total }),
    })
    .using(total, 0))
}

/// Not a `Value`: that would widen each `f32`.
#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Value,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

/// How many dimensions are asked for.
fn dimensions(call: &Call<'_>) -> Result<usize, Fault> {
    let most = if call.model.contains("large") { 3072 } else { 1536 };
    match call.request.get("dimensions").filter(|dimensions| !dimensions.is_null()) {
        None => Ok(most),
        Some(_) => call.count("dimensions").filter(|wanted| (1..=most).contains(wanted)).ok_or_else(|| {
            Fault::new(400, format!("Invalid value for 'dimensions': must be between 1 and {most}."))
                .param("dimensions")
        }),
    }
}

fn vector(model: &str, input: &Value, dimensions: usize) -> Vec<f32> {
    let mut seed = Seed::of_text(&format!("{model} {input}"));
    let raw: Vec<f64> = (0..dimensions).map(|_| (seed.below(2_000_001) as f64 - 1_000_000.0) / 1_000_000.0).collect();
    let norm = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.iter().map(|x| (x / norm) as f32).collect()
}

/// Little-endian `f32`s, as openai-python reads them.
fn base64(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

fn length(input: &Value) -> u64 {
    match input {
        Value::Array(tokens) => tokens.len() as u64,
        other => other.as_str().map(tokens).unwrap_or_default(),
    }
}
