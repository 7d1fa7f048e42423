//! A database that is locked, deleted, in the way, out of room, read-only or broken: calls go on, nothing that is held is
//! lost, and it recovers.
//!
//! Never does: give up on a record that can be written.

use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// A call that is not delayed; gives its request id.
async fn quick_call(service: &Service) -> String {
    let begun = Instant::now();
    let id = call(service).await;
    // A lock is waited for by the second, so that one wait shows.
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    id
}

async fn is_told(service: &Service) -> bool {
    let answer = service.admin("/readyz").await;
    assert_eq!(answer.status, 200, "calls are served without it");
    let warned = answer.text().contains("the ledger is down");
    let own = service.get("/readyz").await;
    assert_eq!(own.status, 200);
    warned && service.metric("gateway_ledger_up").await == 0.0
}

/// Waits until it is well again and every call is there; gives how often it was not, each of which was told once.
async fn recovers(service: &Service, path: &Path, ids: &[String]) -> usize {
    eventually("the records are there", async || {
        let there = states(path);
        ids.iter().all(|id| is_over(&there, id))
    })
    .await;
    eventually("it is well", async || !is_told(service).await).await;
    assert_eq!(service.metric("gateway_ledger_dropped_total").await, 0.0);
    let count = |what: &str| service.process.messages().iter().filter(|message| message.starts_with(what)).count();
    let times = count("ERROR the ledger");
    eventually("each end is told", async || count("INFO the ledger is written again after") >= times).await;
    assert_eq!(count("ERROR the ledger"), count("INFO the ledger is written again after"), "each is told once");
    times
}

#[tokio::test]
async fn a_lock_of_somebody_else_holds_up_no_call() {
    let service = Service::start().await;
    let path = database(service.folder.path());
    let mut ids = vec![quick_call(&service).await];
    eventually("it is open", async || states(&path).len() == 1).await;
    let holder = Database::open(&path).expect("opened");
    holder.busy_timeout(SOON).expect("set");
    holder.execute_batch("BEGIN IMMEDIATE").expect("locked");
    for _ in 0..20 {
        ids.push(quick_call(&service).await);
    }
    eventually("it is told", async || is_told(&service).await).await;
    ids.push(quick_call(&service).await);
    assert!(service.metric("gateway_ledger_queue").await >= 20.0);
    assert!(service.metric("gateway_ledger_lag_seconds").await > 1.0);
    holder.execute_batch("COMMIT").expect("free");
    assert_eq!(recovers(&service, &path, &ids).await, 1);
}

#[tokio::test]
async fn a_file_that_is_deleted_is_made_anew() {
    let service = Service::start().await;
    let path = database(service.folder.path());
    call(&service).await;
    eventually("it is open", async || states(&path).len() == 1).await;
    std::fs::remove_dir_all(path.parent().expect("a folder")).expect("removed");
    let ids = [quick_call(&service).await, quick_call(&service).await];
    eventually("the records are there", async || ids.iter().all(|id| is_over(&states(&path), id))).await;
    service.process.says("was deleted or replaced: it is made anew").await;
    assert_eq!(states(&path).len(), 2, "what was deleted is gone");
}

#[tokio::test]
async fn a_place_that_cannot_be_used_at_start_is_a_warning_and_tried_again() {
    let setup = Setup { files: vec![("data".to_owned(), "in the way".to_owned())], ..Setup::default() };
    let service = Service::with(setup).await;
    let path = database(service.folder.path());
    let ids = [quick_call(&service).await, quick_call(&service).await];
    eventually("it is told", async || is_told(&service).await).await;
    service.process.says("cannot be written: ").await;
    std::fs::remove_file(service.folder.path().join("data")).expect("removed");
    assert_eq!(recovers(&service, &path, &ids).await, 1);
}

#[tokio::test]
async fn a_disk_without_room_holds_up_no_call() {
    let (provider, folder) = prepare(&Setup::default()).await;
    // No file of this process may grow beyond 150 KiB, which stands for a full disk. The signal for that would end it.
    let binary = env!("CARGO_BIN_EXE_ai-gateway");
    let script = format!("trap '' XFSZ; ulimit -S -f 300; exec {binary} serve --config gateway.yaml");
    let process = Process::start_program("sh", folder.path(), &["-c", &script], &[]);
    let (address, admin) = process.serves().await;
    let service = Service { provider, process, address, admin, folder };
    let path = database(service.folder.path());
    let mut ids = Vec::new();
    let deadline = Instant::now() + SOON;
    while !is_told(&service).await {
        assert!(Instant::now() < deadline, "the disk is never full");
        for _ in 0..20 {
            ids.push(quick_call(&service).await);
        }
    }
    ids.push(quick_call(&service).await);
    let id = service.process.id().to_string();
    let room = Command::new("prlimit").args(["--fsize=unlimited:unlimited", "--pid", &id]).status();
    assert!(room.expect("prlimit runs").success());
    // A checkpoint may have made room for a moment.
    assert!(recovers(&service, &path, &ids).await >= 1);
}

#[tokio::test]
async fn a_file_that_is_read_only_holds_up_no_call() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut service = Service::start().await;
    let path = database(service.folder.path());
    let mut ids = vec![call(&service).await];
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("set");
    set(0o400);
    // To root itself nothing is read-only, unless it gives that up.
    let binary = env!("CARGO_BIN_EXE_ai-gateway");
    let drop = "setpriv --bounding-set=-dac_override,-dac_read_search --inh-caps=-dac_override,-dac_read_search";
    let script = format!("[ $(id -u) = 0 ] && set -- {drop}; exec \"$@\" {binary} serve --config gateway.yaml");
    service.process =
        Process::start_program("sh", service.folder.path(), &["-c", &script], &[("PATH", "/usr/bin:/bin")]);
    (service.address, service.admin) = service.process.serves().await;
    ids.push(quick_call(&service).await);
    eventually("it is told", async || is_told(&service).await).await;
    service.process.says("attempt to write a readonly database").await;
    ids.push(quick_call(&service).await);
    set(0o600);
    assert_eq!(recovers(&service, &path, &ids).await, 1);
}

#[tokio::test]
async fn a_file_that_breaks_is_told_and_a_new_one_is_made_where_it_was_moved_away() {
    let service = Service::start().await;
    let path = database(service.folder.path());
    let first = quick_call(&service).await;
    eventually("it is open", async || is_over(&states(&path), &first)).await;
    // Somebody else's change makes the gateway read again what it knows; all that is in the log goes into the file.
    let other = Database::open(&path).expect("opened");
    other.busy_timeout(SOON).expect("set");
    other.execute("UPDATE calls SET user = user", []).expect("changed");
    let moved = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
    eventually("all is in the file", async || other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], moved) == Ok(0))
        .await;
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[4096..].fill(0x55);
    // In its place: a file that was replaced is another fault.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::File::options().write(true).open(&path).expect("there"),
        &bytes,
        0,
    )
    .expect("written");
    let mut ids = vec![quick_call(&service).await];
    eventually("it is told", async || is_told(&service).await).await;
    let told = service.process.says("cannot be written: ").await;
    assert!(told.contains("malformed") && told.contains("(hint: move it away, with its -wal and -shm"), "{told}");
    ids.push(quick_call(&service).await);
    drop(other);
    for suffix in ["", "-wal", "-shm"] {
        let from = format!("{}{suffix}", path.display());
        // SQLite may have taken the log away itself.
        let _ = std::fs::rename(&from, format!("{from}.broken"));
    }
    assert_eq!(recovers(&service, &path, &ids).await, 1);
    assert!(!is_over(&states(&path), &first), "it is a new one");
}

#[tokio::test]
async fn a_record_that_the_database_takes_at_no_time_is_counted_as_lost() {
    let service = Service::start().await;
    let path = database(service.folder.path());
    let first = call(&service).await;
    eventually("it is open", async || is_over(&states(&path), &first)).await;
    let other = Database::open(&path).expect("opened");
    other.busy_timeout(SOON).expect("set");
    let bad =
        "CREATE TRIGGER bad BEFORE INSERT ON calls WHEN new.method = 'GET' BEGIN SELECT RAISE(ABORT, 'never'); END";
    other.execute_batch(bad).expect("SQL");
    assert_eq!(service.metric("gateway_ledger_dropped_total").await, 0.0);
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    eventually("it is counted", async || service.metric("gateway_ledger_dropped_total").await > 0.0).await;
    service.process.says("records that the ledger takes at no time are lost").await;
    let next = quick_call(&service).await;
    eventually("the next one is there", async || is_over(&states(&path), &next)).await;
    assert_eq!(service.metric("gateway_ledger_up").await, 1.0);
    assert!(service.process.messages().iter().all(|message| !message.contains("never")), "no text of the database's");
}
