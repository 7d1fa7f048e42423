//! The one place that knows all parts: puts them together, and runs their life of start, reload, drain and stop.
//!
//! Invariant: a port that is busy or a configuration that is wrong is told before anything serves; a reload that fails
//! changes nothing.
//! Never does: handle a request.

mod connections;
mod control;
mod lifecycle;
mod listen;
mod parts;
mod process;
mod reloads;
mod signals;
mod socket;
mod successor;
mod systemd;
mod tls;
mod upgrade;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio::sync::watch;

use crate::admin::AdminSwitch;
use crate::config::{Loaded, Report, Sources};
use crate::policy::Policy;
use crate::telemetry::{Telemetry, TelemetryError};

use control::Control;
use lifecycle::Lifecycle;
use listen::{bind, bind_all};
use parts::Prepared;

pub use signals::{Manner, Signals, serve};
pub use successor::CommandLine;

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
    /// The socket of `server.upgrade_socket` cannot be had.
    #[error("server.upgrade_socket {path}: {reason}")]
    UpgradeSocket {
        /// Where it was to be.
        path: String,
        /// What is wrong, and what can be done.
        reason: String,
    },
    /// Told to take over from a gateway, and there is none that would let this one: a wrong socket, or a wrong user.
    #[error("there is no gateway to take over from: {0}")]
    NobodyServes(String),
    /// The upgrade came to nothing; the gateway that served before serves on.
    #[error("the upgrade has failed, the gateway that served before serves on: {0}")]
    Upgrade(String),
    /// The system's source of randomness failed.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// A gateway that serves. Dropping it stops it at once; see [`Running::drain`] for the gentle way.
pub struct Running {
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
    admin_switch: AdminSwitch,
    control: Arc<Control>,
    lifecycle: Arc<Lifecycle>,
    telemetry: Arc<Telemetry>,
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
    let prepared = Prepared::new(sources, options)?;
    let listeners = bind_all(prepared.startup(), Vec::new())?;
    let admin = bind("admin.listen", prepared.startup().admin_listen)?;
    prepared.assemble(listeners)?.run(admin)
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

    /// Ends without the threads that do not: the process is about to.
    fn give_up(mut self) {
        log::error!("a thread that serves calls is stuck, as by a policy that blocks: this process ends without it");
        self.thread = None;
        self.lifecycle.last_words();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the gateway's main thread panicked");
        }
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
        match &snapshot.startup.ledger {
            Some(ledger) => log::info!("calls are recorded in {}", ledger.path.display()),
            None => log::info!("calls are not recorded: the ledger is off"),
        }
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
