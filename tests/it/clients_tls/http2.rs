//! HTTP/2: calls, streams, many at once, large bodies, clients that leave, providers that break.
//!
//! Never does: refuse a call; that is `refusals`.

use std::time::Duration;

use ai_gateway::demo::{Cut, CutAt, HowCut, Reply, Script};
use sha2::{Digest, Sha256};

use super::*;

#[tokio::test]
async fn calls_are_answered_as_over_http1() {
    let (world, client) = world("").await;
    let h2 = client.h2().await;
    let models = h2.request("GET", MODELS, &[bearer(KEY)], b"").await;
    assert_eq!((models.status, &models.json()["object"]), (200, &"list".into()));
    assert!(models.complete && models.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
    let answer = h2.post(CHAT, &chat("hello")).await;
    assert_eq!((answer.status, answer.complete), (200, true), "{}", answer.text());
    assert_eq!(answer.json()["object"], "chat.completion");
    let received = world.provider.received();
    assert_eq!(
        received[1].header("content-length"),
        Some(&*chat("hello").len().to_string()),
        "though the client gave none"
    );
    assert_eq!(received[1].header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
    let host = world.provider.addr().to_string();
    assert_eq!(received[1].header("host"), Some(&*host), "and not the client's authority");
    let calls = world.log.calls(2).await;
    assert_eq!((calls[1]["statusCode"].as_str(), calls[1]["clientAddress"].as_str()), (Some("200"), Some("127.0.0.1")));
    assert!(world.metrics().await.contains("gateway_requests_total{method=\"POST\""));
}

#[tokio::test]
async fn a_head_has_no_body() {
    let (_world, client) = world("").await;
    let h2 = client.h2().await;
    let health = h2.request("HEAD", "/livez", &[], b"").await;
    assert_eq!((health.status, health.complete, health.body.len()), (200, true, 0));
    let refused = h2.request("HEAD", "/nowhere", &[], b"").await;
    assert_eq!((refused.status, refused.complete, refused.body.len()), (404, true, 0));
    assert_eq!(h2.request("HEAD", MODELS, &[bearer(KEY)], b"").await.status, 200);
    assert_eq!(h2.request("GET", "/livez", &[], b"").await.text(), r#"{"alive":true}"#);
}

#[tokio::test]
async fn an_answer_of_known_length_ends_with_its_last_piece() {
    let (world, client) = world("").await;
    let h2 = client.h2().await;
    for length in [0, 1, 100_000] {
        let reply = Reply::Fixed { status: 200, headers: Vec::new(), body: vec![b'x'; length].into() };
        world.provider.script(Script { reply, ..Script::default() });
        let mut begun = h2.begin("POST", CHAT, &json(), chat("x").as_bytes()).await;
        assert_eq!(begun.head.header("content-length"), Some(&*length.to_string()));
        let mut got = 0;
        while let Some(piece) = begun.piece().await.expect("whole") {
            assert!(!piece.is_empty() || length == 0, "no empty frame behind {got} bytes");
            got += piece.len();
        }
        assert_eq!(got, length);
    }
}

#[tokio::test]
async fn a_stream_arrives_event_by_event() {
    let (world, client) = world("").await;
    world.provider.script(Script { words: Some(4), gap: Some(Duration::from_millis(100)), ..Script::default() });
    let h2 = client.h2().await;
    let mut begun = h2.begin("POST", CHAT, &json(), chat_stream("hello").as_bytes()).await;
    assert_eq!(begun.head.header("content-type").map(|kind| kind.starts_with("text/event-stream")), Some(true));
    let mut pieces = Vec::new();
    while let Some(piece) = begun.piece().await.expect("whole") {
        pieces.push(String::from_utf8(piece.to_vec()).expect("UTF-8"));
    }
    let pieces: Vec<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    assert!(pieces.len() >= 4, "{pieces:?}");
    assert!(pieces.iter().all(|piece| piece.starts_with("data: ") && piece.ends_with("\n\n")), "{pieces:?}");
    assert!(pieces.concat().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_hundred_streams_share_a_connection() {
    let (world, client) = world("").await;
    let h2 = Arc::new(client.h2().await);
    let calls: Vec<_> = (0..100)
        .map(|index| {
            let h2 = Arc::clone(&h2);
            tokio::spawn(async move { (index, h2.post(CHAT, &chat_stream(&format!("call {index}"))).await) })
        })
        .collect();
    for call in calls {
        let (index, answer) = call.await.expect("no panic");
        assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"), "{index}: {}", answer.text());
    }
    assert_eq!(world.log.calls(100).await.len(), 100);
}

#[tokio::test]
async fn a_large_body_passes_both_ways() {
    let (world, client) = world("").await;
    let h2 = client.h2().await;
    let body = chat(&"x".repeat(5 << 20));
    let sha256 = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let with_length: Vec<_> = json().into_iter().chain([("content-length", body.len().to_string())]).collect();
    for headers in [&json()[..], &with_length] {
        world.provider.clear_received();
        let reply = Reply::Fixed { status: 200, headers: Vec::new(), body: body.clone().into() };
        world.provider.script(Script { reply, ..Script::default() });
        let answer = h2.request("POST", CHAT, headers, body.as_bytes()).await;
        assert!(answer.status == 200 && answer.complete && answer.body == body.as_bytes(), "{}", answer.body.len());
        let received = &world.provider.received()[0];
        assert_eq!(received.body_sha256.as_deref(), Some(&*sha256));
        assert_eq!(received.header("content-length"), Some(&*body.len().to_string()));
    }
}

#[tokio::test]
async fn a_body_may_end_by_a_frame_of_its_own() {
    let (_world, client) = world("").await;
    let h2 = client.h2().await;
    let body = chat("hello");
    let with_length: Vec<_> = json().into_iter().chain([("content-length", body.len().to_string())]).collect();
    let expecting: Vec<_> = json().into_iter().chain([("expect", "100-continue".to_owned())]).collect();
    for headers in [&json()[..], &with_length, &expecting] {
        let (answer, mut send) = h2.send("POST", CHAT, headers, false).await;
        for piece in body.as_bytes().chunks(7) {
            send_all(&mut send, piece, false).await;
        }
        send.send_data(Bytes::new(), true).expect("sent");
        let (answer, reset) = begun(answer, send).await.rest().await;
        assert_eq!((answer.status, answer.complete, reset), (200, true, None));
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call_at_the_provider() {
    let (world, client) = world("").await;
    let h2 = client.h2().await;
    let stall = || Script { cut: Some(Cut { at: CutAt::Pieces(2), how: HowCut::Stall }), ..Script::default() };
    let gone = |count: usize| {
        let world = &world;
        eventually("the provider has noticed", async move || {
            world.provider.received().iter().filter(|call| call.aborted_after().is_some()).count() == count
        })
    };
    world.provider.script(stall());
    let mut begun = h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await;
    assert!(begun.piece().await.expect("a piece").is_some());
    begun.send.send_reset(Reason::CANCEL);
    gone(1).await;
    // Before there is an answer at all.
    world.provider.script(Script { delay: Duration::from_secs(100), ..Script::default() });
    let (answer, mut send) = h2.send("POST", CHAT, &json(), false).await;
    send_all(&mut send, chat("x").as_bytes(), true).await;
    eventually("it was asked", async || world.provider.received().len() == 2).await;
    drop((answer, send));
    gone(2).await;
    assert_eq!(h2.post(CHAT, &chat("hello")).await.status, 200, "the connection is as good as before");
    // The whole connection goes.
    world.provider.script(stall());
    let begun = h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await;
    h2.connection.abort();
    gone(3).await;
    drop(begun);
    let calls = world.log.calls(4).await;
    let codes: Vec<_> = calls.iter().map(|call| call["code"].as_str().unwrap_or("")).collect();
    assert_eq!(codes, ["client_closed_request", "client_closed_request", "", "client_closed_request"]);
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_whole() {
    let (world, client) = world("").await;
    let h2 = client.h2().await;
    let events = ["data: {\"n\":1}\n\n", "data: {\"n\":2}\n\n"];
    let cut = |at| Script { cut: Some(Cut { at, how: HowCut::Close }), ..Script::events(events) };
    world.provider.script(cut(CutAt::Pieces(1)));
    let (told, reset) = h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await.rest().await;
    assert_eq!((told.complete, reset), (true, None), "the event is the end: a reset would overtake it");
    let event = told.text();
    let event = event.strip_prefix(events[0]).and_then(|rest| rest.strip_prefix("data: ")).expect("an event");
    assert!(event.contains("\"code\":\"upstream_error\"") && !event.contains("[DONE]"), "{event}");
    world.provider.script(cut(CutAt::Body(5)));
    let (silent, reset) = h2.begin("POST", CHAT, &json(), chat_stream_with_usage("x").as_bytes()).await.rest().await;
    assert_eq!((silent.text().as_str(), silent.complete, reset.is_some()), ("data:", false, true));
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    let reply = Reply::Fixed { status: 200, headers, body: "{\"id\":\"0123456789\"}".into() };
    world.provider.script(Script {
        reply,
        cut: Some(Cut { at: CutAt::Body(9), how: HowCut::Close }),
        ..Script::default()
    });
    let (plain, reset) = h2.begin("POST", CHAT, &json(), chat("x").as_bytes()).await.rest().await;
    assert!(!plain.complete && reset.is_some(), "{}", plain.text());
    assert_eq!(h2.post(CHAT, &chat("hello")).await.status, 200, "the connection is as good as before");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let (world, client) = world("limits: { idle_timeout: 300ms }").await;
    let h2 = client.h2().await;
    world.provider.script(Script { words: Some(20_000), ..Script::default() });
    let begun = h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await;
    let calls = world.log.calls(1).await;
    assert_eq!(calls[0]["code"], "client_closed_request");
    let (answer, reset) = begun.rest().await;
    assert!(!answer.complete && reset.is_some());
}

#[tokio::test]
async fn a_quiet_connection_is_closed() {
    let (world, client) = world("limits: { idle_timeout: 300ms }").await;
    let h2 = client.h2().await;
    world.provider.script(Script { words: Some(10), gap: Some(Duration::from_millis(100)), ..Script::default() });
    assert!(h2.post(CHAT, &chat_stream("x")).await.complete, "a call that takes longer is not quiet");
    let _ = timeout(SOON, h2.connection).await.expect("closed in time");
    // One that never begins: the protocol is agreed on, and then nothing is said.
    use tokio::io::AsyncReadExt as _;
    let mut silent = client.connect(&["h2"]).await.expect("a handshake");
    let mut told = Vec::new();
    let _ = timeout(SOON, silent.read_to_end(&mut told)).await.expect("closed in time");
    let late = "gateway_connections_refused_total{reason=\"head_timeout\"}";
    assert_eq!(metric(&world.metrics().await, late), 1.0, "the one that never began, not the one that rested");
}

#[tokio::test]
async fn more_calls_than_a_connection_may_have_wait_in_the_client() {
    let (world, client) = world("").await;
    world.provider.script(Script { delay: Duration::from_secs(1), times: 300, ..Script::json(200, "{}") });
    let h2 = Arc::new(client.h2().await);
    // The gateway's settings have arrived with the first answer.
    assert_eq!(h2.request("GET", "/livez", &[], b"").await.status, 200);
    let calls: Vec<_> = (0..300)
        .map(|_| {
            let h2 = Arc::clone(&h2);
            tokio::spawn(async move { h2.post(CHAT, &chat("x")).await.status })
        })
        .collect();
    eventually("the first calls run", async || world.provider.received().len() >= 250).await;
    assert_eq!(world.provider.received().len(), 250);
    for call in calls {
        assert_eq!(call.await.expect("no panic"), 200);
    }
}
