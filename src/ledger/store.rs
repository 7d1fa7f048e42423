//! The database as the keeper's thread uses it: one connection that writes.
//!
//! Invariant: what a function here has returned `Ok` for survives kill -9 and the loss of power (WAL with
//! `synchronous=FULL`: each commit is an fsync), and is in the file that the path names.
//! Never does: read a clock; hold a lock longer than one short transaction.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::row::{Entry, micros_since_1970};
use super::{LedgerError, schema};

/// How long another process may hold the lock before a write gives up, to be tried again.
const BUSY: Duration = Duration::from_secs(1);
/// Silence of an instance after which what it had begun is orphaned.
pub(super) const SILENCE: Duration = Duration::from_secs(15);
/// Rows that one step of the retention deletes at most.
const STEP: i64 = 1_000;
/// Free pages that are left in the file for the next rows.
const SPARE_PAGES: i64 = 64;
/// Size to which the write-ahead log is cut after a checkpoint.
const LOG_SIZE: i64 = 64 << 20;

/// How long and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Retention {
    pub(super) age: Duration,
    pub(super) bytes: u64,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Store {
    connection: Connection,
    files: Files,
    instance: String,
    started_us: i64,
    /// Calls of the dead that were found when it was opened.
    orphans: usize,
}

/// The files of an open database, each by its device and inode as it was opened. SQLite goes on writing into a file, or into
/// a log, that was deleted or replaced, and says nothing.
#[derive(Debug)]
pub(super) struct Files([(PathBuf, (u64, u64)); 2]);

impl Store {
    /// Opens the database and brings it up to date; makes it, and folders on the way to it, where they are missing.
    ///
    /// # Errors
    /// [`LedgerError`]; the database is then as it was.
    pub(super) fn open(path: &Path, instance: &str, now: SystemTime) -> Result<Self, LedgerError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // SQLite gives its log and index files the mode of this one. One that is there is not opened: closing it again would
        // drop the locks of this process on it, whoever took them (sqlite.org/howtocorrupt.html, section 2.2).
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
        let file = identity(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        schema::version(&connection)?;
        // Has to come before the first table, and before WAL, which writes the first page.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        if mode != "wal" {
            return Err(LedgerError::NoWal);
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "journal_size_limit", LOG_SIZE)?;
        schema::migrate(&mut connection)?;
        let (files, started_us) = (Files::of(path, file, &connection)?, micros_since_1970(now));
        let mut store = Self { connection, files, instance: instance.to_owned(), started_us, orphans: 0 };
        store.orphans = store.beat(now)?;
        Ok(store)
    }

    /// How many calls of the dead were found when it was opened.
    pub(super) fn orphans(&self) -> usize {
        self.orphans
    }

    /// Writes entries as one transaction. An intent that is settled in the same one is not written. Gives what is wrong with
    /// those that the database would take at no time, and which are not written.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing of them is written, or (`Gone`) in a file that nobody will find.
    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<Vec<rusqlite::Error>, LedgerError> {
        let settled = entries.iter().filter(|entry| matches!(entry, Entry::Settled(_)));
        let settled: HashSet<&str> = settled.map(Entry::request_id).collect();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut refused = Vec::new();
        for entry in entries {
            if matches!(entry, Entry::Settled(_)) || !settled.contains(entry.request_id()) {
                match entry.write(&transaction, &self.instance) {
                    // Its statement is undone, the transaction goes on (sqlite.org/lang_conflict.html, ABORT).
                    Err(error) if is_of_the_entry(&error) => refused.push(error),
                    done => done?,
                }
            }
        }
        transaction.commit()?;
        self.is_there().map(|()| refused)
    }

    /// Says that this instance lives, and marks what the dead ones had begun as `unknown`; gives how many.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing is changed.
    pub(super) fn beat(&mut self, now: SystemTime) -> Result<usize, LedgerError> {
        let now_us = micros_since_1970(now);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.prepare_cached(BEAT)?.execute(params![self.instance, self.started_us, now_us])?;
        let since = micros_since_1970(now.checked_sub(SILENCE).unwrap_or(SystemTime::UNIX_EPOCH));
        let orphans = transaction.prepare_cached(ORPHANS)?.execute([since])?;
        transaction.prepare_cached("DELETE FROM instances WHERE seen_us <= ?1")?.execute([since])?;
        transaction.commit()?;
        self.is_there().map(|()| orphans)
    }

    /// Ends this instance: what it has begun and did not settle is `unknown` from here on.
    ///
    /// # Errors
    /// [`LedgerError`]; the other instances will find out by its silence.
    pub(super) fn leave(mut self) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let own = [&self.instance];
        transaction.execute("UPDATE calls SET state = 'unknown' WHERE state = 'intent' AND instance = ?1", own)?;
        transaction.execute("DELETE FROM instances WHERE id = ?1", own)?;
        transaction.commit()?;
        self.connection.close().map_err(|(_, error)| error.into())
    }

    /// Deletes some of what is too old or too much, oldest first, and gives room back to the file system. Tells whether
    /// there is more to do.
    ///
    /// # Errors
    /// [`LedgerError`]; the step is to be done again.
    pub(super) fn prune(&mut self, retention: Retention, now: SystemTime) -> Result<bool, LedgerError> {
        let before = micros_since_1970(now.checked_sub(retention.age).unwrap_or(SystemTime::UNIX_EPOCH));
        let mut deleted = self.forget(before)?;
        let [pages, free, page_size] = ["page_count", "freelist_count", "page_size"].map(|name| self.number(name));
        let (pages, free, page_size) = (pages?, free?, page_size?);
        let used = u64::try_from((pages - free).saturating_mul(page_size)).unwrap_or(0);
        if deleted == 0 && used > retention.bytes {
            deleted = self.forget(i64::MAX)?;
        }
        if free <= SPARE_PAGES {
            return Ok(deleted > 0);
        }
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({STEP})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        // A database that somebody else made may be one that never shrinks.
        let left = self.number("freelist_count")?;
        Ok(deleted > 0 || (left > SPARE_PAGES && left < free))
    }

    /// Deletes a step of the calls that began before, oldest first, and notes since when all are there; gives how many.
    fn forget(&mut self, before: i64) -> Result<usize, LedgerError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.prepare_cached(KEPT_SINCE)?.execute([before, STEP])?;
        let deleted = transaction.prepare_cached(DELETE_OLDEST)?.execute([before, STEP])?;
        transaction.commit()?;
        Ok(deleted)
    }

    /// Bytes of the database's file, without its log.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(super) fn size(&self) -> Result<u64, LedgerError> {
        Ok(u64::try_from(self.number("page_count")?.saturating_mul(self.number("page_size")?)).unwrap_or(0))
    }

    fn number(&self, pragma: &str) -> Result<i64, LedgerError> {
        Ok(self.connection.pragma_query_value(None, pragma, |row| row.get(0))?)
    }

    fn is_there(&self) -> Result<(), LedgerError> {
        if self.files.are_there() { Ok(()) } else { Err(LedgerError::Gone) }
    }
}

impl Files {
    /// Those of a database that was this file before it was opened by this path, and has been read since.
    ///
    /// # Errors
    /// Where there is no log.
    pub(super) fn of(path: &Path, file: (u64, u64), connection: &Connection) -> io::Result<Self> {
        // Beside the file itself, wherever a link to it is.
        let mut log = OsString::from(connection.path().map_or(path.as_os_str(), OsStr::new));
        log.push("-wal");
        let log = PathBuf::from(log);
        let log_file = identity(&log)?;
        Ok(Self([(path.to_owned(), file), (log, log_file)]))
    }

    /// Whether they are those that their paths name.
    pub(super) fn are_there(&self) -> bool {
        self.0.iter().all(|(path, file)| identity(path).is_ok_and(|there| there == *file))
    }
}

/// Whether an entry itself is at fault, so that it would never be written.
fn is_of_the_entry(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{ConstraintViolation, ParameterOutOfRange, TooBig, TypeMismatch};
    match error {
        rusqlite::Error::ToSqlConversionFailure(_) => true,
        error => {
            matches!(error.sqlite_error_code(), Some(ConstraintViolation | ParameterOutOfRange | TooBig | TypeMismatch))
        }
    }
}

pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

const BEAT: &str = "INSERT INTO instances (id, started_us, seen_us) VALUES (?1, ?2, ?3)
    ON CONFLICT (id) DO UPDATE SET seen_us = excluded.seen_us";

const ORPHANS: &str = "UPDATE calls SET state = 'unknown' WHERE state = 'intent'
    AND instance NOT IN (SELECT id FROM instances WHERE seen_us > ?1)";

const DELETE_OLDEST: &str = "DELETE FROM calls WHERE id IN
    (SELECT id FROM calls WHERE started_us < ?1 ORDER BY started_us LIMIT ?2)";

const KEPT_SINCE: &str = "UPDATE kept SET since_us = max(since_us, coalesce((SELECT max(started_us) + 1 FROM
    (SELECT started_us FROM calls WHERE started_us < ?1 ORDER BY started_us LIMIT ?2)), 0))";

#[cfg(test)]
mod tests;
