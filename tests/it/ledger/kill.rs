//! The end of a process without a word, and two processes at once.

use std::time::{Duration, Instant};

use ai_gateway::demo::Script;

use super::*;

/// A record is on the disk at most this long after its answer was read: a batch gathers for 50 ms, the rest is for a
/// machine that is busy.
const WRITTEN_AFTER: Duration = Duration::from_secs(1);

#[tokio::test]
async fn kill_9_loses_no_call_that_was_over_a_second_before() {
    let (provider, folder) = prepare(&Setup::default()).await;
    // One call that hangs at the provider and is open when the process dies.
    let hangs = Script { path: Some("/v1/embeddings".to_owned()), delay: SOON, ..Script::default() };
    provider.script(hangs);
    let mut process = Process::start(folder.path(), SERVE, &[]);
    let (address, admin) = process.serves().await;
    let mut open = Connection::open(address).await;
    let body = r#"{"model":"text-embedding-3-small","input":"x"}"#;
    open.send(head("POST", "/openai/v1/embeddings", &[bearer(KEY)], body.as_bytes())).await;
    open.send(body).await;
    let mut over: Vec<(String, Instant)> = Vec::new();
    let mut connection = Connection::open(address).await;
    let path = database(folder.path());
    let begun = Instant::now();
    while begun.elapsed() < WRITTEN_AFTER * 2 {
        let answer = connection.post("/openai/v1/chat/completions", &chat("hello")).await;
        over.push((answer.header("x-request-id").expect("an id").to_owned(), Instant::now()));
    }
    let service = Service { provider, process, address, admin, folder };
    service.process.signal("KILL");
    let killed = Instant::now();
    let Service { provider: _provider, folder, process: mut dead, .. } = service;
    assert_eq!(dead.end().await.code, None, "it had no time to say anything");

    let there = states(&path);
    let safe = over.iter().filter(|(_, at)| killed.duration_since(*at) > WRITTEN_AFTER);
    let missing: Vec<_> = safe.clone().filter(|(id, _)| !is_over(&there, id)).collect();
    assert!(safe.count() > 10 && missing.is_empty(), "{missing:?} of {} calls", over.len());
    let intents = |path: &Path| states(path).into_iter().filter(|(_, state)| state == "intent").count();
    assert!(intents(&path) >= 1, "the open call, and those of the last batch");

    // The next process leaves them alone until the dead one has been silent for long enough, which we say it was.
    process = Process::start(folder.path(), SERVE, &[]);
    process.serves().await;
    process.says("calls are recorded in").await;
    let later = states(&path);
    assert!(over.iter().all(|(id, _)| is_over(&there, id) == is_over(&later, id)), "nothing got lost, nothing settled");
    let database = Database::open(&path).expect("opened");
    database.busy_timeout(SOON).expect("set");
    let silent = database.execute("UPDATE instances SET seen_us = seen_us - 20000000", []).expect("changed");
    assert!(silent >= 1, "the dead one, and by now perhaps its heir, who will be heard again");
    eventually("orphans are unknown", async || intents(&path) == 0).await;
    assert!(states(&path).iter().any(|(_, state)| state == "unknown"));
    process.says("of a gateway that ended without a word").await;
}

#[tokio::test]
async fn the_end_of_a_drain_has_written_every_call() {
    let mut service = Service::start().await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(call(&service).await);
    }
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    let there = states(&database(service.folder.path()));
    assert!(ids.iter().all(|id| is_over(&there, id)) && there.len() == 20, "{there:?}");
    let database = Database::open(database(service.folder.path())).expect("opened");
    let instances: i64 = database.query_row("SELECT count(*) FROM instances", [], |row| row.get(0)).expect("a number");
    assert_eq!(instances, 0, "it took its leave");
}

#[tokio::test]
async fn two_gateways_share_one_ledger() {
    let shared = tempfile::tempdir().expect("a folder");
    let path = shared.path().join("shared.db");
    let setup = || Setup { ledger: format!("{{ path: \"{}\" }}", path.display()), ..Setup::default() };
    let services = [Service::with(setup()).await, Service::with(setup()).await];
    let mut ids = Vec::new();
    for _ in 0..25 {
        let [one, other] = [call(&services[0]).await, call(&services[1]).await];
        ids.extend([one, other]);
    }
    eventually("all is there", async || {
        let there = states(&path);
        there.len() == 50 && ids.iter().all(|id| is_over(&there, id))
    })
    .await;
    for service in &services {
        assert_eq!(service.metric("gateway_ledger_dropped_total").await, 0.0);
        assert!(!service.process.messages().iter().any(|line| line.starts_with("ERROR")));
    }
}
