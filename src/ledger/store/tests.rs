//! Facts about the database: transactions, orphans, retention, with times that are handed in.
//!
//! Never does: wait.

use super::*;
use crate::ledger::row::Intent;
use crate::ledger::tests::{at, settled};

fn open(folder: &Path, instance: &str, seconds: u64) -> Store {
    Store::open(&folder.join("gateway.db"), instance, at(seconds)).expect("opened")
}

fn intent(id: &str) -> Entry {
    Entry::Intent(Box::new(Intent::of(&settled(id, "ann", at(0))).expect("a key")))
}

fn end(id: &str) -> Entry {
    Entry::Settled(Box::new(settled(id, "ann", at(0))))
}

fn states(store: &Store) -> Vec<String> {
    let mut statement = store.connection.prepare("SELECT state FROM calls ORDER BY request_id").expect("SQL");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

#[test]
fn only_what_a_silent_instance_had_begun_is_orphaned() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut old = open(folder.path(), "old", 0);
    old.write(&[intent("req_1"), intent("req_2"), end("req_2")]).expect("written");
    let mut new = open(folder.path(), "new", 10);
    new.write(&[intent("req_3")]).expect("written");
    assert_eq!(states(&new), ["intent", "settled", "intent"]);
    assert_eq!(new.beat(at(14)).expect("written"), 0, "the old one was seen 14 s ago");
    old.beat(at(14)).expect("written");
    assert_eq!(new.beat(at(28)).expect("written"), 0, "it is alive");
    assert_eq!(new.beat(at(29)).expect("written"), 1);
    assert_eq!(states(&new), ["unknown", "settled", "intent"]);
    // It was only slow: what it says in the end counts, and what it begins now is not orphaned.
    old.beat(at(30)).expect("written");
    old.write(&[end("req_1"), intent("req_4")]).expect("written");
    assert_eq!(new.beat(at(31)).expect("written"), 0);
    assert_eq!(states(&new), ["settled", "settled", "intent", "intent"]);
    new.leave().expect("left");
    assert_eq!(states(&old), ["settled", "settled", "unknown", "intent"]);
}

#[test]
fn an_intent_never_replaces_what_is_settled_and_settling_twice_is_settling_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path(), "a", 0);
    // A commit may have been done though it said that it failed; then all comes again.
    for _ in 0..2 {
        store.write(&[intent("req_1"), end("req_1"), end("req_2")]).expect("written");
        store.write(&[intent("req_1"), intent("req_2")]).expect("written");
    }
    assert_eq!(states(&store), ["settled", "settled"]);
}

#[test]
fn an_entry_that_can_never_be_written_takes_no_other_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path(), "a", 0);
    let bad = "CREATE TRIGGER bad BEFORE INSERT ON calls WHEN new.request_id = 'req_2'
        BEGIN SELECT RAISE(ABORT, 'never'); END";
    store.connection.execute_batch(bad).expect("SQL");
    let refused = store.write(&[end("req_1"), end("req_2"), end("req_3")]).expect("written");
    assert_eq!((refused.len(), states(&store).len()), (1, 2));
}

/// Whether this process has its lock on a database: the first of `SHARED_FIRST` in SQLite's os.h. `/proc/locks` is read in
/// pieces, between which others take and drop theirs, so that one read may miss a lock that is held all the time.
fn is_locked(path: &Path) -> bool {
    let (_, inode) = identity(path).expect("there");
    (0..20).any(|_| {
        let locks = fs::read_to_string("/proc/locks").expect("Linux");
        let mut own = locks.lines().map(|line| line.split_ascii_whitespace().skip(5).collect::<Vec<_>>());
        own.any(|lock| lock.len() == 3 && lock[0].ends_with(&format!(":{inode}")) && lock[1] == "1073741826")
    })
}

/// A bug: both opened the file beside SQLite, and closing it dropped the lock, without which another process that ends takes
/// itself for the last one and deletes the log. (SQLite 3.51 and later find out another way, too.)
#[test]
fn neither_a_question_nor_a_second_connection_drops_the_lock_of_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.db");
    let store = open(folder.path(), "a", 0);
    assert!(is_locked(&path));
    drop(crate::ledger::Reader::open(&path, None).expect("opened"));
    assert!(is_locked(&path), "after a question");
    drop(open(folder.path(), "b", 0));
    assert!(is_locked(&path), "after a second one");
    drop(store);
    assert!(!is_locked(&path), "what is looked at is a lock of the first");
}

#[test]
fn a_log_that_somebody_deleted_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path(), "a", 0);
    store.write(&[end("req_1")]).expect("written");
    fs::remove_file(folder.path().join("gateway.db-wal")).expect("removed");
    assert!(matches!(store.write(&[end("req_2")]), Err(LedgerError::Gone)));
}

#[test]
fn a_commit_is_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path(), "a", 0);
    store
        .connection
        .pragma_update(None, "max_page_count", store.number("page_count").expect("a number") + 2)
        .expect("set");
    let many: Vec<Entry> = (0..500).map(|id| end(&format!("req_{id}"))).collect();
    let full = store.write(&many).expect_err("no room").to_string();
    assert!(full.contains("full"), "{full}");
    assert_eq!(states(&store), [""; 0]);
    store.connection.pragma_update(None, "max_page_count", 100_000).expect("set");
    store.write(&many).expect("written");
    assert_eq!(states(&store).len(), 500);
}

#[test]
fn what_is_too_old_or_too_much_goes_oldest_first_and_the_file_shrinks() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = open(folder.path(), "a", 0);
    let many: Vec<Entry> = (0..12_000)
        .map(|second| Entry::Settled(Box::new(settled(&format!("req_{second:05}"), "ann", at(second)))))
        .collect();
    many.chunks(1_000).for_each(|some| drop(store.write(some).expect("written")));
    let full = store.size().expect("a size");
    let mut all = |age: u64, bytes: u64| {
        let retention = Retention { age: Duration::from_secs(age), bytes };
        let mut steps = 0;
        while store.prune(retention, at(12_000)).expect("done") {
            steps += 1;
        }
        let count = |sql: &str| store.connection.query_row(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
        let oldest = count("SELECT min(started_us) FROM calls") / 1_000_000 - 1_764_064_800;
        (steps > 0, count("SELECT count(*) FROM calls"), oldest, store.size().expect("a size"))
    };
    assert_eq!(all(13_000, full), (false, 12_000, 0, full), "nothing is too old or too much");
    let (_, left, oldest, size) = all(7_000, full);
    assert_eq!((left, oldest), (7_000, 5_000));
    assert!(size < full * 3 / 4, "{size} of {full}");
    let (_, left, oldest, size) = all(7_000, full / 4);
    assert!((1..=3_500).contains(&left) && oldest == 12_000 - left, "{left} from {oldest}");
    assert!(size <= full / 4 + u64::try_from(SPARE_PAGES).expect("small") * 4_096, "{size} of {full}");
}
