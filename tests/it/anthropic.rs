//! Providers that speak Anthropic's API: who gets in, what passes, what it cost, and what becomes of failures.
//!
//! Invariant: what stands here of Anthropic's wire format is in its public documentation (`src/dialect/anthropic.rs`).
//! Never does: what `exchange`, `usage`, `failover` and `limits` tell for all dialects alike.

mod contract;
mod failover;
mod limits;
mod models;
mod streams;
mod usage;

use std::time::Duration;

use ai_gateway::demo::{Provider, ProviderOptions, Script};
use serde_json::{Value, json};

use super::support::*;

const MESSAGES: &str = "/anthropic/v1/messages";
const COUNT: &str = "/anthropic/v1/messages/count_tokens";
const BACKUP_KEY: &str = "sk-backup-canary-5d20";
/// What the backup calls the model.
const BACKUP_MODEL: &str = "claude-backup";

/// The test key for everything.
const KEYS: &str = r#"{ "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "username": "test", "salt": "ZmFrZQ==", "scopes": [{ "method": "*", "path": "/anthropic/*" }] } }"#;

/// A model of two targets, in their order.
const TWO: &str = "{ claude-sonnet-4-5: { order: ordered, targets: [ { provider: anthropic }, \
                   { provider: backup, model: claude-backup, larger_context: true } ] } }";
/// Attempts as they are by default, and targets that rest for long once they failed.
const PATIENT: &str = "{ cooldown: { first: 30s, longest: 30s } }";

/// A gateway before two providers of this dialect, `anthropic` and `backup`.
struct Claude {
    world: World,
    provider: Provider,
    backup: Provider,
}

impl Claude {
    async fn start() -> Self {
        Self::with(Setup::default(), "").await
    }

    /// Two targets for a model.
    async fn two() -> Self {
        Self::with(Setup { models: TWO.to_owned(), attempts: PATIENT.to_owned(), ..Setup::default() }, "").await
    }

    /// A world that differs; `more` stands in `providers.anthropic` besides.
    async fn with(setup: Setup, more: &str) -> Self {
        let [provider, backup] =
            [(PROVIDER_KEY, "claude-sonnet-4-5"), (BACKUP_KEY, BACKUP_MODEL)].map(|(key, model)| {
                let (api_key, models) = (Some(key.to_owned()), vec![model.to_owned()]);
                Provider::start(ProviderOptions { api_key, models, ..ProviderOptions::default() })
            });
        let (provider, backup) = (provider.await.expect("it starts"), backup.await.expect("it starts"));
        let entry = |name: &str, provider: &Provider, key: &str, more: &str| {
            let base_url = provider.addr();
            format!(
                "  {name}: {{ base_url: 'http://{base_url}', dialect: anthropic, api_key: {key}, \
                 priced_as: anthropic{more} }}\n"
            )
        };
        let more = if more.is_empty() { String::new() } else { format!(", {more}") };
        let providers = entry("anthropic", &provider, PROVIDER_KEY, &more) + &entry("backup", &backup, BACKUP_KEY, "");
        let key_file = setup.key_file.clone().or_else(|| Some(KEYS.to_owned()));
        let world = World::with(Setup { providers, key_file, ..setup }).await;
        Self { world, provider, backup }
    }

    fn asked(&self) -> [usize; 2] {
        [self.provider.received().len(), self.backup.received().len()]
    }

    /// The access line of the one call so far.
    async fn line(&self) -> Value {
        self.world.log.calls(1).await.remove(0)
    }

    async fn ask(&self, body: &Value) -> Response {
        let client = self.world.connect();
        let body = body.to_string();
        tokio::time::timeout(SOON, async { client.await.post(MESSAGES, &body).await }).await.expect("bounded")
    }
}

fn question(words: &str) -> Value {
    let messages = json!([{ "role": "user", "content": words }]);
    json!({ "model": "claude-sonnet-4-5", "max_tokens": 500, "messages": messages })
}

fn streamed(mut request: Value) -> Value {
    request["stream"] = true.into();
    request
}

/// An error as Anthropic tells it.
fn error(kind: &str, message: &str) -> String {
    json!({ "type": "error", "error": { "type": kind, "message": message }, "request_id": "req_theirs" }).to_string()
}

/// Checks that this is the gateway's own error in Anthropic's shape, with this status and type, and gives its message.
fn own_error(answer: &Response, status: u16, kind: &str) -> String {
    let text = answer.text();
    assert_eq!(answer.status, status, "{text}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let id = answer.header("x-request-id").expect("an id");
    assert_eq!(answer.header("request-id"), Some(id), "where its SDKs look for it");
    let body = answer.json();
    assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &kind.into()), "{text}");
    assert_eq!(body["request_id"], id);
    assert!(body["error"]["details"]["error_code"].is_string(), "{text}");
    let names: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["type", "error", "request_id"]);
    body["error"]["message"].as_str().expect("a message").to_owned()
}

fn json_headers(more: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    let own = [("content-type", "application/json".to_owned())];
    own.into_iter().chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
}

/// The events of a stream: their names and their data.
fn events(stream: &str) -> Vec<(String, Value)> {
    let event = |event: &str| {
        let (name, data) =
            event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: ")).expect("two lines");
        (name.to_owned(), serde_json::from_str(data).expect("JSON"))
    };
    stream.split("\n\n").filter(|event| !event.is_empty()).map(event).collect()
}
