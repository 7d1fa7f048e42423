//! kill -9, again and again under load: back at once, with the keys, the ledger and the budgets as they were. And starts that
//! must not be one.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rusqlite::Connection as Database;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::support::heavy;

/// Tokens of the budget for each kill: what was in flight counts as spent at its most, some 16,000 tokens a call, and what the
/// killed process had leased besides is lent to nobody until it was silent for 15 s.
const EACH: u64 = 200_000;
/// A record is on the disk at most this long after its answer was read (`ledger::kill`).
const WRITTEN_AFTER: Duration = Duration::from_secs(1);

/// When answers came, and the tokens that they told.
type Told = Arc<Mutex<Vec<(Instant, u64)>>>;

/// A call on a connection of its own; gives the tokens that its answer told, where there was one.
async fn call(address: std::net::SocketAddr) -> Option<u64> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let body = chat("x");
    let headers = [bearer(KEY), ("connection", "close".to_owned()), ("content-type", "application/json".to_owned())];
    stream.write_all((head("POST", CHAT, &headers, body.as_bytes()) + &body).as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    // Where the gateway was killed in the middle, it is no JSON.
    serde_json::from_str::<Value>(body).ok()?["usage"]["total_tokens"].as_u64()
}

/// Calls without an end, through whatever happens.
async fn load(address: std::net::SocketAddr, told: Told) {
    loop {
        match call(address).await {
            Some(tokens) => told.lock().expect("no panic").push((Instant::now(), tokens)),
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_again_and_again_loses_no_key_no_record_and_no_budget() {
    let rounds = heavy::number("AI_GATEWAY_TEST_KILLS", 5);
    let budget = rounds * EACH;
    let sections = format!("limits: {{ gateway: {{ budgets: [ {{ tokens: {budget}, per: total }} ] }} }}\n");
    let admin = "token: admin-token".to_owned();
    let mut service = Service::with(Setup { sections, admin, ..Setup::default() }).await;
    // It comes back on the same ports.
    service.change("listen: [\"127.0.0.1:0\"]", &format!("listen: [\"{}\"]", service.address));
    service.change("{ listen: \"127.0.0.1:0\"", &format!("{{ listen: \"{}\"", service.admin));
    let keys = std::fs::read(service.folder.path().join("keys.json")).expect("read");
    let told = Told::default();
    let (mut kills, mut back) = (Vec::new(), Vec::new());
    let lanes: Vec<_> = (0..4).map(|_| tokio::spawn(load(service.address, Arc::clone(&told)))).collect();
    for round in 0..rounds {
        let begun = Instant::now();
        let is_safe = |(at, _): &(Instant, u64)| *at > begun && at.elapsed() > WRITTEN_AFTER;
        let safe = || told.lock().expect("no panic").iter().filter(|told| is_safe(told)).count();
        eventually("calls are served", async || safe() > 10).await;
        service.process.signal("KILL");
        assert_eq!(service.process.end().await.code, None);
        let killed = Instant::now();
        kills.push(killed);
        service.again().await;
        assert_eq!(service.get(MODELS).await.status, 200, "round {round}");
        // Less than a second where nothing else runs on the machine.
        assert!(killed.elapsed() < Duration::from_secs(10), "back after {:?}", killed.elapsed());
        back.push(killed.elapsed());
    }
    heavy::told(&format!("{} kills, back after {:?} at best", kills.len(), back.iter().min()));
    lanes.iter().for_each(tokio::task::JoinHandle::abort);
    for lane in lanes {
        assert!(lane.await.expect_err("without an end").is_cancelled(), "no call was answered but with success");
    }
    assert_eq!(std::fs::read(service.folder.path().join("keys.json")).expect("read"), keys);
    tokio::time::sleep(WRITTEN_AFTER).await;
    // What a killed gateway held is settled once it was silent for long enough, which we say it was.
    service.process.signal("KILL");
    assert_eq!(service.process.end().await.code, None);
    let database = Database::open(service.folder.path().join("data/gateway.db")).expect("opened");
    database.busy_timeout(SOON).expect("set");
    database.execute("UPDATE instances SET seen_us = seen_us - 20000000", []).expect("changed");
    drop(database);
    service.again().await;
    assert_eq!(service.metric("gateway_ledger_up").await, 1.0);
    // Nothing that was told is missing; what was held and is not known counts as spent.
    let is_safe = |at: &Instant| !kills.iter().any(|kill| at <= kill && kill.duration_since(*at) <= WRITTEN_AFTER);
    let told = std::mem::take(&mut *told.lock().expect("no panic"));
    let told: u64 = told.iter().filter(|(at, _)| is_safe(at)).map(|(_, tokens)| tokens).sum();
    let mut used = 0;
    // A process asks the ledger what others have spent when it needs a share of its own.
    assert_eq!(service.connect().await.post(CHAT, &chat("x")).await.status, 200);
    eventually("what was told is used", async || {
        let mut admin = Connection::open(service.admin).await;
        let limits = admin.request("GET", "/api/limits", &[bearer("admin-token")], b"").await.json();
        used = limits["data"][0]["used"].as_u64().expect("a number");
        used >= told
    })
    .await;
    assert!(used <= budget, "{told} told, {used} used of {budget}");
    let usage = Process::run(service.folder.path(), &["usage", "--config", "gateway.yaml", "--json"], &[]).await;
    assert_eq!(usage.code, Some(0), "{usage:?}");
    let usage: Value = serde_json::from_str(&usage.stdout).expect("JSON");
    let tokens = &usage["total"]["tokens"];
    let recorded = [&tokens["input"], &tokens["output"]].map(|count| count.as_u64().expect("a number"));
    assert!(recorded.iter().sum::<u64>() >= told, "{told} told, {recorded:?} recorded");
}

/// Whatever is wrong with the keys, there is no gateway that lets everybody in.
#[tokio::test]
async fn a_start_with_anything_wrong_serves_nothing() {
    let good = |folder: &std::path::Path| std::fs::read_to_string(folder.join("gateway.yaml")).expect("read");
    type Change = fn(&str) -> (String, Option<&'static str>);
    let wrong: [(&str, Change); 6] = [
        ("half a key file", |yaml| (yaml.to_owned(), Some(&KEY_FILE[..100]))),
        ("a key file of another kind", |yaml| (yaml.to_owned(), Some("[]"))),
        ("an empty key file", |yaml| (yaml.to_owned(), Some(""))),
        ("half a configuration", |yaml| (yaml[..yaml.len() / 2].to_owned(), None)),
        ("a field that nobody knows", |yaml| (format!("{yaml}authentication: off\n"), None)),
        ("keys switched off", |yaml| (yaml.replace("keys: { file: keys.json }", "keys: off"), None)),
    ];
    for (what, change) in wrong {
        let (_provider, folder) = prepare(&Setup::default()).await;
        let (yaml, keys) = change(&good(folder.path()));
        std::fs::write(folder.path().join("gateway.yaml"), yaml).expect("written");
        if let Some(keys) = keys {
            std::fs::write(folder.path().join("keys.json"), keys).expect("written");
        }
        let ended = Process::run(folder.path(), SERVE, &[]).await;
        assert_eq!(ended.code, Some(2), "{what}: {ended:?}");
        assert!(ended.stderr.contains("nothing is served"), "{what}: {ended:?}");
        assert!(!ended.stdout.contains("listening on"), "{what}: {ended:?}");
    }
    // No key file at all is a gateway without keys: it serves, and nobody gets in.
    let (_provider, folder) = prepare(&Setup::default()).await;
    std::fs::remove_file(folder.path().join("keys.json")).expect("removed");
    let process = Process::start(folder.path(), SERVE, &[]);
    let (address, _) = process.serves().await;
    for headers in [vec![], vec![bearer(KEY)], vec![bearer("")]] {
        let answer = Connection::open(address).await.request("GET", MODELS, &headers, b"").await;
        answer.error(401, "invalid_request_error", "invalid_api_key");
    }
}
