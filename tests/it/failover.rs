//! Providers that fail while another one can serve: the caller gets the whole answer or a bounded, clean error.

mod after;
mod faults;
mod pairs;
mod pools;

use std::time::Duration;

use ai_gateway::demo::{Provider, ProviderOptions, Script};

use super::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const BACKUP_KEY: &str = "sk-backup-canary-91bc";
/// What the backup calls the model.
const BACKUP_MODEL: &str = "backup-model";
/// How long a target that failed rests at first.
const REST: Duration = Duration::from_millis(500);
/// Timeouts with which a busy machine may take its time for five megabytes.
const PATIENT: &str = "idle: 3s";
/// Bodies of these sizes take the same ways.
const SIZES: [usize; 3] = [10_000, 200_000, 5_000_000];

/// A gateway with a primary provider, which is the world's own, and a backup.
struct Two {
    world: World,
    backup: Provider,
}

impl Two {
    async fn start() -> Self {
        Self::with(REST, PATIENT).await
    }

    /// The same where a target that failed rests for this long, and with these timeouts of the primary.
    async fn with(rest: Duration, timeouts: &str) -> Self {
        Self::of(Pair::default(), rest, timeouts).await
    }

    /// The same with these versions of HTTP to clients and to the primary.
    async fn of(pair: Pair, rest: Duration, timeouts: &str) -> Self {
        let options = ProviderOptions {
            api_key: Some(BACKUP_KEY.to_owned()),
            models: vec![BACKUP_MODEL.to_owned()],
            ..ProviderOptions::default()
        };
        let backup = Provider::start(options).await.expect("the backup starts");
        let setup = Setup {
            provider: format!("timeouts: {{ {timeouts} }}"),
            providers: format!(
                "  backup: {{ base_url: 'http://{}', api_key: {BACKUP_KEY}, priced_as: openai }}",
                backup.addr()
            ),
            models: format!(
                "{{ gpt-4o-mini: {{ order: ordered, targets: [ {{ provider: openai }}, \
                 {{ provider: backup, model: {BACKUP_MODEL}, larger_context: true }} ] }} }}"
            ),
            attempts: format!(
                "{{ cooldown: {{ consecutive_failures: 3, first: {0}ms, longest: {0}ms }} }}",
                rest.as_millis()
            ),
            admin: "token: admin-canary".to_owned(),
            pair,
            ..Setup::default()
        };
        Self { world: World::with(setup).await, backup }
    }

    fn asked(&self) -> [usize; 2] {
        [self.world.provider.received().len(), self.backup.received().len()]
    }

    /// Asks for an answer of sixty words with a question of this size.
    async fn ask(&self, size: usize, stream: bool) -> Response {
        let content = "x".repeat(size);
        let body = if stream { chat_stream(&content) } else { chat(&content) };
        let client = self.world.client();
        tokio::time::timeout(SOON, async { client.await.post(CHAT, &body).await }).await.expect("bounded")
    }
}

/// An answer of sixty words, forty of which come where it is cut.
fn sixty() -> Script {
    Script { words: Some(60), ..Script::default() }
}

fn is_whole(answer: &Response, stream: bool) -> bool {
    let text = answer.text();
    let ends = if stream {
        text.ends_with("data: [DONE]\n\n") && text.contains("\"finish_reason\":\"stop\"") && !text.contains("\"error\"")
    } else {
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value["choices"][0]["finish_reason"] == "stop"
    };
    answer.status == 200 && answer.complete && ends
}
