//! The ledger: one record a call in SQLite, written behind the calls' backs, and asked by `ai-gateway usage`.
//!
//! Invariant: whoever hands something in never waits; a record whose commit returned survives kill -9 and the loss of
//! power; whatever is wrong with the database is counted, logged once, and tried again.
//! Never does: fail, delay or even touch a call; record one that did not pass authentication.

mod ask;
mod hang;
mod keeper;
mod leases;
mod queue;
mod row;
mod schema;
mod scratch;
mod store;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::LedgerSettings;
use crate::flow::Record;

use hang::{HANGS, Hang};
use keeper::Keeper;
use queue::Queue;
use row::{Entry, Intent};
use store::Retention;

pub use ask::{AskError, BadParameter, Dimension, Group, Page, Question, Reader, Tally, UsageReport};
pub use leases::{BudgetLine, BudgetStore, budgets};
pub use scratch::Scratch;

/// Entries that are held at most, about 1 KiB each: a minute of 800 calls a second while the database is away.
const CAPACITY: usize = 50_000;

/// The way to the ledger; cheap to clone. The last one that is dropped ends it.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    health: Arc<Health>,
    hang: Hang,
    retention: Arc<Mutex<Retention>>,
    path: PathBuf,
}

impl Inner {
    /// Hands an entry to the thread.
    fn push(&self, entry: Entry) {
        if let Some(lag) = self.queue.push(entry) {
            self.waits(lag);
        }
    }

    /// Says that the database hangs, or that this is over: the thread itself cannot, because it waits for it. What it has said
    /// already is not said twice.
    fn waits(&self, lag: Duration) {
        let is_told = !self.health.up.load(Ordering::Relaxed);
        if let Some(news) = self.hang.news(lag, is_told) {
            news.log(&self.path, self.queue.dropped());
        }
    }
}

/// How it goes, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerFigures {
    /// Whether records reach the database.
    pub up: bool,
    /// Entries that are waiting or being written.
    pub queued: usize,
    /// How long the oldest of them has been waiting.
    pub lag: Duration,
    /// Entries that were lost since the start.
    pub dropped: u64,
    /// Bytes of the database, as last looked at.
    pub size: u64,
}

/// Why the ledger cannot be used. Its texts name no record.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A later version of the gateway made it.
    #[error("it was made by a later version of ai-gateway (its schema is {found}, this one knows up to {VERSION})", VERSION = schema::VERSION)]
    Newer {
        /// The version of its schema.
        found: i64,
    },
    /// It is a database of something else.
    #[error("it is a database of something else")]
    Foreign,
    /// It was deleted, or another file took its place.
    #[error("it was deleted or replaced")]
    Gone,
    /// The file system has no shared memory, which network file systems mostly lack.
    #[error("its file system does not take a write-ahead log (hint: a local disk does)")]
    NoWal,
    /// Reading takes a folder that can be written, for an index of what is in the write-ahead log.
    #[error(
        "its folder cannot be written, which even reading takes (hint: copy the file, and gateway.db-wal if it is there)"
    )]
    Folder,
    /// There is a folder in its place.
    #[error("it is a folder (hint: name the file in it, such as gateway.db)")]
    IsFolder,
    /// The file is there, but is not to be opened.
    #[error("it cannot be opened (hint: is it a file, and may this user read it?)")]
    Shut,
    /// Records of calls do not reach it, behind which a budget would be leased.
    #[error("the records of earlier calls do not reach it")]
    Behind,
    /// The system refused the file or its folder.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What SQLite says.
    #[error("{0}{hint}", hint = remedy(.0))]
    Sqlite(#[from] rusqlite::Error),
}

/// What can be done where the file itself is broken.
fn remedy(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            " (hint: move it away, with its -wal and -shm: a gateway that runs makes a new one)"
        }
        _ => "",
    }
}

impl LedgerError {
    /// Whether it is somebody else's turn, and nothing is broken.
    fn is_busy(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        matches!(self, Self::Sqlite(error) if matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)))
    }
}

/// What the thread says of itself.
#[derive(Debug)]
struct Health {
    up: AtomicBool,
    size: AtomicU64,
}

impl Health {
    fn is_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    fn sized(&self, bytes: u64) {
        self.size.store(bytes, Ordering::Relaxed);
    }
}

impl Ledger {
    /// One that keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Whether it keeps anything.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Starts the thread that opens and writes the database. That it cannot be opened is logged, and tried again.
    /// `instance` is this process's own number.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn open(settings: &LedgerSettings, instance: u64) -> io::Result<Self> {
        Self::with_capacity(settings, instance, CAPACITY)
    }

    fn with_capacity(settings: &LedgerSettings, instance: u64, capacity: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(capacity));
        let health = Arc::new(Health { up: AtomicBool::new(true), size: AtomicU64::new(0) });
        let retention = Arc::new(Mutex::new(retention(settings)));
        let path = settings.path.clone();
        let keeper = Keeper::new(
            Arc::clone(&queue),
            Arc::clone(&health),
            path.clone(),
            format!("{instance:016x}"),
            Arc::clone(&retention),
        );
        std::thread::Builder::new().name("ledger".to_owned()).spawn(move || keeper.run())?;
        Ok(Self(Some(Arc::new(Inner { queue, health, hang: Hang::default(), retention, path }))))
    }

    /// Notes that a call is about to go upstream.
    pub fn intent(&self, record: &Record) {
        if let Some(inner) = &self.0
            && let Some(intent) = Intent::of(record)
        {
            inner.push(Entry::Intent(Box::new(intent)));
        }
    }

    /// Records a call that is over, where it passed authentication.
    pub fn settle(&self, mut record: Record) {
        // Up to a KiB of what no record keeps.
        record.path = String::new();
        if let Some(inner) = &self.0
            && record.key.is_some()
        {
            inner.push(Entry::Settled(Box::new(record)));
        }
    }

    /// Puts another age and size in force.
    pub fn retain(&self, settings: &LedgerSettings) {
        if let Some(inner) = &self.0 {
            *inner.retention.lock() = retention(settings);
        }
    }

    /// Waits until all that was handed in before is written, but never longer than `at_most`. Tells whether it is.
    pub fn flush(&self, at_most: Duration) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.queue.flush(at_most))
    }

    /// Writes what there is and ends; what is handed in later is lost. Takes no longer than `at_most`.
    pub fn close(&self, at_most: Duration) {
        if let Some(inner) = &self.0 {
            inner.queue.close(at_most);
            if !inner.queue.wait_for_end(at_most) {
                log::error!("the ledger did not end in {at_most:?}: its last records may be lost");
            }
        }
    }

    /// Whether records reach the database; so it is, too, where none are kept.
    pub fn is_up(&self) -> bool {
        self.figures().is_none_or(|figures| figures.up)
    }

    /// How it goes; `None` where it is off.
    pub fn figures(&self) -> Option<LedgerFigures> {
        let inner = self.0.as_ref()?;
        let lag = inner.queue.lag(Instant::now());
        inner.waits(lag);
        Some(LedgerFigures {
            up: inner.health.up.load(Ordering::Relaxed) && lag < HANGS,
            queued: inner.queue.held(),
            lag,
            dropped: inner.queue.dropped(),
            size: inner.health.size.load(Ordering::Relaxed),
        })
    }

    /// Where the database is; `None` where it is off.
    pub fn path(&self) -> Option<&Path> {
        self.0.as_ref().map(|inner| &*inner.path)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close(FAREWELL);
    }
}

/// How long the thread goes on trying after the last handle is gone.
const FAREWELL: Duration = Duration::from_secs(2);

fn retention(settings: &LedgerSettings) -> Retention {
    Retention { age: settings.retention, bytes: settings.max_size }
}

#[cfg(test)]
pub(crate) mod tests;
