//! Request bodies: sizes, framings, `Expect`, providers that do not want to hear them out, and clients that stop.

use std::time::Duration;

use ai_gateway::demo::Script;

use super::*;

const LARGE: usize = 20_000_000;

#[tokio::test]
async fn a_request_without_a_body_is_forwarded_without_one() {
    let world = World::start().await;
    let mut client = world.connect().await;
    for more in [&[][..], &[("content-length", "0")], &[("transfer-encoding", "chunked")]] {
        world.provider.script(Script::json(200, "{}"));
        client.send(post_head(more)).await;
        if more.iter().any(|(name, _)| *name == "transfer-encoding") {
            client.send("0\r\n\r\n").await;
        }
        assert_eq!(client.response("POST").await.status, 200, "{more:?}");
    }
    let received = world.provider.received();
    assert!(received.iter().all(|call| call.header("content-length") == Some("0") && call.body_length == 0));
    assert_eq!(received.len(), 3);
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit_and_not_one_byte_larger() {
    let world = World::with(limits("max_body: 1KiB, max_buffered: 1MiB")).await;
    let fits = sized(1024);
    assert_eq!(world.post(CHAT, &fits).await.status, 200);
    let mut client = world.connect().await;
    client.send(post_head(&[("transfer-encoding", "chunked")]) + &chunked(&fits, 100)).await;
    assert_eq!(client.response("POST").await.status, 200);
    let over = sized(1025);
    let refused = client.post(CHAT, &over).await;
    assert!(refused.error(413, "invalid_request_error", "request_too_large").contains("1024 bytes"));
    assert_eq!(refused.header("connection"), Some("keep-alive"));
    client.send(post_head(&[("transfer-encoding", "chunked")]) + &chunked(&over, 1000)).await;
    let refused = client.response("POST").await;
    refused.error(413, "invalid_request_error", "request_too_large");
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(client.is_closed().await);
    let received = world.provider.received();
    assert!(received.iter().all(|call| call.body_sha256 == Some(sha256(&fits))));
    assert_eq!(received.len(), 2);
}

#[tokio::test]
async fn chunks_may_be_spelt_and_cut_in_any_way() {
    let world = World::start().await;
    let mut kept = world.connect().await;
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"x"}]}"#;
    let (first, second) = body.split_at(10);
    let chunks = format!("00A;ext=\"a;b\";c\r\n{first}\r\n{:X}\r\n{second}\r\n", second.len());
    // Behind an end that could be seen elsewhere nothing is read.
    let ends = [("0\r\n\r\n", "keep-alive"), ("000\r\nx-trailer: 1\r\nauthorization: no\r\n\r\n", "close")];
    for (end, connection) in ends {
        let wire = format!("{}{chunks}{end}", post_head(&[("transfer-encoding", "Chunked")]));
        for size in [1, 2, 3, 7, 1000] {
            let mut other = world.connect().await;
            let client = if connection == "close" { &mut other } else { &mut kept };
            for piece in wire.as_bytes().chunks(size) {
                client.send(piece).await;
                tokio::task::yield_now().await;
            }
            let answer = client.response("POST").await;
            assert_eq!((answer.status, answer.header("connection")), (200, Some(connection)), "{size}");
        }
    }
    for call in world.provider.received() {
        assert_eq!(
            (call.body_sha256, call.headers.iter().any(|(name, _)| name == "x-trailer")),
            (Some(sha256(body)), false)
        );
    }
}

#[tokio::test]
async fn broken_chunks_are_told_and_never_forwarded() {
    let world = World::start().await;
    for broken in
        ["zz\r\n{}\r\n0\r\n\r\n", "-1\r\n", "3\r\n{}\r\n0\r\n\r\n", "1\r\n{}\r\n0\r\n\r\n", "fffffffffffffffff\r\n{}"]
    {
        let mut client = world.connect().await;
        client.send(post_head(&[("transfer-encoding", "chunked")]) + broken + &" ".repeat(64)).await;
        let refused = client.response("POST").await;
        refused.error(400, "invalid_request_error", "invalid_body");
        assert_eq!(refused.header("connection"), Some("close"), "{broken:?}");
        assert!(client.is_closed().await);
    }
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_continue_once_it_is_admitted() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let body = chat("hello");
    for _ in 0..2 {
        let length = body.len().to_string();
        client.send(post_head(&[("content-length", &length), ("expect", "100-Continue")])).await;
        assert_eq!(client.head().await.status, 100);
        client.send(&body).await;
        let answer = client.response("POST").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
    for call in world.provider.received() {
        assert_eq!((call.header("expect"), call.body_sha256.as_deref()), (None, Some(&*sha256(&body))));
    }
}

#[tokio::test]
async fn a_client_that_waits_and_is_refused_is_not_told_to_continue() {
    let world = World::with(limits("max_body: 1KiB, max_buffered: 1MiB")).await;
    let cases = [
        ("wrong", CHAT, "20", 401),
        (KEY, "/openai/v1/nowhere", "20", 404),
        (KEY, CHAT, "1025", 413),
        (KEY, "/openai/v1/responses", "20", 404),
    ];
    for (key, path, length, status) in cases {
        let mut client = world.connect().await;
        let headers = [bearer(key), ("expect", "100-continue".to_owned()), ("content-length", length.to_owned())];
        client.send(head("POST", path, &headers, b"")).await;
        let first = client.head().await;
        assert_eq!((first.status, first.header("connection")), (status, Some("close")));
        assert!(client.body(first, false).await.complete);
        assert!(client.is_closed().await);
    }
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn an_old_client_is_never_told_to_continue() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let body = chat("hello");
    let length = body.len().to_string();
    let head = post_head(&[("content-length", &length), ("expect", "100-continue")]).replace("HTTP/1.1", "HTTP/1.0");
    client.send(head + &body).await;
    assert_eq!(client.head().await.status, 200);
}

#[tokio::test]
async fn a_provider_that_answers_early_is_heard() {
    let world = World::start().await;
    let body = sized(LARGE);
    let error = r#"{"error":{"message":"too many tokens"}}"#;
    let mut client = world.connect().await;
    for (read, drain) in [(0, false), (1000, false), (1000, true), (1_000_000, true)] {
        world.provider.script(Script { read_body: Some(read), drain, ..Script::json(400, error) });
        let answer = client.post(CHAT, &body).await;
        assert_eq!((answer.status, answer.text().as_str()), (400, error), "{read} {drain}");
    }
    assert_eq!(client.post(CHAT, &chat("still good")).await.status, 200);
    let received = world.provider.received();
    let connections: Vec<u64> = received.iter().map(|call| call.connection_id).collect();
    assert_eq!(connections, [1, 2, 3, 4, 5], "a connection with half a request on it is not used again");
}

#[tokio::test]
async fn an_informational_answer_does_not_stop_a_body() {
    let world = World::start().await;
    // More than sockets hold, and read within the five seconds on a busy machine.
    let body = sized(LARGE / 2);
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let late = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    world.provider.script(Script {
        read_body: Some(1),
        pieces: vec![early.len(), late.len()],
        gap: Some(Duration::from_secs(5)),
        ..Script::raw(format!("{early}{late}"))
    });
    let answer = world.post(CHAT, &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "{}"));
    assert_eq!(world.provider.received()[0].body_sha256, Some(sha256(&body)));
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let world = World::with(limits("body_timeout: 1s")).await;
    for framing in [("content-length", "100"), ("transfer-encoding", "chunked")] {
        let mut client = world.connect().await;
        client.send(post_head(&[framing]) + "2\r\n{}").await;
        let refused = client.response("POST").await;
        refused.error(408, "invalid_request_error", "request_timeout");
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(client.is_closed().await);
    }
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn a_body_that_its_client_cuts_is_not_forwarded() {
    let world = World::start().await;
    for (count, framing) in [("content-length", "100"), ("transfer-encoding", "chunked")].into_iter().enumerate() {
        let mut client = world.connect().await;
        client.send(post_head(&[framing]) + "2\r\n{}").await;
        drop(client);
        let calls = world.log.calls(count + 1).await;
        assert_eq!(calls[count]["statusCode"], "499");
    }
    assert_eq!(world.provider.received().len(), 0);
}
