//! Reload after reload under load, good ones and all kinds of bad ones: no call fails, the last good one serves, nothing is
//! left behind. `AI_GATEWAY_TEST_RELOADS` says how many (`tests/soak`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::task::JoinSet;

use super::*;
use crate::support::heavy;

/// What a reload may leave of memory, in KiB, over all rounds: what the allocator keeps, and not a snapshot for each.
const GROWTH: u64 = 24 * 1024;

/// Files that are no configuration; the text is one that would be.
fn bad_configurations(good: &str) -> Vec<Vec<u8>> {
    let bomb = (1..12).fold("a0: &a0 [x, x]\n".to_owned(), |all, level| {
        let refer = vec![format!("*a{}", level - 1); 10].join(", ");
        all + &format!("a{level}: &a{level} [{refer}]\n")
    });
    vec![
        good.as_bytes()[..good.len() / 2].to_vec(),
        good.as_bytes()[..good.find("api_key: \"").expect("there") + 12].to_vec(),
        (0..=255).cycle().take(100_000).collect(),
        format!("server: {}", "[".repeat(200_000)).into_bytes(),
        format!("server: {}", "{a: ".repeat(100_000)).into_bytes(),
        "- ".repeat(200_000).into_bytes(),
        "? ".repeat(200_000).into_bytes(),
        format!("{bomb}{good}").into_bytes(),
        format!("{good}x: &x {{ <<: *x }}\n").into_bytes(),
        format!("{good}\0").into_bytes(),
        "a: ".repeat(1 << 20).into_bytes(),
    ]
}

/// Files that are no key file.
fn bad_key_files() -> Vec<Vec<u8>> {
    vec![
        KEY_FILE.as_bytes()[..KEY_FILE.len() / 2].to_vec(),
        (0..=255).cycle().take(100_000).collect(),
        "[".repeat(1_000_000).into_bytes(),
        "{\"a\":".repeat(200_000).into_bytes(),
        [KEY_FILE.as_bytes(), KEY_FILE.as_bytes()].concat(),
        vec![b' '; 1 << 20],
    ]
}

/// How many reloads were judged.
async fn judged(service: &Service) -> f64 {
    service.metric(APPLIED).await + service.metric(REFUSED).await
}

async fn hang_up(service: &Service) {
    let before = judged(service).await;
    service.process.signal("HUP");
    eventually("the reload is judged", async || judged(service).await > before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_and_nothing_is_left_behind() {
    let rounds = heavy::number("AI_GATEWAY_TEST_RELOADS", 24);
    let service = Service::start().await;
    let good = std::fs::read_to_string(service.folder.path().join("gateway.yaml")).expect("read");
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for _ in 0..3 {
        let (address, stop, calls) = (service.address, Arc::clone(&stop), Arc::clone(&calls));
        lanes.spawn(async move {
            let mut client = Connection::open(address).await;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.post("/openai/v1/chat/completions", &chat("x")).await.status, 200);
                calls.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let bad = bad_configurations(&good);
    let (begun, mut then) = (std::time::Instant::now(), None);
    for round in 0..rounds as usize {
        if round == 8 {
            // Whatever is made once is made by now.
            let files = service.metric("process_open_fds").await;
            then = Some((files, service.process.memory("VmRSS"), service.process.threads()));
        }
        let (text, applied) = match round % 2 {
            0 => (format!("{good}# round {round}\n").into_bytes(), 1.0),
            _ => (bad[round / 2 % bad.len()].clone(), 0.0),
        };
        write(service.folder.path(), "gateway.yaml", text);
        let before = service.metric(APPLIED).await;
        hang_up(&service).await;
        assert_eq!(service.metric(APPLIED).await, before + applied, "round {round}");
        assert_eq!(service.metric("gateway_config_stale").await, 1.0 - applied);
    }
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    lanes.join_all().await;
    assert!(calls.load(Ordering::Relaxed) > rounds as usize, "only {calls:?} calls");
    heavy::told(&format!("{rounds} reloads in {took:?}, {calls:?} calls beside them"));
    let (files, memory, threads) = then.expect("enough rounds");
    let now = (service.metric("process_open_fds").await, service.process.memory("VmRSS"), service.process.threads());
    assert!(now.0 <= files + 8.0 && now.1 <= memory + GROWTH && now.2 <= threads, "{then:?} became {now:?}");
}

#[tokio::test]
async fn each_bad_file_is_refused_in_bounded_time_and_the_last_good_one_serves() {
    let service = Service::start().await;
    let good = std::fs::read_to_string(service.folder.path().join("gateway.yaml")).expect("read");
    let peak = service.process.memory("VmHWM");
    for (number, text) in bad_configurations(&good).into_iter().enumerate() {
        write(service.folder.path(), "gateway.yaml", text);
        let refused = service.metric(REFUSED).await;
        hang_up(&service).await;
        assert_eq!(service.metric(REFUSED).await, refused + 1.0, "configuration {number}");
        assert_eq!(service.get("/openai/v1/models").await.status, 200, "after configuration {number}");
    }
    write(service.folder.path(), "gateway.yaml", &good);
    for (number, text) in bad_key_files().into_iter().enumerate() {
        let refused = service.metric(REFUSED).await;
        write(service.folder.path(), "keys.json", text);
        eventually(&format!("key file {number} is refused"), async || service.metric(REFUSED).await > refused).await;
        assert_eq!(service.get("/openai/v1/models").await.status, 200, "after key file {number}");
    }
    let grown = service.process.memory("VmHWM") - peak;
    assert!(grown < 128 * 1024, "{grown} KiB for files of a megabyte");
    write(service.folder.path(), "keys.json", OTHER_KEY_FILE);
    eventually("a good one is taken", async || service.status(OTHER_KEY, "/openai/v1/models").await == 200).await;
    assert_eq!(service.metric("gateway_panics_total").await, 0.0);
}
