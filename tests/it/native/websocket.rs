//! WebSockets: who may, what of the handshake goes upstream, and bytes that pass in both directions until either side ends.

use ai_gateway::demo::After;
use tokio::io::AsyncWriteExt;

use super::*;

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
    let script = Script { trailing: "\u{88}\u{2}bye".into(), after: After::Close, ..agrees() };
    world.provider.script(script);
    let mut client = world.connect().await;
    client.send(handshake(&[("authorization", &format!("Bearer {KEY}"))])).await;
    assert_eq!(client.head().await.status, 101);
    let said = "\u{88}\u{2}bye".as_bytes();
    assert_eq!(client.bytes(said.len()).await, said);
    assert!(client.is_closed().await);
}
