//! The way from the sources of a configuration to a gateway that serves, in steps that another process can stand between.
//!
//! Invariant: all that can be refused is refused before [`Assembled::run`]; until then nothing is served or announced.
//! Never does: bind an address; who calls brings the listeners.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::background::background_service;
use pingora_rustls::{RootCertStore, load_platform_certs_incl_env_into_store};
use tokio::sync::watch;

use super::control::{Control, Upkeep};
use super::lifecycle::{Lifecycle, Watch};
use super::listen::ProxyService;
use super::process;
use super::{Options, Running, StartError};
use crate::admin::{Admin, AdminState};
use crate::config::{self, Live, Loaded, Snapshot, Sources, Startup};
use crate::ledger::{BudgetStore, Ledger};
use crate::policy::Policies;
use crate::proxy::{Gateway, Limiting, Parts, Peers};
use crate::route::Health;
use crate::telemetry::{LogSettings, LogWriter, Readiness, Telemetry, TelemetryError, TelemetrySettings, init_logger};

/// A listener, and its address as bound.
pub(super) type Bound = (TcpListener, SocketAddr);

/// A configuration that can be served, and a log.
pub(super) struct Prepared {
    pub(super) sources: Sources,
    pub(super) loaded: Loaded,
    telemetry: Arc<Telemetry>,
    policies: Policies,
    /// Whether no other gateway is ever in this process.
    is_alone: bool,
}

impl Prepared {
    /// # Errors
    /// [`StartError`], where what was configured cannot be served.
    pub(super) fn new(sources: Sources, options: Options) -> Result<Self, StartError> {
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
        Ok(Self { sources, loaded, telemetry, policies: Policies::new(options.policies), is_alone: false })
    }

    /// For a process that serves once and then ends; of several that are said to be, the first one is.
    pub(super) fn alone(self) -> Self {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        Self { is_alone: !TAKEN.swap(true, Ordering::Relaxed), ..self }
    }

    pub(super) fn max_connections(&self) -> u32 {
        self.loaded.snapshot.server.max_connections
    }

    pub(super) fn startup(&self) -> &Startup {
        &self.loaded.snapshot.startup
    }

    /// Puts the parts together. What a gateway opens besides its listeners, such as a database that two processes may have
    /// open at once, is opened here: an upgrade says ready only afterwards.
    ///
    /// # Errors
    /// [`StartError`], where the system refuses something.
    pub(super) fn assemble(self, listeners: Vec<Bound>) -> Result<Assembled, StartError> {
        let Self { sources, loaded, telemetry, policies, is_alone } = self;
        let snapshot = &loaded.snapshot;
        let addresses = listeners.iter().map(|(_, address)| *address).collect();
        let process = process_id().ok_or(StartError::NoRandomness)?;
        let ledger = match &snapshot.startup.ledger {
            Some(settings) => Ledger::open(settings, process)?,
            None => Ledger::off(),
        };
        let limits = Arc::new(Limiting::new(BudgetStore::open(&ledger, process)?));
        let health = Health::default();
        health.attach(&snapshot.models);
        let parts = Parts {
            live: Arc::new(Live::new(Arc::clone(snapshot))),
            telemetry: Arc::clone(&telemetry),
            readiness: Arc::new(Readiness::new()),
            ledger,
            limits,
            policies,
            peers: Arc::new(Peers::default()),
        };
        let lifecycle = Arc::new(Lifecycle::new(&parts));
        let control = Arc::new(Control::new(sources, &loaded, &parts, health)?);

        let conf = server_conf(snapshot.startup.threads, is_alone);
        let gateway = Gateway::new(parts.clone(), process);
        let mut server = Server::new_with_opt_and_conf(None, conf);
        server.bootstrap();
        let proxy = ProxyService::new(&server.configuration, gateway, &parts.live, &parts.telemetry, &lifecycle);
        server.add_service(proxy.on(listeners, &snapshot.startup, control.certificates())?);
        server.add_service(background_service("upkeep", Upkeep::new(Arc::clone(&control))));
        let token = snapshot.startup.admin_token.clone();
        let Parts { live, readiness, ledger, limits, .. } = parts;
        let limiter = limits.limiter();
        let admin = AdminState { telemetry: Arc::clone(&telemetry), readiness, ledger, limiter, live, token };
        Ok(Assembled { server, addresses, admin, control, lifecycle, telemetry, loaded })
    }
}

/// A gateway that lacks nothing but its admin service's listener.
pub(super) struct Assembled {
    server: Server,
    addresses: Vec<SocketAddr>,
    admin: AdminState,
    control: Arc<Control>,
    lifecycle: Arc<Lifecycle>,
    telemetry: Arc<Telemetry>,
    loaded: Loaded,
}

impl Assembled {
    /// Serves, on threads of its own.
    ///
    /// # Errors
    /// `System`, where there is no thread to be had.
    pub(super) fn run(self, (admin_listener, admin): Bound) -> Result<Running, StartError> {
        let Self { mut server, addresses, admin: state, control, lifecycle, telemetry, loaded } = self;
        let service = Admin::new(admin_listener, state);
        let admin_switch = service.switch();
        server.add_service(background_service("admin", service));
        let shutdown_signal = Box::new(Watch(Arc::clone(&lifecycle)));
        let (ending, ended) = watch::channel(());
        let run = move || {
            server.run(RunArgs { shutdown_signal });
            drop(ending);
        };
        let thread = Some(std::thread::Builder::new().name("gateway".to_owned()).spawn(run)?);
        let running = Running { addresses, admin, admin_switch, control, lifecycle, telemetry, ended, thread };
        let running = running.told(&loaded);
        drop(loaded);
        // What reading took is not to be given back by those who serve.
        process::give_back_memory();
        Ok(running)
    }
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
///
/// One thread has nobody to steal work from, and being ready for it takes a tenth of a call's CPU. But Pingora finds its runtimes
/// without stealing by a number of the thread that a later one may get again (`pingora_runtime::current_handle`), so that they are
/// only for a process that serves once. And their end is waited for however long a call's thread is at work; see
/// [`Lifecycle::overdue`].
///
/// Its own timers would need a thread that wakes up a hundred times a second, whether there is anything to do or not.
fn server_conf(threads: usize, is_alone: bool) -> ServerConf {
    ServerConf {
        threads,
        work_stealing: threads > 1 || !is_alone,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        fast_timeout_to_tokio_threshold_seconds: Some(0),
        ..ServerConf::default()
    }
}

fn process_id() -> Option<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}
