//! Calls that are not served because of what they carry, and that the connection stays usable where it can.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn what_is_no_json_object_or_is_ambiguous_is_refused() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let bodies: [&[u8]; 10] = [
        b"[]",
        b"[{\"model\":\"gpt-4o\"}]",
        b"\"secret\"",
        b"7",
        b"{",
        b"{\"secret\":tru}",
        b"{} x",
        b"{\"model\":\"a\",\"model\":\"b\"}",
        b"{\"model\":\"a\",\"m\\u006fdel\":\"a\"}",
        b"{\"x\":\"\xff\"}",
    ];
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    for body in bodies {
        let refused = client.request("POST", CHAT, &headers, body).await;
        let message = refused.error(400, "invalid_request_error", "invalid_json");
        assert!(!message.contains("secret"), "{message}");
        assert_eq!(refused.header("connection"), Some("keep-alive"));
    }
    assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
    assert_eq!(world.provider.received().len(), 1);
}

#[tokio::test]
async fn only_plain_json_is_taken() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let cases = [
        ("content-type", "multipart/form-data; boundary=x", "unsupported_media_type"),
        ("content-type", "application/xml", "unsupported_media_type"),
        ("content-type", "application/jsonp", "unsupported_media_type"),
        ("content-encoding", "gzip", "unsupported_content_encoding"),
        ("content-encoding", "identity, br", "unsupported_content_encoding"),
    ];
    for (name, value, code) in cases {
        let headers = [bearer(KEY), (name, value.to_owned())];
        let refused = client.request("POST", CHAT, &headers, b"{}").await;
        refused.error(415, "invalid_request_error", code);
        assert_eq!(refused.header("connection"), Some("keep-alive"), "{value}");
    }
    let headers = [bearer(KEY), ("content-type", "Application/JSON; charset=utf-8".to_owned())];
    assert_eq!(client.request("POST", CHAT, &headers, chat("x").as_bytes()).await.status, 200);
    let received = world.provider.received();
    assert_eq!((received.len(), received[0].header("content-type")), (1, Some("Application/JSON; charset=utf-8")));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let world = World::with(limits("max_header_bytes: 8KiB")).await;
    let mut client = world.connect().await;
    let target = |length: usize| format!("{MODELS}?{}", "x".repeat(length - MODELS.len() - 1));
    assert_eq!(client.request("GET", &target(8192), &[bearer(KEY)], b"").await.status, 200);
    let refused = client.request("GET", &target(8193), &[bearer(KEY)], b"").await;
    refused.error(414, "invalid_request_error", "uri_too_long");
    let large = |length: usize| [bearer(KEY), ("x-large", "x".repeat(length))];
    assert_eq!(client.request("GET", MODELS, &large(8000), b"").await.status, 200);
    let refused = client.request("GET", MODELS, &large(8192), b"").await;
    refused.error(431, "invalid_request_error", "headers_too_large");
    assert_eq!(refused.header("connection"), Some("keep-alive"));
    let many: Vec<_> = (0..1000).map(|_| ("x-many", "1".to_owned())).collect();
    let mut other = world.connect().await;
    let refused = other.request("GET", MODELS, &many, b"").await;
    assert!(matches!(refused.status, 400 | 431), "{}", refused.status);
    assert_eq!(world.provider.received().len(), 2);
}

#[tokio::test]
async fn what_pingoras_parser_refuses_gets_a_bare_answer_and_a_close() {
    let world = World::start().await;
    let key = "authorization: Bearer fake\r\n";
    let heads = [
        "NOT HTTP\r\n\r\n".to_owned(),
        format!("GET {MODELS} HTTP/3.0\r\n{key}\r\n"),
        format!("GET {MODELS} HTTP/1.1\r\nhost: a\r\nno colon\r\n{key}\r\n"),
        format!("GET {MODELS} HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n{key}\r\n"),
        format!("GET {MODELS} HTTP/1.1\r\nhost: a\r\nhost: b\r\n{key}\r\n"),
        format!("GET http://other.test{MODELS} HTTP/1.1\r\nhost: a\r\n{key}\r\n"),
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\n{key}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"),
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\n{key}content-length: -2\r\n\r\n{{}}"),
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\n{key}content-length: 2x\r\n\r\n{{}}"),
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: gzip\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\n{key}transfer-encoding: chunked, x\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        format!("POST {CHAT} HTTP/1.0\r\nhost: a\r\n{key}transfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"),
        format!("GET {MODELS} HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(2_000_000)),
    ];
    for head in heads {
        let mut client = world.connect().await;
        client.try_send(&head).await;
        let text: String = head.chars().take(80).collect();
        let refused = client.response("GET").await;
        assert!(matches!(refused.status, 400 | 431), "{text:?}: {}", refused.status);
        assert!(client.is_closed().await, "{text:?}");
    }
    assert_eq!(world.provider.received().len(), 0);
    assert_eq!(world.get(MODELS).await.status, 200);
}

#[tokio::test]
async fn bodies_find_room_or_are_refused_at_once() {
    let world = World::with(limits("max_body: 1MiB, max_buffered: 1MiB")).await;
    let mut first = world.connect().await;
    first.send(post_head(&[("content-length", "700000"), ("expect", "100-continue")])).await;
    assert_eq!(first.head().await.status, 100, "the first body has its room now");
    for framing in ["content-length", "transfer-encoding"] {
        let body = sized(700_000);
        let mut second = world.connect().await;
        match framing {
            "content-length" => second.send(post_head(&[(framing, "700000")]) + &body).await,
            _ => second.send(post_head(&[(framing, "chunked")]) + &chunked(&body, 5000)).await,
        }
        let refused = second.response("POST").await;
        refused.error(503, "server_error", "overloaded");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(world.post(CHAT, &sized(300_000)).await.status, 200, "what fits is served");
    drop(first);
    eventually("the room is given back", async || world.post(CHAT, &sized(1024 * 1024)).await.status == 200).await;
    assert_eq!(world.provider.received().iter().filter(|call| call.body_length == 700_000).count(), 0);
}

#[tokio::test]
async fn a_refused_client_may_finish_sending_and_read_the_answer() {
    let world = World::start().await;
    let body = sized(10_000_000);
    let headers = [bearer("wrong"), ("content-type", "application/json".to_owned())];
    let mut client = world.connect().await;
    client.send(head("POST", CHAT, &headers, body.as_bytes())).await;
    client.try_send(&body).await;
    let refused = client.response("POST").await;
    refused.error(401, "invalid_request_error", "invalid_api_key");
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn a_refusal_is_read_at_once_by_a_client_that_stops_sending() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let headers = [bearer("wrong"), ("content-length", "20000000".to_owned())];
    client.send(head("POST", CHAT, &headers, b"")).await;
    let refused = tokio::time::timeout(Duration::from_secs(1), client.response("POST")).await;
    refused.expect("before the body is there").error(401, "invalid_request_error", "invalid_api_key");
}
