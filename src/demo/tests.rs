//! Tests of the provider over raw sockets: what it answers well, what it notes, and its control path.
//!
//! Invariant: each wait is bounded by [`SOON`].
//! Never does: sleep for what can be awaited.

mod client;
mod faults;
mod scripts;

use std::time::Duration;

use serde_json::{Value, json};

use self::client::{Client, get, post};
use super::{Provider, ProviderOptions, Script};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(5);

async fn provider() -> Provider {
    let options = ProviderOptions { control: true, ..ProviderOptions::default() };
    Provider::start(options).await.unwrap()
}

fn chat(more: Value) -> Value {
    let mut chat = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "Hello there" }] });
    chat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    chat
}

#[tokio::test]
async fn serves_one_request_after_another_on_one_connection() {
    let provider = provider().await;
    let mut client = Client::connect(&provider).await;
    let first = client.ask(&post("/v1/chat/completions", &chat(json!({})))).await;
    let second = client.ask(&post("/v1/chat/completions", &chat(json!({})))).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.body, second.body);
    let received = provider.received();
    assert_eq!(received.iter().map(|r| (r.connection_id, r.request_number)).collect::<Vec<_>>(), [(1, 1), (1, 2)]);
    assert_eq!((provider.connections_accepted(), provider.open_connections()), (1, 1));
    drop(client);
    assert!(provider.wait_until(|p| p.open_connections() == 0, SOON).await);
}

#[tokio::test]
async fn notes_requests_as_they_were_sent() {
    let provider = provider().await;
    let mut client = Client::connect(&provider).await;
    let answer = client
        .ask("POST /v1/echo?a=%20b HTTP/1.1\r\nHost: h\r\nX-Odd:  1 \r\nx-odd: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: 1\r\n\r\n")
        .await;
    let echo = answer.json();
    assert_eq!(echo["target"], "/v1/echo?a=%20b");
    assert_eq!(echo["headers"][1], json!(["X-Odd", "1"]));
    assert_eq!(echo["headers"][2], json!(["x-odd", "2"]));
    assert_eq!((&echo["body_base64"], &echo["body_length"]), (&json!("YWJjZGU="), &json!(5)));
    let received = provider.received().remove(0);
    assert_eq!((received.method.as_str(), received.target.as_str()), ("POST", "/v1/echo?a=%20b"));
    assert_eq!((&received.body[..], received.body_length, received.body_complete), (&b"abcde"[..], 5, true));
    assert_eq!(echo["body_sha256"].as_str(), received.body_sha256.as_deref());
    assert_eq!(received.header_count("x-odd"), 2);
    assert!(!received.cancelled && received.answered_at.is_some());
}

#[tokio::test]
async fn keeps_no_more_of_a_body_than_the_cap() {
    let options = ProviderOptions { body_cap: 10, control: true, ..ProviderOptions::default() };
    let provider = Provider::start(options).await.unwrap();
    let big = "x".repeat(3_000_000);
    let request = format!("POST /v1/echo HTTP/1.1\r\ncontent-length: {}\r\n\r\n{big}", big.len());
    let answer = Client::connect(&provider).await.ask(&request).await;
    assert_eq!(answer.json()["body_length"], 3_000_000);
    assert_eq!(provider.received()[0].body.len(), 10);
}

#[tokio::test]
async fn asks_for_the_body_where_the_client_waits_for_that() {
    let provider = provider().await;
    let mut client = Client::connect(&provider).await;
    client.send("POST /v1/echo HTTP/1.1\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n").await;
    assert_eq!(client.head().await.status, 100);
    client.send("hi").await;
    assert_eq!(client.answer().await.json()["body_base64"], "aGk=");
}

#[tokio::test]
async fn counts_what_is_no_request_and_closes() {
    let provider = provider().await;
    let broken = [
        "NOT HTTP\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
    ];
    for request in broken {
        let mut client = Client::connect(&provider).await;
        client.send(request).await;
        assert!(client.rest().await.starts_with(b"HTTP/1.1 400 "), "{request}");
    }
    assert_eq!(provider.malformed_requests(), broken.len());
}

#[tokio::test]
async fn sees_a_client_leave_in_the_middle_of_a_body() {
    let provider = provider().await;
    let mut client = Client::connect(&provider).await;
    client.send("POST /v1/echo HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc").await;
    provider.wait_for(|r| r.iter().any(|r| r.body_length == 3), SOON).await.unwrap();
    drop(client);
    let received = provider.wait_for(|r| r[0].cancelled, SOON).await.unwrap();
    assert!(!received[0].body_complete && received[0].aborted_after().is_some());
}

#[tokio::test]
async fn says_what_there_was_when_a_wait_is_over() {
    let provider = provider().await;
    let over = provider.wait_for(|r| !r.is_empty(), Duration::from_millis(5)).await;
    assert!(over.unwrap_err().is_empty());
}

#[tokio::test]
async fn stops_with_its_listener_and_connections() {
    let provider = provider().await;
    let mut client = Client::connect(&provider).await;
    client.ask(&get("/v1/models")).await;
    provider.stop().await;
    assert_eq!(provider.open_connections(), 0);
    assert!(client.rest().await.is_empty());
    assert!(tokio::net::TcpStream::connect(provider.addr()).await.is_err());
}

#[tokio::test]
async fn closes_everything_when_dropped() {
    let provider = provider().await;
    let addr = provider.addr();
    let mut client = Client::connect(&provider).await;
    client.ask(&get("/v1/models")).await;
    drop(provider);
    assert!(client.rest().await.is_empty());
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn serves_any_stream() {
    let provider = provider().await;
    let (near, far) = tokio::io::duplex(64);
    provider.serve_stream(far);
    let mut client = Client::over(near);
    let answer = client.ask(&post("/v1/chat/completions", &chat(json!({ "stream": true })))).await;
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
    drop(client);
    assert!(provider.wait_until(|p| p.open_connections() == 0, SOON).await);
}

#[tokio::test]
async fn is_scripted_and_read_over_http() {
    let provider = provider().await;
    let mut control = Client::connect(&provider).await;
    let script = json!([
        { "reply": { "fixed": { "status": 429, "headers": [["retry-after", "7"]], "body": "slow down" } } },
        { "path": "/v1/models", "times": 0, "reply": { "raw": { "base64": "SFRUUC8xLjEgMjA0IE9LDQoNCg==" } } },
    ]);
    assert_eq!(control.ask(&post("/__script", &script)).await.json()["queued"], 2);
    let mut client = Client::connect(&provider).await;
    let limited = client.ask(&get("/v1/models")).await;
    assert_eq!((limited.status, limited.header("retry-after"), &limited.body[..]), (429, Some("7"), &b"slow down"[..]));
    assert_eq!(client.ask(&get("/v1/models")).await.status, 204);
    assert_eq!(client.ask(&get("/v1/models")).await.status, 204);
    let state = control.ask(&get("/__received")).await.json();
    assert_eq!(state["received"].as_array().unwrap().len(), 3);
    assert_eq!((&state["connections_accepted"], &state["scripts_left"]), (&json!(1), &json!(1)));
    control.ask("DELETE /__received HTTP/1.1\r\n\r\n").await;
    control.ask("DELETE /__script HTTP/1.1\r\n\r\n").await;
    assert!(provider.received().is_empty() && provider.scripts_left() == 0);
    let wrong = control.ask(&post("/__script", &json!({ "tiems": 1 }))).await;
    assert!(wrong.status == 400 && String::from_utf8_lossy(&wrong.body).contains("tiems"));
}

#[tokio::test]
async fn reads_each_field_of_a_script() {
    let provider = provider().await;
    let script = json!({
        "path": "/x", "times": 2, "read_body": 3, "drain": false, "delay_ms": 1,
        "interim": [{ "status": 103, "headers": [["link", "</a>"]] }], "reply": "echo", "words": 4,
        "version": "http10", "headers": [["a", "b"]], "framing": "until_close", "fault": "two_lengths",
        "first_byte_delay_ms": 1, "pieces": [1, 2], "writes": [3], "gap_ms": 1,
        "cut": { "at": { "body": 5 }, "how": "stall" }, "trailing": "t", "after": "mirror",
    });
    let answer = Client::connect(&provider).await.ask(&post("/__script", &script)).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test]
async fn has_no_control_path_unless_asked_for() {
    let provider = Provider::start(ProviderOptions::default()).await.unwrap();
    let mut client = Client::connect(&provider).await;
    for path in ["/__received", "/__script", "/v1/echo"] {
        assert_eq!(client.ask(&get(path)).await.status, 404);
    }
}

#[tokio::test]
async fn uses_scripts_in_order_and_by_path() {
    let provider = provider().await;
    provider.script(Script::json(500, "{}").on("/v1/chat/completions"));
    provider.script(Script::json(503, "{}").times(2));
    let mut client = Client::connect(&provider).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.ask(&get("/v1/models")).await.status);
    }
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(client.ask(&post("/v1/chat/completions", &chat(json!({})))).await.status, 500);
    assert_eq!(provider.scripts_left(), 0);
}
