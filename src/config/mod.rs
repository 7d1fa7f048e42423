//! The configuration: read, checked, compiled into one immutable snapshot, and swapped as one.
//!
//! Invariant: a request sees one snapshot from its start to its end; a bad configuration changes nothing.
//! Never does: print a value that came from a variable, a file or a secret field.

mod attempts;
mod certificates;
mod compile;
mod credential;
mod defaults;
pub mod entries;
mod environment;
pub mod file;
mod interpolate;
mod keys_in;
mod limits;
mod load;
mod migrate;
mod models;
mod presets;
mod prices;
mod proxies;
mod read;
mod report;
mod routes;
mod tls;
mod tree;
mod upgrade;
mod upstream;
pub mod values;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::keys::KeyRing;
use crate::meter::price::PriceBook;
use crate::route::{Attempts, ModelTable, Provider, RouteTable};
use crate::units::Secret;

pub use environment::Environment;
pub use environment::hostname;
pub use file::AnswerHeaders;
pub use limits::{LimitRules, LimitTable, Rule};
pub use load::{
    KeySettings, Loaded, Sources, env_salt_alone, key_settings, ledger_path, load, load_again, with_keys_read_again,
};
pub use migrate::{Finding, Grade, Migration, OldSources, may_write, migrate, write};
pub use report::{Problem, Report};
pub use tls::{Certificate, ClientCa, Tls};

/// Everything that a request needs to know, fixed for its lifetime.
#[derive(Debug)]
pub struct Snapshot {
    /// Limits of what clients may send, and how they are answered.
    pub server: ServerSettings,
    /// Applies at start only; a reload that changes it is told that a restart is needed.
    pub startup: Startup,
    /// All providers.
    pub providers: Vec<Arc<Provider>>,
    /// All routes.
    pub routes: Arc<RouteTable>,
    /// All names of models, and where calls without such a name go.
    pub models: Arc<ModelTable>,
    /// How persistent the gateway is with providers that fail.
    pub attempts: Attempts,
    /// What tokens cost.
    pub prices: Arc<PriceBook>,
    /// All keys.
    pub keys: KeyRing,
    /// What limits their calls.
    pub limits: LimitTable,
    /// The file that the keys came from or will come from; `None` where they came from `HASHED_API_KEYS`.
    pub key_file: Option<PathBuf>,
    /// Whether each call leaves a line.
    pub access_log: bool,
}

impl Snapshot {
    /// Where the keys came from: the key file's path, or the variable.
    pub fn key_source(&self) -> Cow<'_, str> {
        match &self.key_file {
            Some(file) => file.to_string_lossy(),
            None => keys_in::VARIABLE.into(),
        }
    }
}

/// What clients may send and how they are answered.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Bytes of a request body on a JSON route.
    pub max_body: u64,
    /// Bytes of all request bodies that are held at once.
    pub max_buffered: u64,
    /// Bytes of a request's head.
    pub max_header_bytes: usize,
    /// From the head to the body's last byte.
    pub body_timeout: Duration,
    /// How long a kept connection may be quiet between two requests.
    pub idle_timeout: Duration,
    /// How long the head of a request may take in all, over HTTP/1.1.
    pub head_timeout: Duration,
    /// Calls of good keys at once.
    pub max_in_flight: u32,
    /// Connections at once.
    pub max_connections: u32,
    /// Connections of one address at once, of those that are counted by address; `None` is no limit.
    pub max_connections_per_address: Option<u32>,
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<Network>,
    /// `Access-Control-Allow-Origin`.
    pub cors: Cors,
    /// What answers tell of themselves in headers.
    pub answer_headers: AnswerHeaders,
    /// From SIGTERM to the closing of the listeners.
    pub readiness_delay: Duration,
    /// From then to the end of the last stream.
    pub grace: Duration,
}

/// Which origins browsers may call from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// `*`
    Any,
    /// Exactly these; empty switches CORS off.
    Only(Vec<String>),
}

/// A range of addresses in CIDR notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// Leading bits that count.
    pub prefix: u8,
}

impl Cors {
    /// Tells whether browsers are answered at all.
    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Only(origins) if origins.is_empty())
    }
}

/// A listener of the proxy.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// Present where clients are to speak TLS.
    pub tls: Option<Tls>,
}

impl Listener {
    /// Tells whether the other is the same but for its certificate, which a reload can replace.
    pub fn is_like(&self, other: &Self) -> bool {
        let client_ca = |listener: &Self| listener.tls.as_ref().map(|tls| tls.client_ca.clone());
        self.address == other.address && client_ca(self) == client_ca(other)
    }

    /// The scheme of its URLs.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

/// The unix socket over which another process can take over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeSocket {
    /// Where it is; absolute, or relative to the working directory.
    pub path: PathBuf,
    /// Whether the configuration names it, so that a gateway without it would not be what was asked for.
    pub named: bool,
}

/// What only a restart can change, and the certificates of listeners.
#[derive(Clone, Debug)]
pub struct Startup {
    /// Listeners of the proxy.
    pub listen: Vec<Listener>,
    /// Worker threads; at least 1.
    pub threads: usize,
    /// Over which another process can take over; `None` where none can.
    pub upgrade_socket: Option<UpgradeSocket>,
    /// Address of the admin service.
    pub admin_listen: SocketAddr,
    /// What opens the rest of the admin service.
    pub admin_token: Option<Secret>,
    /// Ceiling of all metric series together.
    pub max_series: usize,
    /// Whether the original gateway's two summaries are exported.
    pub compat_metrics: bool,
    /// How much is logged: `LOG_LEVEL`.
    pub log_level: log::LevelFilter,
    /// Where calls are recorded; absent: nowhere. Age and size need no restart.
    pub ledger: Option<LedgerSettings>,
}

/// The record of all calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    /// The database; absolute.
    pub path: PathBuf,
    /// Age at which records are deleted.
    pub retention: Duration,
    /// Bytes of the database at which the oldest records are deleted.
    pub max_size: u64,
}

impl Startup {
    /// The fields that differ and so need a restart, by their names in the file.
    pub fn differences(&self, next: &Self) -> Vec<&'static str> {
        let path = |startup: &Self| startup.ledger.as_ref().map(|ledger| ledger.path.clone());
        let token = |startup: &Self| startup.admin_token.as_ref().map(|token| token.expose().to_owned());
        let fields = [
            ("server.listen", !self.listens_like(next)),
            ("server.threads", self.threads != next.threads),
            ("server.upgrade_socket", self.upgrade_socket != next.upgrade_socket),
            ("admin.listen", self.admin_listen != next.admin_listen),
            ("admin.token", token(self) != token(next)),
            ("telemetry.max_series", self.max_series != next.max_series),
            ("telemetry.compat_metrics", self.compat_metrics != next.compat_metrics),
            ("ledger.path", path(self) != path(next)),
            ("LOG_LEVEL", self.log_level != next.log_level),
        ];
        fields.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }

    fn listens_like(&self, next: &Self) -> bool {
        self.listen.len() == next.listen.len()
            && self.listen.iter().zip(&next.listen).all(|(own, other)| own.is_like(other))
    }
}

impl Network {
    /// Tells whether an address is in the range. An IPv4 address that came over a dual-stack socket counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                let host_bits = 32_u32.saturating_sub(self.prefix.into());
                (range.to_bits() ^ address.to_bits()).checked_shr(host_bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                let host_bits = 128_u32.saturating_sub(self.prefix.into());
                (range.to_bits() ^ address.to_bits()).checked_shr(host_bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The snapshot in force.
#[derive(Debug)]
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    /// Starts with a first snapshot.
    pub fn new(first: Arc<Snapshot>) -> Self {
        Self(ArcSwap::new(first))
    }

    /// The snapshot in force now; the caller keeps it as long as it likes.
    pub fn pin(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts a new snapshot in force and hands back the old one.
    pub fn replace(&self, next: Arc<Snapshot>) -> Arc<Snapshot> {
        self.0.swap(next)
    }
}

#[cfg(test)]
mod tests;
