//! What each call used and cost: in its record, in the metrics, in the answer's header, and never in the bytes of the answer.
//!
//! Invariant: what a record says is compared with what the provider itself counts.
//! Never does: reckon a price; the shipped book's are written out.

mod broken;
mod headers;
mod native;
mod paced;
mod prices;
mod recorded;
mod seen;

use serde_json::{Value, json};

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const COMPLETIONS: &str = "/openai/v1/completions";
const RESPONSES: &str = "/openai/v1/responses";
const EMBEDDINGS: &str = "/openai/v1/embeddings";
const IMAGES: &str = "/openai/v1/images/generations";
const TRANSCRIPTIONS: &str = "/openai/v1/audio/transcriptions";
const MODELS: &str = "/openai/v1/models";
const TOKEN: &str = "an-admin-token-of-length";

/// All routes, with this in `providers.openai` besides.
fn setup(pair: Pair, more: &str) -> Setup {
    let routes = [
        "get /v1/models",
        "post /v1/chat/completions",
        "post /v1/completions",
        "post /v1/responses",
        "post /v1/embeddings",
        "post /v1/images/generations",
        "{ route: post /v1/audio/transcriptions stream, model: gpt-4o-transcribe }",
    ];
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    let provider = format!("routes: [{}]{more}", routes.join(", "));
    let (key_file, admin) = (Some(key_file(ALL, "")), format!("token: {TOKEN}"));
    Setup { provider, key_file, admin, pair, ..Setup::default() }
}

async fn world(pair: Pair, more: &str) -> World {
    World::with(setup(pair, more)).await
}

/// The records that are there, newest first, as the admin service tells them.
async fn records(admin: std::net::SocketAddr) -> Vec<Value> {
    let mut found = Vec::new();
    // On a busy machine its database may still be in the making.
    eventually("the ledger can be read", async || {
        let get = Connection::open(admin).await.request("GET", "/api/usage?limit=1000", &[bearer(TOKEN)], b"").await;
        assert!(matches!(get.status, 200 | 503), "{}", get.text());
        if get.status == 200 {
            found = get.json()["data"].as_array().expect("records").clone();
        }
        get.status == 200
    })
    .await;
    found
}

/// The record of the one call with this id, once it is over.
async fn record(admin: std::net::SocketAddr, id: &str) -> Value {
    let mut found = None;
    eventually("the record is there", async || {
        let all = records(admin).await;
        found = all.into_iter().find(|record| record["id"] == id && record["state"] != "intent");
        found.is_some()
    })
    .await;
    found.expect("it was there")
}

/// The record of the call with this answer.
async fn record_of(world: &World, answer: &Response) -> Value {
    record(world.gateway.admin_address(), answer.header("x-request-id").expect("an id")).await
}

/// The record's tokens of input and output; `null` where they are not known.
fn tokens(record: &Value) -> Value {
    match &record["tokens"] {
        Value::Null => Value::Null,
        tokens => json!([tokens["input"], tokens["output"]]),
    }
}

/// What the provider counted for its last answer.
fn counted(world: &World) -> Value {
    let used = world.provider.received().last().expect("a request").used.expect("an answer of a model");
    json!([used.input, used.output])
}

fn streamed(mut request: Value) -> String {
    request["stream"] = true.into();
    request.to_string()
}

fn asking(mut request: Value) -> String {
    request["stream_options"] = json!({ "include_usage": true });
    streamed(request)
}

fn question(words: &str) -> Value {
    json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": words }] })
}
