//! Who gets in and how long a head may take: drips, full houses, and what must never be taken for either.
//!
//! Invariant: what is not cut has gone on for longer than the deadline of a head.
//! Never does: leave the machine; who is to count by his address calls by one of the machine's own, since loopback is exempt
//! (`src/server/connections.rs`).

mod http2;

use std::time::Duration;

use ai_gateway::demo::Script;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{heavy, *};

const CHAT: &str = "/openai/v1/chat/completions";
const WITHIN: Duration = Duration::from_secs(1);
/// Longer than a head may take.
const LONGER: Duration = Duration::from_millis(1800);

async fn world(limits: &str) -> World {
    World::with(Setup { server: format!("limits: {{ {limits} }}"), ..each_kind(ALL, "") }).await
}

async fn refused(world: &World, reason: &str) -> f64 {
    metric(&world.metrics().await, &format!("gateway_connections_refused_total{{reason=\"{reason}\"}}"))
}

async fn open(world: &World) -> f64 {
    metric(&world.metrics().await, "gateway_connections")
}

/// Sends a byte each 100 ms until the gateway closes; how long that took. Nothing may be answered.
async fn drip(client: &mut Connection) -> Duration {
    let started = Instant::now();
    client.send("GET /livez HTTP/1.1\r\nhost: gateway.test\r\nx-slow: ").await;
    while client.try_send("x").await {
        assert!(started.elapsed() < SOON, "never closed");
        let mut room = [0];
        let read = timeout(Duration::from_millis(100), client.stream.peek(&mut room)).await;
        match read {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => panic!("a head that is not whole was answered"),
            Err(_) => {}
        }
    }
    started.elapsed()
}

#[tokio::test]
async fn a_drip_does_not_keep_a_new_connection() {
    let world = world("head_timeout: 1s").await;
    let mut client = world.connect().await;
    let took = drip(&mut client).await;
    assert!(took >= WITHIN - Duration::from_millis(200), "{took:?}");
    assert!(took < 5 * WITHIN, "{took:?}");
    assert_eq!(refused(&world, "head_timeout").await, 1.0);
    eventually("it is gone", async || open(&world).await == 0.0).await;
    assert!(world.log.calls(0).await.is_empty(), "it was no call");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_too() {
    let world = world("head_timeout: 1s").await;
    let mut client = world.connect().await;
    let started = Instant::now();
    assert!(client.is_closed().await);
    assert!(started.elapsed() < 5 * WITHIN);
    assert_eq!(refused(&world, "head_timeout").await, 1.0);
}

#[tokio::test]
async fn a_drip_does_not_keep_a_connection_that_was_served() {
    let world = world("head_timeout: 1s").await;
    let mut client = world.connect().await;
    for _ in 0..2 {
        assert_eq!(client.post(CHAT, &chat("hello")).await.status, 200);
        // A kept connection may rest for longer than a head may take.
        sleep(LONGER).await;
    }
    assert_eq!(client.request("GET", "/livez", &[], b"").await.status, 200);
    sleep(LONGER).await;
    assert_eq!(refused(&world, "head_timeout").await, 0.0);
    let took = drip(&mut client).await;
    assert!(took >= WITHIN - Duration::from_millis(200), "{took:?}");
    assert!(took < 5 * WITHIN, "{took:?}");
    assert_eq!(refused(&world, "head_timeout").await, 1.0);
}

#[tokio::test]
async fn a_head_in_pieces_that_ends_in_time_is_served() {
    let world = world("head_timeout: 10s").await;
    let mut client = world.connect().await;
    let body = chat("hello");
    let head = head("POST", CHAT, &[bearer(KEY), ("content-type", "application/json".to_owned())], body.as_bytes());
    for _ in 0..2 {
        for piece in head.as_bytes().chunks(head.len() / 4) {
            client.send(piece).await;
            sleep(Duration::from_millis(20)).await;
        }
        client.send(&body).await;
        assert_eq!(client.response("POST").await.status, 200);
    }
}

/// Sends a body that takes longer than a head may; on the exchange and on the native path.
#[tokio::test]
async fn a_slow_body_is_not_cut() {
    let world = world("head_timeout: 1s").await;
    for (path, kind) in [(CHAT, "application/json"), (UPLOAD, "multipart/form-data; boundary=b")] {
        let mut client = world.connect().await;
        let body = chat(&"x".repeat(1000));
        let headers = [bearer(KEY), ("content-type", kind.to_owned())];
        for _ in 0..2 {
            world.provider.script(Script::json(200, r#"{"ok":true}"#));
            client.send(head("POST", path, &headers, body.as_bytes())).await;
            for piece in body.as_bytes().chunks(body.len().div_ceil(6)) {
                sleep(LONGER / 6).await;
                client.send(piece).await;
            }
            assert_eq!(client.response("POST").await.status, 200, "{path}");
        }
    }
    assert_eq!(refused(&world, "head_timeout").await, 0.0);
}

#[tokio::test]
async fn a_long_stream_is_not_cut() {
    let world = world("head_timeout: 1s").await;
    world.provider.script(Script { words: Some(8), gap: Some(Duration::from_millis(300)), ..Script::default() });
    let mut client = world.connect().await;
    let answer = client.post(CHAT, &chat_stream("hello")).await;
    assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(client.post(CHAT, &chat("again")).await.status, 200, "and its connection goes on");
    assert_eq!(refused(&world, "head_timeout").await, 0.0);
}

#[tokio::test]
async fn a_websocket_is_not_cut() {
    let world = world("head_timeout: 1s").await;
    world.provider.script(agrees());
    let mut client = world.connect().await;
    client.send(handshake(&[("authorization", &bearer(KEY).1)])).await;
    assert_eq!(client.head().await.status, 101);
    for _ in 0..2 {
        sleep(LONGER).await;
        client.send("hello").await;
        assert_eq!(client.bytes(5).await, b"hello");
    }
    assert_eq!((refused(&world, "head_timeout").await, open(&world).await), (0.0, 1.0));
}

#[tokio::test]
async fn slow_connections_do_not_delay_others() {
    let world = world("head_timeout: 10s").await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut client = world.connect().await;
        client.send("GET /livez HTTP/1.1\r\nhost: ").await;
        slow.push(client);
    }
    let started = Instant::now();
    for _ in 0..10 {
        for client in &mut slow {
            client.send("x").await;
        }
        assert_eq!(world.post(CHAT, &chat("hello")).await.status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    for client in &mut slow {
        client.send("\r\n\r\n").await;
        assert_eq!(client.response("GET").await.status, 200);
    }
}

#[tokio::test]
async fn one_connection_too_many_is_closed_unread_and_there_is_room_again() {
    let world = world("max_connections: 3").await;
    let mut clients = Vec::new();
    for number in 1..=3 {
        let mut client = world.connect().await;
        assert_eq!(client.request("GET", "/livez", &[], b"").await.status, 200);
        assert_eq!(open(&world).await, f64::from(number));
        clients.push(client);
    }
    for number in 1..=2 {
        assert!(world.connect().await.is_closed().await);
        assert_eq!(refused(&world, "total").await, f64::from(number));
    }
    for client in &mut clients {
        assert_eq!(client.post(CHAT, &chat("hello")).await.status, 200, "those that are in stay");
    }
    clients.pop();
    eventually("there is room", async || open(&world).await == 2.0).await;
    assert_eq!(world.post(CHAT, &chat("hello")).await.status, 200);
    assert_eq!(refused(&world, "total").await, 2.0);
}

#[tokio::test]
async fn clients_that_leave_at_any_moment_leave_no_connection_behind() {
    let world = world("max_connections: 15").await;
    let body = chat_stream("hello");
    let whole = head("POST", CHAT, &[bearer(KEY), ("content-type", "application/json".to_owned())], body.as_bytes());
    for sent in [0, 10, whole.len(), whole.len() + 10, whole.len() + body.len()] {
        for _ in 0..3 {
            world.provider.script(Script { gap: Some(Duration::from_secs(2)), ..Script::default() });
            let mut client = world.connect().await;
            client.send(&format!("{whole}{body}")[..sent]).await;
            if sent > whole.len() + 10 {
                assert_eq!(client.head().await.status, 200);
            }
        }
        eventually("all are gone", async || open(&world).await == 0.0).await;
    }
    // Each of the fifteen gave its place back: as many find one again.
    let mut all = Vec::new();
    for _ in 0..15 {
        let mut client = world.connect().await;
        assert_eq!(client.request("GET", "/livez", &[], b"").await.status, 200);
        all.push(client);
    }
    let refused = ["total", "address", "head_timeout"];
    for reason in refused {
        assert_eq!(self::refused(&world, reason).await, 0.0, "{reason}");
    }
}

#[tokio::test]
async fn a_reload_changes_the_limits_for_new_connections() {
    let world = world("max_connections: 1").await;
    let mut first = world.connect().await;
    assert_eq!(first.request("GET", "/livez", &[], b"").await.status, 200);
    assert!(world.connect().await.is_closed().await);
    let reload = |from: &str, to: &str| {
        let yaml = std::fs::read_to_string(world.config_file()).expect("readable");
        assert!(yaml.contains(from));
        std::fs::write(world.config_file(), yaml.replace(from, to)).expect("written");
        world.gateway.reload().expect("a good configuration");
    };
    // Loopback is exempt from the limit for each address.
    reload("max_connections: 1", "max_connections: 2, max_connections_per_address: 1, head_timeout: 1s");
    let mut second = world.connect().await;
    assert_eq!(second.request("GET", "/livez", &[], b"").await.status, 200);
    drop(second);
    eventually("there is room", async || open(&world).await == 1.0).await;
    let took = drip(&mut world.connect().await).await;
    assert!(took < 5 * WITHIN, "{took:?}");
    reload("max_connections: 2", "max_connections: 1");
    assert!(world.connect().await.is_closed().await);
    assert_eq!(first.request("GET", "/livez", &[], b"").await.status, 200);
}

/// An address of this machine that is not loopback; asking for the way to another one sends nothing.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_loopback())
}

#[tokio::test]
async fn one_address_may_have_so_many_connections_and_another_one_its_own() {
    let Some(own) = own_address() else {
        heavy::told("not tested: this machine has no address but loopback");
        return;
    };
    let setup = Setup {
        listen: vec![format!("\"{own}:0\"")],
        server: "limits: { max_connections_per_address: 2 }".to_owned(),
        ..Setup::default()
    };
    let world = World::with(setup).await;
    let address = world.gateway.addresses()[1];
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Connection::open(address).await;
        assert_eq!(client.post(CHAT, &chat("hello")).await.status, 200);
        clients.push(client);
    }
    for number in 1..=2 {
        assert!(Connection::open(address).await.is_closed().await);
        assert_eq!(refused(&world, "address").await, f64::from(number));
    }
    for _ in 0..4 {
        assert_eq!(world.post(CHAT, &chat("hello")).await.status, 200, "loopback does not count");
    }
    assert_eq!(clients[0].post(CHAT, &chat("hello")).await.status, 200, "those that are in stay");
    clients.pop();
    eventually("there is room again", async || {
        let mut client = Connection::open(address).await;
        client.send(head("GET", "/livez", &[], b"")).await;
        client.status().await == Some(200)
    })
    .await;
}

/// The first bytes of a ClientHello of 512 bytes.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// A gateway that has a listener with TLS too, and a client of that.
async fn with_tls(limits: &str) -> (World, Client) {
    let authority = Authority::new();
    let (listen, files) = authority.listener();
    let server = format!("limits: {{ {limits} }}");
    let world = World::with(Setup { listen: vec![listen], files, server, ..Setup::default() }).await;
    let client = Client::new(world.gateway.addresses()[1], authority.issuer());
    (world, client)
}

#[tokio::test]
async fn a_handshake_that_does_not_end_takes_the_place_of_a_connection() {
    let (world, client) = with_tls("max_connections: 4").await;
    let tls = client.address;
    let served = client.h2().await;
    assert_eq!(served.post(CHAT, &chat("hello")).await.status, 200);
    assert_eq!(open(&world).await, 1.0, "who is served counts once");
    let mut half = Vec::new();
    for sent in [&b""[..], HALF_A_HELLO, HALF_A_HELLO] {
        let mut client = Connection::open(tls).await;
        client.send(sent).await;
        half.push(client);
    }
    eventually("all count", async || open(&world).await == 4.0).await;
    assert!(world.connect().await.is_closed().await, "there is no room for one without TLS");
    assert!(client.connect(&["h2"]).await.is_err(), "nor for one with it");
    assert_eq!(refused(&world, "total").await, 2.0);
    assert_eq!(served.post(CHAT, &chat("hello")).await.status, 200, "those that are in stay");
    // One leaves, one says what is no TLS: both give their places back.
    half.remove(0);
    half[0].send([b'x'; 600]).await;
    eventually("there is room", async || open(&world).await == 2.0).await;
    assert_eq!(world.post(CHAT, &chat("hello")).await.status, 200);
    assert_eq!(client.h2().await.post(CHAT, &chat("hello")).await.status, 200);
    assert_eq!(refused(&world, "total").await, 2.0);
}

#[tokio::test]
async fn a_handshake_may_take_as_long_as_a_head() {
    let (world, client) = with_tls("head_timeout: 1s").await;
    let started = Instant::now();
    let mut half = Connection::open(client.address).await;
    half.send(HALF_A_HELLO).await;
    assert!(half.is_closed().await);
    let took = started.elapsed();
    assert!(took >= WITHIN - Duration::from_millis(200) && took < 5 * WITHIN, "{took:?}");
    assert_eq!(refused(&world, "head_timeout").await, 1.0);
    eventually("it is gone", async || open(&world).await == 0.0).await;
}
