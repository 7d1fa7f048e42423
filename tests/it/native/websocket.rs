//! WebSockets: who may, what of the handshake goes upstream, and bytes that pass in both directions until both sides end.

use std::future::Future;

use ai_gateway::demo::{After, Reply};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A frame that closes, with code 4000 and a reason.
const CLOSE: &[u8] = b"\x88\x05\x0f\xa0bye";

/// A world whose provider agrees to one WebSocket and then does this with it.
async fn world_of<F>(far: impl FnOnce(TcpStream) -> F + Send + 'static) -> World
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base_url = Some(format!("http://{}", listener.local_addr().expect("an address")));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n";
        stream.write_all(agreed).await.expect("sent");
        far(stream).await;
    });
    World::with(Setup { base_url, ..each_kind(ALL, "") }).await
}

/// A client's end of a WebSocket of the test key that was agreed to.
async fn opened(world: &World) -> Connection {
    let mut client = world.connect().await;
    client.send(handshake(&[("authorization", &bearer(KEY).1)])).await;
    assert_eq!(client.head().await.status, 101);
    client
}

/// An open WebSocket of the test key.
pub(super) async fn open(world: &World) -> Connection {
    world.provider.script(agrees());
    let mut client = world.connect().await;
    let key = format!("Bearer {KEY}");
    client.send(handshake(&[("authorization", &key), ("sec-websocket-protocol", "realtime")])).await;
    let head = client.head().await;
    assert_eq!(head.status, 101);
    client
}

#[tokio::test]
async fn a_thousand_messages_come_back_byte_for_byte() {
    let world = world().await;
    let mut client = open(&world).await;
    for number in 0_u32..1000 {
        let size = (number as usize * 37) % 3000 + 1;
        let message: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
        client.send(&message).await;
        assert_eq!(client.bytes(size).await, message, "{number}");
    }
    // A frame that closes, with code 1000 and a reason.
    let close = [&[0x88, 0x85, 1, 2, 3, 4][..], &[3 ^ 1, 0xe8 ^ 2, b'b' ^ 3, b'y' ^ 4, b'e' ^ 1]].concat();
    client.send(&close).await;
    assert_eq!(client.bytes(close.len()).await, close);
    client.stream.shutdown().await.expect("shut down");
    assert!(client.is_closed().await);
    eventually("the provider's end is closed", async || world.provider.open_connections() == 0).await;
    let call = &world.log.calls(1).await[0];
    assert_eq!((call["statusCode"].as_str(), call["providerName"].as_str()), (Some("101"), Some("openai")));
}

#[tokio::test]
async fn the_handshake_has_our_key_and_the_answer_the_gateways_headers() {
    let world = world().await;
    let by_protocol = format!("realtime, openai-insecure-api-key.{KEY}, openai-beta.realtime-v1");
    let key = format!("Bearer {KEY}");
    let ways = [
        (vec![("sec-websocket-protocol", &*by_protocol)], Some("realtime, openai-beta.realtime-v1")),
        (vec![("authorization", &*key), ("sec-websocket-extensions", "permessage-deflate")], None),
        (vec![("api-key", KEY), ("cookie", "a=1"), ("openai-beta", "realtime=v1")], None),
    ];
    for (more, protocols) in ways {
        world.provider.script(agrees());
        let mut client = world.connect().await;
        client.send(handshake(&more)).await;
        let head = client.head().await;
        assert_eq!(head.status, 101, "{more:?}");
        for (name, value) in [
            ("upgrade", "websocket"),
            ("connection", "Upgrade"),
            ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("sec-websocket-protocol", "realtime"),
            ("provider-name", "openai"),
            ("x-upstream-request-id", "theirs"),
        ] {
            assert_eq!(head.header(name), Some(value), "{more:?}");
        }
        assert!(head.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
        let received = world.provider.received().pop().expect("a call");
        assert_eq!(received.target, "/v1/realtime?model=gpt-realtime");
        assert_eq!(received.header("sec-websocket-protocol"), protocols);
        assert_eq!(received.header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
        assert_eq!((received.header("api-key"), received.header("cookie")), (None, None));
        assert_eq!(received.header("sec-websocket-version"), Some("13"));
        let all = format!("{:?}", received.headers);
        assert!(!all.contains("insecure-api-key"), "{all}");
        client.send("hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
    }
}

#[tokio::test]
async fn a_wrong_key_or_no_upgrade_is_refused_before_anything_is_sent() {
    let world = world().await;
    let key = format!("Bearer {KEY}");
    let twice = format!("openai-insecure-api-key.other, openai-insecure-api-key.{KEY}");
    for more in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("sec-websocket-protocol", "openai-insecure-api-key.wrong")],
        &[("sec-websocket-protocol", &*twice)],
        &[("authorization", &*key), ("sec-websocket-protocol", "openai-insecure-api-key.other")],
    ] {
        let mut client = world.connect().await;
        client.send(handshake(more)).await;
        client.response("GET").await.error(401, "invalid_request_error", "invalid_api_key");
    }
    let mut client = world.connect().await;
    for upgrade in [&[][..], &[("upgrade", "websocket")], &[("upgrade", "h2c"), ("connection", "upgrade")]] {
        client.send(with_key("GET", REALTIME, upgrade)).await;
        let message = client.response("GET").await.error(400, "invalid_request_error", "invalid_header");
        assert!(message.contains("WebSocket"), "{message}");
    }
    let mut client = world.connect().await;
    client.send(handshake(&[("authorization", &*key), ("content-length", "5")]) + "hello").await;
    client.response("GET").await.error(400, "invalid_request_error", "invalid_header");
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn a_provider_that_does_not_agree_is_heard() {
    let world = world().await;
    let key = format!("Bearer {KEY}");
    for (script, status) in [
        (Script::json(404, r#"{"error":{"message":"no such model"}}"#), 404),
        (Script::json(200, "{}"), 200),
        (Script::json(401, "{}"), 502),
        (Script::json(403, "{}"), 502),
    ] {
        world.provider.script(script);
        let mut client = world.connect().await;
        client.send(handshake(&[("authorization", &key)])).await;
        let answer = client.response("GET").await;
        assert_eq!((answer.status, answer.complete), (status, true));
    }
}

#[tokio::test]
async fn a_quiet_one_is_closed_and_one_that_speaks_is_not() {
    let world = world_with("timeouts: { idle: 1s, total: 1s }").await;
    let server = world.log.clone();
    let mut client = open(&world).await;
    for _ in 0..8 {
        client.send("hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(client.is_closed().await, "after a second of silence");
    assert_eq!(server.calls(1).await[0]["statusCode"], "101");
}

#[tokio::test]
async fn either_side_that_leaves_ends_the_other() {
    let world = world().await;
    let mut client = open(&world).await;
    client.send("hello").await;
    assert_eq!(client.bytes(5).await, b"hello");
    drop(client);
    eventually("the provider's end is closed", async || world.provider.open_connections() == 0).await;
    world.provider.script(Script { trailing: CLOSE.into(), after: After::Close, ..agrees() });
    let mut client = opened(&world).await;
    assert_eq!(client.bytes(CLOSE.len()).await, CLOSE);
    assert!(client.is_closed().await);
    drop(client);
    for call in world.log.calls(2).await {
        assert_eq!((&call["statusCode"], &call["code"]), (&"101".into(), &Value::Null), "{call}");
    }
}

#[tokio::test]
async fn what_is_on_its_way_when_the_client_half_closes_arrives() {
    let world = world().await;
    let mut client = open(&world).await;
    let messages: Vec<u8> = (0_u32..1000).flat_map(|number| number.to_le_bytes().repeat(25)).collect();
    client.send(&messages).await;
    client.end().await;
    assert!(client.bytes(messages.len()).await == messages);
    assert!(client.is_closed().await);

    let slow = world_of(async |mut far| {
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.expect("all, and the end");
        // Long after whoever ends with the client's end has ended.
        tokio::time::sleep(Duration::from_millis(50)).await;
        far.write_all(&said).await.expect("sent");
    });
    let slow = slow.await;
    let mut client = opened(&slow).await;
    client.send("hello").await;
    client.end().await;
    assert_eq!(client.bytes(5).await, b"hello");
    assert!(client.is_closed().await);
    assert_eq!(slow.log.calls(1).await[0]["statusCode"], "101");
}

#[tokio::test]
async fn what_is_on_its_way_when_the_provider_half_closes_arrives() {
    let (told, heard) = tokio::sync::oneshot::channel();
    let world = world_of(async |mut far| {
        far.write_all(CLOSE).await.expect("sent");
        far.shutdown().await.expect("shut down");
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.expect("all, and the end");
        told.send(said).expect("heard");
    });
    let world = world.await;
    let mut client = opened(&world).await;
    assert_eq!(client.bytes(CLOSE.len()).await, CLOSE);
    assert!(client.is_closed().await, "its end is there before the client's own");
    client.send(CLOSE).await;
    client.end().await;
    assert_eq!(tokio::time::timeout(SOON, heard).await.expect("in time").expect("told"), CLOSE);
    assert_eq!(world.log.calls(1).await[0]["statusCode"], "101");
}

#[tokio::test]
async fn none_is_lost_of_a_provider_that_agrees_and_speaks_at_once() {
    let world = world().await;
    let Reply::Raw(head) = agrees().reply else { panic!("bytes") };
    let together = Script::raw([&head[..], b"hello"].concat());
    for number in 0..300 {
        world.provider.script(match number % 2 {
            0 => Script { trailing: "hello".into(), ..agrees() },
            _ => Script { after: After::Mirror, ..together.clone() },
        });
        let mut client = opened(&world).await;
        assert_eq!(client.bytes(5).await, b"hello", "{number}");
        client.send("ping").await;
        assert_eq!(client.bytes(4).await, b"ping", "{number}");
    }
}

#[tokio::test]
async fn what_comes_behind_the_handshake_before_it_is_answered_arrives() {
    let world = world().await;
    let asks = handshake(&[("authorization", &bearer(KEY).1)]);
    for is_kept in [false, true] {
        for pieces in [
            vec![format!("{asks}hello")],
            vec![asks.clone(), "hel".into(), "lo".into()],
            vec![format!("{asks}he"), "llo".into()],
        ] {
            let mut client = world.connect().await;
            if is_kept {
                // From here on Pingora's loop has the connection.
                world.provider.script(Script::json(200, "{}"));
                client.send(with_key("GET", VOICES, &[])).await;
                assert_eq!(client.response("GET").await.status, 200);
            }
            // The pieces come one by one, and all of them before the answer.
            world.provider.script(Script { delay: Duration::from_millis(100), ..agrees() });
            for piece in &pieces {
                client.send(piece).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(client.head().await.status, 101);
            assert_eq!(client.bytes(5).await, b"hello", "{pieces:?}");
            client.end().await;
            assert!(client.is_closed().await, "and nothing else");
        }
    }
}

#[tokio::test]
async fn what_comes_behind_a_handshake_that_is_refused_is_no_request() {
    let world = world().await;
    for script in [Script::json(404, "{}"), Script::json(401, "{}"), Script::json(200, "{}")] {
        world.provider.script(script);
        let mut client = world.connect().await;
        let asks = handshake(&[("authorization", &bearer(KEY).1)]);
        client.send(asks + &with_key("GET", VOICES, &[])).await;
        let answer = client.response("GET").await;
        assert_eq!((answer.complete, answer.header("connection")), (true, Some("close")));
        assert!(client.is_closed().await);
    }
    assert_eq!(world.provider.received().len(), 3);
    // Nor behind one that the gateway itself refuses.
    for asks in [
        handshake(&[("authorization", "Bearer wrong")]),
        handshake(&[("authorization", &bearer(KEY).1), ("content-length", "1")]),
    ] {
        let mut client = world.connect().await;
        client.send(asks + &with_key("GET", VOICES, &[])).await;
        let answer = client.response("GET").await;
        assert!(matches!(answer.status, 400 | 401) && answer.complete, "{}", answer.text());
        assert!(client.is_closed().await);
    }
    assert_eq!(world.provider.received().len(), 3);
}

#[tokio::test]
async fn a_side_that_breaks_off_ends_the_other_and_is_told() {
    let world = world_of(async |mut far| {
        far.write_all(b"hello").await.expect("sent");
        let mut said = [0; 4];
        far.read_exact(&mut said).await.expect("sent");
        far.set_zero_linger().expect("set");
    });
    let world = world.await;
    let mut client = opened(&world).await;
    assert_eq!(client.bytes(5).await, b"hello");
    client.send("ping").await;
    assert!(client.is_closed().await);
    let call = &world.log.calls(1).await[0];
    assert_eq!((call["statusCode"].as_str(), call["code"].as_str()), (Some("101"), Some("upstream_error")), "{call}");

    let world = self::world().await;
    let client = open(&world).await;
    client.stream.set_zero_linger().expect("set");
    drop(client);
    eventually("the provider's end is closed", async || world.provider.open_connections() == 0).await;
    assert_eq!(world.log.calls(1).await[0]["statusCode"], "499");
}
