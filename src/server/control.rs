//! What changes while a gateway runs: configuration, keys, and the addresses of providers.
//!
//! Invariant: nothing here waits for another part of it: not the keys for a resolver, nor the end for a reload.
//! Never does: read a configuration; that is `reloads`.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::reloads::{KeysRead, Reloader, Reloads, Retired};
use super::tls::Certificates;
use crate::config::{Live, Loaded, Problem, Report, Sources};
use crate::proxy::{Limiting, Parts, Peers, REFRESH};
use crate::route::Health;

/// How often the key file is looked at: changes are in force within 2 s.
const KEY_FILE_GLANCE: Duration = Duration::from_secs(1);

/// How often counters of limits that are over are forgotten, and their leases given back.
const SWEEP: Duration = Duration::from_secs(5);

/// Reloads, and what else is looked after.
pub(super) struct Control {
    reloader: Reloader,
    live: Arc<Live>,
    peers: Arc<Peers>,
    limits: Arc<Limiting>,
    certificates: Arc<Certificates>,
    providers_changed: Arc<Notify>,
}

impl Control {
    /// # Errors
    /// Where the system has no thread for reloads.
    pub(super) fn new(sources: Sources, loaded: &Loaded, parts: &Parts, health: Health) -> io::Result<Self> {
        let Parts { live, telemetry, peers, ledger, limits, .. } = parts.clone();
        let certificates = Arc::new(Certificates::of(&loaded.snapshot.startup.listen));
        let providers_changed = Arc::new(Notify::new());
        let reloader = Reloader::start(Reloads {
            sources,
            live: Arc::clone(&live),
            telemetry,
            ledger,
            health,
            certificates: Arc::clone(&certificates),
            startup: loaded.snapshot.startup.clone(),
            keys_read: KeysRead::applied(loaded.key_file_stamp),
            providers_changed: Arc::clone(&providers_changed),
            retired: Retired::default(),
        })?;
        Ok(Self { reloader, live, peers, limits, certificates, providers_changed })
    }

    /// What listeners show to clients.
    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Reads everything again, and waits for it.
    pub(super) fn reload(&self) -> Result<(), Report> {
        let (over, result) = sync_channel(1);
        self.reloader.everything(move |result| {
            // It waits below.
            let _ = over.send(result);
        });
        result.recv().unwrap_or_else(|_| Err(Problem::of_file("configuration", UNFINISHED).into()))
    }

    /// Begins to read everything again; the receiver has its end, of which more is in the log.
    pub(super) fn begin_reload(&self) -> oneshot::Receiver<()> {
        let (over, end) = oneshot::channel();
        self.reloader.everything(move |_| drop(over));
        end
    }

    /// Reads the key file again where it has changed.
    async fn reload_changed_keys(&self) {
        let (over, end) = oneshot::channel::<()>();
        self.reloader.changed_keys(move || drop(over));
        // That it was dropped is what is waited for.
        let _ = end.await;
    }
}

const UNFINISHED: &str = "the reload has failed in an unforeseen way, which is in the log; the old one stays in force";

/// Watches the key file, keeps providers' addresses fresh, and counters of limits few.
pub(super) struct Upkeep(Arc<Control>);

impl Upkeep {
    pub(super) fn new(control: Arc<Control>) -> Self {
        Self(control)
    }
}

#[async_trait]
impl BackgroundService for Upkeep {
    async fn start(&self, shutdown: ShutdownWatch) {
        // Side by side: a resolver that does not answer must not keep a revoked key alive.
        let (watching, sweeping) = (self.watch_key_file(shutdown.clone()), self.sweep_limits(shutdown.clone()));
        tokio::join!(watching, sweeping, self.refresh_addresses(shutdown));
    }
}

impl Upkeep {
    async fn watch_key_file(&self, mut shutdown: ShutdownWatch) {
        let mut glance = interval(KEY_FILE_GLANCE);
        glance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = glance.tick() => {}
                _ = shutdown.changed() => return,
            }
            tokio::select! {
                () = self.0.reload_changed_keys() => {}
                _ = shutdown.changed() => return,
            }
        }
    }

    async fn sweep_limits(&self, mut shutdown: ShutdownWatch) {
        let mut due = interval(SWEEP);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = due.tick() => self.0.limits.sweep(),
                _ = shutdown.changed() => return,
            }
        }
    }

    async fn refresh_addresses(&self, mut shutdown: ShutdownWatch) {
        let mut due = interval(REFRESH);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = due.tick() => {}
                () = self.0.providers_changed.notified() => {}
                _ = shutdown.changed() => return,
            }
            let snapshot = self.0.live.pin();
            tokio::select! {
                () = self.0.peers.refresh(&snapshot.providers) => {}
                _ = shutdown.changed() => return,
            }
        }
    }
}
