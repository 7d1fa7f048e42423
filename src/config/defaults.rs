//! What holds where the YAML file says nothing.
//!
//! Invariant: `conf/gateway.yaml` shows exactly these values (a test compares them).
//! Never does: look at the machine or the environment; what depends on them is worked out in `compile`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::entries::RouteEntry;
use super::file::{
    Admin, Attempts, Auth, ClientCert, Cors, Dialect, File, FirstByte, Keys, Ledger, Listen, Provider, Server,
    ServerLimits, Shutdown, Telemetry, Timeouts,
};
use super::file::{Http2, Limits, Prices};
use super::values::{AutoSize, Period, PeriodOrOff, Size, Switch};

/// The file that is looked for where none is named.
pub(super) const FILE: &str = "conf/gateway.yaml";

/// The key file where neither the YAML nor the environment names another.
pub(super) const KEY_FILE: &str = "provision/secrets/hashed-api-keys.json";

/// The ledger's database.
const LEDGER: &str = "data/gateway.db";

/// The providers where the YAML names none.
pub(super) const PROVIDERS: &str = "\
providers:
  openai:
    base_url: https://api.openai.com
    api_key: ${OPENAI_API_KEY}
";

/// The routes of a provider that lists none.
const ROUTES: [&str; 5] = [
    "get /v1/models",
    "get /v1/models/{model}",
    "post /v1/chat/completions",
    "post /v1/embeddings",
    "post /v1/images/generations",
];

const fn seconds(seconds: u64) -> Period {
    Period(Duration::from_secs(seconds))
}

impl Default for File {
    fn default() -> Self {
        Self {
            server: Server::default(),
            admin: Admin::default(),
            keys: Keys::default(),
            providers: BTreeMap::new(),
            models: BTreeMap::new(),
            only_listed_models: false,
            attempts: Attempts::default(),
            limits: Limits::default(),
            prices: Prices::default(),
            ledger: Some(Ledger::default()),
            telemetry: Telemetry::default(),
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self { path: LEDGER.into(), retention: seconds(90 * 24 * 3600), max_size: Size(10 << 30) }
    }
}

impl Default for Server {
    fn default() -> Self {
        let all = Listen { address: "[::]:8080".to_owned(), tls: None };
        Self {
            listen: vec![all],
            threads: 0,
            upgrade_socket: "auto".to_owned(),
            shutdown: Shutdown::default(),
            limits: ServerLimits::default(),
            trusted_proxies: Vec::new(),
            cors: Cors::default(),
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { readiness_delay: seconds(5), grace: seconds(930) }
    }
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            max_body: Size(32 << 20),
            max_buffered: AutoSize::Auto,
            max_header_bytes: Size(64 << 10),
            body_timeout: seconds(60),
            idle_timeout: seconds(60),
            head_timeout: seconds(10),
            max_in_flight: 20_000,
            max_connections: 20_000,
            max_connections_per_address: 0,
        }
    }
}

impl Default for Cors {
    fn default() -> Self {
        Self { allow_origins: vec!["*".to_owned()] }
    }
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            preset: None,
            base_url: None,
            version_path: None,
            dialect: Dialect::default(),
            api_key: None,
            api_keys: Vec::new(),
            auth: Auth::default(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            inject_usage: Switch::Auto,
            priced_as: None,
            timeouts: Timeouts::default(),
            http2: Http2::default(),
            proxy: None,
            ca_file: PathBuf::new(),
            client_cert: ClientCert::default(),
            routes: ROUTES.map(RouteEntry::line).to_vec(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let crate::route::Timeouts { connect, first_token, idle, total, .. } = crate::route::Timeouts::default();
        Self {
            connect: Period(connect),
            first_byte: FirstByte::default(),
            first_token: PeriodOrOff(first_token.map(Period)),
            idle: Period(idle),
            total: Period(total),
        }
    }
}

impl Default for FirstByte {
    fn default() -> Self {
        let timeouts = crate::route::Timeouts::default();
        Self { stream: Period(timeouts.first_byte_stream), other: Period(timeouts.first_byte_other) }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        let (compat_metrics, access_log, answer_headers) = Default::default();
        Self { max_series: 10_000, compat_metrics, access_log, answer_headers }
    }
}
