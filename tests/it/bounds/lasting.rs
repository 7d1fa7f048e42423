//! Mixed traffic for a while: whatever clients and providers do, nothing grows. `AI_GATEWAY_TEST_SECONDS` says for how long
//! (`tests/soak`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ai_gateway::demo::{CutAt, HowCut, Script};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::*;
use crate::support::heavy;

const EMBEDDINGS: &str = "/openai/v1/embeddings";
/// What memory may differ by between two moments of the same traffic, in KiB.
const WOBBLE: u64 = 24 * 1024;

/// One of the numbers of a size.
type Of = fn(&Size) -> u64;

/// What is to stay as it is.
#[derive(Debug)]
struct Size {
    memory: u64,
    files: f64,
    threads: usize,
    series: usize,
}

async fn size(service: &Service) -> Size {
    let metrics = service.admin("/metrics").await.text();
    Size {
        memory: service.process.memory("VmRSS"),
        files: metric(&metrics, "process_open_fds"),
        threads: service.process.threads(),
        series: metrics.lines().filter(|line| !line.starts_with('#')).count(),
    }
}

/// One call of many kinds, by its number. A connection of its own, as most clients that leave have.
async fn call(address: std::net::SocketAddr, number: usize) {
    let mut client = Connection::open(address).await;
    match number % 9 {
        0 => assert_eq!(client.post(CHAT, &chat("x")).await.status, 200),
        1 => assert!(client.post(CHAT, &chat_stream("x")).await.text().ends_with("data: [DONE]\n\n")),
        // Leaves in the middle.
        2 => drop(begin_stream(client, &chat_stream("x")).await),
        3 => assert_eq!(client.request("GET", &format!("/nothing/{number}"), &[], b"").await.status, 404),
        4 => assert_eq!(client.request("GET", MODELS, &[bearer(&number.to_string())], b"").await.status, 401),
        5 => assert_eq!(client.post(CHAT, &chat(&"x".repeat(1 << 20))).await.status, 200),
        // A provider that breaks now and then.
        6 => assert!(matches!(
            client.post(EMBEDDINGS, r#"{"model":"text-embedding-3-small","input":"x"}"#).await.status,
            200 | 502
        )),
        // Leaves before it has said anything, or with half a body.
        7 => drop(client),
        _ => drop(client.try_send(&head("POST", CHAT, &[bearer(KEY)], &[b'x'; 100])).await),
    }
}

/// Calls over one connection with HTTP/2 after another, of which some leave with calls under way.
async fn over_http2(client: Client, stop: Arc<AtomicBool>, calls: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        let h2 = client.h2().await;
        for _ in 0..20 {
            assert_eq!(h2.post(CHAT, &chat("x")).await.status, 200);
            drop(h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await);
            calls.fetch_add(2, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_grows_under_mixed_traffic() {
    let lasts = Duration::from_secs(heavy::number("AI_GATEWAY_TEST_SECONDS", 6));
    let authority = Authority::new();
    let (listen, files) = authority.listener();
    let service = Service::with(Setup { listen: vec![listen], files, ..Setup::default() }).await;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for _ in 0..4 {
        let (address, stop, calls) = (service.address, Arc::clone(&stop), Arc::clone(&calls));
        lanes.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                call(address, calls.fetch_add(1, Ordering::Relaxed)).await;
            }
        });
    }
    lanes.spawn(over_http2(service.client(&authority).await, Arc::clone(&stop), Arc::clone(&calls)));
    let (begun, mut sizes) = (Instant::now(), Vec::new());
    while begun.elapsed() < lasts {
        sleep(lasts / 20).await;
        service.provider.script(Script::cut(CutAt::Head, HowCut::Reset).on("/v1/embeddings"));
        // The provider keeps what it has received, which is the test's memory, not the gateway's.
        service.provider.clear_received();
        service.process.signal("HUP");
        sizes.push(size(&service).await);
    }
    stop.store(true, Ordering::Relaxed);
    lanes.join_all().await;
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls > 20, "only {calls} calls");
    let [early, late] = [&sizes[sizes.len() / 4..sizes.len() / 2], &sizes[sizes.len() * 3 / 4..]];
    let most = |of: &[Size], what: Of| of.iter().map(what).max().expect("some");
    heavy::told(&format!("{calls} calls in {:?}: {:?} became {:?}", begun.elapsed(), early.first(), late.last()));
    let memory: Vec<String> = sizes.iter().map(|size| (size.memory / 1024).to_string()).collect();
    heavy::told(&format!("{calls} calls, MiB from time to time: {}", memory.join(" ")));
    let kinds: [(&str, Of, u64); 4] = [
        ("memory", |size| size.memory, WOBBLE),
        ("open files", |size| size.files as u64, 64),
        ("threads", |size| size.threads as u64, 4),
        ("series", |size| size.series as u64, 40),
    ];
    for (what, of, wobble) in kinds {
        let (early, late) = (most(early, of), most(late, of));
        assert!(late <= early + wobble, "{what} went from {early} to {late} in {calls} calls");
    }
    eventually("nothing is left", async || service.metric("gateway_inflight_requests").await == 0.0).await;
    eventually("no connection either", async || service.metric("gateway_connections").await == 0.0).await;
    assert_eq!(service.metric("gateway_panics_total").await, 0.0);
    assert_eq!(service.metric("gateway_config_stale").await, 0.0);
}
