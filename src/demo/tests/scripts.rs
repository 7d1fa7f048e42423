//! Tests of scripts that are valid HTTP: timing, framing, pieces, early answers, what comes before and after.
//!
//! Invariant: times are compared with lower bounds only.
//! Never does: break HTTP; `faults` does.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::{After, Framing, Interim, Reply, Script, Version};
use super::client::{Client, get, post};
use super::{SOON, chat, provider};

const A_WHILE: Duration = Duration::from_millis(20);

fn text(body: &'static str) -> Script {
    Script { reply: Reply::Fixed { status: 200, headers: Vec::new(), body: body.into() }, ..Script::default() }
}

#[tokio::test]
async fn delays_head_first_byte_and_pieces() {
    let provider = provider().await;
    provider.script(Script {
        first_byte_delay: A_WHILE,
        gap: Some(A_WHILE),
        pieces: vec![2],
        framing: Framing::Chunked,
        delay: A_WHILE,
        ..text("abcdef")
    });
    let mut client = Client::connect(&provider).await;
    let start = Instant::now();
    client.send(&get("/v1/models")).await;
    let head = client.head().await;
    let at_head = start.elapsed();
    assert!(client.seen().is_empty() && at_head >= A_WHILE && head.status == 200);
    client.send(&get("/v1/models")).await;
    let body = client.rest_of(b"0\r\n\r\n").await;
    assert_eq!(body, "2\r\nab\r\n2\r\ncd\r\n2\r\nef\r\n0\r\n\r\n");
    assert!(start.elapsed() >= 4 * A_WHILE);
    assert_eq!(client.answer().await.status, 200, "a request that came during the answer is served after it");
}

#[tokio::test]
async fn paces_a_stream_and_lets_it_last() {
    let provider = provider().await;
    provider.script(Script { words: Some(300), ..Script::default() });
    let mut client = Client::connect(&provider).await;
    let answer = client.ask(&post("/v1/chat/completions", &chat(json!({ "stream": true })))).await;
    assert_eq!(answer.events().len(), 302);
    assert_eq!(answer.chunks.len(), 303, "each event is a chunk of its own");
}

#[tokio::test]
async fn frames_as_told() {
    let provider = provider().await;
    let cases = [
        (Framing::Natural, "content-length: 5\r\n", true),
        (Framing::Chunked, "transfer-encoding: chunked\r\n", true),
        (Framing::UntilClose, "connection: close\r\n", false),
    ];
    for (framing, header, open) in cases {
        provider.script(Script { framing, ..text("hello") });
        let mut client = Client::connect(&provider).await;
        let answer = client.ask(&get("/")).await;
        assert!(answer.head.contains(header) && answer.body == b"hello", "{answer:?}");
        if open {
            assert_eq!(client.ask(&get("/v1/models")).await.status, 200);
        }
    }
    provider.script(Script { framing: Framing::Length, ..Script::default() });
    let answer =
        Client::connect(&provider).await.ask(&post("/v1/chat/completions", &chat(json!({ "stream": true })))).await;
    assert!(answer.header("content-length").is_some() && answer.body.ends_with(b"[DONE]\n\n"));
}

#[tokio::test]
async fn divides_a_body_into_chunks_of_given_sizes() {
    let provider = provider().await;
    provider.script(Script { pieces: vec![1, 2, 3], framing: Framing::Chunked, ..text("abcdefghijk") });
    let answer = Client::connect(&provider).await.ask(&get("/")).await;
    assert_eq!(answer.chunks, [1, 2, 3, 3, 2]);
}

#[tokio::test]
async fn writes_in_given_sizes_wherever_that_cuts() {
    let provider = provider().await;
    provider.script(Script { writes: vec![1], gap: Some(Duration::from_micros(1)), ..text("abc") });
    let answer = Client::connect(&provider).await.ask(&get("/")).await;
    assert_eq!(answer.body, b"abc");
}

#[tokio::test]
async fn sends_informational_answers_first() {
    let provider = provider().await;
    let early = Interim { status: 103, headers: vec![("link".into(), "</a>".into())] };
    let interim = vec![Interim { status: 100, headers: Vec::new() }, early];
    provider.script(Script { interim, ..text("x") });
    let mut client = Client::connect(&provider).await;
    client.send(&get("/")).await;
    assert_eq!(client.head().await.status, 100);
    assert_eq!(client.head().await.header("link"), Some("</a>"));
    assert_eq!(client.answer().await.body, b"x");
}

#[tokio::test]
async fn sends_no_body_where_http_has_none() {
    let provider = provider().await;
    let mut client = Client::connect(&provider).await;
    for status in [204, 304] {
        provider.script(Script::json(status, "ignored"));
        let answer = client.ask(&get("/")).await;
        assert_eq!((answer.status, answer.header("content-length")), (status, None));
    }
    client.send("HEAD /v1/models HTTP/1.1\r\n\r\n").await;
    assert!(client.head().await.header("content-length").is_some_and(|length| length != "0"));
    assert_eq!(client.ask(&get("/v1/models")).await.status, 200);
}

#[tokio::test]
async fn adds_headers_however_large() {
    let provider = provider().await;
    provider.script(text("x").header("x-big", &"a".repeat(100_000)).header("x-big", "b"));
    let answer = Client::connect(&provider).await.ask(&get("/")).await;
    assert_eq!(answer.header("x-big").unwrap().len(), 100_000);
}

#[tokio::test]
async fn answers_as_http_1_0() {
    let provider = provider().await;
    provider.script(Script { version: Version::Http10, ..text("old") });
    let mut client = Client::connect(&provider).await;
    client.send(&get("/")).await;
    let all = String::from_utf8(client.end().await.unwrap()).unwrap();
    assert!(all.starts_with("HTTP/1.0 200 OK\r\n") && all.ends_with("\r\n\r\nold"), "{all}");
    let mut client = Client::connect(&provider).await;
    client.send(&post("/v1/chat/completions", &chat(json!({ "stream": true }))).replace("HTTP/1.1", "HTTP/1.0")).await;
    let all = String::from_utf8(client.end().await.unwrap()).unwrap();
    assert!(!all.contains("chunked") && all.ends_with("data: [DONE]\n\n"), "{all}");
}

#[tokio::test]
async fn closes_with_and_without_notice() {
    let provider = provider().await;
    for (after, said) in [(After::Close, true), (After::SilentClose, false)] {
        provider.script(Script { after, ..text("x") });
        let mut client = Client::connect(&provider).await;
        let answer = client.ask(&get("/")).await;
        assert_eq!(answer.header("connection") == Some("close"), said);
        assert!(client.end().await.unwrap().is_empty());
    }
    let mut client = Client::connect(&provider).await;
    client.send("GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    client.end().await.unwrap();
}

#[tokio::test]
async fn sends_bytes_that_belong_to_nothing() {
    let provider = provider().await;
    provider.script(Script { trailing: "surplus".into(), after: After::Close, ..text("x") });
    let mut client = Client::connect(&provider).await;
    assert_eq!(client.ask(&get("/")).await.body, b"x");
    assert_eq!(client.end().await.unwrap(), b"surplus");
}

#[tokio::test]
async fn answers_early_and_reads_on() {
    let provider = provider().await;
    provider.script(Script { read_body: Some(3), ..Script::json(413, "{}") });
    let mut client = Client::connect(&provider).await;
    client.send("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 10\r\n\r\nabcd").await;
    assert_eq!(client.answer().await.status, 413);
    let received = provider.wait_for(|r| r[0].body_length == 4, SOON).await.unwrap();
    assert!(!received[0].body_complete);
    client.send("efghij").await;
    assert_eq!(client.ask(&get("/v1/models")).await.status, 200);
    assert!(provider.received()[0].body_complete);
}

#[tokio::test]
async fn answers_early_closes_and_still_reads_on() {
    let provider = provider().await;
    provider.script(Script { read_body: Some(1), after: After::Close, ..Script::json(413, "{}") });
    let mut client = Client::connect(&provider).await;
    client.send("POST / HTTP/1.1\r\ncontent-length: 3000000\r\n\r\n").await;
    client.send(&"x".repeat(3_000_000)).await;
    assert!(client.end().await.unwrap().starts_with(b"HTTP/1.1 413 "));
    assert!(provider.wait_until(|p| p.received()[0].body_complete, SOON).await);
}

#[tokio::test]
async fn never_reads_a_body_and_still_sees_the_client_leave() {
    let provider = provider().await;
    provider.script(Script { read_body: Some(0), drain: false, delay: 10 * SOON, ..Script::default() });
    let mut client = Client::connect(&provider).await;
    client.send("POST /v1/echo HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc").await;
    provider.wait_for(|r| !r.is_empty(), SOON).await.unwrap();
    drop(client);
    let received = provider.wait_for(|r| r[0].cancelled, SOON).await.unwrap();
    assert_eq!(received[0].body_length, 0);
}

#[tokio::test]
async fn mirrors_after_an_upgrade() {
    let provider = provider().await;
    let headers = vec![("upgrade".to_string(), "websocket".to_string())];
    let reply = Reply::Fixed { status: 101, headers, body: Default::default() };
    provider.script(Script { reply, after: After::Mirror, ..Script::default() });
    let mut client = Client::connect(&provider).await;
    client.send(&get("/v1/realtime")).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("content-length")), (101, None));
    client.send("ping!").await;
    assert_eq!(client.rest_of(b"!").await, "ping!");
}

#[tokio::test]
async fn echoes_on_any_path() {
    let provider = provider().await;
    provider.script(Script { reply: Reply::Echo, ..Script::default() }.on("/v1/audio/speech"));
    let answer = Client::connect(&provider).await.ask(&post("/v1/audio/speech?x", &json!({}))).await;
    assert_eq!(answer.json()["target"], "/v1/audio/speech?x");
}

#[tokio::test]
async fn streams_given_events() {
    let provider = provider().await;
    provider.script(Script::events(["data: 1\n\n", ": ping\n\n", "data: [DONE]\n\n"]));
    let answer = Client::connect(&provider).await.ask(&get("/")).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!((answer.chunks, &answer.body[..]), (vec![9, 8, 14], &b"data: 1\n\n: ping\n\ndata: [DONE]\n\n"[..]));
}
