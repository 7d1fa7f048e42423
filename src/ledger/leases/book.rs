//! The table of leases: who has how much of which budget in which window.
//!
//! Invariant: each change is one transaction that is on the disk when it returns. The row of nobody (an empty instance) is
//! what was spent for good by processes that are gone, or before the budget was first leased from.
//! Never does: read a clock.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior, params};

use super::super::row::micros_since_1970;
use super::super::store::{Files, SILENCE, identity};
use super::super::{LedgerError, schema};
use super::records::{Calls, all_kept, recorded};
use crate::limit::{BudgetId, Grant, Returned, Wanted, Window};
use crate::units::Limit;

/// How long others may hold the lock, all together: the ledger's own writes, another process's, and their way to the disk.
const BUSY: Duration = Duration::from_secs(5);
/// How long the leases of a window are kept behind its end, in seconds.
const REST: i64 = 86_400;

/// An open database.
#[derive(Debug)]
pub(super) struct Book {
    connection: Connection,
    files: Files,
}

/// A row of the table.
pub(super) struct Lease {
    pub(super) instance: String,
    /// What it may spend, or has spent.
    pub(super) leased: u128,
    /// What was granted last: so much of it may have been spent without a record when a process is killed.
    pub(super) last: u128,
}

impl Book {
    /// Opens the database that the ledger made.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let file = identity(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let found = schema::version(&connection)?;
        if found != schema::VERSION {
            return Err(LedgerError::Newer { found });
        }
        let files = Files::of(path, file, &connection)?;
        Ok(Self { connection, files })
    }

    /// Whether the file is the one that its path names.
    pub(super) fn is_there(&self) -> bool {
        self.files.are_there()
    }

    /// Leases as much as is wanted, or as there is.
    ///
    /// # Errors
    /// [`LedgerError`]; nothing is leased.
    pub(super) fn lease(&mut self, instance: &str, wanted: &Wanted, now: SystemTime) -> Result<Grant, LedgerError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let place = Place::of(wanted);
        let mut leases = place.leases(&transaction)?;
        if leases.is_empty() {
            // A budget counts what was spent in its window before it was there.
            let spent = recorded(&transaction, &wanted.budget, wanted.window, Calls::default())?;
            leases.push(Lease { instance: String::new(), leased: spent, last: 0 });
            place.put(&transaction, &leases[0])?;
        }
        bury(&transaction, &mut leases, instance, wanted, now)?;
        let held = |of: &dyn Fn(&str) -> bool| -> u128 {
            leases.iter().filter(|lease| of(&lease.instance)).map(|lease| lease.leased).sum()
        };
        let spent_elsewhere = held(&str::is_empty);
        let held_elsewhere = held(&|other| !other.is_empty() && other != instance);
        let own = held(&|other| other == instance);
        let room = wanted.value.saturating_sub(spent_elsewhere + held_elsewhere + own);
        let amount = Some(wanted.amount.min(room)).filter(|amount| *amount >= wanted.least).unwrap_or(0);
        if amount > 0 {
            let own = Lease { instance: instance.to_owned(), leased: own + amount, last: amount };
            place.put(&transaction, &own)?;
        }
        let over = micros_since_1970(now) / 1_000_000 - REST;
        transaction.prepare_cached("DELETE FROM leases WHERE window_end < ?1")?.execute([over])?;
        transaction.commit()?;
        if self.is_there() { Ok(Grant { amount, spent_elsewhere, held_elsewhere }) } else { Err(LedgerError::Gone) }
    }

    /// Takes back what was not spent.
    ///
    /// # Errors
    /// [`LedgerError`]; what was not taken back counts as spent.
    pub(super) fn give_back(&mut self, instance: &str, returned: &[Returned]) -> Result<(), LedgerError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for back in returned {
            let place = Place { name: name(&back.budget), window: back.window };
            let leases = place.leases(&transaction)?;
            if let Some(own) = leases.into_iter().find(|lease| lease.instance == instance) {
                place.put(&transaction, &Lease { leased: own.leased.saturating_sub(back.unused), last: 0, ..own })?;
            }
        }
        Ok(transaction.commit()?)
    }
}

/// Turns leases of processes that are silent into what their records say was spent, and what the last lease may hide.
fn bury(
    transaction: &Transaction<'_>,
    leases: &mut Vec<Lease>,
    instance: &str,
    wanted: &Wanted,
    now: SystemTime,
) -> Result<(), LedgerError> {
    let place = Place::of(wanted);
    let since = micros_since_1970(now.checked_sub(SILENCE).unwrap_or(SystemTime::UNIX_EPOCH));
    let mut spent = 0_u128;
    let mut dead = Vec::new();
    for lease in leases.iter().filter(|lease| !lease.instance.is_empty() && lease.instance != instance) {
        let alive = transaction
            .prepare_cached("SELECT 1 FROM instances WHERE id = ?1 AND seen_us > ?2")?
            .exists(params![lease.instance, since])?;
        if !alive {
            let all_kept = all_kept(transaction, wanted.window)?;
            let known = recorded(
                transaction,
                &wanted.budget,
                wanted.window,
                Calls { instance: Some(&lease.instance), open: None },
            )?;
            // Records reach the disk before the next lease is granted: what has none was spent from the last one, and from
            // what was too little for the call that asked for it.
            let known = known.saturating_add(lease.last.saturating_mul(2));
            spent += if all_kept { lease.leased.min(known) } else { lease.leased };
            dead.push(lease.instance.clone());
        }
    }
    if dead.is_empty() {
        return Ok(());
    }
    leases.retain(|lease| !dead.contains(&lease.instance));
    for gone in &dead {
        place.remove(transaction, gone)?;
    }
    match leases.iter_mut().find(|lease| lease.instance.is_empty()) {
        Some(nobody) => nobody.leased += spent,
        None => leases.push(Lease { instance: String::new(), leased: spent, last: 0 }),
    }
    match leases.iter().find(|lease| lease.instance.is_empty()) {
        Some(nobody) => place.put(transaction, nobody),
        None => Ok(()),
    }
}

/// A budget's name in the table.
pub(super) fn name(budget: &BudgetId) -> String {
    let subject = &budget.subject;
    let model = subject.model.as_deref().unwrap_or_default();
    let limit = Limit::Budget(budget.measure, budget.per).name();
    // What separates them stands in no name of a key, a user or a model that came by a header or a file of JSON.
    [subject.kind(), subject.name(), model, limit].join("\u{1f}")
}

/// The rows of one budget in one window.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) window: Window,
}

impl Place {
    fn of(wanted: &Wanted) -> Self {
        Self { name: name(&wanted.budget), window: wanted.window }
    }

    pub(super) fn leases(&self, transaction: &Connection) -> Result<Vec<Lease>, LedgerError> {
        let mut statement = transaction
            .prepare_cached("SELECT instance, leased, last FROM leases WHERE budget = ?1 AND window_start = ?2")?;
        let rows = statement.query_map(params![self.name, self.window.start], |row| {
            let amount = |at: usize| row.get::<_, String>(at).map(|text| text.parse().unwrap_or(u128::MAX));
            Ok(Lease { instance: row.get(0)?, leased: amount(1)?, last: amount(2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn put(&self, transaction: &Transaction<'_>, lease: &Lease) -> Result<(), LedgerError> {
        // Pico-dollars leave SQLite's integers at nine million dollars.
        let (leased, last) = (lease.leased.to_string(), lease.last.to_string());
        transaction
            .prepare_cached("INSERT OR REPLACE INTO leases (budget, window_start, window_end, instance, leased, last) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![self.name, self.window.start, self.window.end, lease.instance, leased, last])?;
        Ok(())
    }

    fn remove(&self, transaction: &Transaction<'_>, instance: &str) -> Result<(), LedgerError> {
        transaction
            .prepare_cached("DELETE FROM leases WHERE budget = ?1 AND window_start = ?2 AND instance = ?3")?
            .execute(params![self.name, self.window.start, instance])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
