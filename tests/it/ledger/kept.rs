//! What the retention takes while the gateway serves: by age and by size, as it is configured now.
//!
//! Never does: delete a record itself; the running gateway does, some seconds after its start and each minute.

use std::time::Duration;

use super::*;

/// A gateway that a busy machine makes miss its first look looks again after a minute.
const LOOKS: Duration = Duration::from_secs(100);

/// Waits until this is so of the ids in a ledger.
async fn comes_to(path: &Path, what: &str, holds: impl Fn(&[String]) -> bool) {
    let deadline = tokio::time::Instant::now() + LOOKS;
    loop {
        let ids: Vec<String> = states(path).into_iter().map(|(id, _)| id).collect();
        if holds(&ids) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "never so: {what}: {} records", ids.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A gateway with this ledger that was asked three times, and has ended; the ids of the calls in their order.
async fn asked(ledger: &str) -> (Service, Vec<String>) {
    let mut service = Service::with(Setup { ledger: ledger.to_owned(), ..Setup::default() }).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(call(&service).await);
    }
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    assert_eq!(states(&database(service.folder.path())).len(), 3);
    (service, ids)
}

/// Makes calls begin so many seconds earlier than they did.
fn shift(path: &Path, ids: &[String], seconds: u32) {
    let database = Database::open(path).expect("opened");
    for id in ids {
        let sql = "UPDATE calls SET started_us = started_us - ?1 * 1000000 WHERE request_id = ?2";
        assert_eq!(database.execute(sql, rusqlite::params![seconds, id]), Ok(1));
    }
}

#[tokio::test]
async fn what_is_older_than_the_retention_goes() {
    let (mut service, ids) = asked("{ retention: 1h }").await;
    let path = database(service.folder.path());
    shift(&path, &ids[..1], 3_660);
    shift(&path, &ids[1..2], 3_000);
    service.again().await;
    comes_to(&path, "the old one is gone", |left| !left.contains(&ids[0])).await;
    let newest = call(&service).await;
    eventually("the new one is there", async || is_over(&states(&path), &newest)).await;
    let mut left: Vec<String> = states(&path).into_iter().map(|(id, _)| id).collect();
    left.sort();
    let mut expected = vec![ids[1].clone(), ids[2].clone(), newest];
    expected.sort();
    assert_eq!(left, expected, "what is younger stays");
    assert!(service.metric("gateway_ledger_size_bytes").await > 0.0);
}

#[tokio::test]
async fn another_age_counts_from_the_next_reload() {
    let (mut service, ids) = asked("{ retention: 30d }").await;
    let path = database(service.folder.path());
    shift(&path, &ids[..2], 2 * 86_400);
    service.again().await;
    assert_eq!(states(&path).len(), 3, "they are not too old so far");
    service.change("retention: 30d", "retention: 1d");
    service.process.signal("HUP");
    service.process.says("INFO configuration reloaded").await;
    comes_to(&path, "the old ones are gone", |left| left == &ids[2..]).await;
}

#[tokio::test]
async fn what_is_more_than_the_size_goes_oldest_first() {
    let (mut service, ids) = asked("{ max_size: 1MiB }").await;
    let path = database(service.folder.path());
    let filler = Database::open(&path).expect("opened");
    // Ten thousand calls of 400 bytes, a second apart, the last one a minute before those that were made.
    let many =
        "INSERT INTO calls (request_id, state, started_us, instance, key_id, user, method, route, provider, model)
        WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 10000)
        SELECT printf('old_%05d', x), 'settled', (SELECT min(started_us) FROM calls) - (10060 - x) * 1000000,
            '', '', 'u', 'POST', '/r', 'openai', hex(zeroblob(200)) FROM n";
    assert_eq!(filler.execute(many, []), Ok(10_000));
    drop(filler);
    let full = std::fs::metadata(&path).expect("there").len();
    assert!(full > 3 << 20, "{full}");
    service.again().await;
    // Beside the records that are kept, 64 pages may be free. The file itself follows when SQLite writes its log into it.
    let reader = Database::open(&path).expect("opened");
    reader.busy_timeout(SOON).expect("set");
    let pages = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    let size = || reader.query_row("PRAGMA page_count", [], pages).map_or(i64::MAX, |pages| pages * 4_096);
    comes_to(&path, "they are less than the size", |left| left.len() < 5_000 && size() <= (1 << 20) + (64 << 12)).await;
    let left: Vec<String> = states(&path).into_iter().map(|(id, _)| id).collect();
    assert!(ids.iter().all(|id| left.contains(id)), "the newest stay");
    let old: Vec<&String> = left.iter().filter(|id| id.starts_with("old_")).collect();
    assert!(old.len() > 500, "no more than has to go: {}", old.len());
    let from = 10_001 - old.len();
    let expected: Vec<String> = (from..=10_000).map(|number| format!("old_{number:05}")).collect();
    assert!(
        old.iter().zip(&expected).all(|(left, expected)| *left == expected),
        "the oldest go: {} are left",
        old.len()
    );
}
