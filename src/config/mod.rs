//! The configuration: read, checked, compiled into one immutable snapshot, and swapped as one.
//!
//! Invariant: a request sees one snapshot from its start to its end; a bad configuration changes nothing.
//! Never does: print a value that came from a variable, a file or a secret field.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::keys::KeyRing;
use crate::route::{Provider, RouteTable};
use crate::units::Secret;

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
    pub routes: RouteTable,
    /// All keys.
    pub keys: KeyRing,
    /// Whether each call leaves a line.
    pub access_log: bool,
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
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<Network>,
    /// `Access-Control-Allow-Origin`.
    pub cors: Cors,
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

impl Network {
    /// Tells whether an address lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        let _ = address;
        false
    }
}

/// What only a restart can change.
#[derive(Clone, Debug)]
pub struct Startup {
    /// Addresses of the proxy.
    pub listen: Vec<SocketAddr>,
    /// Worker threads; at least 1.
    pub threads: usize,
    /// Address of the admin service.
    pub admin_listen: SocketAddr,
    /// What opens the rest of the admin service.
    pub admin_token: Option<Secret>,
    /// Ceiling of all metric series together.
    pub max_series: usize,
    /// Whether the original gateway's two summaries are exported.
    pub compat_metrics: bool,
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
