//! Asking the ledger: what was used and what it cost, by whatever one likes, or call by call.
//!
//! Invariant: reads only, while others write; a question that takes too long is broken off, so that it cannot starve them.
//! Never does: make, change or repair a database.

mod groups;
mod question;
mod records;
mod span;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{LedgerError, schema};

pub use groups::{Group, Tally, UsageReport};
pub use question::{BadParameter, Dimension, Question};
pub use records::Page;

/// How long a lock of somebody else is waited for.
const BUSY: Duration = Duration::from_secs(2);
/// Steps of SQLite's machine between two looks at the clock: some milliseconds.
const GLANCE: i32 = 100_000;

/// A connection that reads.
#[derive(Debug)]
pub struct Reader(pub(super) Connection);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no database.
    #[error(
        "there is no ledger at {0} so far (hint: the gateway makes it when it starts; --ledger FILE names another one)"
    )]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("the ledger {path} cannot be read: {error}", path = path.display())]
    Unreadable {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        error: LedgerError,
    },
    /// It is as an earlier version of the gateway left it, without what is asked for.
    #[error(
        "the ledger is of an earlier version of ai-gateway (its schema is {0}, budgets need {VERSION}) (hint: start the \
         gateway, which brings it up to date)",
        VERSION = schema::VERSION
    )]
    Older(i64),
    /// It took too long.
    #[error("this takes too long: ask for less time by since and until")]
    TooLong,
    /// What SQLite says.
    #[error("the ledger does not answer: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for AskError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Self::TooLong,
            _ => Self::Sqlite(error),
        }
    }
}

impl Reader {
    /// Opens a database; questions are broken off after `at_most`, where that is given.
    ///
    /// # Errors
    /// `Missing`, `Unreadable`.
    pub fn open(path: &Path, at_most: Option<Duration>) -> Result<Self, AskError> {
        let missing = || AskError::Missing(path.to_owned());
        let unreadable = |error| AskError::Unreadable { path: path.to_owned(), error };
        // SQLite would say of all that goes wrong here that it is unable to open a file. It must not be opened to find out:
        // closing it again would drop the locks of this process on it (sqlite.org/howtocorrupt.html, section 2.2).
        let found = fs::metadata(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => missing(),
            _ => unreadable(error.into()),
        })?;
        if found.is_dir() {
            return Err(unreadable(LedgerError::IsFolder));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> Result<(Connection, i64), LedgerError> {
            let mut connection = Connection::open_with_flags(path, flags).map_err(|error| match is_shut(&error) {
                true => LedgerError::Shut,
                false => error.into(),
            })?;
            connection.busy_timeout(BUSY)?;
            if let Some(at_most) = at_most {
                let deadline = Instant::now() + at_most;
                connection.progress_handler(GLANCE, Some(move || Instant::now() >= deadline))?;
            }
            let version = schema::version(&connection).map_err(|error| match error {
                LedgerError::Sqlite(error) if is_shut(&error) => LedgerError::Folder,
                error => error,
            })?;
            Ok((connection, version))
        };
        match open().map_err(unreadable)? {
            (_, 0) => Err(missing()),
            (connection, _) => Ok(Self(connection)),
        }
    }
}

fn is_shut(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::CannotOpen)
}

#[cfg(test)]
mod tests;
