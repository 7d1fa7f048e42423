//! What the client's connection is good for after each kind of answer, and that nothing on it is read as what it is not.

use ai_gateway::demo::{Framing, Script};

use super::*;

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let body = chat("hello");
    let length = body.len().to_string();
    let get = head("GET", MODELS, &[bearer(KEY)], b"");
    let refused = head("GET", MODELS, &[bearer("wrong")], b"");
    let post = post_head(&[("content-length", &length)]) + &body;
    let stream = chat_stream("hello");
    let streamed = post_head(&[("transfer-encoding", "chunked")]) + &chunked(&stream, 10);
    client.send([&get, &post, &refused, &get, &streamed].map(String::as_str).concat()).await;
    for (status, holds) in
        [(200, "gpt-4o"), (200, "chat.completion"), (401, "invalid_api_key"), (200, "gpt-4o"), (200, "[DONE]")]
    {
        let answer = client.response("GET").await;
        assert_eq!((answer.status, answer.complete), (status, true));
        assert!(answer.text().contains(holds), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_request_that_comes_during_an_answer_is_served_next() {
    let world = World::start().await;
    let mut client = world.connect().await;
    world.provider.script(Script::delayed(std::time::Duration::from_millis(200)).on("/v1/chat/completions"));
    let body = chat("hello");
    client.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
    world.provider.wait_for(|calls| calls.len() == 1, SOON).await.expect("the first is underway");
    client.send(head("GET", MODELS, &[bearer(KEY)], b"")).await;
    assert_eq!(client.response("POST").await.json()["object"], "chat.completion");
    assert_eq!(client.response("GET").await.json()["object"], "list");
}

#[tokio::test]
async fn a_connection_outlives_each_refusal_that_it_can() {
    let world = World::with(limits("max_body: 1KiB, max_buffered: 1MiB")).await;
    let mut client = world.connect().await;
    let small = chat("hello");
    let large = sized(100_000);
    let cases = [
        ("GET", "/nowhere", KEY, "", 404),
        ("POST", "/nowhere", KEY, &*small, 404),
        ("POST", CHAT, "wrong", &*small, 401),
        ("POST", CHAT, "wrong", &*large, 401),
        ("POST", CHAT, KEY, &*large, 413),
        ("POST", CHAT, KEY, "[]", 400),
    ];
    for (method, path, key, body, status) in cases {
        let answer = client.request(method, path, &[bearer(key)], body.as_bytes()).await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("keep-alive")));
        assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200, "after {status}");
    }
    assert_eq!(world.provider.received().len(), cases.len());
}

#[tokio::test]
async fn a_refused_body_is_never_read_as_a_request() {
    let world = World::start().await;
    let hidden = head("GET", MODELS, &[bearer(KEY)], b"");
    let length = hidden.len().to_string();
    let refused = |more: &[(&str, &str)]| {
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
        head("POST", CHAT, &[bearer("wrong")].into_iter().chain(more).collect::<Vec<_>>(), b"")
    };
    let cases = [
        (refused(&[("content-length", &length)]) + &hidden, false),
        (refused(&[("transfer-encoding", "chunked")]) + &hidden, true),
        (refused(&[("transfer-encoding", "chunked")]) + &chunked(&hidden, 1000), true),
        (refused(&[("content-length", &length), ("expect", "100-continue")]) + &hidden, true),
        (refused(&[("content-length", "5"), ("transfer-encoding", "chunked")]) + "0\r\n\r\n" + &hidden, true),
        (refused(&[("content-length", "20000000")]) + &hidden, true),
    ];
    for (wire, closes) in cases {
        let mut client = world.connect().await;
        client.send(&wire).await;
        let answer = client.response("POST").await;
        assert_eq!(answer.status, 401);
        if closes {
            assert_eq!(answer.header("connection"), Some("close"), "{wire}");
            assert!(client.is_closed().await, "{wire}");
        } else {
            assert_eq!(client.request("GET", "/nowhere", &[], b"").await.status, 404, "{wire}");
        }
    }
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn what_stands_behind_a_broken_body_is_never_read_as_a_request() {
    let world = World::start().await;
    let hidden = head("GET", MODELS, &[bearer(KEY)], b"");
    for broken in ["zz\r\n", "1\r\n{}\r\n", "2\r\n{}\r\n-0\r\n\r\n"] {
        let mut client = world.connect().await;
        client.send(post_head(&[("transfer-encoding", "chunked")]) + broken).await;
        client.try_send(&hidden).await;
        assert_eq!(client.response("POST").await.status, 400, "{broken:?}");
        client.try_send(&hidden).await;
        assert!(client.is_closed().await, "{broken:?}");
    }
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_believed_and_the_connection_ends() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let body = chat("hello");
    let hidden = head("GET", MODELS, &[bearer(KEY)], b"");
    let both = post_head(&[("content-length", "4"), ("transfer-encoding", "chunked")]);
    client.send(both + &chunked(&body, 7) + &hidden).await;
    let answer = client.response("POST").await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    let received = world.provider.received();
    assert_eq!((received.len(), received[0].body_sha256.clone()), (1, Some(sha256(&body))));
    assert_eq!(received[0].header("content-length"), Some(&*body.len().to_string()));
}

#[tokio::test]
async fn a_client_that_asks_for_a_close_gets_one() {
    let world = World::start().await;
    for status in [200, 401] {
        let mut client = world.connect().await;
        let key = if status == 200 { KEY } else { "wrong" };
        let headers = [bearer(key), ("connection", "close".to_owned())];
        let answer = client.request("GET", MODELS, &headers, b"").await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")));
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn a_quiet_connection_is_closed() {
    let world = World::with(limits("idle_timeout: 1s")).await;
    let mut client = world.connect().await;
    assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_its_connection_for_ever() {
    let world = World::with(limits("idle_timeout: 1s")).await;
    world.provider.script(Script { framing: Framing::Chunked, ..Script::json(200, "{}") }.always());
    let never_reads = async |method, path, headers: &[(&str, String)]| {
        let mut client = world.connect().await;
        let requests = head(method, path, headers, b"").repeat(1000);
        // Answers pile up until the gateway waits for the client; then it has to give up.
        while client.try_send(&requests).await {}
    };
    let key = [bearer(KEY)];
    tokio::join!(
        never_reads("GET", "/nowhere", &[]),
        never_reads("HEAD", "/nowhere", &[]),
        never_reads("OPTIONS", MODELS, &[]),
        never_reads("GET", MODELS, &key),
    );
}
