//! Facts about the ledger as a whole, on real files.
//!
//! Never does: wait for a fixed time; what is expected is waited for.

use std::time::{Instant, SystemTime};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::error::Refusal;
use crate::flow::{Certainty, Pace, Spent};
use crate::keys::{Key, KeyRecord};
use crate::route::{Kind, Route};
use crate::units::{KeyId, RouteId, Usage, Usd};

const LONG: Duration = Duration::from_secs(20);

/// A key of this user, who is in the blue team.
fn key(user: &str) -> Arc<Key> {
    let key = crate::telemetry::tests::key(user);
    let record = KeyRecord { id: KeyId::new(format!("key_{user}")), team: Some("blue".into()), ..key.record.clone() };
    Arc::new(Key { record, routes: Arc::default() })
}

fn route() -> Arc<Route> {
    Arc::new(Route {
        id: RouteId(0),
        method: Some(http::Method::POST),
        pattern: "/openai/v1/chat/completions".to_owned(),
        kind: Kind::Json,
        model: crate::route::ModelSource::Unseen,
        price: None,
        provider: crate::route::tests::provider("openai"),
    })
}

/// A second in November 2025 and so many more.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_064_800 + seconds)
}

/// As many kinds as there are, no two of a size, so that none can be taken for another.
pub(crate) const USED: Usage = Usage {
    input: 100,
    cached_input: 40,
    cache_write: 13,
    cache_write_1h: 7,
    input_audio: 31,
    cached_audio: 11,
    input_image: 17,
    output: 20,
    reasoning: 5,
    output_audio: 9,
    output_image: 3,
    audio_ms: 1234,
};

/// A call that was answered well and cost 450 micro-dollars.
pub(crate) fn settled(id: &str, user: &str, started_at: SystemTime) -> Record {
    Record {
        request_id: id.to_owned(),
        started_at,
        method: http::Method::POST,
        path: "/openai/v1/chat/completions".to_owned(),
        route: Some(route()),
        key: Some(key(user)),
        provider: None,
        model: Some("gpt-4o".to_owned()),
        on_behalf_of: None,
        client: None,
        status: 200,
        refusal: None,
        attempts: 1,
        tried: Vec::new(),
        unanswered: 0,
        asked_model: None,
        upstream_status: Some(200),
        duration: Duration::from_micros(123_400),
        upstream_head: Some(Duration::from_micros(99_600)),
        overhead: Duration::from_micros(42),
        reserved: crate::flow::Reserved::default(),
        spent: Spent {
            certainty: Certainty::Settled,
            usage: Some(USED),
            cost: Some(Usd::from_picos(450_000_000)),
            prices: Some("2026-11-01".into()),
            model: Some("gpt-4o-2024-11-20".into()),
            service_tier: Some("default".into()),
        },
        pace: Pace { first_token: Some(Duration::from_micros(101_000)), ..Pace::default() },
    }
}

pub(crate) fn settings(path: PathBuf) -> LedgerSettings {
    LedgerSettings { path, retention: Duration::from_secs(90 * 86_400), max_size: 10 << 30 }
}

/// Calls of two users in two days, of every kind: two that are settled, one estimate, one without a price, one that was
/// refused, and one that is not over.
pub(crate) fn sample() -> (TempDir, PathBuf) {
    let (folder, path) = place();
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    ledger.settle(settled("req_1", "ann", at(0)));
    ledger.settle(settled("req_2", "ann", at(86_400)));
    let mut estimate = settled("req_3", "ann", at(10));
    estimate.spent.certainty = Certainty::Estimated;
    (estimate.status, estimate.refusal) = (499, Some(Refusal::ClientGone));
    ledger.settle(estimate);
    let mut unpriced = settled("req_4", "bob", at(20));
    (unpriced.model, unpriced.on_behalf_of) = (Some("=cmd\u{1b}[2J".to_owned()), Some("eve, \"x\"".to_owned()));
    (unpriced.spent.cost, unpriced.spent.prices) = (None, None);
    ledger.settle(unpriced);
    let mut refused = settled("req_5", "bob", at(30));
    (refused.status, refused.refusal, refused.model) = (403, Some(Refusal::ScopeMissing), None);
    refused.spent = Spent::default();
    ledger.settle(refused);
    ledger.intent(&settled("req_6", "bob", at(40)));
    assert!(ledger.flush(LONG));
    // The thread would call the last one unknown as it ends; here it goes on.
    std::mem::forget(ledger);
    (folder, path)
}

/// A folder and the path of a database in a folder of it that is not there so far.
fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data/gateway.db");
    (folder, path)
}

fn rows(path: &Path) -> Vec<(String, String)> {
    let connection = Connection::open(path).expect("opened");
    let mut statement = connection.prepare("SELECT request_id, state FROM calls ORDER BY request_id").expect("SQL");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

#[track_caller]
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "never so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_flushed_is_in_the_file_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = place();
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    let record = settled("req_1", "ann", at(0));
    ledger.intent(&record);
    ledger.settle(record);
    ledger.intent(&settled("req_2", "ann", at(0)));
    let mut stranger = settled("req_3", "ann", at(0));
    stranger.key = None;
    ledger.intent(&stranger);
    ledger.settle(stranger);
    assert!(ledger.flush(LONG) && ledger.is_up());
    let pair = |id: &str, state: &str| (id.to_owned(), state.to_owned());
    assert_eq!(rows(&path), [pair("req_1", "settled"), pair("req_2", "intent")]);
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("a folder"))), (0o600, 0o700));
    ledger.close(LONG);
    assert_eq!(rows(&path)[1], pair("req_2", "unknown"), "this process ended without it");
}

#[test]
fn one_that_is_off_keeps_nothing_and_is_well() {
    let ledger = Ledger::off();
    ledger.settle(settled("req_1", "ann", at(0)));
    assert!(ledger.flush(Duration::ZERO) && ledger.is_up());
    assert_eq!((ledger.figures(), ledger.path()), (None, None));
    ledger.close(Duration::ZERO);
}

#[test]
fn a_folder_that_cannot_be_made_holds_up_nobody_and_is_tried_again() {
    let (folder, path) = place();
    std::fs::write(folder.path().join("data"), "in the way").expect("written");
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    eventually("down", || !ledger.is_up());
    ledger.settle(settled("req_1", "ann", at(0)));
    assert!(!ledger.flush(Duration::from_millis(10)));
    assert_eq!(ledger.figures().map(|figures| (figures.queued, figures.dropped)), Some((1, 0)));
    std::fs::remove_file(folder.path().join("data")).expect("removed");
    eventually("up", || ledger.flush(LONG) && ledger.is_up());
    assert_eq!(rows(&path).len(), 1);
}

#[test]
fn a_full_queue_drops_the_newest_and_counts_them() {
    let (_folder, path) = place();
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    assert!(ledger.flush(LONG));
    eventually("opened", || {
        path.exists() && Connection::open(&path).is_ok_and(|c| c.table_exists(None, "calls") == Ok(true))
    });
    ledger.close(LONG);
    let ledger = Ledger::with_capacity(&settings(path.clone()), 8, 3).expect("a thread");
    let holder = Connection::open(&path).expect("opened");
    holder.busy_timeout(LONG).expect("set");
    holder.execute_batch("BEGIN IMMEDIATE").expect("locked");
    for id in 0..10 {
        ledger.settle(settled(&format!("req_{id}"), "ann", at(0)));
    }
    assert_eq!(ledger.figures().map(|figures| (figures.queued, figures.dropped)), Some((3, 7)));
    holder.execute_batch("COMMIT").expect("free");
    assert!(ledger.flush(LONG));
    eventually("three rows", || rows(&path).len() == 3);
    ledger.settle(settled("req_99", "ann", at(0)));
    assert!(ledger.flush(LONG));
    assert_eq!(rows(&path).len(), 4);
}

#[test]
fn what_waits_is_one_entry_a_call() {
    let (folder, path) = place();
    std::fs::write(folder.path().join("data"), "in the way").expect("written");
    let ledger = Ledger::with_capacity(&settings(path), 8, 6).expect("a thread");
    for id in 0..3 {
        let record = settled(&format!("req_{id}"), "ann", at(0));
        ledger.intent(&record);
        ledger.settle(record);
    }
    eventually("intents are gone", || ledger.figures().is_some_and(|figures| figures.queued == 3));
    assert_eq!(ledger.figures().map(|figures| figures.dropped), Some(0));
}

#[test]
fn a_file_that_is_deleted_or_replaced_is_made_anew_and_what_was_being_written_is_in_it() {
    let (_folder, path) = place();
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    ledger.settle(settled("req_1", "ann", at(0)));
    assert!(ledger.flush(LONG));
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", path.display())).expect("removed");
    }
    ledger.settle(settled("req_2", "ann", at(0)));
    assert!(ledger.flush(LONG) && ledger.is_up());
    assert_eq!(rows(&path), [("req_2".to_owned(), "settled".to_owned())]);
    std::fs::remove_dir_all(path.parent().expect("a folder")).expect("removed");
    ledger.settle(settled("req_3", "ann", at(0)));
    assert!(ledger.flush(LONG) && ledger.is_up());
    assert_eq!(rows(&path).len(), 1);
}

#[test]
fn a_database_of_a_later_version_or_of_something_else_is_not_touched() {
    for (sql, said) in [
        ("CREATE TABLE calls (id INTEGER); PRAGMA user_version = 99;", "later version of ai-gateway (its schema is 99"),
        ("CREATE TABLE bookmarks (id INTEGER);", "a database of something else"),
        ("CREATE TABLE bookmarks (id INTEGER); PRAGMA user_version = 1;", "a database of something else"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("other.db");
        Connection::open(&path).expect("opened").execute_batch(sql).expect("SQL");
        let before = std::fs::read(&path).expect("read");
        let refused = store::Store::open(&path, "7", at(0)).expect_err(sql).to_string();
        assert!(refused.contains(said), "{refused}");
        assert_eq!(std::fs::read(&path).expect("read"), before, "{sql}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("text.db");
    std::fs::write(&path, "This is no database, but long enough to be looked at as one. ".repeat(99)).expect("written");
    let refused = store::Store::open(&path, "7", at(0)).expect_err("text").to_string();
    assert!(refused.contains("not a database"), "{refused}");
}

#[test]
fn two_ledgers_on_one_new_database_lose_nothing() {
    let (_folder, path) = place();
    let ledgers = [7, 8].map(|instance| Ledger::open(&settings(path.clone()), instance).expect("a thread"));
    for id in 0..200 {
        let record = settled(&format!("req_{id:03}"), "ann", at(id));
        ledgers[usize::try_from(id % 2).expect("small")].settle(record);
    }
    eventually("all is written", || ledgers.iter().all(|ledger| ledger.flush(LONG) && ledger.is_up()));
    assert_eq!(rows(&path).len(), 200);
}

#[test]
fn a_refused_call_is_recorded_with_its_code() {
    let (_folder, path) = place();
    let ledger = Ledger::open(&settings(path.clone()), 7).expect("a thread");
    let mut record = settled("req_1", "ann", at(0));
    record.refusal = Some(Refusal::ScopeMissing);
    (record.status, record.spent, record.attempts) = (403, Spent::default(), 0);
    ledger.settle(record);
    assert!(ledger.flush(LONG));
    let connection = Connection::open(&path).expect("opened");
    let sql = "SELECT state || ' ' || status || ' ' || error || ' ' || attempts || ' ' || (input IS NULL) FROM calls";
    let row: String = connection.query_row(sql, [], |row| row.get(0)).expect("a row");
    assert_eq!(row, "failed 403 insufficient_permissions 0 1");
}
