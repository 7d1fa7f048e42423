//! Answers on their way back: framings, versions, statuses without a body, interim answers, and events one by one.

use ai_gateway::demo::{After, Framing, Interim, Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn an_old_client_gets_no_chunks_and_an_old_provider_is_understood() {
    let world = World::start().await;
    let old = post_head(&[("content-length", "2")]).replace("HTTP/1.1", "HTTP/1.0");
    for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
        for connection in ["", "connection: keep-alive\r\n"] {
            world.provider.script(Script { framing, ..fixed(200, &[], "hello") });
            let mut client = world.connect().await;
            client.send(old.replace("\r\n\r\n", &format!("\r\n{connection}\r\n")) + "{}").await;
            let answer = client.response("POST").await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
            assert_eq!((answer.version.as_str(), answer.header("transfer-encoding")), ("HTTP/1.1", None));
            let stays = framing == Framing::Length && !connection.is_empty();
            assert_eq!(answer.header("connection"), Some(if stays { "keep-alive" } else { "close" }), "{framing:?}");
            assert!(stays || client.is_closed().await);
        }
    }
    for length in ["content-length: 5\r\n", ""] {
        let raw = Script::raw(format!("HTTP/1.0 200 OK\r\n{length}\r\nhello"));
        world.provider.script(Script { after: After::SilentClose, ..raw });
        let answer = world.post(CHAT, "{}").await;
        assert_eq!((answer.text().as_str(), answer.complete), ("hello", true));
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_both_connections() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let heads = [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: x\r\n\r\n", 304),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", 200),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", 200),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi", 200),
    ];
    for (method, raw, status) in heads {
        world.provider.script(Script::raw(raw));
        let answer = client.request(method, MODELS, &[bearer(KEY)], b"").await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("keep-alive")), "{raw}");
        let lengths = answer.headers.iter().filter(|(name, _)| name == "content-length").count();
        assert!(lengths <= usize::from(status != 204), "{raw}");
        assert!(status == 200 || answer.header("transfer-encoding").is_none(), "{raw}");
    }
    assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.json()["object"], "list");
    assert!(world.connections_were_shared());
}

#[tokio::test]
async fn a_long_answer_head_passes_and_a_huge_one_does_not() {
    let world = World::start().await;
    let mut client = world.connect().await;
    world.provider.script(Script::json(200, "{}").header("x-long", &"x".repeat(60_000)));
    let answer = client.post(CHAT, "{}").await;
    assert_eq!((answer.status, answer.header("x-long").map(str::len)), (200, Some(60_000)));
    world.provider.script(Script::json(200, "{}").header("x-long", &"x".repeat(70_000)));
    client.post(CHAT, "{}").await.error(502, "server_error", "upstream_error");
    let many = (0..200).fold(Script::json(200, "{}"), |script, count| script.header(&format!("x-{count}"), "1"));
    world.provider.script(many);
    client.post(CHAT, "{}").await.error(502, "server_error", "upstream_error");
    let interim = Interim { status: 103, headers: vec![("x".to_owned(), "x".repeat(1000))] };
    world.provider.script(Script { interim: vec![interim; 100], ..Script::json(200, "{}") });
    client.post(CHAT, "{}").await.error(502, "server_error", "upstream_error");
}

/// A provider that does what the test does, step by step.
async fn by_hand() -> (World, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base_url = Some(format!("http://{}", listener.local_addr().expect("an address")));
    (World::with(Setup { base_url, ..Setup::default() }).await, listener)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = timeout(SOON, listener.accept()).await.expect("in time").expect("accepted");
    let mut request = Vec::new();
    while !request.ends_with(b"}]}") {
        assert!(timeout(SOON, stream.read_buf(&mut request)).await.expect("in time").expect("read") > 0);
    }
    stream
}

#[tokio::test]
async fn each_event_is_there_before_the_next_one_is_sent() {
    // A piece of an event waits for its end only where it may hold a usage that the client did not ask for.
    for (body, pieces_pass) in [(chat_stream_with_usage("x"), true), (chat_stream("x"), false)] {
        let (world, listener) = by_hand().await;
        let mut client = world.connect().await;
        client.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
        let mut provider = accept(&listener).await;
        provider
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
            .await
            .expect("sent");
        assert_eq!(client.head().await.status, 200, "the head is there before the first event");
        for count in 0..20 {
            // Every other event in two writes, of which the first is there before the second is sent.
            let parts = ["data: {\"n\":".to_owned(), format!("{count}}}\n\n")];
            let parts = if count % 2 == 0 || !pieces_pass { vec![parts.concat()] } else { parts.to_vec() };
            for part in parts {
                provider.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).await.expect("sent");
                assert_eq!(client.chunk().await.as_deref(), Some(part.as_bytes()));
            }
        }
        provider.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await.expect("sent");
        assert_eq!(client.chunk().await.as_deref(), Some(&b"data: [DONE]\n\n"[..]));
        assert_eq!(client.chunk().await.as_deref(), Some(&b""[..]));
    }
}

#[tokio::test]
async fn bytes_of_a_plain_answer_do_not_wait_for_its_end_either() {
    let (world, listener) = by_hand().await;
    let mut client = world.connect().await;
    let body = chat("x");
    client.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
    let mut provider = accept(&listener).await;
    provider.write_all(b"HTTP/1.1 200 OK\r\n\r\nfirst").await.expect("sent");
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.chunk().await.as_deref(), Some(&b"first"[..]));
    provider.write_all(b"second").await.expect("sent");
    assert_eq!(client.chunk().await.as_deref(), Some(&b"second"[..]));
    drop(provider);
    assert_eq!(client.chunk().await.as_deref(), Some(&b""[..]));
}

#[tokio::test]
async fn nor_do_those_of_an_answer_whose_length_is_known() {
    let (world, listener) = by_hand().await;
    let mut client = world.connect().await;
    let body = chat("x");
    client.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
    let mut provider = accept(&listener).await;
    let begin = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 16\r\n\r\nfirst--";
    provider.write_all(begin).await.expect("sent");
    assert_eq!(client.head().await.header("content-length"), Some("16"));
    assert_eq!(client.bytes(7).await, b"first--");
    provider.write_all(b"second-").await.expect("sent");
    assert_eq!(client.bytes(7).await, b"second-");
    provider.write_all(b"ok").await.expect("sent");
    assert_eq!(client.bytes(2).await, b"ok");
}
