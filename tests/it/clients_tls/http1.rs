//! HTTP/1.1 over TLS, the choice of the protocol, and what does not speak TLS.
//!
//! Never does: look into HTTP/2.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Sends bytes over a new connection and reads to its end.
async fn say(client: &Client, protocols: &[&str], bytes: &str) -> String {
    let mut stream = client.connect(protocols).await.expect("a handshake");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut told = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut told)).await.expect("in time");
    String::from_utf8(told).expect("UTF-8")
}

fn closing(method: &str, path: &str, body: &str) -> String {
    let headers = json().into_iter().chain([("connection", "close".to_owned())]).collect::<Vec<_>>();
    head(method, path, &headers, body.as_bytes()) + body
}

#[tokio::test]
async fn calls_are_served_as_on_the_plain_listener() {
    let (world, client) = world("").await;
    for protocols in [&["http/1.1"][..], &[]] {
        let models = say(&client, protocols, &closing("GET", MODELS, "")).await;
        assert!(models.starts_with("HTTP/1.1 200 OK\r\n") && models.contains("\"list\""), "{models}");
        assert!(models.contains(&format!("\r\nstrict-transport-security: {HSTS}\r\n")), "{models}");
        let stream = say(&client, protocols, &closing("POST", CHAT, &chat_stream("hello"))).await;
        assert!(stream.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked\r\n"), "{stream}");
        assert!(stream.contains("data: [DONE]\n\n") && stream.ends_with("\r\n0\r\n\r\n"), "{stream}");
    }
    let refused = say(&client, &[], "GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 404") && refused.contains("strict-transport-security"), "{refused}");
    let plain = world.get(MODELS).await;
    assert_eq!((plain.status, plain.header("strict-transport-security")), (200, None), "only over TLS");
}

#[tokio::test]
async fn a_websocket_half_closes_over_tls_too() {
    let authority = authority();
    let Setup { listen, files, .. } = with_tls(&authority, "");
    let world = World::with(Setup { listen, files, ..each_kind(ALL, "") }).await;
    let client = Client::new(world.gateway.addresses()[1], &authority);
    world.provider.script(agrees());
    let mut stream = client.connect(&["http/1.1"]).await.expect("a handshake");
    let asks = handshake(&[("authorization", &bearer(KEY).1)]);
    stream.write_all(asks.as_bytes()).await.expect("sent");
    let messages = vec![b'x'; 100_000];
    stream.write_all(&messages).await.expect("sent");
    stream.shutdown().await.expect("sent");
    let mut told = Vec::new();
    timeout(SOON, stream.read_to_end(&mut told)).await.expect("in time").expect("an end that TLS knows of");
    assert!(told.starts_with(b"HTTP/1.1 101 ") && told.ends_with(&messages), "{} bytes", told.len());
}

#[tokio::test]
async fn the_protocol_is_negotiated() {
    let (_world, client) = world("").await;
    for (offered, chosen) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let stream = client.connect(offered).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes), "{offered:?}");
    }
    assert!(client.connect(&["spdy/1"]).await.is_err(), "nothing in common");
}

#[tokio::test]
async fn what_is_no_tls_does_no_harm() {
    let (world, client) = world("").await;
    for garbage in
        [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &[0; 4096], &[22, 3, 1, 255, 255, 1], b"PRI * HTTP/2.0\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(client.address).await.expect("connected");
        stream.write_all(garbage).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let mut told = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut told)).await.expect("in time");
        assert!(!told.starts_with(b"HTTP"), "{told:?}");
    }
    assert_eq!(client.h2().await.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    assert_eq!(world.provider.received().len(), 1);
}

#[tokio::test]
async fn http2_in_clear_text_is_refused_at_once() {
    let world = World::start().await;
    let mut connection = world.connect().await;
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    connection.send([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), settings].concat()).await;
    let mut told = Vec::new();
    let _ = timeout(SOON, connection.stream.read_to_end(&mut told)).await.expect("closed in time");
    let told = String::from_utf8_lossy(&told);
    assert!(told.is_empty() || told.starts_with("HTTP/1.1 400"), "{told:?}");
    assert_eq!((world.get(MODELS).await.status, world.provider.received().len()), (200, 1));
}

#[tokio::test]
async fn a_head_has_to_come_in_time_and_a_body_need_not() {
    let (world, client) = world("limits: { head_timeout: 1s }").await;
    let late = "gateway_connections_refused_total{reason=\"head_timeout\"}";
    let mut stream = client.connect(&["http/1.1"]).await.expect("a handshake");
    let body = chat("hello");
    let head = head("POST", CHAT, &[bearer(KEY), ("connection", "close".to_owned())], body.as_bytes());
    stream.write_all(head.as_bytes()).await.expect("sent");
    for piece in body.as_bytes().chunks(body.len().div_ceil(3)) {
        stream.flush().await.expect("sent");
        tokio::time::sleep(std::time::Duration::from_millis(600)).await;
        stream.write_all(piece).await.expect("sent");
    }
    let mut answer = String::new();
    let _ = timeout(SOON, stream.read_to_string(&mut answer)).await.expect("in time");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(metric(&world.metrics().await, late), 0.0);

    let mut silent = client.connect(&["http/1.1"]).await.expect("a handshake");
    silent.write_all(b"GET /livez HTTP/1.1\r\n").await.expect("sent");
    let mut told = Vec::new();
    let _ = timeout(SOON, silent.read_to_end(&mut told)).await.expect("closed in time");
    assert_eq!((told.len(), metric(&world.metrics().await, late)), (0, 1.0));
}
