//! Nobody waits for somebody else: clients, readers and providers that are slow, and those beside them that are not.
//!
//! Drips of heads are in `admission`, bodies that do not come in `exchange::bodies` and `native::uploads`, a log that nobody
//! reads in `observability::log`.
//! Never does: measure how fast; that is for the benchmarks. Here it is about seconds where there could be minutes.

mod bodies;
mod clients;
mod readers;
mod upstreams;

use std::time::Duration;

use ai_gateway::demo::Script;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";
/// For what takes milliseconds where nobody is waited for, on a machine that is busy with other things.
const SECONDS: Duration = Duration::from_secs(15);

/// Calls by clients who are not slow: all of them are served, in a time that has nothing to do with the slow ones'.
async fn others_are_served(address: std::net::SocketAddr) {
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..4 {
        all.spawn(async move {
            let mut client = Connection::open(address).await;
            for _ in 0..10 {
                assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
                assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
            }
        });
    }
    all.join_all().await;
    assert!(begun.elapsed() < SECONDS, "{:?} for 80 calls", begun.elapsed());
}
