//! What the records say of a budget.
//!
//! Invariant: it counts calls as the limiter does.
//! Never does: change anything.

use rusqlite::{Connection, params_from_iter};

use crate::limit::{BudgetId, Window};
use crate::units::{Measure, Owner};

/// Which calls.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calls<'a> {
    /// Of one process.
    pub(super) instance: Option<&'a str>,
    /// Whether they are not over so far.
    pub(super) open: Option<bool>,
}

/// What the records say was spent of a budget in its window, by one process or by all; calls of which nothing
/// tells what they used, and attempts that were not answered, at what was reserved for them, as the limiter counts them. A
/// call whose client left before its answer began is one of the latter, whatever of its input is billed.
pub(super) fn recorded(
    connection: &Connection,
    budget: &BudgetId,
    window: Window,
    calls: Calls<'_>,
) -> rusqlite::Result<u128> {
    let amount = match budget.measure {
        Measure::Usd => {
            "CASE WHEN state = 'failed' OR state = 'estimated' AND upstream_us IS NULL AND unanswered > 0 THEN 0
             ELSE coalesce(cost_picos, reserved_picos, 0) END + unanswered * coalesce(reserved_picos, 0)"
        }
        Measure::Tokens => {
            "CASE WHEN state = 'estimated' AND upstream_us IS NULL AND unanswered > 0 THEN 0
             WHEN state = 'failed' OR state = 'settled' AND cost_picos = 0 THEN coalesce(input + output, 0)
             ELSE coalesce(input + output, reserved_tokens, 0) END + unanswered * coalesce(reserved_tokens, 0)"
        }
    };
    let subject = &budget.subject;
    let mut values = vec![micros(window.start).to_string(), window.end.map_or(i64::MAX, micros).to_string()];
    let mut filters = String::new();
    let mut filter = |column: &str, value: &str| {
        values.push(value.to_owned());
        filters.push_str(&format!(" AND {column} = ?{}", values.len()));
    };
    match &subject.owner {
        Owner::Gateway => {}
        Owner::Key(id) => filter("key_id", id.as_str()),
        Owner::User(user) => filter("user", user),
        Owner::Team(team) => filter("team", team),
    }
    if let Some(model) = &subject.model {
        filter("model", model);
    }
    if let Some(instance) = calls.instance {
        filter("instance", instance);
    }
    match calls.open {
        None => {}
        Some(true) => filters.push_str(" AND state = 'intent'"),
        Some(false) => filters.push_str(" AND state <> 'intent'"),
    }
    // Halves, so that no sum leaves SQLite's integers.
    let query = format!(
        "SELECT coalesce(sum(amount / 1000000), 0), coalesce(sum(amount % 1000000), 0) FROM (SELECT {amount} AS amount
         FROM calls WHERE started_us >= CAST(?1 AS INTEGER) AND started_us < CAST(?2 AS INTEGER){filters})"
    );
    let (high, low): (i64, i64) = connection
        .prepare_cached(&query)?
        .query_row(params_from_iter(values.iter()), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(u128::try_from(high).unwrap_or(0) * 1_000_000 + u128::try_from(low).unwrap_or(0))
}

fn micros(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000)
}

/// Whether the records of a window are all there: of those that the retention took nobody knows what they were.
pub(super) fn all_kept(connection: &Connection, window: Window) -> rusqlite::Result<bool> {
    let since: i64 = connection.prepare_cached("SELECT since_us FROM kept")?.query_row([], |row| row.get(0))?;
    Ok(since <= micros(window.start))
}
