//! `ai-gateway check`: tells whether a configuration could be put in force, and what it comes to.
//!
//! Invariant: reads what `serve` would read and nothing else; exit code 0 or 2.
//! Never does: open a port or ask a provider; show a secret.

mod json;
mod limits;
mod models;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::config::{self, Cors, LedgerSettings, Listener, Loaded, Report, ServerSettings, Snapshot, Sources, Startup};
use crate::route::{ModelSource, Provider, Route};

use json::as_json;
pub(super) use json::report_as_json;

/// The arguments of `check`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct CheckArgs {
    /// The YAML file [default: conf/gateway.yaml where it exists, else the built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Prints JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// The exit code of a configuration that can be put in force.
const FINE: u8 = 0;
/// The exit code of one that cannot.
const WRONG: u8 = 2;

/// Checks the configuration of this process. The result is the exit code.
///
/// # Errors
/// Those of writing.
pub(super) fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    check(args, &Sources::of_process(args.config.clone()), out, err)
}

fn check(args: &CheckArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match config::load(sources) {
        Ok(loaded) if args.json => writeln!(out, "{:#}", as_json(&loaded)).map(|()| FINE),
        Ok(loaded) => as_text(&loaded, out).map(|()| FINE),
        Err(report) => {
            if args.json {
                writeln!(out, "{:#}", report_as_json(&report))?;
            }
            writeln!(err, "{report}")?;
            let count = report.problems().len();
            let problems = if count == 1 { "problem" } else { "problems" };
            writeln!(err, "{count} {problems}; nothing would be put in force").map(|()| WRONG)
        }
    }
}

fn as_text(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let Snapshot { server, startup, .. } = &*loaded.snapshot;
    let listen: Vec<String> = startup.listen.iter().map(shown).collect();
    let keys = loaded.snapshot.keys.tally(SystemTime::now());
    let token = if startup.admin_token.is_some() { "" } else { ", no token: only health and metrics" };
    writeln!(out, "configuration  {}", loaded.describes)?;
    writeln!(out, "listen         {}", listen.join(", "))?;
    writeln!(out, "admin          {}{token}", startup.admin_listen)?;
    match &startup.upgrade_socket {
        Some(socket) => writeln!(out, "upgrades       over {}", socket.path.display())?,
        None => writeln!(out, "upgrades       none, there is no server.upgrade_socket")?,
    }
    writeln!(out, "threads        {}", startup.threads)?;
    server_as_text(server, out)?;
    writeln!(out, "telemetry      {}", telemetry(startup, loaded.snapshot.access_log))?;
    writeln!(out, "ledger         {}", ledger(startup))?;
    writeln!(out, "keys           {keys} from {}", loaded.snapshot.key_source())?;
    writeln!(out, "prices         {}", loaded.snapshot.prices.version())?;
    for provider in &loaded.snapshot.providers {
        writeln!(out, "\nprovider {}{}{}", provider.id, credential(provider), way(provider))?;
        writeln!(out, "  timeouts {}", timeouts(provider))?;
        writeln!(out, "  prices {}", prices(&loaded.snapshot, provider))?;
        for route in routes_of(&loaded.snapshot, provider) {
            let (method, pattern) = (route.method_name(), &route.pattern);
            writeln!(out, "  {method:<6} {pattern} -> {}{}", route.upstream_url(), kind(route))?;
        }
    }
    models::as_text(&loaded.snapshot, out)?;
    limits::as_text(&loaded.snapshot, out)?;
    let mut title = "\n";
    for warning in loaded.warnings_at(SystemTime::now()) {
        writeln!(out, "{title}warning: {warning}")?;
        title = "";
    }
    Ok(())
}

fn server_as_text(server: &ServerSettings, out: &mut dyn Write) -> io::Result<()> {
    let [body, buffered] = [server.max_body, server.max_buffered].map(size);
    writeln!(out, "bodies         {body} each, {buffered} at once, within {}", span(server.body_timeout))?;
    writeln!(out, "heads          {} within {}", size(server.max_header_bytes as u64), span(server.head_timeout))?;
    writeln!(out, "calls          up to {} at once", server.max_in_flight)?;
    let each = server.max_connections_per_address.map(|most| format!(", {most} of one address"));
    let (most, each) = (server.max_connections, each.unwrap_or_default());
    writeln!(out, "connections    up to {most}{each}, idle for up to {}", span(server.idle_timeout))?;
    let browsers = match &server.cors {
        Cors::Any => "of all origins".to_owned(),
        Cors::Only(origins) if origins.is_empty() => "are not answered (CORS is off)".to_owned(),
        Cors::Only(origins) => format!("of {}", origins.join(", ")),
    };
    writeln!(out, "browsers       {browsers}")?;
    let proxies = match trusted(server) {
        proxies if proxies.is_empty() => "none: x-forwarded-for is not believed".to_owned(),
        proxies => proxies.join(", "),
    };
    writeln!(out, "proxies        {proxies}")?;
    let [delay, grace] = [server.readiness_delay, server.grace].map(span);
    writeln!(out, "shutdown       {delay} until the listeners close, then up to {grace}")
}

fn trusted(server: &ServerSettings) -> Vec<String> {
    server.trusted_proxies.iter().map(|network| format!("{}/{}", network.address, network.prefix)).collect()
}

fn telemetry(startup: &Startup, access_log: bool) -> String {
    let summaries = if startup.compat_metrics { ", the NodeJS gateway's summaries too" } else { "" };
    let access = if access_log { "a line a call" } else { "no line for calls" };
    let level = startup.log_level.as_str().to_ascii_lowercase();
    format!("up to {} series{summaries}; {access}, log level {level}", startup.max_series)
}

/// Which section of the book prices a provider.
fn prices(snapshot: &Snapshot, provider: &Provider) -> String {
    let section = provider.prices.as_deref();
    match section.and_then(|section| Some((section, snapshot.prices.models(section)?))) {
        Some((section, 1)) => format!("of section {section}, 1 model"),
        Some((section, models)) => format!("of section {section}, {models} models"),
        None => "none: costs are unknown".to_owned(),
    }
}

fn ledger(startup: &Startup) -> String {
    startup.ledger.as_ref().map_or_else(
        || "off".to_owned(),
        |ledger| {
            let (path, age, most) = (ledger.path.display(), span(ledger.retention), size(ledger.max_size));
            format!("{path}, kept for {age}, up to {most}")
        },
    )
}

fn timeouts(provider: &Provider) -> String {
    let times = &provider.timeouts;
    let [connect, stream, other] = [times.connect, times.first_byte_stream, times.first_byte_other].map(span);
    let [idle, total] = [times.idle, times.total].map(span);
    let token = times.first_token.map_or_else(String::new, |token| format!(", first token {}", span(token)));
    format!("connect {connect}, first byte {stream} (stream) or {other}{token}, idle {idle}, total {total}")
}

/// A span of time as the YAML file spells it. What is whole days is told in days, because a month is of no fixed length.
fn span(duration: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    match duration.as_secs() / DAY {
        days @ 2.. if duration == Duration::from_secs(days * DAY) => format!("{days}days"),
        _ => humantime::format_duration(duration).to_string(),
    }
}

/// Bytes in the largest unit that they fill, as the YAML file spells it; with one digit behind the point where they do
/// not come out even.
fn size(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let Some((unit, name)) = units.into_iter().find(|(unit, _)| bytes >= *unit) else {
        return format!("{bytes} bytes");
    };
    let (whole, tenths) = (bytes / unit, bytes % unit * 10 / unit);
    if bytes.is_multiple_of(unit) { format!("{whole} {name}") } else { format!("{whole}.{tenths} {name}") }
}

/// A plain listener by its address, one with TLS as a URL.
fn shown(listener: &Listener) -> String {
    if listener.tls.is_some() { format!("https://{}", listener.address) } else { listener.address.to_string() }
}

/// How a route's calls are carried, where that is not by reading them, what tells their model, and what they cost.
fn kind(route: &Route) -> String {
    let model = match &route.model {
        ModelSource::Unseen => String::new(),
        ModelSource::Query => ", model from the query".to_owned(),
        ModelSource::Always(model) => format!(", model {model}"),
    };
    let price = route.price.map_or_else(String::new, |price| format!(", USD {price} a call"));
    if route.kind.is_unread() { format!(" ({}{model}{price})", route.kind.name()) } else { String::new() }
}

fn routes_of<'s>(snapshot: &'s Snapshot, provider: &Provider) -> impl Iterator<Item = &'s Route> {
    let id = provider.id.clone();
    let routes = snapshot.routes.iter().map(AsRef::as_ref);
    routes.filter(move |route: &&Route| route.provider.id == id)
}

fn credential(provider: &Provider) -> String {
    match (provider.keys.is_needed(), provider.keys.keys().len()) {
        (true, 1) => format!(", key in {}", provider.auth_header),
        (true, keys) => format!(", {keys} keys in {}", provider.auth_header),
        (false, _) => ", no key".to_owned(),
    }
}

/// What is particular about the way to a provider; of a proxy its host and port only.
fn way(provider: &Provider) -> String {
    let mut way = provider.proxy.as_ref().map_or_else(String::new, |proxy| format!(", through proxy {proxy}"));
    let certificates = provider.certificates.as_ref();
    if certificates.is_some_and(|own| own.authorities.is_some()) {
        way.push_str(", authorities of ca_file");
    }
    if certificates.is_some_and(|own| own.client.is_some()) {
        way.push_str(", with client_cert");
    }
    way
}

#[cfg(test)]
mod tests;
