//! What clients notice of an upgrade: nothing.
//!
//! Never does: forgive a call that failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ai_gateway::demo::{Received, Script};
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use super::*;

const STREAMS: usize = 200;
const HAMMERS: usize = 4;
/// On one connection over HTTP/2.
const STREAMS_OF_ONE: usize = 10;
const CHAT: &str = "/openai/v1/chat/completions";

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
async fn an_upload_that_began_before_the_switch_arrives_whole() {
    let mut service = old_with(each_kind(ALL, "")).await;
    service.provider.script(Script::json(200, "{}").always());
    let body: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (before, after) = body.split_at(body.len() / 2);
    let mut uploads = Vec::new();
    for framing in [("content-length", body.len().to_string()), ("transfer-encoding", "chunked".to_owned())] {
        let chunked = framing.1 == "chunked";
        let mut client = service.connect().await;
        client.send(head("POST", UPLOAD, &[bearer(KEY), framing], b"")).await;
        client.send(framed(before, chunked)).await;
        uploads.push((client, chunked));
    }
    let half = |call: &Received| call.body_length >= before.len() as u64;
    eventually("the half of both is there", async || {
        service.provider.received().iter().filter(|call| half(call)).count() == 2
    })
    .await;
    let mut old = upgrade(&mut service).await;
    old.says("INFO listeners are closed").await;
    for (client, chunked) in &mut uploads {
        client.send(framed(after, *chunked)).await;
        if *chunked {
            client.send("0\r\n\r\n").await;
        }
        let answer = client.response("POST").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    assert_eq!(old.end().await.code, Some(0));
    let hash = |call: &Received| (call.body_complete, call.body_sha256.clone());
    let received: Vec<_> = service.provider.received().iter().map(hash).collect();
    let whole: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(received, [(true, Some(whole.clone())), (true, Some(whole))]);
}

fn framed(body: &[u8], chunked: bool) -> Vec<u8> {
    match chunked {
        true => [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat(),
        false => body.to_vec(),
    }
}

#[tokio::test]
async fn streams_of_several_connections_over_http_2_run_on() {
    let authority = Authority::new();
    let (listen, files) = authority.listener();
    let mut service = old_with(Setup { listen: vec![listen.clone()], files, ..Setup::default() }).await;
    let tls = service.client(&authority).await;
    service.change(&listen, &listen.replace("127.0.0.1:0", &tls.address.to_string()));
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(tls.h2().await);
    }
    let ask = async |index: usize| {
        let body = question(index % STREAMS_OF_ONE);
        connections[index / STREAMS_OF_ONE].begin("POST", CHAT, &json(), body.as_bytes()).await
    };
    service.provider.script(slow(40, 0).on("/v1/chat/completions").always());
    let mut expected = Vec::new();
    for index in 0..STREAMS_OF_ONE {
        expected.push(ask(index).await.rest().await.0.text());
    }
    service.provider.clear_scripts();
    service.provider.script(slow(40, 100).on("/v1/chat/completions").always());
    let mut streams = Vec::new();
    for index in 0..connections.len() * STREAMS_OF_ONE {
        streams.push(ask(index).await);
    }
    let mut old = upgrade(&mut service).await;
    assert!(old.runs(), "its streams run on");
    // All at once: what is not read of one takes the window of its connection from the others.
    let mut reading = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        reading.spawn(async move { (index, stream.rest().await) });
    }
    for (index, (answer, reset)) in reading.join_all().await {
        assert!(answer.complete && reset.is_none(), "stream {index}: {reset:?}");
        assert_eq!(answer.text(), expected[index % STREAMS_OF_ONE], "stream {index}");
    }
    assert_eq!(tls.h2().await.post(CHAT, &chat("x")).await.status, 200, "the new one has the listener");
    drop(connections);
    assert_eq!(old.end().await.code, Some(0));
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
