//! Memory: what a stream takes, whatever number of them is open. `AI_GATEWAY_TEST_STREAMS` says how many (`tests/soak`).

use std::sync::Arc;
use std::time::Duration;

use ai_gateway::demo::Script;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use super::*;
use crate::support::heavy;

/// What one stream may take of the gateway, in KiB: 4 of reading and 16 of writing for each side's connection, its heads,
/// what is known of the call, and the event on its way.
const EACH: u64 = 96;
/// What the gateway takes besides, in KiB, once it is under load: its threads, the ledger's pages, the log's queue.
const BESIDES: u64 = 64 * 1024;

/// As many streams as were asked for, or as open files allow, which is then told. The test's process has both ends: over
/// HTTP/1.1 a client's connection and the provider's for each, as the gateway has, over HTTP/2 the provider's.
fn as_many_as_may_be(http: Http, asked: u64) -> u64 {
    let each = if http == Http::One { 2 } else { 1 };
    let files = raise_open_files();
    let most = (files - 500) / each;
    if asked > most {
        heavy::told(&format!("only {most} of {asked} streams over {http:?}: a process may have {files} open files"));
    }
    asked.min(most)
}

/// Gives how many open files a process may have, and lets this one have them.
fn raise_open_files() -> u64 {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("raised");
    maximum.unwrap_or(u64::MAX)
}

/// Opens so many streams, a few at a time; they are open for as long as what is given back lives.
async fn streams(service: &Service, client: &Client, http: Http, count: u64) -> Vec<AnyBegun> {
    let mut open = Vec::new();
    let mut shared: Option<Arc<H2>> = None;
    while (open.len() as u64) < count {
        if http == Http::Two && open.len().is_multiple_of(200) {
            shared = Some(Arc::new(client.h2().await));
        }
        let mut some = JoinSet::new();
        for _ in 0..(count - open.len() as u64).min(50) {
            let (address, shared, body) = (service.address, shared.clone(), chat_stream("x"));
            some.spawn(async move {
                let mut begun = match shared {
                    Some(h2) => AnyBegun::Http2(h2.begin("POST", CHAT, &json(), body.as_bytes()).await),
                    None => {
                        let (connection, head) = begin_stream(Connection::open(address).await, &body).await;
                        AnyBegun::Http1(connection, head)
                    }
                };
                // Its first word: a library gives a connection up on which too many small pieces wait to be read.
                begun.piece().await.expect("a piece");
                begun
            });
        }
        open.extend(some.join_all().await);
    }
    assert!(open.iter().all(|begun| begun.head().status == 200));
    open
}

async fn open_streams_take_what_is_allowed_and_give_it_back(http: Http) {
    let count = as_many_as_may_be(http, heavy::number("AI_GATEWAY_TEST_STREAMS", 500));
    let authority = Authority::new();
    let (listen, files) = authority.listener();
    let service = Service::with(Setup { listen: vec![listen], files, ..Setup::default() }).await;
    let client = service.client(&authority).await;
    // A word at once, and one a minute, keeps them open without much to do.
    let word = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
    let words = Script { gap: Some(Duration::from_secs(60)), ..Script::events(vec![word; 50]) };
    service.provider.script(words.on("/v1/chat/completions").always());
    let before = service.process.memory("VmRSS");
    let open = streams(&service, &client, http, count).await;
    let grown = service.process.memory("VmRSS").saturating_sub(before);
    let in_flight = service.metric("gateway_inflight_requests").await;
    assert!(in_flight >= count as f64, "{in_flight} of {count}");
    heavy::told(&format!("{count} streams over {http:?} take {grown} KiB, {} each", grown / count));
    let allowed = BESIDES + EACH * count;
    assert!(grown < allowed, "{grown} KiB for {count} streams, {allowed} are allowed");
    assert_eq!(service.get(MODELS).await.status, 200, "others are served beside them");
    drop(open);
    eventually("all are over", async || service.metric("gateway_inflight_requests").await == 0.0).await;
    eventually("their connections are closed", async || service.metric("gateway_connections").await == 0.0).await;
    // Room that was given back is used again: as many once more take no more.
    let most = service.process.memory("VmHWM");
    let again = streams(&service, &client, http, count).await;
    let grown = service.process.memory("VmHWM").saturating_sub(most);
    assert!(grown < BESIDES / 4 + count * EACH / 8, "{grown} KiB more for the same again");
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_over_http1() {
    open_streams_take_what_is_allowed_and_give_it_back(Http::One).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_streams_over_http2() {
    open_streams_take_what_is_allowed_and_give_it_back(Http::Two).await;
}
