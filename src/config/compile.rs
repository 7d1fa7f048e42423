//! From the picture of the file to the snapshot that runs.
//!
//! Invariant: all problems are collected before any is told; a snapshot is made only where there is none.
//! Never does: IO; what the machine and the environment offer is handed in.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::environment::{Environment, Host};
use super::file::{self, AccessLog, CompatMetrics, File};
use super::report::{FieldPath, Problem};
use super::tree::Tree;
use super::values::{AutoSize, Period, Size};
use super::{Cors, LedgerSettings, LimitRules, Listener, Network, ServerSettings, Startup};
use crate::meter::price::PriceBook;
use crate::route::{Attempts, ModelTable, Provider, RouteTable};

/// What the check of a file collects.
#[derive(Debug)]
pub(super) struct Check<'a> {
    pub(super) tree: &'a Tree,
    pub(super) environment: &'a Environment,
    /// What relative paths start from.
    pub(super) directory: &'a Path,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

/// All of a snapshot but its keys.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) server: ServerSettings,
    pub(super) startup: Startup,
    pub(super) routes: RouteTable,
    pub(super) models: ModelTable,
    pub(super) attempts: Attempts,
    pub(super) providers: Vec<Arc<Provider>>,
    pub(super) prices: Arc<PriceBook>,
    pub(super) limits: LimitRules,
    pub(super) access_log: bool,
}

impl Check<'_> {
    /// Notes a problem with a field, unless one was told already.
    pub(super) fn refuse(&mut self, path: &FieldPath, message: impl Into<Cow<'static, str>>) {
        self.note(path, message, None);
    }

    /// The same with a hint.
    pub(super) fn refuse_with(&mut self, path: &FieldPath, message: impl Into<Cow<'static, str>>, hint: &'static str) {
        self.note(path, message, Some(hint));
    }

    fn note(&mut self, path: &FieldPath, message: impl Into<Cow<'static, str>>, hint: Option<&'static str>) {
        if self.tree.is_told(path) {
            return;
        }
        let mut problem = self.tree.problem(path, message);
        problem.hint = hint.map(Cow::Borrowed);
        self.problems.push(problem);
    }

    /// Notes something odd that does not keep the gateway from starting.
    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// A duration within a range; the bounds are written as in the file.
    pub(super) fn period(&mut self, path: &FieldPath, value: Period, [least, most]: [&str; 2]) -> Duration {
        let bound = |text| humantime::parse_duration(text).unwrap_or_default();
        let fits = value.0 >= bound(least) && value.0 <= bound(most);
        if value.0.is_zero() && !fits {
            self.refuse(path, format!("expected a duration of more than zero, from {least} to {most}"));
        } else if !fits {
            self.refuse(path, format!("expected a duration from {least} to {most}"));
        }
        value.0
    }

    fn size(&mut self, path: &FieldPath, value: Size, least: (u64, &str), most: (u64, &str)) -> u64 {
        if value.0 < least.0 || value.0 > most.0 {
            self.refuse(path, format!("expected a size from {} to {}", least.1, most.1));
        }
        value.0
    }

    /// A whole number within a range.
    pub(super) fn number(&mut self, path: &FieldPath, value: u32, least: u32, most: u32) -> u32 {
        if !(least..=most).contains(&value) {
            self.refuse(path, format!("expected a number from {least} to {most}"));
        }
        value
    }

    fn connections(&mut self, path: &FieldPath, value: u32, least: u32) -> u32 {
        self.number(path, value, least, MAX_CONNECTIONS)
    }

    fn address(&mut self, path: &FieldPath, text: &str, host: &Host) -> SocketAddr {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip() == Ipv6Addr::UNSPECIFIED && !host.ipv6 => {
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))
            }
            Ok(address) => address,
            Err(_) => {
                self.refuse_with(
                    path,
                    "expected an address with a port",
                    "such as \"127.0.0.1:8080\", or \"[::]:8080\" for all addresses",
                );
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
            }
        }
    }
}

/// Compiles everything but the keys. `original` tells whether the NodeJS gateway's `HASHED_API_KEYS` is in use.
pub(super) fn compile(
    check: &mut Check<'_>,
    file: &File,
    host: &Host,
    original: bool,
    prices: Arc<PriceBook>,
) -> Compiled {
    let server = server(check, &file.server, file.telemetry.answer_headers, host);
    let startup = startup(check, file, host, original);
    let (providers, routes) = super::upstream::compile(check, &file.providers, &prices);
    super::prices::warn_of_idle(check, &file.prices, &providers);
    let models =
        super::models::compile(check, &super::models::Sources { file, providers: &providers, routes: &routes });
    let attempts = super::attempts::compile(check, &file.attempts);
    let longer = providers.iter().filter(|provider| provider.timeouts.total > server.grace);
    let longer: Vec<&str> = longer.map(|provider| provider.id.as_str()).collect();
    if !longer.is_empty() {
        check.warn(format!(
            "server.shutdown.grace is less than timeouts.total of {}: long answers are cut at a stop",
            longer.join(", ")
        ));
    }
    let access_log = file.telemetry.access_log == AccessLog::Json;
    let limits = super::limits::compile(check, &file.limits);
    Compiled { server, startup, routes, models, attempts, providers, prices, limits, access_log }
}

const UP_TO_AN_HOUR: [&str; 2] = ["1ms", "1h"];
const MAX_CONNECTIONS: u32 = 1_000_000;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

fn server(
    check: &mut Check<'_>,
    file: &file::Server,
    answer_headers: file::AnswerHeaders,
    host: &Host,
) -> ServerSettings {
    let limits = FieldPath::of("server.limits");
    let shutdown = FieldPath::of("server.shutdown");
    let max_body = check.size(&limits.key("max_body"), file.limits.max_body, (KIB, "1KiB"), (1 << 30, "1GiB"));
    let max_header =
        check.size(&limits.key("max_header_bytes"), file.limits.max_header_bytes, (4 * KIB, "4KiB"), (MIB, "1MiB"));
    ServerSettings {
        max_body,
        max_buffered: max_buffered(check, &limits.key("max_buffered"), file.limits.max_buffered, max_body, host),
        max_header_bytes: usize::try_from(max_header).unwrap_or(usize::MAX),
        body_timeout: check.period(&limits.key("body_timeout"), file.limits.body_timeout, UP_TO_AN_HOUR),
        idle_timeout: check.period(&limits.key("idle_timeout"), file.limits.idle_timeout, UP_TO_AN_HOUR),
        head_timeout: check.period(&limits.key("head_timeout"), file.limits.head_timeout, UP_TO_AN_HOUR),
        max_in_flight: check.connections(&limits.key("max_in_flight"), file.limits.max_in_flight, 1),
        max_connections: check.connections(&limits.key("max_connections"), file.limits.max_connections, 1),
        max_connections_per_address: Some(check.connections(
            &limits.key("max_connections_per_address"),
            file.limits.max_connections_per_address,
            0,
        ))
        .filter(|most| *most > 0),
        trusted_proxies: trusted_proxies(check, &file.trusted_proxies),
        cors: cors(check, &file.cors.allow_origins),
        answer_headers,
        readiness_delay: check.period(&shutdown.key("readiness_delay"), file.shutdown.readiness_delay, ["0s", "10m"]),
        grace: check.period(&shutdown.key("grace"), file.shutdown.grace, ["1s", "24h"]),
    }
}

fn max_buffered(check: &mut Check<'_>, path: &FieldPath, value: AutoSize, max_body: u64, host: &Host) -> u64 {
    match value {
        AutoSize::Auto => (host.memory.unwrap_or_default() / 4).max(64 * MIB).max(max_body),
        AutoSize::Bytes(size) if size.0 < max_body => {
            check.refuse(path, "expected \"auto\" or at least as much as max_body");
            size.0
        }
        AutoSize::Bytes(size) => size.0,
    }
}

fn trusted_proxies(check: &mut Check<'_>, file: &[String]) -> Vec<Network> {
    let mut networks = Vec::new();
    for (index, text) in file.iter().enumerate() {
        match network(text) {
            Some(network) => networks.push(network),
            None => check.refuse_with(
                &FieldPath::of("server.trusted_proxies").item(index),
                "expected an address or a range in CIDR notation",
                "such as \"10.0.0.0/8\", \"192.0.2.7\" or \"fd00::/8\"",
            ),
        }
    }
    networks
}

/// An address, or a range in CIDR notation.
pub(super) fn network(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
            (address, Some(prefix.parse::<u8>().ok()?))
        }
        Some(_) => return None,
        None => (text, None),
    };
    let (address, prefix): (IpAddr, u8) = match address.parse().ok()? {
        IpAddr::V4(address) => {
            let prefix = prefix.unwrap_or(32);
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(prefix.into())?).unwrap_or(0);
            (Ipv4Addr::from_bits(address.to_bits() & mask).into(), prefix)
        }
        IpAddr::V6(address) => {
            let prefix = prefix.unwrap_or(128);
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(prefix.into())?).unwrap_or(0);
            (Ipv6Addr::from_bits(address.to_bits() & mask).into(), prefix)
        }
    };
    Some(Network { address, prefix })
}

fn cors(check: &mut Check<'_>, origins: &[String]) -> Cors {
    let path = FieldPath::of("server.cors.allow_origins");
    for (index, origin) in origins.iter().enumerate() {
        if origin != "*" && !is_origin(origin) {
            check.refuse_with(
                &path.item(index),
                "expected \"*\" or an origin: a scheme and a host, with no path",
                "such as \"https://chat.example.com\"",
            );
        }
    }
    if !origins.iter().any(|origin| origin == "*") {
        return Cors::Only(origins.to_vec());
    }
    if origins.len() > 1 {
        check.warn("server.cors.allow_origins: \"*\" allows all origins, so the others have no effect");
    }
    Cors::Any
}

/// Browsers send an origin without a path and in lower case; anything else would never match.
fn is_origin(text: &str) -> bool {
    let visible = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase();
    text.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ','])
    }) && text.bytes().all(visible)
}

fn startup(check: &mut Check<'_>, file: &File, host: &Host, original: bool) -> Startup {
    let listen = listen(check, &file.server.listen, host);
    let threads = FieldPath::of("server.threads");
    if file.server.threads > 1024 {
        check.refuse(&threads, "expected a number from 0 to 1024, 0 for one a core");
    }
    let max_series = file.telemetry.max_series;
    if !(100..=1_000_000).contains(&max_series) {
        check.refuse(&FieldPath::of("telemetry.max_series"), "expected a number from 100 to 1000000");
    }
    let admin_listen = admin_listen(check, file.admin.listen.as_deref(), &listen, host, original);
    let admin_token = file.admin.token.as_ref().map(|token| token.0.clone());
    let admin_token = admin_token.filter(|token| !token.expose().is_empty());
    if admin_token.as_ref().is_some_and(|token| token.expose().len() < 16) {
        check.warn("admin.token is shorter than 16 characters");
    }
    Startup {
        listen,
        threads: match file.server.threads {
            0 => host.cores,
            threads => threads as usize,
        },
        upgrade_socket: super::upgrade::socket(check, &file.server.upgrade_socket),
        admin_listen,
        admin_token,
        max_series: max_series as usize,
        compat_metrics: match file.telemetry.compat_metrics {
            CompatMetrics::Auto => original,
            CompatMetrics::On => true,
            CompatMetrics::Off => false,
        },
        log_level: log_level(check),
        ledger: file.ledger.as_ref().map(|file| ledger(check, file)),
    }
}

fn ledger(check: &mut Check<'_>, file: &file::Ledger) -> LedgerSettings {
    let ledger = FieldPath::of("ledger");
    if file.path.as_os_str().is_empty() {
        check.refuse_with(&ledger.key("path"), "expected the path of a file", "`ledger: off` records nothing");
    }
    let (least, most) = ((MIB, "1MiB"), (16 << 40, "16384GiB"));
    LedgerSettings {
        path: absolute(check.directory, &file.path),
        retention: check.period(&ledger.key("retention"), file.retention, ["1h", "3650d"]),
        max_size: check.size(&ledger.key("max_size"), file.max_size, least, most),
    }
}

/// A path from the folder that relative ones start from. Absolute, since whoever reads of it in a log knows no working
/// directory.
pub(super) fn absolute(directory: &Path, path: &Path) -> PathBuf {
    let path = directory.join(path);
    std::path::absolute(&path).unwrap_or(path)
}

fn listen(check: &mut Check<'_>, file: &[file::Listen], host: &Host) -> Vec<Listener> {
    let path = FieldPath::of("server.listen");
    if file.is_empty() {
        check.refuse(&path, "expected at least one address");
    }
    let mut listen = Vec::new();
    for (index, entry) in file.iter().enumerate() {
        let address = check.address(&path.item(index), &entry.address, host);
        if address.port() != 0 && listen.iter().any(|other: &Listener| other.address == address) {
            check.refuse(&path.item(index), "this address stands twice");
        }
        // Certificates are files, which `load` reads.
        listen.push(Listener { address, tls: None });
    }
    listen
}

fn admin_listen(
    check: &mut Check<'_>,
    text: Option<&str>,
    listen: &[Listener],
    host: &Host,
    original: bool,
) -> SocketAddr {
    let path = FieldPath::of("admin.listen");
    let default = if original { "[::]:8081" } else { "127.0.0.1:8081" };
    let address = check.address(&path, text.unwrap_or(default), host);
    if address.port() != 0 && listen.iter().any(|other| overlap(other.address, address)) {
        check.refuse(&path, "expected another port than that of server.listen");
    }
    if !address.ip().is_loopback() {
        check.warn("admin.listen: other machines can reach the admin service (health and metrics without a token)");
    }
    address
}

fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

/// The log level by the NodeJS gateway's names, which are pino's.
fn log_level(check: &mut Check<'_>) -> log::LevelFilter {
    let Some(level) = check.environment.get("LOG_LEVEL") else {
        return log::LevelFilter::Info;
    };
    match level.to_ascii_lowercase().as_str() {
        "trace" => log::LevelFilter::Trace,
        "debug" => log::LevelFilter::Debug,
        "info" => log::LevelFilter::Info,
        "warn" => log::LevelFilter::Warn,
        "error" | "fatal" => log::LevelFilter::Error,
        "silent" | "off" => log::LevelFilter::Off,
        _ => {
            check.warn("LOG_LEVEL is none of trace, debug, info, warn, error, fatal, silent; info is used");
            log::LevelFilter::Info
        }
    }
}
