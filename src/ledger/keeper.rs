//! The ledger's own thread: takes from the queue, writes, keeps the heart beating and the file small, and tries again.
//!
//! Invariant: an entry is taken off the queue's count only when it is written or the ledger has ended; a fault is logged
//! once, and so is its end.
//! Never does: hold up whoever hands in; stop on a fault.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::queue::{Next, Queue};
use super::row::Entry;
use super::store::{Retention, Store};
use super::{Health, LedgerError};

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// Between two looks at what is too old or too much.
const PRUNE: Duration = Duration::from_secs(60);
/// Entries of one transaction at most.
const TRANSACTION: usize = 2_000;
/// Waits after a fault: the first, doubled each time up to the last.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// How long somebody else may hold the lock before that is told.
const PATIENCE: Duration = Duration::from_secs(3);

/// The thread's state.
pub(super) struct Keeper {
    queue: Arc<Queue>,
    health: Arc<Health>,
    path: PathBuf,
    instance: String,
    retention: Arc<Mutex<Retention>>,
    store: Option<Store>,
    batch: Vec<Entry>,
    beat_at: Instant,
    prune_at: Instant,
    trouble: Option<Trouble>,
}

/// A fault that is not over.
struct Trouble {
    since: Instant,
    /// What was logged of it.
    told: Option<String>,
    wait: Duration,
}

impl Keeper {
    pub(super) fn new(
        queue: Arc<Queue>,
        health: Arc<Health>,
        path: PathBuf,
        instance: String,
        retention: Arc<Mutex<Retention>>,
    ) -> Self {
        let now = Instant::now();
        let (beat_at, prune_at) = (now, now + BEAT);
        let (store, batch, trouble) = (None, Vec::new(), None);
        Self { queue, health, path, instance, retention, store, batch, beat_at, prune_at, trouble }
    }

    /// Works until the queue is closed and empty, or its time is over.
    pub(super) fn run(mut self) {
        // The first look opens the database, so that what is wrong with it is told at the start.
        self.look();
        self.queue.begun();
        loop {
            let due = self.beat_at.min(self.prune_at);
            let until = self.trouble.as_ref().map_or(due, |trouble| Instant::now() + trouble.wait);
            let next = self.queue.take(&mut self.batch, until);
            let is_well = self.look();
            let Next::End(give_up) = next else { continue };
            if is_well || Instant::now() >= give_up {
                return self.end();
            }
            std::thread::sleep(BACK_OFF[0].min(give_up.saturating_duration_since(Instant::now())));
        }
    }

    /// Does all that there is to do; tells whether that went well.
    fn look(&mut self) -> bool {
        let mut done = self.work();
        if matches!(done, Err(LedgerError::Gone)) {
            // What was written last is lost with the file. A new one takes it in at once.
            log::warn!("the ledger's database {} was deleted or replaced: it is made anew", self.path.display());
            self.store = None;
            done = self.work();
        }
        match done {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
        self.trouble.is_none()
    }

    fn work(&mut self) -> Result<(), LedgerError> {
        let store = match &mut self.store {
            Some(store) => store,
            None => {
                let store = Store::open(&self.path, &self.instance, SystemTime::now())?;
                self.beat_at = Instant::now() + BEAT;
                orphaned(store.orphans());
                self.store.insert(store)
            }
        };
        while !self.batch.is_empty() {
            let count = self.batch.len().min(TRANSACTION);
            let refused = store.write(&self.batch[..count])?;
            if let Some(first) = refused.first() {
                self.queue.lost(refused.len() as u64);
                // Its text may hold what the entry does.
                let code = first.sqlite_error().map_or(0, |error| error.extended_code);
                log::error!(
                    "{} records that the ledger takes at no time are lost; SQLite's code for the first: {code}",
                    refused.len()
                );
            }
            self.batch.drain(..count);
            self.queue.finished(count);
        }
        self.batch.shrink_to(TRANSACTION);
        let now = Instant::now();
        if now >= self.beat_at {
            orphaned(store.beat(SystemTime::now())?);
            self.beat_at = now + BEAT;
        }
        if now >= self.prune_at {
            let retention = *self.retention.lock();
            let more = store.prune(retention, SystemTime::now())?;
            self.prune_at = if more { now } else { now + PRUNE };
            self.health.sized(store.size()?);
        }
        Ok(())
    }

    fn recovered(&mut self) {
        self.health.is_up(true);
        let told = self.trouble.take().filter(|trouble| trouble.told.is_some());
        let has_dropped = self.queue.has_dropped();
        let dropped = self.queue.dropped();
        if let Some(trouble) = told {
            let seconds = trouble.since.elapsed().as_secs();
            log::info!("the ledger is written again after {seconds} s; records lost since the start: {dropped}");
        } else if has_dropped {
            log::info!("the ledger's queue has room again; records lost since the start: {dropped}");
        }
    }

    fn failed(&mut self, error: &LedgerError) {
        if !error.is_busy() {
            self.store = None;
        }
        self.compact();
        let trouble =
            self.trouble.get_or_insert_with(|| Trouble { since: Instant::now(), told: None, wait: BACK_OFF[0] / 2 });
        trouble.wait = (trouble.wait * 2).min(BACK_OFF[1]);
        if error.is_busy() && trouble.since.elapsed() < PATIENCE {
            return;
        }
        self.health.is_up(false);
        let text = error.to_string();
        if trouble.told.as_ref() != Some(&text) {
            log::error!(
                "the ledger {} cannot be written: {text}. Calls go on; their records are held as long as there is room, \
                 and it is tried again",
                self.path.display()
            );
            trouble.told = Some(text);
        }
    }

    /// Forgets intents of calls that are over by now, so that what is held is one entry a call.
    fn compact(&mut self) {
        let over = self.batch.iter().filter(|entry| matches!(entry, Entry::Settled(_)));
        let over: HashSet<String> = over.map(|entry| entry.request_id().to_owned()).collect();
        let before = self.batch.len();
        self.batch.retain(|entry| matches!(entry, Entry::Settled(_)) || !over.contains(entry.request_id()));
        self.queue.finished(before - self.batch.len());
    }

    fn end(mut self) {
        let lost = self.batch.len();
        if lost > 0 {
            self.queue.lost(lost as u64);
            self.queue.finished(lost);
            log::error!("{lost} records could not be written to the ledger {} and are lost", self.path.display());
        }
        if let Some(Err(error)) = self.store.take().map(Store::leave) {
            log::warn!("the ledger was left without a word: {error}");
        }
        self.queue.ended();
    }
}

fn orphaned(calls: usize) {
    match calls {
        0 => {}
        1 => log::warn!("1 call of a gateway that ended without a word is unknown in the ledger"),
        _ => log::warn!("{calls} calls of a gateway that ended without a word are unknown in the ledger"),
    }
}
