//! Request bodies that pass as they come: both framings, early answers, and clients that stop.

use super::*;

#[tokio::test]
async fn a_multipart_body_arrives_byte_for_byte() {
    let world = world().await;
    let body = "--frontier\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--frontier\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
    let body = [body.as_bytes(), &[0, 255, 13, 10, 45, 45], b"\r\n--frontier--\r\n"].concat();
    world.provider.script(Script::json(200, r#"{"text":"hello"}"#));
    let headers = [bearer(KEY), (MULTIPART.0, MULTIPART.1.to_owned()), ("content-encoding", "identity".to_owned())];
    let answer = world.connect().await.request("POST", &format!("{UPLOAD}?x=1"), &headers, &body).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"text":"hello"}"#));
    let received = &world.provider.received()[0];
    assert_eq!(received.target, "/v1/audio/transcriptions?x=1");
    assert_eq!(received.body, body);
    assert_eq!(received.header(MULTIPART.0), Some(MULTIPART.1));
    assert_eq!(received.header("content-encoding"), Some("identity"));
    assert_eq!(received.header("content-length"), Some(&*body.len().to_string()));
    let call = &world.log.calls(1).await[0];
    assert_eq!((call["statusCode"].as_str(), call["username"].as_str()), (Some("200"), Some("test")));
}

#[tokio::test]
async fn connections_are_kept_and_either_framing_arrives() {
    let world = world().await;
    world.provider.script(Script::json(200, "{}").always());
    let mut client = world.connect().await;
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for _ in 0..3 {
        client.send(with_key("POST", UPLOAD, &[("transfer-encoding", "chunked")])).await;
        for chunk in body.chunks(70_001) {
            client.send(format!("{:x};ext=1\r\n", chunk.len())).await;
            client.send([chunk, b"\r\n"].concat()).await;
        }
        client.send("0\r\n\r\n").await;
        let answer = client.response("POST").await;
        // Among these bytes are line ends without CR, behind which the connection is not kept.
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert!(client.is_closed().await);
        client = world.connect().await;
        assert_eq!(client.request("POST", UPLOAD, &[bearer(KEY)], &body).await.status, 200);
        assert_eq!(client.request("POST", UPLOAD, &[bearer(KEY)], b"").await.status, 200);
    }
    let received = world.provider.received();
    for (at, call) in received.iter().enumerate() {
        let (length, coding) = (call.header("content-length"), call.header("transfer-encoding"));
        match at % 3 {
            0 => assert_eq!((length, coding), (None, Some("chunked"))),
            1 => assert_eq!((length, coding), (Some("1200000"), None)),
            _ => assert_eq!((length, coding), (Some("0"), None)),
        }
        let expected = if at % 3 == 2 { sha256("") } else { sha256(&body) };
        assert_eq!(call.body_sha256, Some(expected), "{at}");
    }
    assert!(world.connections_were_shared());
}

#[tokio::test]
async fn requests_that_are_sent_ahead_are_answered_in_their_order() {
    let world = world().await;
    for number in 0..3 {
        world.provider.script(Script::json(200, format!("{{\"n\":{number}}}")));
    }
    let json = [("content-type", "application/json"), ("content-length", "2")];
    let ahead = [
        with_key("POST", UPLOAD, &[("content-length", "5")]) + "hello",
        with_key("POST", CHAT, &json) + "{}",
        with_key("POST", UPLOAD, &[("transfer-encoding", "chunked")]) + "5\r\nworld\r\n0\r\n\r\n",
    ];
    let mut client = world.connect().await;
    client.send(ahead.concat()).await;
    for number in 0..3 {
        assert_eq!(client.response("POST").await.text(), format!("{{\"n\":{number}}}"));
    }
    let received = world.provider.received();
    let bodies: Vec<&[u8]> = received.iter().map(|call| &call.body[..]).collect();
    assert_eq!(bodies, [&b"hello"[..], b"{}", b"world"]);
}

#[tokio::test]
async fn what_follows_a_refused_body_is_never_a_request() {
    let world = World::with(each_kind(&["get:/openai/v1/models"], "")).await;
    let hidden = with_key("GET", "/openai/v1/models", &[]);
    for framing in
        ["content-length: 2000000", "transfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"]
    {
        let mut client = world.connect().await;
        let head = with_key("POST", UPLOAD, &[]).replace("\r\n\r\n", &format!("\r\n{framing}\r\n\r\n"));
        client.send(head + &hidden).await;
        let refused = client.response("POST").await;
        refused.error(403, "invalid_request_error", "insufficient_permissions");
        assert!(client.is_closed().await, "{framing}");
    }
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn a_provider_that_answers_early_is_heard() {
    let world = world_with("timeouts: { idle: 1s }").await;
    let error = r#"{"error":{"message":"too large"}}"#;
    let body = vec![b'x'; 20_000_000];
    for (read, drain) in [(0, true), (1000, true), (1000, false)] {
        world.provider.script(Script { read_body: Some(read), drain, ..Script::json(413, error) });
        let mut client = world.connect().await;
        client.send(head("POST", UPLOAD, &[bearer(KEY)], &body)).await;
        client.try_send(&body).await;
        let answer = client.response("POST").await;
        assert_eq!((answer.status, answer.text().as_str()), (413, error), "{read} {drain}");
    }
    world.provider.script(Script::json(200, "{}"));
    assert_eq!(world.connect().await.request("POST", UPLOAD, &[bearer(KEY)], b"x").await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_ends_the_call_at_the_provider() {
    let world = world().await;
    for (count, framing) in [("content-length", "1000000"), ("transfer-encoding", "chunked")].into_iter().enumerate() {
        let mut client = world.connect().await;
        client.send(with_key("POST", UPLOAD, &[framing]) + "5\r\nhello\r\n").await;
        let begun = |call: &ai_gateway::demo::Received| call.body_length >= 5;
        eventually("it has begun", async || world.provider.received().get(count).is_some_and(begun)).await;
        drop(client);
        eventually("it has ended", async || world.provider.received()[count].cancelled).await;
        let calls = world.log.calls(count + 1).await;
        assert_eq!(calls[count]["statusCode"], "499");
    }
    assert!(world.provider.received().iter().all(|call| !call.body_complete));
}

#[tokio::test]
async fn a_client_that_waits_is_told_to_continue_once_it_is_admitted() {
    let world = world().await;
    world.provider.script(Script::json(200, "{}").always());
    let expect = ("expect", "100-continue");
    let mut client = world.connect().await;
    for _ in 0..2 {
        client.send(with_key("POST", UPLOAD, &[expect, ("content-length", "5")])).await;
        assert_eq!(client.head().await.status, 100);
        client.send("hello").await;
        let answer = client.response("POST").await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
    }
    let wrong = [bearer("wrong"), (expect.0, expect.1.to_owned()), ("content-length", "5".to_owned())];
    client.send(head("POST", UPLOAD, &wrong, b"")).await;
    assert_eq!(client.head().await.status, 401);
    let received = world.provider.received();
    assert!(received.iter().all(|call| call.header("expect").is_none() && call.body == "hello"));
    assert_eq!(received.len(), 2);
}

#[tokio::test]
async fn a_client_that_falls_silent_or_sends_rubbish_is_refused() {
    let server = "limits: { body_timeout: 1s }".to_owned();
    let world = World::with(Setup { server, ..each_kind(ALL, "") }).await;
    let broken = "zz\r\nhello\r\n0\r\n\r\n".to_owned() + &" ".repeat(64);
    let cases = [
        (("content-length", "1000000"), "hello".to_owned(), 408, "request_timeout"),
        (("transfer-encoding", "chunked"), "5\r\nhello\r\n".to_owned(), 408, "request_timeout"),
        (("transfer-encoding", "chunked"), broken, 400, "invalid_body"),
    ];
    for (framing, body, status, code) in cases {
        let mut client = world.connect().await;
        client.send(with_key("POST", UPLOAD, &[framing]) + &body).await;
        let refused = client.response("POST").await;
        refused.error(status, "invalid_request_error", code);
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(client.is_closed().await);
    }
    eventually("all have ended", async || world.provider.received().iter().all(|call| call.cancelled)).await;
    assert!(world.provider.received().iter().all(|call| !call.body_complete));
}

#[tokio::test]
async fn a_body_that_keeps_coming_may_take_longer_than_one_read() {
    let server = "limits: { body_timeout: 1s }".to_owned();
    let world = World::with(Setup { server, ..each_kind(ALL, "") }).await;
    world.provider.script(Script::json(200, "{}"));
    let mut client = world.connect().await;
    client.send(with_key("POST", UPLOAD, &[("content-length", "6000")])).await;
    for _ in 0..6 {
        // More than the 1 KiB/s that an upload has to come with on the whole.
        client.send("x".repeat(1000)).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(client.response("POST").await.status, 200);
}
