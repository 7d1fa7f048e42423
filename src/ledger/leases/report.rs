//! How budgets stand by what is on the disk: for reports, also while no gateway runs.
//!
//! Invariant: never less spent than the store would count if it were asked for a lease now.
//! Never does: write; decide whether a call fits.

use std::time::SystemTime;

use super::super::row::micros_since_1970;
use super::super::store::SILENCE;
use super::super::{AskError, LedgerError, Reader, schema};
use super::book::{Place, name};
use super::records::{Calls, all_kept, recorded};
use crate::limit::{Bound, BudgetId, Window};
use crate::units::{Budget, Limit, Subject};

/// How one budget stands in its window now, in pico-dollars or tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetLine {
    /// Whose.
    pub subject: Subject,
    /// Which one.
    pub limit: Limit,
    /// Whether it only counts.
    pub shadow: bool,
    /// How much it is.
    pub value: u128,
    /// What is spent for good.
    pub spent: u128,
    /// What calls in flight hold beside that.
    pub reserved: u128,
    /// When the window began and will end.
    pub window: (SystemTime, Option<SystemTime>),
}

impl BudgetLine {
    /// What is left.
    pub fn remaining(&self) -> u128 {
        self.value.saturating_sub(self.spent).saturating_sub(self.reserved)
    }
}

/// How all budgets of these subjects stand.
///
/// # Errors
/// [`AskError`]; `Older` where the database has no budgets so far, or not in this form.
pub fn budgets(reader: &Reader, bounds: &[Bound], now: SystemTime) -> Result<Vec<BudgetLine>, AskError> {
    // One transaction, so that all of it is of one moment.
    let transaction = reader.0.unchecked_transaction()?;
    let found = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found < schema::VERSION {
        return Err(AskError::Older(found));
    }
    let budgets = bounds.iter().flat_map(|bound| bound.limits.budgets.iter().map(move |budget| (bound, budget)));
    budgets.map(|(bound, budget)| line(&transaction, bound, budget, now).map_err(AskError::from)).collect()
}

fn line(
    connection: &rusqlite::Connection,
    bound: &Bound,
    budget: &Budget,
    now: SystemTime,
) -> rusqlite::Result<BudgetLine> {
    let window = Window::around(budget.per, &bound.zone, now);
    let id = BudgetId { subject: bound.subject.clone(), measure: budget.amount.measure(), per: budget.per };
    let of = |instance, open| recorded(connection, &id, window, Calls { instance, open });
    let leases = Place { name: name(&id), window }.leases(connection).map_err(|error| match error {
        LedgerError::Sqlite(error) => error,
        _ => rusqlite::Error::InvalidQuery,
    })?;
    let (reserved, all_kept) = (of(None, Some(true))?, all_kept(connection, window)?);
    let mut spent = 0_u128;
    for lease in &leases {
        spent += match lease.instance.as_str() {
            "" => lease.leased,
            own if !all_kept => lease.leased.saturating_sub(of(Some(own), Some(true))?),
            instance if is_alive(connection, instance, now)? => lease.leased.min(of(Some(instance), Some(false))?),
            // As it counts when the next lease is asked for.
            gone => lease.leased.min(of(Some(gone), Some(false))?.saturating_add(lease.last.saturating_mul(2))),
        };
    }
    if leases.is_empty() || bound.limits.shadow {
        spent = of(None, Some(false))?;
    }
    Ok(BudgetLine {
        subject: bound.subject.clone(),
        limit: budget.limit(),
        shadow: bound.limits.shadow,
        value: budget.amount.count(),
        spent,
        reserved,
        window: window.times(),
    })
}

fn is_alive(connection: &rusqlite::Connection, instance: &str, now: SystemTime) -> rusqlite::Result<bool> {
    let since = micros_since_1970(now.checked_sub(SILENCE).unwrap_or(SystemTime::UNIX_EPOCH));
    connection
        .prepare_cached("SELECT 1 FROM instances WHERE id = ?1 AND seen_us > ?2")?
        .exists(rusqlite::params![instance, since])
}
