//! What changes while a gateway runs: configuration, keys, and the addresses of providers.
//!
//! Invariant: snapshots are built whole and swapped as one; reloads come one after the other.
//! Never does: touch a call that runs; it keeps the snapshot it began with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::tls::Certificates;
use crate::config::{self, Live, Loaded, Report, Sources, Startup};
use crate::keys::Stamp;
use crate::ledger::Ledger;
use crate::proxy::{Limiting, Parts, Peers, REFRESH};
use crate::route::Health;
use crate::telemetry::{Part, Reload, Telemetry};

/// How often the key file is looked at: changes are in force within 2 s.
const KEY_FILE_GLANCE: Duration = Duration::from_secs(1);

/// How often counters of limits that are over are forgotten, and their leases given back.
const SWEEP: Duration = Duration::from_secs(5);

/// Reloads.
pub(super) struct Control {
    sources: Sources,
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    peers: Arc<Peers>,
    ledger: Ledger,
    limits: Arc<Limiting>,
    /// What is known of targets and keys beyond one configuration.
    health: Health,
    certificates: Certificates,
    /// What only a restart can change, as it was at start.
    startup: Startup,
    /// The lock of this is what puts reloads in a row.
    keys_read: Mutex<KeysRead>,
    providers_changed: Notify,
}

/// What was read of the key file.
#[derive(Default)]
struct KeysRead {
    /// The file that is in force, as it was before it was read.
    applied: Option<Stamp>,
    /// The file that was refused last, where none was applied since.
    refused: Option<Option<Stamp>>,
}

impl KeysRead {
    fn applied(stamp: Option<Stamp>) -> Self {
        Self { applied: stamp, refused: None }
    }
}

impl Control {
    pub(super) fn new(sources: Sources, loaded: &Loaded, parts: &Parts, health: Health) -> Self {
        let Parts { live, telemetry, peers, ledger, limits, .. } = parts.clone();
        Self {
            sources,
            live,
            telemetry,
            peers,
            ledger,
            limits,
            health,
            certificates: Certificates::of(&loaded.snapshot.startup.listen),
            startup: loaded.snapshot.startup.clone(),
            keys_read: Mutex::new(KeysRead::applied(loaded.key_file_stamp)),
            providers_changed: Notify::new(),
        }
    }

    /// What listeners show to clients.
    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Reads everything again.
    pub(super) fn reload(&self) -> Result<(), Report> {
        let mut keys_read = self.keys_read.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = config::load_again(&self.sources, &self.live.pin()).inspect_err(|report| {
            self.telemetry.reload(Part::Configuration, Reload::Refused);
            log::error!("the configuration was not reloaded, the old one stays in force:\n{report}");
        })?;
        for warning in loaded.warnings_at(SystemTime::now()) {
            log::warn!("{warning}");
        }
        let differences = self.startup.differences(&loaded.snapshot.startup);
        for field in &differences {
            log::warn!("{field} has changed, which takes a restart to apply; the rest is in force");
        }
        self.telemetry.restart_required(!differences.is_empty());
        let snapshot = &loaded.snapshot;
        let (routes, keys) = (snapshot.routes.iter().count(), snapshot.keys.tally(SystemTime::now()));
        self.health.attach(&snapshot.models);
        self.live.replace(Arc::clone(snapshot));
        self.certificates.replace(&snapshot.startup.listen);
        *keys_read = KeysRead::applied(loaded.key_file_stamp);
        // What is written to is the database of the start: another one's limits are not for it.
        if let Some(settings) = &snapshot.startup.ledger
            && self.ledger.path() == Some(&settings.path)
        {
            self.ledger.retain(settings);
        }
        self.telemetry.reload(Part::Configuration, Reload::Applied);
        self.providers_changed.notify_one();
        let routes = if routes == 1 { "1 route".to_owned() } else { format!("{routes} routes") };
        log::info!("configuration reloaded from {}: {routes}, {keys}", loaded.describes);
        Ok(())
    }

    /// Reads the key file again where it has changed. The configuration stays as it is, so that a key can be revoked
    /// even while the YAML is being edited.
    fn reload_changed_keys(&self) {
        let mut keys_read = self.keys_read.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.stamp();
        if stamp == keys_read.applied {
            if keys_read.refused.take().is_some() {
                self.telemetry.keys_are_fresh();
            }
            return;
        }
        match config::with_keys_read_again(&self.sources, &self.live.pin()) {
            Ok((snapshot, warnings)) => {
                let keys = snapshot.keys.tally(SystemTime::now());
                self.live.replace(snapshot);
                *keys_read = KeysRead::applied(stamp);
                self.telemetry.reload(Part::Keys, Reload::Applied);
                warnings.iter().for_each(|warning| log::warn!("{warning}"));
                log::info!("key file reloaded: {keys}");
            }
            // It is tried every second, because the fault may be elsewhere and pass, but told once.
            Err(_) if keys_read.refused == Some(stamp) => {}
            Err(report) => {
                keys_read.refused = Some(stamp);
                self.telemetry.reload(Part::Keys, Reload::Refused);
                log::error!("the key file was not reloaded, the old keys stay in force:\n{report}");
            }
        }
    }

    fn stamp(&self) -> Option<Stamp> {
        let snapshot = self.live.pin();
        snapshot.key_file.as_deref().and_then(|path| Stamp::of(path).ok().flatten())
    }
}

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
                _ = glance.tick() => self.0.reload_changed_keys(),
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
