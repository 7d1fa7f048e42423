//! The picture of `conf/gateway.yaml`: what may be written there. These docs are the reference of the file.
//!
//! Invariant: every field has a default, is documented here, and stands in `conf/gateway.yaml` (a test walks both).
//! Fields that a later version brings are known by name and refused, so that nothing is silently ignored.
//! Never does: checks that need more than one field; that is `compile`.

mod answer;
mod forms;
mod limits;
mod models;
mod prices;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use answer::AnswerHeaders;
pub use limits::{BudgetEntry, LimitSet, LimitStore, Limits, PerEntry};
pub use models::{ApiKey, Attempts, Cooldown, Model, Order, Target};
pub use prices::Prices;

use super::entries::RouteEntry;
use super::values::{AutoSize, Hidden, Period, PeriodOrOff, Size, Switch, list, mapping, mappings, unless_off};

/// The whole file. All of it is optional: without a file the gateway serves OpenAI with `OPENAI_API_KEY`.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    /// What clients meet.
    #[serde(deserialize_with = "mapping")]
    pub server: Server,
    /// The admin service: health and metrics on a port of their own.
    #[serde(deserialize_with = "mapping")]
    pub admin: Admin,
    /// The keys that the gateway issued.
    #[serde(deserialize_with = "mapping")]
    pub keys: Keys,
    /// The upstream APIs by name; the name is the first segment of a provider's paths. Lower-case letters, digits,
    /// `.`, `_`, `-`. Default: `openai` at `https://api.openai.com` with `${OPENAI_API_KEY}`.
    #[serde(deserialize_with = "mappings")]
    pub providers: BTreeMap<String, Provider>,
    /// What tokens cost.
    #[serde(deserialize_with = "mapping")]
    pub prices: Prices,
    /// Names of models that clients may ask for, each with its targets; a name that ends in `*` stands for all that begin
    /// so, a longer one before a shorter one. Other names go to the provider in the path. Default: none.
    #[serde(deserialize_with = "mappings")]
    pub models: BTreeMap<String, Model>,
    /// Whether names that `models` does not list are refused (404 `model_not_found`). Default false.
    pub only_listed_models: bool,
    /// How persistent the gateway is with providers that fail.
    #[serde(deserialize_with = "mapping")]
    pub attempts: Attempts,
    /// The record of all calls, or `off`.
    #[serde(deserialize_with = "unless_off")]
    pub ledger: Option<Ledger>,
    /// Rate limits and budgets.
    #[serde(deserialize_with = "mapping")]
    pub limits: Limits,
    /// Metrics and logs.
    #[serde(deserialize_with = "mapping")]
    pub telemetry: Telemetry,
}

/// What clients meet.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Addresses to listen on. `[::]` stands for all addresses, of IPv4 too, and for `0.0.0.0` where the machine has
    /// no IPv6. An entry with TLS is `{ address: ..., tls: { cert: FILE, key: FILE } }`. Default: `["[::]:8080"]`. Needs
    /// a restart, but for the content of certificates.
    pub listen: Vec<Listen>,
    /// Worker threads, up to 1024. Default 0: one a core. Needs a restart.
    pub threads: u32,
    /// The unix socket over which `serve --upgrade` takes over from the gateway that serves; both must name the same. A
    /// path of up to 107 bytes, relative to the working directory; `off` for none; `auto` is `ai-gateway.sock` in the
    /// folder that `RUNTIME_DIRECTORY` (set by systemd) or else `XDG_RUNTIME_DIR` names, and none where neither is set.
    /// Default `auto`. Needs a restart.
    pub upgrade_socket: String,
    /// The way to a clean stop.
    #[serde(deserialize_with = "mapping")]
    pub shutdown: Shutdown,
    /// What a client may send, and how slowly.
    #[serde(deserialize_with = "mapping")]
    pub limits: ServerLimits,
    /// Addresses or CIDR ranges of proxies in front of the gateway; only their `x-forwarded-for` is believed.
    /// Default: none.
    pub trusted_proxies: Vec<String>,
    /// Calls from browsers.
    #[serde(deserialize_with = "mapping")]
    pub cors: Cors,
}

/// An entry of `server.listen`: `ADDRESS:PORT`, or a mapping.
#[derive(Debug, Default, PartialEq)]
pub struct Listen {
    /// `ADDRESS:PORT`; an IPv6 address in brackets.
    pub address: String,
    /// Makes clients speak TLS, and lets them speak HTTP/2. Default: plain HTTP/1.1.
    pub tls: Option<Tls>,
}

/// What makes a listener one with TLS. Files are relative to the working directory, and read again at each reload.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the certificate, and behind it those that link it to its authority. Needed.
    pub cert: PathBuf,
    /// PEM file of its private key. Needed.
    pub key: PathBuf,
    /// PEM file of the authorities of clients: each client has to show a certificate that one of them signed. Default:
    /// none, and clients need no certificate. Needs a restart.
    pub client_ca: Option<PathBuf>,
}

/// The way to a clean stop.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// From SIGTERM, when `/readyz` turns 503, to the closing of the listeners: as long as load balancers need to
    /// notice. 0s to 10m. Default 5s.
    pub readiness_delay: Period,
    /// From then to the end of the last stream; what still runs is cut. 1s to 24h, at least a provider's
    /// `timeouts.total`. Default 930s.
    pub grace: Period,
}

/// What a client may send, and how slowly.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerLimits {
    /// Size of a request body on a `json` route; larger: 413. 1KiB to 1GiB. Default 32MiB.
    pub max_body: Size,
    /// Size of all request bodies held at once; more: 503. At least `max_body`. Default `auto`: a quarter of the
    /// memory, at least 64MiB.
    pub max_buffered: AutoSize,
    /// Size of a request's head; larger: 431. Over HTTP/2 more waits for a restart. 4KiB to 1MiB. Default 64KiB.
    pub max_header_bytes: Size,
    /// From the head to the body's last byte on a `json` route, between two pieces of a body on others; longer: 408. (On
    /// others over HTTP/2 the longer of the provider's `first_byte.other` and `idle` takes its place.) Up to 1h. Default
    /// 60s.
    pub body_timeout: Period,
    /// How long a kept connection may be quiet between two requests; over HTTP/2 a change waits for a restart. Up to 1h.
    /// Default 60s.
    pub idle_timeout: Period,
    /// From a connection's start, and on a kept one from a request's first byte, to the end of the head; longer, however
    /// steadily it drips: the connection is closed. HTTP/1.1 only. Up to 1h. Default 10s.
    pub head_timeout: Period,
    /// Calls of good keys at once, over all connections; further ones: 503. 1 to 1000000. Default 20000.
    pub max_in_flight: u32,
    /// Connections at once; further ones are closed unread. 1 to 1000000. Default 20000.
    pub max_connections: u32,
    /// The same for one address, of IPv6 for its /64. Loopback and `trusted_proxies` are not counted. 0 is no limit; up to
    /// 1000000. Default 0.
    pub max_connections_per_address: u32,
}

/// Calls from browsers.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins that may call, such as `https://chat.example.com`; `*` for all; an empty list switches CORS off.
    /// Default: `["*"]`.
    pub allow_origins: Vec<String>,
}

/// The admin service. `/ping`, `/livez`, `/readyz` and `/metrics` are open; all else needs the token.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Its address. Default `127.0.0.1:8081`, but `[::]:8081` where `HASHED_API_KEYS` is in use, as the NodeJS gateway
    /// did. Needs a restart.
    pub listen: Option<String>,
    /// What opens the rest of the admin service. Default: empty, which keeps that closed. Needs a restart.
    pub token: Option<Hidden>,
}

/// The keys that the gateway issued.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// The key file, relative to the working directory; `ai-gateway keys` writes it. Default: `HASHED_API_KEYS` where
    /// that is set, else `provision/secrets/hashed-api-keys.json`.
    pub file: Option<PathBuf>,
}

/// An upstream API.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// A well-known provider whose base URL, dialect, `auth` and routes are taken where they are not written here:
    /// `anthropic`, `deepseek`, `fireworks`, `gemini`, `groq`, `mistral`, `openai`, `openrouter`, `together`, `xai`.
    /// Default: the provider's own name, where that is one of these and there is no `base_url`.
    pub preset: Option<String>,
    /// Where it is, http or https. Its path goes before the client's; where that ends in a version (`/v1`, as the SDKs
    /// want it), the version stands in place of the client's `/v1`. Needed without a preset.
    pub base_url: Option<String>,
    /// What goes upstream in place of the client's `/v1`. Default: `/v1`, or the version that `base_url` ends in.
    /// May be empty.
    pub version_path: Option<String>,
    /// The API family: `openai` or `anthropic`. `anthropic` has other defaults: `auth` is the header `x-api-key`, and the
    /// routes are messages, messages/count_tokens, models and models/{model}. Default `openai`.
    pub dialect: Dialect,
    /// Our key for the provider. Default: the variable `<NAME>_API_KEY`; without it calls carry no credential.
    pub api_key: Option<Hidden>,
    /// Several keys in place of `api_key`; one that is at its limit or refused rests. Up to 64. Default: none.
    #[serde(deserialize_with = "list")]
    pub api_keys: Vec<ApiKey>,
    /// How the key goes upstream: `bearer`, or `{ header: NAME }` for a header that holds the key alone.
    /// Default `bearer`.
    pub auth: Auth,
    /// Headers that are set on each upstream request. Default: none.
    pub headers: BTreeMap<String, Hidden>,
    /// Query parameters that are added to each upstream request. Default: none.
    pub query: BTreeMap<String, Hidden>,
    /// Whether the gateway asks for usage where a streaming client did not, and takes it out of the answer again: `on`,
    /// `off`, `auto` = on for the dialect `openai`, unless the preset knows that the provider refuses it (`mistral`).
    /// Default `auto`.
    pub inject_usage: Switch,
    /// The section of the price book that prices its models; empty for none, and then costs are unknown. Default: the
    /// section with the provider's name, else that of `base_url`'s host where it is a well-known one, else none.
    pub priced_as: Option<String>,
    /// How long to wait for the provider.
    #[serde(deserialize_with = "mapping")]
    pub timeouts: Timeouts,
    /// Whether an https provider may choose HTTP/2: `auto` or `off`. Only `json` routes use it; all others, and http URLs,
    /// have HTTP/1.1. Default `auto`.
    pub http2: Http2,
    /// The HTTP proxy to reach the provider through, by CONNECT: `http://[USER:PASSWORD@]HOST[:PORT]`, user and password
    /// percent-encoded; empty or `off` for none. A provider at an http URL is tunnelled too where this names a proxy.
    /// Hosts that `NO_PROXY` names are reached directly all the same. Default: `HTTPS_PROXY` for https, none for http.
    pub proxy: Option<Hidden>,
    /// A PEM file with the authorities that are believed for this provider, in place of the system's; read again at
    /// each reload. Default: empty, the system's.
    pub ca_file: PathBuf,
    /// What the gateway shows of itself where the provider asks for a certificate.
    #[serde(deserialize_with = "mapping")]
    pub client_cert: ClientCert,
    /// What clients may call: `method path [kind]`; these are also the scopes of keys. `{model}` stands for one segment.
    /// Kinds: `json` (the default), `stream` for uploads and media of any size, `websocket`, and `opaque`, which alone may
    /// have the method `any` and a path that ends in `/*`. `{ route: "get /v1/realtime websocket", model: query }` says what
    /// tells the model of calls that are not read: the parameter `model` of the query, where that is what the provider
    /// goes by, or any other text is itself the model that all calls of the route count as. Beside or in place of it
    /// `price_per_request: 0.006` is what each such call costs, in USD, whatever it uses. Default: models, models/{model}, chat/completions, embeddings
    /// and images/generations.
    pub routes: Vec<RouteEntry>,
}

/// Whether a provider may choose HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Http2 {
    /// It is offered by ALPN to each provider with TLS.
    #[default]
    Auto,
    /// It is not offered.
    Off,
}

/// A certificate of the gateway's own with its key. Both files, or neither; read again at each reload.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientCert {
    /// A PEM file: the certificate, then those that lead to its authority. Default: empty, none is shown.
    pub cert: PathBuf,
    /// A PEM file with its private key, not encrypted. Default: empty.
    pub key: PathBuf,
}

/// The API family of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// OpenAI's, and of all who copy it.
    #[default]
    Openai,
    /// Anthropic's: Messages.
    Anthropic,
}

/// How a provider's key goes upstream.
#[derive(Debug, Default, PartialEq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`
    #[default]
    Bearer,
    /// `NAME: KEY`
    Header(String),
}

/// How long to wait for a provider. Each is more than zero.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a TCP connection, a proxy's tunnel included, and as long again for TLS. Up to 5m. Default 3s.
    pub connect: Period,
    /// From the request sent to the answer's head.
    #[serde(deserialize_with = "mapping")]
    pub first_byte: FirstByte,
    /// From the request sent to a stream's first content, or `off`. Up to 24h. Default `off`.
    pub first_token: PeriodOrOff,
    /// Between two pieces of an answer; on a `websocket` route, without a byte in either direction. (On `stream` and
    /// `opaque` routes the wait for the answer's head is `first_byte.other`, but no less than this.) Up to 24h. Default 120s.
    pub idle: Period,
    /// From the first attempt to the answer's end; on `stream` and `opaque` routes from the request's end; a
    /// WebSocket may last longer. Up to 24h. Default 900s.
    pub total: Period,
}

/// From the request sent to the answer's head.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FirstByte {
    /// For calls that ask for a stream. Up to 24h. Default 120s.
    pub stream: Period,
    /// For all other calls. Up to 24h. Default 600s.
    pub other: Period,
}

/// The record of all calls that passed authentication, in a database of its own that needs no server.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// The SQLite file, relative to the working directory, on a local disk. It is made where it is missing, with its
    /// folder, for its owner only. Default `data/gateway.db`. Needs a restart.
    pub path: PathBuf,
    /// Age at which records are deleted. 1h to 3650d. Default 90d.
    pub retention: Period,
    /// Size of the file at which the oldest records are deleted. 1MiB to 16384GiB. Default 10GiB.
    pub max_size: Size,
}

/// Metrics and logs.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Ceiling of all metric series together; beyond it model, then user become `other`. 100 to 1000000. Default
    /// 10000. Needs a restart.
    pub max_series: u32,
    /// Whether the NodeJS gateway's two summaries are exported too: `on`, `off`, `auto` = on where `HASHED_API_KEYS` is
    /// in use. Default `auto`. Needs a restart.
    pub compat_metrics: CompatMetrics,
    /// Whether each call leaves a line on stdout: `json` or `off`. Default `json`.
    pub access_log: AccessLog,
    /// What answers tell of themselves in headers.
    #[serde(deserialize_with = "mapping")]
    pub answer_headers: AnswerHeaders,
}

/// Whether the NodeJS gateway's two summaries are exported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompatMetrics {
    /// Where the NodeJS gateway's environment is in use.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// How a call is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessLog {
    /// One JSON line.
    #[default]
    Json,
    /// Not at all.
    Off,
}
