//! A database that is locked, deleted, in the way, or out of room: calls go on, nothing that is held is lost, and it recovers.

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

/// Waits until it is well again and every call is there; gives how often it was told that it was not.
async fn recovers(service: &Service, path: &Path, ids: &[String]) -> usize {
    eventually("the records are there", async || {
        let there = states(path);
        ids.iter().all(|id| is_over(&there, id))
    })
    .await;
    eventually("it is well", async || !is_told(service).await).await;
    assert_eq!(service.metric("gateway_ledger_dropped_total").await, 0.0);
    let errors = |message: &String| message.starts_with("ERROR the ledger");
    service.process.says("INFO the ledger is written again after").await;
    service.process.messages().into_iter().filter(errors).count()
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
