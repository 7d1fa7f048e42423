//! What clients notice of an upgrade: nothing.
//!
//! Never does: forgive a call that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::*;

const STREAMS: usize = 200;
const HAMMERS: usize = 4;

fn question(index: usize) -> String {
    chat_stream(&format!("question {index}"))
}

/// Makes calls on new connections, one after the other, until it is told to stop; gives their number.
async fn hammer(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> usize {
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = Connection::open(address).await.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
        assert!(answer.status == 200 && answer.complete, "call {calls}: {answer:?}");
        calls += 1;
    }
    calls
}

/// Makes calls on one connection for as long as the gateway keeps it, and then on the next; gives their number.
async fn hammer_kept(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> usize {
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut connection = Connection::open(address).await;
        while !stop.load(Ordering::Relaxed) {
            let answer = connection.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
            assert!(answer.status == 200 && answer.complete, "call {calls}: {answer:?}");
            calls += 1;
            if answer.header("connection") == Some("close") {
                break;
            }
        }
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_run_on_and_new_calls_are_served_throughout() {
    let mut service = old().await;
    // What each stream says follows from its question, so that one that was not disturbed says what it has to be.
    service.provider.script(slow(40, 0).on("/v1/chat/completions").always());
    let mut expected = JoinSet::new();
    for index in 0..STREAMS {
        let connection = service.connect().await;
        expected.spawn(async move { (index, rest(begin_stream(connection, &question(index)).await).await) });
    }
    let expected: std::collections::HashMap<usize, String> = expected.join_all().await.into_iter().collect();
    service.provider.clear_scripts();
    service.provider.script(slow(40, 200).on("/v1/chat/completions").always());

    let mut streams = JoinSet::new();
    for index in 0..STREAMS {
        let connection = service.connect().await;
        streams.spawn(async move { (index, begin_stream(connection, &question(index)).await) });
    }
    let streams = streams.join_all().await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut hammers = JoinSet::new();
    for _ in 0..HAMMERS {
        hammers.spawn(hammer(service.address, Arc::clone(&stop)));
        hammers.spawn(hammer_kept(service.address, Arc::clone(&stop)));
    }
    let mut reading = JoinSet::new();
    for (index, stream) in streams {
        reading.spawn(async move { (index, rest(stream).await) });
    }

    let mut old = upgrade(&mut service).await;
    assert!(old.runs(), "its streams run on");
    let served = |process: &Process| process.messages().iter().filter(|line| *line == "INFO gateway request").count();
    let before = served(&service.process);
    eventually("the new process serves calls", async || served(&service.process) > before + 50).await;
    for (index, text) in reading.join_all().await {
        assert!(text.ends_with("data: [DONE]\n\n"));
        assert_eq!(text, expected[&index], "stream {index}");
    }
    let ended = old.end().await;
    stop.store(true, Ordering::Relaxed);
    let calls: usize = hammers.join_all().await.into_iter().sum();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let messages = old.messages();
    assert!(messages.iter().any(|message| message == "INFO the last call is over"));
    assert_eq!(messages.last().map(String::as_str), Some("INFO stopped"), "the log ends whole");
    eventually("each call has its line", async || {
        let lines = served(&old) + served(&service.process);
        lines == calls + 2 * STREAMS
    })
    .await;
    assert_eq!(service.metric(TAKEN_OVER).await, 1.0);
    assert_eq!(service.metric("gateway_inflight_requests").await, 0.0);
}

#[tokio::test]
async fn who_has_connected_before_the_switch_and_speaks_after_it_is_served() {
    let mut service = old().await;
    let mut silent = service.connect().await;
    let mut half = service.connect().await;
    half.send("GET /openai/v1/models HTTP/1.1\r\nhost: x\r\n").await;
    let old = upgrade(&mut service).await;
    old.says("serves, this one ends with its last call").await;
    old.says("INFO listeners are closed").await;
    let answer = silent.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    half.send(format!("authorization: Bearer {KEY}\r\n\r\n")).await;
    let answer = half.response("GET").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(silent.is_closed().await && half.is_closed().await);
}

#[tokio::test]
async fn a_websocket_lives_on_until_its_sides_end_it() {
    let mut service = old_with(each_kind(ALL, "")).await;
    service.provider.script(agrees());
    let mut client = service.connect().await;
    client.send(handshake(&[("authorization", &bearer(KEY).1)])).await;
    assert_eq!(client.head().await.status, 101);
    let mut old = upgrade(&mut service).await;
    old.says("INFO listeners are closed").await;
    for _ in 0..3 {
        client.send("hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
    }
    assert!(old.runs(), "it is still open");
    client.send("bye").await;
    client.end().await;
    assert_eq!(client.bytes(3).await, b"bye");
    assert!(client.is_closed().await);
    let ended = old.end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(old.messages().iter().any(|message| message == "INFO the last call is over"));
}

#[tokio::test]
async fn a_kept_connection_at_rest_is_closed_and_one_that_is_used_is_told() {
    let mut service = old().await;
    let (mut resting, mut used) = (service.connect().await, service.connect().await);
    // As long as somebody may still speak for the first time, all may; else a slow test would be late.
    let _silent = service.connect().await;
    for connection in [&mut resting, &mut used] {
        let answer = connection.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
    let mut old = upgrade(&mut service).await;
    old.says("INFO listeners are closed").await;
    let ready = used.request("GET", "/readyz", &[], b"").await;
    assert_eq!(ready.status, 200, "whoever asks here for health is served by the new process next");
    assert_eq!(ready.header("connection"), Some("close"));
    assert!(used.is_closed().await && resting.is_closed().await);
    assert_eq!(old.end().await.code, Some(0));
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
}
