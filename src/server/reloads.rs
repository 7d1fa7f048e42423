//! The thread that reads configuration and keys again while the gateway serves, and ends what they have replaced.
//!
//! Invariant: snapshots are built whole and swapped as one; reloads come one after the other. A snapshot that was in force
//! is dropped here, not by the call that held it last, and its memory given back: to free a million keys takes long.
//! Never does: touch a call that runs; it keeps the snapshot it began with.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::process;
use super::tls::Certificates;
use crate::config::{self, Live, Report, Snapshot, Sources, Startup};
use crate::keys::Stamp;
use crate::ledger::Ledger;
use crate::route::Health;
use crate::telemetry::{Part, Reload, Telemetry};

/// The way to the thread, which ends with it.
pub(super) struct Reloader(Sender<Job>);

/// What is to be read again, and whom to tell of it.
enum Job {
    Everything(Answer),
    ChangedKeys(Box<dyn FnOnce() + Send>),
}

type Answer = Box<dyn FnOnce(Result<(), Report>) + Send>;

impl Reloader {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has none.
    pub(super) fn start(reloads: Reloads) -> io::Result<Self> {
        let (jobs, due) = channel();
        std::thread::Builder::new().name("reloads".to_owned()).spawn(move || reloads.run(&due))?;
        Ok(Self(jobs))
    }

    /// Reads everything again, then tells of it. `answer` is dropped where that comes to no end.
    pub(super) fn everything(&self, answer: impl FnOnce(Result<(), Report>) + Send + 'static) {
        // The thread ends after this.
        let _ = self.0.send(Job::Everything(Box::new(answer)));
    }

    /// Reads the key file again where it has changed, then tells that this is over.
    pub(super) fn changed_keys(&self, over: impl FnOnce() + Send + 'static) {
        let _ = self.0.send(Job::ChangedKeys(Box::new(over)));
    }
}

/// What the thread works with.
pub(super) struct Reloads {
    pub(super) sources: Sources,
    pub(super) live: Arc<Live>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) ledger: Ledger,
    /// What is known of targets and keys beyond one configuration.
    pub(super) health: Health,
    pub(super) certificates: Arc<Certificates>,
    /// What only a restart can change, as it was at start.
    pub(super) startup: Startup,
    pub(super) keys_read: KeysRead,
    pub(super) providers_changed: Arc<Notify>,
    pub(super) retired: Retired<Snapshot>,
}

/// What was read of the key file.
pub(super) struct KeysRead {
    /// The file that is in force, as it was before it was read.
    applied: Option<Stamp>,
    /// The file that was refused last, where none was applied since.
    refused: Option<Option<Stamp>>,
}

impl KeysRead {
    pub(super) fn applied(stamp: Option<Stamp>) -> Self {
        Self { applied: stamp, refused: None }
    }
}

impl Reloads {
    fn run(mut self, due: &Receiver<Job>) {
        let mut has_stepped_back = false;
        while let Ok(job) = due.recv() {
            if !has_stepped_back && self.live.pin().keys.len() > MANY {
                process::step_back();
                has_stepped_back = true;
            }
            let part = match job {
                Job::Everything(_) => Part::Configuration,
                Job::ChangedKeys(_) => Part::Keys,
            };
            // A reload that panics has told so in the log, and must not be the last one.
            let done = catch_unwind(AssertUnwindSafe(|| {
                let has_read = match job {
                    Job::Everything(answer) => {
                        answer(self.everything());
                        true
                    }
                    Job::ChangedKeys(over) => {
                        let has_read = self.changed_keys();
                        over();
                        has_read
                    }
                };
                // A call may hold what was in force for long, and what reading took is free all the same.
                if self.retired.drop_unused() || has_read {
                    process::give_back_memory();
                }
            }));
            if done.is_err() {
                self.telemetry.panicked();
                self.telemetry.reload(part, Reload::Refused);
            }
        }
    }

    fn everything(&mut self) -> Result<(), Report> {
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
        self.retired.add(self.live.replace(Arc::clone(snapshot)));
        self.certificates.replace(&snapshot.startup.listen);
        self.keys_read = KeysRead::applied(loaded.key_file_stamp);
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

    /// The configuration stays as it is, so that a key can be revoked even while the YAML is being edited. False where there was
    /// nothing to read.
    fn changed_keys(&mut self) -> bool {
        let stamp = self.stamp();
        if stamp == self.keys_read.applied {
            if self.keys_read.refused.take().is_some() {
                self.telemetry.keys_are_fresh();
            }
            return false;
        }
        match config::with_keys_read_again(&self.sources, &self.live.pin()) {
            Ok((snapshot, warnings)) => {
                let keys = snapshot.keys.tally(SystemTime::now());
                self.retired.add(self.live.replace(snapshot));
                self.keys_read = KeysRead::applied(stamp);
                self.telemetry.reload(Part::Keys, Reload::Applied);
                warnings.iter().for_each(|warning| log::warn!("{warning}"));
                log::info!("key file reloaded: {keys}");
            }
            // It is tried every second, because the fault may be elsewhere and pass, but told once.
            Err(_) if self.keys_read.refused == Some(stamp) => {}
            Err(report) => {
                self.keys_read.refused = Some(stamp);
                self.telemetry.reload(Part::Keys, Reload::Refused);
                log::error!("the key file was not reloaded, the old keys stay in force:\n{report}");
            }
        }
        true
    }

    fn stamp(&self) -> Option<Stamp> {
        let snapshot = self.live.pin();
        snapshot.key_file.as_deref().and_then(|path| Stamp::of(path).ok().flatten())
    }
}

/// Keys with which a reload takes long enough to be felt by calls that want the same processor. With fewer, it is to be over
/// soon on a busy machine, too.
const MANY: usize = 20_000;

/// What is no longer in force and may still be held.
pub(super) struct Retired<T>(Vec<Arc<T>>);

impl<T> Default for Retired<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Retired<T> {
    /// Takes over what nobody can come to hold any more, but for those who do.
    fn add(&mut self, old: Arc<T>) {
        self.0.push(old);
    }

    /// Drops all that nobody else holds; false where there is nothing of the kind.
    fn drop_unused(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|old| Arc::strong_count(old) > 1);
        self.0.len() < before
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use super::*;

    struct Tells(Sender<ThreadId>);

    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).expect("somebody listens");
        }
    }

    #[test]
    fn what_a_call_held_last_is_not_dropped_by_it() {
        let (tells, told) = channel();
        let mut retired = Retired::default();
        let old = Arc::new(Tells(tells));
        let held = Arc::clone(&old);
        retired.add(old);
        assert!(!retired.drop_unused());
        thread::spawn(move || drop(held)).join().expect("a thread");
        assert!(told.try_recv().is_err(), "dropped too soon, or by the other thread");
        assert!(retired.drop_unused());
        assert_eq!(told.try_recv(), Ok(thread::current().id()));
    }
}
