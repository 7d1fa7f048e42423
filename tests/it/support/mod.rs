//! The world of a test: a gateway on port 0 through the library's own door, and the scriptable provider behind it.
//!
//! Invariant: no fixed port, no file outside a folder of its own, no secret of the provider in any answer or log line.
//! Never does: stand in for a part of the gateway.

pub mod abuse;
mod client;
mod connect;
pub mod frames;
pub mod heavy;
mod http2;
mod log;
mod migrated;
mod pair;
mod process;
mod routes;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ai_gateway::config::{Environment, Sources};
use ai_gateway::demo::{Provider, ProviderOptions, Script};
use ai_gateway::policy::Policy;
use ai_gateway::server::{self, Options, Running};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

pub use client::{Connection, Response, head};
pub use connect::{ConnectProxy, Manner};
pub use http2::{Begun, Client, H2, HSTS, begun, json, send_all};
pub use log::Log;
pub use migrated::{Keys, Way};
pub(crate) use pair::over_all_pairs;
pub use pair::{AnyBegun, AnyClient, Http, Pair};
pub use process::{Ended, Process, SERVE, Service, prepare, threads};
pub use routes::{ALL, REALTIME, SPEECH, UPLOAD, VOICES, agrees, each_kind, handshake, key_file};
pub use tls::{Authority, Certificate, GOOD, TlsProvider};

/// What the provider takes for the gateway's own key. Must never be seen by a client or in the log.
pub const PROVIDER_KEY: &str = "sk-provider-canary-7f3a";
/// The original's test key, which the key file of every world has, for the four original routes.
pub const KEY: &str = "fake";
/// What a provider does is told at once and as it is.
pub const ONE_ATTEMPT: &str =
    "{ max_attempts: 1, cooldown: { consecutive_failures: 1000, first: 100ms, longest: 100ms } }";
/// A deadline for what should take milliseconds; long, because the machine may be busy with other things.
pub const SOON: Duration = Duration::from_secs(30);

/// The key file of the original's tests, as it shipped (`shared/keyfile.md`), with its fourth route.
pub const KEY_FILE: &str = r#"{
  "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "username": "test",
    "salt": "ZmFrZQ==",
    "scopes": [
      { "method": "get", "path": "/openai/v1/models" },
      { "method": "post", "path": "/openai/v1/chat/completions" },
      { "method": "post", "path": "/openai/v1/embeddings" },
      { "method": "post", "path": "/openai/v1/images/generations" }
    ]
  }
}"#;

/// What a test wants to be different from the default world.
#[derive(Default)]
pub struct Setup {
    /// YAML in flow style for `server:`, besides `listen` and `shutdown`: `limits: { max_body: 1KiB }`.
    pub server: String,
    /// The same for `providers.openai:`, besides `base_url` and `api_key`: `timeouts: { idle: 1s }`.
    pub provider: String,
    /// The same for `telemetry:`.
    pub telemetry: String,
    /// The same for `admin:`, besides `listen`.
    pub admin: String,
    /// What stands behind `ledger:`: `off`, or a mapping.
    pub ledger: String,
    /// Further sections, as lines of YAML: `limits: { ... }`.
    pub sections: String,
    /// Another key file.
    pub key_file: Option<String>,
    /// Variables of the environment.
    pub variables: Vec<(String, String)>,
    /// Another base URL than the scriptable provider's.
    pub base_url: Option<String>,
    /// Further entries of `server.listen`, behind a plain one: `{ address: ..., tls: ... }`.
    pub listen: Vec<String>,
    /// Further files: their names and texts.
    pub files: Vec<(String, String)>,
    /// How the provider behaves.
    pub options: Option<ProviderOptions>,
    /// What stands behind `attempts:`; by default one attempt, and hardly any rest behind a failure.
    pub attempts: String,
    /// What stands behind `models:`.
    pub models: String,
    /// Further providers, as lines of YAML: `  inner: { base_url: ... }`.
    pub providers: String,
    /// The embedding program's policies.
    pub policies: Vec<Arc<dyn Policy>>,
    /// The versions of HTTP on both sides of the gateway.
    pub pair: Pair,
    /// Takes the place of all YAML above: what `migrate` makes of the NodeJS gateway's files, with its keys here.
    pub migrated: Option<Keys>,
}

/// A gateway, its provider and its files.
pub struct World {
    pub provider: Arc<Provider>,
    pub gateway: Running,
    pub log: Log,
    pub folder: TempDir,
    pub pair: Pair,
    /// Where the provider is, as the `host` of a request says it.
    pub host: String,
    /// Whom clients with TLS have to believe.
    authority: Authority,
}

impl World {
    /// The default world.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// The default world with these versions of HTTP.
    pub async fn of(pair: Pair) -> Self {
        Self::with(Setup { pair, ..Setup::default() }).await
    }

    /// A world that differs.
    pub async fn with(mut setup: Setup) -> Self {
        let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), control: true, ..Default::default() };
        let provider = Provider::start(setup.options.clone().unwrap_or(options)).await.expect("the provider starts");
        let provider = Arc::new(provider);
        let folder = tempfile::tempdir().expect("a folder");
        if setup.migrated.is_none() {
            std::fs::write(folder.path().join("keys.json"), setup.key_file.as_deref().unwrap_or(KEY_FILE))
                .expect("written");
        }
        for (name, text) in &setup.files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let (authority, host) = pair::prepare(&mut setup, &provider, folder.path()).await;
        let yaml = match setup.migrated {
            Some(keys) => migrated::yaml(keys, &mut setup, &provider, folder.path()).await,
            None => yaml(&setup, &provider, 2),
        };
        std::fs::write(folder.path().join("gateway.yaml"), yaml).expect("written");
        let log = Log::default();
        let sources = sources(&folder, &setup);
        let options = Options { log: Box::new(log.clone()), logger: false, policies: setup.policies };
        let gateway = tokio::task::spawn_blocking(|| server::start(sources, options)).await.expect("no panic");
        let gateway = gateway.unwrap_or_else(|error| panic!("the gateway does not start: {error}"));
        Self { provider, gateway, log, folder, pair: setup.pair, host, authority }
    }

    /// The path of the key file.
    pub fn key_file(&self) -> PathBuf {
        self.folder.path().join("keys.json")
    }

    /// The path of the YAML file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("gateway.yaml")
    }

    /// A new connection to the gateway.
    pub async fn connect(&self) -> Connection {
        Connection::open(self.gateway.addresses()[0]).await
    }

    /// A new connection over TLS that offers these protocols, to a gateway whose clients speak HTTP/2.
    pub async fn tls(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let address = *self.gateway.addresses().last().expect("a listener");
        Client::new(address, self.authority.issuer()).connect(protocols).await.expect("a handshake")
    }

    /// A new connection to the gateway of the version that this world is about.
    pub async fn client(&self) -> AnyClient {
        match self.pair.client {
            Http::One => AnyClient::Http1(self.connect().await),
            Http::Two => {
                let address = *self.gateway.addresses().last().expect("a listener");
                AnyClient::Http2(Client::new(address, self.authority.issuer()).h2().await)
            }
        }
    }

    /// A request with the test key on a connection of its own. `body` is JSON.
    pub async fn post(&self, path: &str, body: &str) -> Response {
        self.connect().await.post(path, body).await
    }

    /// The same without a body.
    pub async fn get(&self, path: &str) -> Response {
        self.connect().await.request("GET", path, &[bearer(KEY)], b"").await
    }

    /// Tells whether calls shared connections to the provider. Pingora's pool, which calls use whose bodies pass unread, loses one
    /// now and then: its `reused_stream` gives up where the idle watch has let go of the lock, but not yet of its reference.
    pub fn connections_were_shared(&self) -> bool {
        self.provider.received().len() > 2 * self.provider.connections_accepted()
    }

    /// What the admin service answers.
    pub async fn admin(&self, path: &str) -> Response {
        Connection::open(self.gateway.admin_address()).await.request("GET", path, &[], b"").await
    }

    /// All metrics as text.
    pub async fn metrics(&self) -> String {
        self.admin("/metrics").await.text()
    }
}

/// An `authorization` header.
pub fn bearer(key: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {key}"))
}

/// A small chat request.
pub fn chat(content: &str) -> String {
    serde_json::json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": content }] }).to_string()
}

/// The same as a stream.
pub fn chat_stream(content: &str) -> String {
    let messages = serde_json::json!([{ "role": "user", "content": content }]);
    serde_json::json!({ "model": "gpt-4o-mini", "stream": true, "messages": messages }).to_string()
}

/// The same where the client itself asks for the usage, so that no byte of the answer is the gateway's business.
pub fn chat_stream_with_usage(content: &str) -> String {
    let messages = serde_json::json!([{ "role": "user", "content": content }]);
    let options = serde_json::json!({ "include_usage": true });
    let model = "gpt-4o-mini";
    serde_json::json!({ "model": model, "stream": true, "stream_options": options, "messages": messages }).to_string()
}

/// A stream of so many words with this pause between two of them.
pub fn slow(words: usize, gap_ms: u64) -> Script {
    Script { words: Some(words), gap: Some(Duration::from_millis(gap_ms)), ..Script::default() }
}

/// Begins a stream; its head has arrived.
pub async fn begin_stream(mut connection: Connection, body: &str) -> (Connection, Response) {
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    connection.send(head("POST", "/openai/v1/chat/completions", &headers, body.as_bytes())).await;
    connection.send(body).await;
    let head = connection.head().await;
    assert_eq!(head.status, 200);
    (connection, head)
}

/// The value of one series of an exposition, given with its labels; 0 where it is not there.
pub fn metric(exposition: &str, series: &str) -> f64 {
    let mut lines = exposition.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

/// Waits until something is so; fails the test where it does not become so in [`SOON`].
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The default configuration with what a test wants.
fn yaml(setup: &Setup, provider: &Provider, threads: usize) -> String {
    let base_url = setup.base_url.clone().unwrap_or_else(|| format!("http://{}", provider.addr()));
    let and = |more: &str| if more.is_empty() { String::new() } else { format!(", {more}") };
    let default =
        |name: &str, value: &str| if setup.server.contains(name) { String::new() } else { format!(", {value}") };
    let ledger = if setup.ledger.is_empty() { String::new() } else { format!("ledger: {}\n", setup.ledger) };
    let attempts = if setup.attempts.is_empty() { ONE_ATTEMPT } else { &setup.attempts };
    let models = if setup.models.is_empty() { "{}" } else { &setup.models };
    format!(
        "server: {{ listen: [\"127.0.0.1:0\"{}]{}{}, threads: {threads} }}\nadmin: {{ listen: \"127.0.0.1:0\"{} }}\n\
         keys: {{ file: keys.json }}\nproviders:\n  openai: {{ base_url: \"{base_url}\", api_key: \"{PROVIDER_KEY}\"{} }}\n\
         {}\ntelemetry: {{ compat_metrics: on{} }}\n",
        and(&setup.listen.join(", ")),
        and(&setup.server),
        default("shutdown", "shutdown: { readiness_delay: 10ms, grace: 900s }"),
        and(&setup.admin),
        and(&setup.provider),
        setup.providers,
        and(&setup.telemetry),
    ) + &ledger
        + &format!("attempts: {attempts}\nmodels: {models}\n")
        + &setup.sections
}

fn sources(folder: &TempDir, setup: &Setup) -> Sources {
    Sources {
        file: Some(PathBuf::from("gateway.yaml")),
        yaml: None,
        directory: folder.path().to_owned(),
        environment: Environment::from_iter(setup.variables.iter().cloned()),
    }
}
