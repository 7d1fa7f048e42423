//! The tables, by version, and the way from each version to the next.
//!
//! Invariant: a database is brought to [`VERSION`] in one transaction or left as it was; a newer one, or one that holds
//! something else, is not touched.
//! Never does: delete a table.

use rusqlite::{Connection, TransactionBehavior};

use super::LedgerError;

/// The version that this build reads and writes: the number of entries of [`MIGRATIONS`].
pub(super) const VERSION: i64 = 4;

/// What leads from version N to N + 1; `PRAGMA user_version` counts them. An entry that was released is never changed.
const MIGRATIONS: [&str; VERSION as usize] = [CALLS, BUDGETS, TRIED, UNANSWERED];

/// Times are microseconds since 1970, durations microseconds, money pico-dollars (10^-12 USD). NULL is not known.
const CALLS: &str = "
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    instance TEXT NOT NULL,
    key_id TEXT NOT NULL,
    user TEXT NOT NULL,
    team TEXT,
    on_behalf_of TEXT,
    method TEXT NOT NULL,
    route TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT,
    answered_model TEXT,
    status INTEGER,
    error TEXT,
    attempts INTEGER,
    input INTEGER,
    cached_input INTEGER,
    cache_write INTEGER,
    cache_write_1h INTEGER,
    input_audio INTEGER,
    cached_audio INTEGER,
    input_image INTEGER,
    output INTEGER,
    reasoning INTEGER,
    output_audio INTEGER,
    output_image INTEGER,
    audio_ms INTEGER,
    cost_picos INTEGER,
    prices TEXT,
    service_tier TEXT,
    duration_us INTEGER,
    upstream_us INTEGER,
    first_token_us INTEGER,
    overhead_us INTEGER
) STRICT;
CREATE INDEX calls_by_time ON calls (started_us);
CREATE INDEX calls_by_user ON calls (user, started_us);
CREATE INDEX calls_open ON calls (instance) WHERE state = 'intent';
CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    started_us INTEGER NOT NULL,
    seen_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Leases of budgets, in pico-dollars or tokens as decimal texts; windows in seconds since 1970. What was reserved for a
/// call stands beside it, for the case that it has no end.
const BUDGETS: &str = "
CREATE TABLE leases (
    budget TEXT NOT NULL,
    window_start INTEGER NOT NULL,
    window_end INTEGER,
    instance TEXT NOT NULL,
    leased TEXT NOT NULL,
    last TEXT NOT NULL,
    PRIMARY KEY (budget, window_start, instance)
) STRICT, WITHOUT ROWID;
ALTER TABLE calls ADD COLUMN reserved_picos INTEGER;
ALTER TABLE calls ADD COLUMN reserved_tokens INTEGER;
CREATE INDEX calls_by_key ON calls (key_id, started_us);
";

/// Each attempt of a call that had more than one, as JSON.
const TRIED: &str = "ALTER TABLE calls ADD COLUMN tried TEXT;";

/// Attempts that were sent and not answered: budgets count each at what was reserved for the call. And since when all calls
/// are still there: of a window that began before, the records do not tell what was spent in it.
const UNANSWERED: &str = "
ALTER TABLE calls ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0;
CREATE TABLE kept (one INTEGER PRIMARY KEY CHECK (one = 1), since_us INTEGER NOT NULL) STRICT;
INSERT INTO kept (one, since_us) SELECT 1, coalesce(min(started_us), 0) FROM calls;
";

/// Brings a database to this build's version.
///
/// # Errors
/// `Newer`, `Foreign`, and what SQLite says.
pub(super) fn migrate(connection: &mut Connection) -> Result<(), LedgerError> {
    if version(connection)? == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have done it while we waited for the lock.
    let found = version(&transaction)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// The version of a database; 0 where it is empty.
///
/// # Errors
/// `Newer`, `Foreign`, and what SQLite says.
pub(super) fn version(connection: &Connection) -> Result<i64, LedgerError> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let table = |name: &str| connection.table_exists(None, name);
    if found > VERSION && table("calls")? {
        return Err(LedgerError::Newer { found });
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if !(0..=VERSION).contains(&found) || (found == 0 && tables > 0) || (found > 0 && !table("calls")?) {
        return Err(LedgerError::Foreign);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::ledger::{Question, Reader, budgets};

    /// A database as the third version left it, with calls that began at these times.
    fn third(path: &Path, times: &[i64]) -> Connection {
        let connection = Connection::open(path).expect("a database");
        MIGRATIONS[..3].iter().for_each(|step| connection.execute_batch(step).expect("SQL"));
        connection.pragma_update(None, "user_version", 3).expect("set");
        for time in times {
            let columns = "request_id, state, started_us, instance, key_id, user, method, route, provider";
            let call =
                format!("INSERT INTO calls ({columns}) VALUES ('{time}', 'settled', {time}, '', '', '', '', '', '')");
            connection.execute_batch(&call).expect("SQL");
        }
        connection
    }

    /// A row of this table with another value in each column, as SQLite writes them.
    fn fill(connection: &Connection, table: &str) -> Vec<(String, String)> {
        let mut statement = connection.prepare("SELECT name, type FROM pragma_table_info(?1)").expect("SQL");
        let columns = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        let columns: Vec<(String, String)> = columns.map(|column| column.expect("a column")).collect();
        let value = |(at, (name, kind)): (usize, (String, String))| match (name.as_str(), kind.as_str()) {
            ("state", _) => (name, "'settled'".to_owned()),
            ("tried", _) => (name, "'[{\"provider\":\"a\"}]'".to_owned()),
            (_, "INTEGER") => (name, (1_000 + at).to_string()),
            _ => (name.clone(), format!("'{name} {at}'")),
        };
        let row: Vec<(String, String)> = columns.into_iter().enumerate().map(value).collect();
        let (names, values): (Vec<&str>, Vec<&str>) = row.iter().map(|(name, value)| (&**name, &**value)).unzip();
        let insert = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "));
        connection.execute_batch(&insert).expect("SQL");
        row
    }

    #[test]
    fn a_row_of_each_earlier_version_is_there_as_it_was() {
        for found in 1..VERSION {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("gateway.db");
            let mut connection = Connection::open(&path).expect("a database");
            let steps = usize::try_from(found).expect("small");
            MIGRATIONS[..steps].iter().for_each(|step| connection.execute_batch(step).expect("SQL"));
            connection.pragma_update(None, "user_version", found).expect("set");
            let tables = ["calls", "instances", "leases"];
            let tables = tables.iter().filter(|table| connection.table_exists(None, **table).expect("SQL"));
            let rows: Vec<(&str, Vec<(String, String)>)> =
                tables.map(|table| (*table, fill(&connection, table))).collect();
            assert_eq!(rows.len(), if found == 1 { 2 } else { 3 });
            for _ in 0..2 {
                migrate(&mut connection).expect("migrated");
            }
            assert_eq!(version(&connection).expect("ours"), VERSION);
            for (table, row) in &rows {
                for (name, value) in row {
                    let sql = format!("SELECT count(*) || ' ' || quote({name}) FROM {table}");
                    let there: String = connection.query_row(&sql, [], |row| row.get(0)).expect("one");
                    assert_eq!(there, format!("1 {value}"), "{table}.{name} of version {found}");
                }
            }
            let unanswered: i64 =
                connection.query_row("SELECT unanswered FROM calls", [], |row| row.get(0)).expect("one");
            assert_eq!(unanswered, 0, "of version {found}");
            let page =
                Reader::open(&path, None).expect("it opens").records(&Question::default(), 2, None).expect("a page");
            let call = page.data.first().expect("the call");
            assert_eq!(
                (page.data.len(), &call["id"], &call["tokens"]["audio_ms"]),
                (1, &"request_id 1".into(), &1_028.into())
            );
        }
    }

    #[test]
    fn of_what_was_before_the_first_call_that_is_still_there_nothing_is_known() {
        for (times, since) in [(&[][..], 0), (&[700, 300, 500][..], 300)] {
            let folder = tempfile::tempdir().expect("a folder");
            let mut connection = third(&folder.path().join("gateway.db"), times);
            migrate(&mut connection).expect("migrated");
            assert_eq!(version(&connection).expect("ours"), VERSION);
            let kept: i64 = connection.query_row("SELECT since_us FROM kept", [], |row| row.get(0)).expect("a row");
            assert_eq!(kept, since);
        }
    }

    #[test]
    fn budgets_of_an_older_database_name_its_version_and_the_remedy() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gateway.db");
        let mut connection = third(&path, &[1]);
        let asked = || {
            let reader = Reader::open(&path, None).expect("it opens");
            budgets(&reader, &[], SystemTime::now()).map(|lines| lines.len()).map_err(|error| error.to_string())
        };
        let error = asked().expect_err("it is older");
        assert!(error.contains("its schema is 3, budgets need 4") && error.contains("start the gateway"), "{error}");
        migrate(&mut connection).expect("migrated");
        assert_eq!(asked(), Ok(0));
    }
}
