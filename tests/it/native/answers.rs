//! Answers on their way back: bytes of any kind, piece by piece, under the same headers as those of the exchange.

use ai_gateway::demo::{Framing, Interim};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn a_binary_answer_is_the_same_in_each_framing() {
    let world = world().await;
    let mut client = world.connect().await;
    let audio: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
        for pieces in [vec![], vec![1, 2, 70_000]] {
            let script = fixed(200, &[("content-type", "audio/mpeg")], audio.clone());
            world.provider.script(Script { framing, pieces, ..script });
            let answer = client.request("POST", SPEECH, &[bearer(KEY)], b"{\"input\":\"x\"}").await;
            assert_eq!((answer.status, answer.complete), (200, true));
            assert!(answer.body == audio, "{framing:?}");
            assert_eq!(answer.header("content-type"), Some("audio/mpeg"));
            let known = framing == Framing::Length;
            assert_eq!(answer.header("content-length"), known.then_some("1200000"));
            assert_eq!(answer.header("transfer-encoding"), (!known).then_some("chunked"));
        }
    }
}

#[tokio::test]
async fn each_piece_is_there_before_the_next_one_is_sent() {
    for client in [Http::One, Http::Two] {
        for size in [7, 1_000, 6_000] {
            for chunked in [false, true] {
                each_piece_is_there(client, size, chunked).await;
            }
        }
    }
}

async fn each_piece_is_there(client: Http, size: usize, chunked: bool) {
    const COUNT: usize = 5;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base_url = format!("http://{}", listener.local_addr().expect("an address"));
    let pair = Pair { client, ..Pair::default() };
    let world = World::with(Setup { base_url: Some(base_url), pair, ..each_kind(ALL, "") }).await;
    let begins = async {
        let (mut provider, _) = timeout(SOON, listener.accept()).await.expect("in time").expect("accepted");
        let mut request = Vec::new();
        while !String::from_utf8_lossy(&request).contains("{}") {
            assert!(timeout(SOON, provider.read_buf(&mut request)).await.expect("in time").expect("read") > 0);
        }
        let framing = match chunked {
            true => "transfer-encoding: chunked".to_owned(),
            false => format!("content-length: {}", COUNT * size),
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\n{framing}\r\n\r\n");
        provider.write_all(head.as_bytes()).await.expect("sent");
        provider
    };
    let (mut provider, mut begun) = tokio::join!(begins, world.client().await.begin(SPEECH, "{}"));
    assert_eq!(begun.head().status, 200, "the head is there before the first piece");
    for count in 0..COUNT {
        let piece = vec![b'a' + count as u8; size];
        let framed = match chunked {
            true => [format!("{size:x}\r\n").as_bytes(), &piece, b"\r\n"].concat(),
            false => piece.clone(),
        };
        provider.write_all(&framed).await.expect("sent");
        let came = match &mut begun {
            AnyBegun::Http1(client, _) if !chunked => client.bytes(size).await,
            begun => begun.bytes(size).await,
        };
        assert!(came == piece, "{client:?} {size} {chunked} {count}");
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_both_connections() {
    let world = world().await;
    let mut client = world.connect().await;
    let heads = [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n", 304),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", 200),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        ("GET", "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", 200),
    ];
    for (method, raw, status) in heads {
        world.provider.script(Script::raw(raw));
        client.send(with_key(method, VOICES, &[])).await;
        let head = client.head().await;
        assert_eq!((head.status, head.header("connection")), (status, Some("keep-alive")), "{raw}");
        assert!(client.body(head, method == "HEAD").await.complete);
    }
    assert!(world.connections_were_shared());
}

#[tokio::test]
async fn an_old_client_gets_no_chunks() {
    let world = world().await;
    for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
        world.provider.script(Script { framing, ..fixed(200, &[], "hello") });
        let mut client = world.connect().await;
        client.send(with_key("GET", VOICES, &[]).replace("HTTP/1.1", "HTTP/1.0")).await;
        let answer = client.response("GET").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert_eq!((answer.header("transfer-encoding"), answer.header("connection")), (None, Some("close")));
        assert!(client.is_closed().await, "{framing:?}");
    }
}

/// What a client sends, of which some stays at the gateway.
const FROM_CLIENT: &[(&str, &str)] = &[
    ("cookie", "session=1"),
    ("connection", "keep-alive, X-Hop"),
    ("x-hop", "1"),
    ("te", "trailers"),
    ("upgrade", "websocket"),
    ("proxy-authorization", "Basic x"),
    ("x-forwarded-for", "10.0.0.1"),
    ("forwarded", "for=10.0.0.1"),
    ("x-request-id", "theirs"),
    ("x-set", "no"),
    ("accept-encoding", "gzip, br"),
    ("api-key", KEY),
    ("x-api-key", KEY),
    ("on-behalf-of", "someone"),
    ("origin", "https://app.example"),
    ("openai-organization", "org-1"),
    ("openai-beta", "assistants=v2"),
    ("traceparent", "00-1-2-01"),
    ("user-agent", "OpenAI/Python 2.0"),
    ("content-type", "application/json"),
    ("content-length", "2"),
];

/// What a provider sends, of which some stays there.
const FROM_PROVIDER: &[(&str, &str)] = &[
    ("content-type", "application/json"),
    ("set-cookie", "__cf_bm=1"),
    ("alt-svc", "h3=\":443\""),
    ("strict-transport-security", "max-age=1"),
    ("connection", "keep-alive, x-far-hop"),
    ("x-far-hop", "1"),
    ("keep-alive", "timeout=5"),
    ("x-request-id", "provider's"),
    ("retry-after", "3"),
    ("x-ratelimit-remaining-requests", "9"),
    ("access-control-allow-origin", "https://api.test"),
    ("provider-name", "forged"),
];

#[tokio::test]
async fn both_ways_send_and_give_back_the_same_headers() {
    let world = world_with("headers: { x-set: \"1\" }, query: { api-version: \"7\" }").await;
    let mut seen = Vec::new();
    for path in [CHAT, UPLOAD, "/openai/v1/files"] {
        let interim = vec![Interim { status: 103, headers: Vec::new() }];
        world.provider.script(Script { interim, ..fixed(200, FROM_PROVIDER, "{}") });
        let mut client = world.connect().await;
        client.send(with_key("POST", path, FROM_CLIENT) + "{}").await;
        let mut answer = client.response("POST").await;
        let changes = ["date", "x-request-id", "server-timing", "provider-response-time"];
        for name in changes {
            assert!(answer.header(name).is_some(), "{path}: {name}");
        }
        answer.headers.retain(|(name, _)| !changes.contains(&name.as_str()));
        answer.headers.sort();
        let received = world.provider.received().pop().expect("a call");
        let mut sent: Vec<(String, String)> = Vec::new();
        for (name, value) in received.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("x-request-id")) {
            sent.push((name.to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned()));
        }
        sent.sort();
        assert!(received.target.ends_with("?api-version=7"), "{}", received.target);
        seen.push((path, sent, answer.headers));
    }
    for (path, sent, back) in &seen[1..] {
        assert_eq!(*sent, seen[0].1, "{path}");
        assert_eq!(*back, seen[0].2, "{path}");
    }
    let names: Vec<&str> = seen[0].1.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"authorization") && !names.contains(&"cookie") && !names.contains(&"x-hop"), "{names:?}");
}
