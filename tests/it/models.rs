//! Which models there are, for whom, and a model that several providers serve.

mod list;
mod one;
mod several;

use ai_gateway::demo::{Provider, ProviderOptions, Script};
use serde_json::Value;

use super::support::*;

const LIST: &str = "/openai/v1/models";
const BACKUP_KEY: &str = "sk-backup-canary-5d10";
/// Where the second provider has its API, instead of `/v1`.
const BACKUP_PATH: &str = "/api/v3";
/// A key for two names, one of them of the configuration.
const MODEST: &str = r#"{
  "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "id": "key_modest", "username": "test", "salt": "ZmFrZQ==",
    "scopes": [{ "method": "*", "path": "/openai/*" }], "models": ["gpt-4o", "fast", "ft-*"]
  }
}"#;

/// A world with names, and the provider that serves some of them under another path.
struct Named {
    world: World,
    backup: Provider,
}

impl Named {
    async fn with(setup: Setup) -> Self {
        let models = ["backup-model", "backup-embedding", "ft-x"].map(str::to_owned).to_vec();
        let options =
            ProviderOptions { api_key: Some(BACKUP_KEY.to_owned()), control: true, models, ..Default::default() };
        let backup = Provider::start(options).await.expect("the backup starts");
        let names = "fast: { targets: [ { provider: openai, model: gpt-4o-mini } ] }, \
            wide: { order: ordered, targets: [ { provider: openai, model: gpt-4o }, { provider: backup, model: backup-model } ] }, \
            ft-*: { targets: [ { provider: backup } ] }, far-*: { targets: [ { provider: backup, model: ft-x } ] }";
        let setup = Setup {
            models: format!("{{ {names}{} }}", setup.models),
            providers: format!(
                "  backup: {{ base_url: 'http://{}{BACKUP_PATH}', api_key: {BACKUP_KEY}, \
                 routes: [ 'get /v1/models/{{model}}', post /v1/chat/completions, post /v1/embeddings, post /v1/responses ] }}",
                backup.addr()
            ),
            ..setup
        };
        Self { world: World::with(setup).await, backup }
    }

    async fn of(pair: Pair) -> Self {
        Self::with(Setup { pair, ..Setup::default() }).await
    }
}

async fn get(client: &mut AnyClient, path: &str) -> Response {
    client.request("GET", path, &[bearer(KEY)], b"").await
}

/// The entries of a list: ids with their owners.
fn told(answer: &Response) -> Vec<String> {
    assert_eq!((answer.status, answer.complete), (200, true), "{}", answer.text());
    let list = answer.json();
    assert_eq!(list["object"], "list");
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let entries = list["data"].as_array().expect("a list").iter();
    entries.map(|entry| format!("{} by {}", text(&entry["id"]), text(&entry["owned_by"]))).collect()
}
