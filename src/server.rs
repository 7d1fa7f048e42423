//! The one place that knows all parts: puts them together, and runs their life of start, reload, drain and stop.
//!
//! Invariant: a port that is busy or a configuration that is wrong is told before anything serves; a reload that fails
//! changes nothing.
//! Never does: handle a request.

mod connections;
mod control;
mod lifecycle;
mod listen;
mod signals;
mod tls;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::background_service;
use pingora_rustls::{RootCertStore, load_platform_certs_incl_env_into_store};
use tokio::sync::watch;

use crate::admin::{Admin, AdminState};
use crate::config::{self, Live, Loaded, Report, Snapshot, Sources};
use crate::policy::{Policies, Policy};
use crate::proxy::{Gateway, Peers};
use crate::telemetry::{LogSettings, LogWriter, Readiness, Telemetry, TelemetryError, TelemetrySettings, init_logger};

use control::{Control, Upkeep};
use lifecycle::Lifecycle;
use listen::{ProxyService, bind};

pub use signals::{Signals, serve};

/// What a gateway is started with besides its configuration.
pub struct Options {
    /// Where log lines go: standard output in production.
    pub log: Box<dyn Write + Send>,
    /// Whether the process's logger writes there too. A program with a logger of its own says no;
    /// one without gets its own lines there, too, from WARN on.
    pub logger: bool,
    /// What the program itself has to say about calls, in the order in which it is asked.
    pub policies: Vec<Arc<dyn Policy>>,
}

impl Default for Options {
    /// As `ai-gateway serve`: the log on standard output, the process's logger too, no policies.
    fn default() -> Self {
        Self { log: Box::new(std::io::stdout()), logger: true, policies: Vec::new() }
    }
}

impl Options {
    /// Adds a policy, to be asked after those before it.
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policies.push(Arc::new(policy));
        self
    }
}

/// Why a gateway did not start. Nothing was served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration or the key file has problems; all of them are in the report.
    #[error("{0}")]
    Config(Report),
    /// An address could not be listened on.
    #[error("{field} {address}: {reason}")]
    Listen {
        /// The field of the configuration that names it.
        field: &'static str,
        /// The address.
        address: SocketAddr,
        /// What is wrong, and what can be done.
        reason: String,
    },
    /// The machine's root certificates, or those that `SSL_CERT_FILE` names, cannot be used.
    #[error(
        "the root certificates that providers are verified by cannot be loaded: {0} (hint: SSL_CERT_FILE, SSL_CERT_DIR)"
    )]
    Roots(String),
    /// The system refused a thread or a socket.
    #[error("the gateway could not be set up: {0}")]
    System(#[from] std::io::Error),
    /// Telemetry could not be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The system's source of randomness failed.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// A gateway that serves. Dropping it stops it at once; see [`Running::drain`] for the gentle way.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    control: Arc<Control>,
    lifecycle: Arc<Lifecycle>,
    /// Closed once the gateway has stopped.
    ended: watch::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Starts a gateway on threads of its own and returns once its ports are bound.
///
/// ```no_run
/// use ai_gateway::{config::Sources, server::{self, Options}};
///
/// let sources = Sources::of_process(Some("conf/gateway.yaml".into()));
/// let gateway = server::start(sources, Options::default())?;
/// println!("serving on {:?}", gateway.addresses());
/// gateway.drain();
/// gateway.wait();
/// # Ok::<(), server::StartError>(())
/// ```
///
/// # Errors
/// [`StartError`], before anything serves.
pub fn start(sources: Sources, options: Options) -> Result<Running, StartError> {
    let loaded = config::load(&sources).map_err(StartError::Config)?;
    let snapshot = &loaded.snapshot;
    let settings = LogSettings { hostname: config::hostname(), ..LogSettings::default() };
    let log = LogWriter::new(options.log, settings)?;
    if options.logger {
        // One gateway of a process sets it; the next ones write their access lines only.
        init_logger(snapshot.startup.log_level, &log, SystemTime::now);
    }
    check_roots(snapshot)?;
    let telemetry = Arc::new(telemetry(snapshot, log)?);
    let listeners = snapshot.startup.listen.iter().map(|listener| bind("server.listen", listener.address));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let (admin_listener, admin) = bind("admin.listen", snapshot.startup.admin_listen)?;
    let addresses = listeners.iter().map(|(_, address)| *address).collect();

    let live = Arc::new(Live::new(Arc::clone(snapshot)));
    let readiness = Arc::new(Readiness::new());
    let peers = Arc::new(Peers::default());
    let lifecycle = Arc::new(Lifecycle::new(Arc::clone(&live), Arc::clone(&telemetry), Arc::clone(&readiness)));
    let control = Arc::new(Control::new(sources, &loaded, &live, &telemetry, &peers));

    let conf = server_conf(snapshot.startup.threads);
    let process = process_id().ok_or(StartError::NoRandomness)?;
    let gateway = Gateway::new(Arc::clone(&live), Arc::clone(&telemetry), Arc::clone(&readiness), peers, process);
    let gateway = gateway.governed_by(Policies::new(options.policies));
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = ProxyService::new(&server.configuration, gateway, &live, &telemetry, &lifecycle);
    server.add_service(proxy.on(listeners, &snapshot.startup, control.certificates())?);
    let token = snapshot.startup.admin_token.clone();
    let state = AdminState { telemetry, readiness, live, token };
    server.add_service(background_service("admin", Admin::new(admin_listener, state)));
    server.add_service(background_service("upkeep", Upkeep::new(Arc::clone(&control))));
    let shutdown_signal = Box::new(lifecycle::Watch(Arc::clone(&lifecycle)));
    let (ending, ended) = watch::channel(());
    let run = move || {
        server.run(RunArgs { shutdown_signal });
        drop(ending);
    };
    let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(run)?;
    Ok(Running { addresses, admin, control, lifecycle, ended, thread: Some(thread) }.told(&loaded))
}

/// Loads the root certificates once before Pingora does, which would panic where they are broken.
fn check_roots(snapshot: &Snapshot) -> Result<(), StartError> {
    let mut roots = RootCertStore::empty();
    load_platform_certs_incl_env_into_store(&mut roots).map_err(|error| {
        let cause = error.root_cause().to_string();
        StartError::Roots(cause)
    })?;
    if roots.is_empty() && snapshot.providers.iter().any(|provider| provider.tls) {
        let hint = "install ca-certificates, or set SSL_CERT_FILE";
        log::warn!(
            "there are no root certificates: no https provider can be verified, every call to one fails ({hint})"
        );
    }
    Ok(())
}

fn telemetry(snapshot: &Snapshot, log: LogWriter) -> Result<Telemetry, TelemetryError> {
    let settings = TelemetrySettings {
        max_series: snapshot.startup.max_series,
        compat_metrics: snapshot.startup.compat_metrics,
        version: env!("CARGO_PKG_VERSION"),
    };
    Telemetry::new(&settings, log)
}

/// Pingora's own settings. Its grace period is off: [`Lifecycle`] drains, and ends as soon as the last call does. What is
/// left is the time for its threads to drop what they hold, the listeners among it: with none, a stop would come back
/// while the ports are still taken.
fn server_conf(threads: usize) -> ServerConf {
    ServerConf {
        threads,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

fn process_id() -> Option<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

impl Running {
    /// The addresses that clients can call, as bound: port 0 of the configuration is a real one here.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The address of the admin service, as bound.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Reads configuration and key file again and puts them in force as one, as SIGHUP does.
    ///
    /// # Errors
    /// The [`Report`] where they have problems; the old ones stay in force.
    pub fn reload(&self) -> Result<(), Report> {
        self.control.reload()
    }

    /// Begins to drain, as SIGTERM does: not ready, then no new connections, then the end with the last call.
    pub fn drain(&self) {
        self.lifecycle.drain();
    }

    /// Stops now; calls that run are cut.
    pub fn stop(mut self) {
        self.end();
    }

    /// Waits until the gateway has stopped.
    pub fn wait(mut self) {
        self.join();
    }

    fn end(&mut self) {
        self.lifecycle.stop();
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the gateway's main thread panicked");
        }
        log::info!("stopped");
        self.lifecycle.last_words();
    }

    /// Says at start what is being served, and what is dangerous about it.
    fn told(self, loaded: &Loaded) -> Self {
        let snapshot = &loaded.snapshot;
        for (listener, address) in snapshot.startup.listen.iter().zip(&self.addresses) {
            log::info!("listening on {}://{address}", listener.scheme());
        }
        log::info!("admin service on http://{}", self.admin);
        log::info!("configuration: {}", loaded.describes);
        for route in snapshot.routes.iter() {
            log::info!("route {} {} -> {}", route.method_name(), route.pattern, route.upstream_url());
        }
        for provider in &snapshot.providers {
            if let Some(proxy) = &provider.proxy {
                log::info!("provider {} is reached through proxy {proxy}", provider.id);
            }
        }
        log::info!("{} from {}", snapshot.keys.tally(SystemTime::now()), snapshot.key_source());
        for warning in loaded.warnings_at(SystemTime::now()) {
            log::warn!("{warning}");
        }
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}
