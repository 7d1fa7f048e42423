//! HTTP/2 on routes whose bodies pass unread: what goes in, what comes out, clients that leave or fall silent, and
//! providers that fail.
//!
//! Invariant: what holds over HTTP/1.1 (`crate::native`) holds here, and one call's end leaves the connection to the others.
//! Never does: ask what HTTP/1.1 has answered already.

use std::collections::HashSet;
use std::time::Duration;

use ai_gateway::demo::{Cut, CutAt, Framing, HowCut, Script};
use serde_json::Value;

use super::*;
use crate::native::{fixed, sha256};

const IMPATIENT: &str = "timeouts: { first_byte: { stream: 1s, other: 1s }, idle: 1s }";

/// A world with routes of each kind, and this in `server` and in `providers.openai`.
async fn native(server: &str, provider: &str) -> (World, Client) {
    native_with(Setup { server: server.to_owned(), ..each_kind(ALL, provider) }).await
}

async fn native_with(setup: Setup) -> (World, Client) {
    let authority = authority();
    let Setup { listen, files, .. } = with_tls(&authority, "");
    let world = World::with(Setup { listen, files, ..setup }).await;
    let client = Client::new(world.gateway.addresses()[1], &authority);
    (world, client)
}

fn long(length: usize) -> (&'static str, String) {
    ("content-length", length.to_string())
}

/// Waits until a call has begun to arrive at the provider.
async fn arrived(world: &World, number: usize) {
    let begun = async || world.provider.received().get(number).is_some_and(|call| call.body_length >= 2);
    eventually("it has begun", begun).await;
}

async fn cancelled(world: &World, number: usize) {
    eventually("it is cancelled", async || world.provider.received()[number].cancelled).await;
}

async fn is_usable(world: &World, h2: &H2) {
    world.provider.clear_scripts();
    world.provider.script(fixed(200, &[], "hello"));
    let answer = h2.request("POST", UPLOAD, &[bearer(KEY)], b"x").await;
    assert_eq!((answer.status, answer.complete, answer.text().as_str()), (200, true, "hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_arrives_with_its_length_and_without() {
    let (world, client) = native("", "").await;
    world.provider.script(Script::json(200, "{}").always());
    let h2 = client.h2().await;
    let body: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for headers in [vec![bearer(KEY)], vec![bearer(KEY), long(body.len())]] {
        let coding = if headers.len() > 1 { (Some("20000000"), None) } else { (None, Some("chunked")) };
        assert_eq!(h2.request("POST", UPLOAD, &headers, &body).await.status, 200);
        let received = world.provider.received().pop().expect("a call");
        assert!(received.body_complete && received.body_sha256.as_deref() == Some(&*sha256(&body)), "{coding:?}");
        assert_eq!((received.header("content-length"), received.header("transfer-encoding")), coding);
    }
    assert_eq!(h2.request("POST", UPLOAD, &[bearer(KEY)], b"").await.status, 200);
    assert_eq!(world.provider.received()[2].header("content-length"), Some("0"));
    // An end by a frame of its own, with a length and without.
    for headers in [vec![bearer(KEY)], vec![bearer(KEY), long(5)]] {
        let (answer, mut send) = h2.send("POST", UPLOAD, &headers, false).await;
        send_all(&mut send, b"hello", false).await;
        send.send_data(Bytes::new(), true).expect("sent");
        let (answer, reset) = begun(answer, send).await.rest().await;
        assert_eq!((answer.status, answer.complete, reset), (200, true, None));
    }
    assert!(world.provider.received()[3..].iter().all(|call| call.body == "hello"));
}

#[tokio::test]
async fn an_answer_is_the_same_in_each_framing() {
    let (world, client) = native("", "").await;
    let h2 = client.h2().await;
    let audio: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let theirs = [("connection", "x-hop"), ("x-hop", "1"), ("keep-alive", "timeout=5"), ("set-cookie", "a=1")];
    for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
        world.provider.script(Script { framing, ..fixed(200, &theirs, audio.clone()) });
        let (answer, reset) = h2.begin("POST", SPEECH, &json(), b"{}").await.rest().await;
        assert_eq!((answer.status, answer.complete, reset), (200, true, None));
        assert!(answer.body == audio, "{framing:?}");
        assert_eq!(answer.header("content-length"), (framing == Framing::Length).then_some("1200000"));
        assert_eq!((answer.header("x-hop"), answer.header("provider-name")), (None, Some("openai")));
    }
    for (method, raw, status) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", 200),
        ("GET", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
    ] {
        world.provider.script(Script::raw(raw));
        let answer = h2.request(method, VOICES, &[bearer(KEY)], b"").await;
        assert_eq!((answer.status, answer.complete, answer.body.len()), (status, true, 0), "{raw}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_uploads_share_a_connection() {
    let (world, client) = native("", "").await;
    let h2 = Arc::new(client.h2().await);
    world.provider.script(Script::json(200, "{}").always());
    let upload = |number: u8| {
        let (h2, body) = (Arc::clone(&h2), vec![number; 400_000]);
        tokio::spawn(async move { h2.request("POST", UPLOAD, &[bearer(KEY)], &body).await.status })
    };
    for call in (0..50).map(upload).collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no panic"), 200);
    }
    let received: HashSet<_> = world.provider.received().into_iter().filter_map(|call| call.body_sha256).collect();
    assert_eq!(received, (0..50_u8).map(|number| sha256(vec![number; 400_000])).collect());
}

#[tokio::test]
async fn refusals_come_in_their_order_and_before_the_body() {
    let (world, client) =
        native_with(each_kind(&["post:/openai/v1/audio/speech", "get:/openai/v1/realtime"], "")).await;
    let h2 = client.h2().await;
    for (key, path, status, code) in [
        ("wrong", "/openai/v2/audio", 404, "unknown_url"),
        ("wrong", UPLOAD, 401, "invalid_api_key"),
        (KEY, "/openai/v1/files", 403, "insufficient_permissions"),
    ] {
        let (answer, mut send) = h2.send("POST", path, &[bearer(key), long(100_000_000)], false).await;
        send_all(&mut send, b"hello", false).await;
        let (refused, _) = begun(answer, send).await.rest().await;
        refused.error(status, "invalid_request_error", code);
    }
    let refused = h2.request("GET", REALTIME, &[bearer(KEY)], b"").await;
    assert!(refused.error(400, "invalid_request_error", "invalid_header").contains("WebSocket"));
    assert_eq!((world.provider.received().len(), world.provider.connections_accepted()), (0, 0));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call_at_the_provider() {
    let (world, client) = native("", "").await;
    let h2 = client.h2().await;
    for (number, headers) in [vec![bearer(KEY)], vec![bearer(KEY), long(1_000_000)]].into_iter().enumerate() {
        let (_answer, mut send) = h2.send("POST", UPLOAD, &headers, false).await;
        send_all(&mut send, b"hello", false).await;
        arrived(&world, number).await;
        send.send_reset(Reason::CANCEL);
        cancelled(&world, number).await;
        assert!(!world.provider.received()[number].body_complete);
    }
    // While it waits, and in the middle of the answer.
    world.provider.script(Script::cut(CutAt::Head, HowCut::Stall));
    let (answer, mut send) = h2.send("POST", SPEECH, &json(), false).await;
    send_all(&mut send, b"{}", true).await;
    arrived(&world, 2).await;
    drop((answer, send));
    cancelled(&world, 2).await;
    let cut = Some(Cut { at: CutAt::Body(3), how: HowCut::Stall });
    world.provider.script(Script { framing: Framing::Chunked, cut, ..fixed(200, &[], "hello") });
    let mut begun = h2.begin("POST", SPEECH, &json(), b"{}").await;
    assert_eq!(begun.piece().await.expect("a piece").as_deref(), Some(&b"hel"[..]));
    begun.send.send_reset(Reason::CANCEL);
    cancelled(&world, 3).await;
    is_usable(&world, &h2).await;
    // The whole connection goes.
    let (_answer, mut send) = h2.send("POST", UPLOAD, &[bearer(KEY)], false).await;
    send_all(&mut send, b"hello", false).await;
    arrived(&world, 5).await;
    h2.connection.abort();
    cancelled(&world, 5).await;
    let calls = world.log.calls(6).await;
    let left = |call: &&Value| call["statusCode"] == "499" && call["code"] == "client_closed_request";
    assert_eq!(calls.iter().filter(left).count(), 5, "{calls:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let (world, client) = native("limits: { idle_timeout: 300ms }", "").await;
    let h2 = client.h2().await;
    world.provider.script(fixed(200, &[], vec![b'x'; 30_000_000]));
    let begun = h2.begin("POST", SPEECH, &json(), b"{}").await;
    assert_eq!(world.log.calls(1).await[0]["statusCode"], "499");
    cancelled(&world, 0).await;
    let (answer, reset) = begun.rest().await;
    assert!(!answer.complete && reset.is_some());
}

#[tokio::test]
async fn a_client_that_falls_silent_is_refused() {
    // What ends it is the provider's time for an answer: Pingora has none for a read from HTTP/2.
    let (world, client) = native("", IMPATIENT).await;
    let h2 = client.h2().await;
    for headers in [vec![bearer(KEY)], vec![bearer(KEY), long(1_000_000)]] {
        let (answer, mut send) = h2.send("POST", UPLOAD, &headers, false).await;
        // One that keeps coming may take longer.
        for _ in 0..5 {
            send_all(&mut send, b"x", false).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let (refused, _) = begun(answer, send).await.rest().await;
        refused.error(408, "invalid_request_error", "request_timeout");
    }
    cancelled(&world, 1).await;
    assert!(world.log.calls(2).await.iter().all(|call| call["statusCode"] == "408"));
    is_usable(&world, &h2).await;
}

#[tokio::test]
async fn a_provider_that_fails_is_told_and_what_is_cut_never_looks_whole() {
    let (world, client) = native("", IMPATIENT).await;
    let h2 = client.h2().await;
    for (script, status, code) in [
        (fixed(401, &[("www-authenticate", "x")], "{}"), 502, "upstream_auth_error"),
        (Script::cut(CutAt::Head, HowCut::Close), 502, "upstream_error"),
        (Script::cut(CutAt::Head, HowCut::Reset), 502, "upstream_error"),
        (Script::cut(CutAt::Head, HowCut::Stall), 504, "upstream_timeout"),
        (Script::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), 502, "upstream_error"),
    ] {
        world.provider.script(script.clone());
        let answer = h2.request("POST", UPLOAD, &[bearer(KEY)], b"x").await;
        answer.error(status, "server_error", code);
        assert!(answer.complete && answer.header("www-authenticate").is_none(), "{script:?}");
    }
    for how in [HowCut::Close, HowCut::Reset, HowCut::Stall] {
        for framing in [Framing::Length, Framing::Chunked] {
            let cut = Some(Cut { at: CutAt::Body(3), how });
            world.provider.script(Script { framing, cut, ..fixed(200, &[], "hello") });
            let (answer, reset) = h2.begin("POST", SPEECH, &json(), b"{}").await.rest().await;
            assert!(!answer.complete && reset.is_some(), "{framing:?} {how:?}");
        }
    }
    // One that answers before it has read everything is heard.
    world.provider.script(Script { read_body: Some(1000), ..fixed(413, &[], "too large") });
    let answer = h2.request("POST", UPLOAD, &[bearer(KEY)], &vec![0; 20_000_000]).await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "too large"));
    is_usable(&world, &h2).await;
}

#[tokio::test]
async fn a_provider_that_is_not_there_or_does_not_read_is_told() {
    // The kernel accepts for a listener, and takes some megabytes that nobody reads.
    let bound = || std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = |listener: &std::net::TcpListener| listener.local_addr().expect("an address");
    let (deaf, closed) = (bound(), address(&bound()));
    for (at, status, code) in [(closed, 502, "upstream_error"), (address(&deaf), 504, "upstream_timeout")] {
        let base_url = Some(format!("http://{at}"));
        let (_world, client) = native_with(Setup { base_url, ..each_kind(ALL, IMPATIENT) }).await;
        let answer = client.h2().await.request("POST", UPLOAD, &[bearer(KEY)], &vec![0; 30_000_000]).await;
        answer.error(status, "server_error", code);
    }
}
