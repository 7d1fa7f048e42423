//! The binary with TLS: its first lines, SIGHUP, SIGTERM with a stream under way, and a client that nobody here wrote.
//!
//! Never does: wait for a drain without a deadline.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ai_gateway::demo::{Reply, Script};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::upgrade::{old_with, upgrade};

/// The address of the listener with TLS.
async fn address(service: &Service) -> SocketAddr {
    let message = service.process.says("listening on https://").await;
    let (_, address) = message.rsplit_once("https://").expect("an address");
    address.parse().expect("an address")
}

async fn service(authority: &Authority) -> (Service, Client) {
    let service = Service::with(with_tls(authority, "")).await;
    let client = Client::new(address(&service).await, authority);
    (service, client)
}

#[tokio::test]
async fn sigterm_lets_a_stream_over_http2_end_and_ends_with_it() {
    let (mut service, client) = service(&authority()).await;
    let h2 = client.h2().await;
    let quiet = client.h2().await;
    service.provider.script(Script { words: Some(40), gap: Some(Duration::from_millis(50)), ..Script::default() });
    let mut begun = h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await;
    assert!(begun.piece().await.expect("a piece").is_some());
    service.process.signal("TERM");
    eventually("connections are refused", async || TcpStream::connect(client.address).await.is_err()).await;
    let _ = timeout(SOON, quiet.connection).await.expect("a quiet connection is closed");
    assert!(service.process.runs());
    let (stream, reset) = begun.rest().await;
    assert!(stream.complete && reset.is_none() && stream.text().ends_with("data: [DONE]\n\n"));
    let over = Instant::now();
    let ended = service.process.end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(over.elapsed() < Duration::from_secs(3), "{:?} after the last stream", over.elapsed());
}

#[tokio::test]
async fn who_has_connected_before_a_stop_is_served_when_the_handshake_comes_late() {
    let (mut service, client) = service(&authority()).await;
    let [over_http1, over_http2] = [connected(&service, &client, 1.0).await, connected(&service, &client, 2.0).await];
    service.process.signal("TERM");
    service.process.says("listeners are closed").await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut stream = client.shake_hands(over_http1, &["http/1.1"]).await.expect("a handshake");
    stream.write_all(head("GET", MODELS, &[bearer(KEY)], b"").as_bytes()).await.expect("sent");
    let mut told = String::new();
    timeout(SOON, stream.read_to_string(&mut told)).await.expect("in time").expect("an end");
    assert!(
        told.starts_with("HTTP/1.1 200 OK\r\n") && told.to_ascii_lowercase().contains("\r\nconnection: close\r\n"),
        "{told}"
    );
    let h2 = H2::over(client.shake_hands(over_http2, &["h2"]).await.expect("a handshake")).await;
    assert_eq!(h2.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    drop(h2);
    assert_eq!(service.process.end().await.code, Some(0));
}

/// A connection that has been accepted, as the gauge tells, and has said nothing.
async fn connected(service: &Service, client: &Client, count: f64) -> TcpStream {
    let stream = TcpStream::connect(client.address).await.expect("connected");
    eventually("it is let in", async || service.metric("gateway_connections").await == count).await;
    stream
}

#[tokio::test]
async fn the_last_bytes_of_many_streams_are_not_lost() {
    let (mut service, client) = service(&authority()).await;
    let h2 = Arc::new(client.h2().await);
    let body = "x".repeat(300 << 10);
    let reply = Reply::Fixed { status: 200, headers: Vec::new(), body: body.clone().into() };
    let slow = Script { reply, delay: Duration::from_millis(400), times: 20, ..Script::default() };
    service.provider.script(slow);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let h2 = Arc::clone(&h2);
            tokio::spawn(async move { h2.post(CHAT, &chat("x")).await })
        })
        .collect();
    eventually("all run", async || service.provider.received().len() == 20).await;
    service.process.signal("TERM");
    for call in calls {
        let answer = call.await.expect("no panic");
        assert!(answer.complete && answer.body == body.as_bytes(), "{}", answer.body.len());
    }
    drop(h2);
    assert_eq!(service.process.end().await.code, Some(0));
}

#[tokio::test]
async fn sighup_replaces_the_certificate() {
    let first = authority();
    let (service, client) = service(&first).await;
    let h2 = client.h2().await;
    let next = authority();
    let (cert, key) = certificate(&next);
    std::fs::write(service.folder.path().join("cert.pem"), cert).expect("written");
    service.process.signal("HUP");
    service.process.says("the configuration was not reloaded").await;
    assert!(client.connect(&["h2"]).await.is_ok(), "a certificate without its key changes nothing");
    std::fs::write(service.folder.path().join("key.pem"), key).expect("written");
    service.process.signal("HUP");
    service.process.says("configuration reloaded").await;
    assert!(client.connect(&["h2"]).await.is_err());
    let new = Client::new(client.address, &next);
    assert_eq!(new.h2().await.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    assert_eq!(h2.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200, "the old connection lives on");
    let messages = service.process.messages();
    assert!(!messages.iter().any(|message| message.contains("handshake")), "{messages:?}");
}

#[tokio::test]
async fn failed_handshakes_are_told_from_debug_on() {
    let authority = authority();
    for (level, is_told) in [("debug", true), ("info", false)] {
        let variables = vec![("LOG_LEVEL".to_owned(), level.to_owned())];
        let service = Service::with(Setup { variables, ..with_tls(&authority, "") }).await;
        let address = address(&service).await;
        let mut scanner = Connection::open(address).await;
        scanner.send([b'x'; 600]).await;
        // An alert may come before the end.
        let _ = timeout(SOON, scanner.stream.read_to_end(&mut Vec::new())).await.expect("it is closed");
        let failed = |message: &String| message.starts_with("DEBUG a TLS handshake with 127.0.0.1 failed: ");
        if is_told {
            eventually("it is told", async || service.process.messages().iter().any(failed)).await;
        }
        let messages = service.process.messages();
        assert_eq!(messages.iter().any(|message| message.contains("handshake")), is_told, "{messages:?}");
    }
}

#[tokio::test]
async fn an_upgrade_hands_over_the_listener_and_lets_a_stream_over_http2_end() {
    let authority = authority();
    let mut service = old_with(with_tls(&authority, "")).await;
    let client = Client::new(address(&service).await, &authority);
    service.change("address: \"127.0.0.1:0\"", &format!("address: \"{}\"", client.address));
    let h2 = client.h2().await;
    service.provider.script(Script { words: Some(60), gap: Some(Duration::from_millis(50)), ..Script::default() });
    let mut begun = h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await;
    assert!(begun.piece().await.expect("a piece").is_some());
    let mut old = upgrade(&mut service).await;
    old.says("INFO listeners are closed").await;
    assert_eq!(client.h2().await.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    let (stream, reset) = begun.rest().await;
    assert!(stream.complete && reset.is_none() && stream.text().ends_with("data: [DONE]\n\n"));
    drop(h2);
    assert_eq!(old.end().await.code, Some(0));
    assert_eq!(client.h2().await.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
}

#[tokio::test]
async fn check_shows_the_listener_with_tls() {
    let (_provider, folder) = prepare(&with_tls(&authority(), "")).await;
    let ended = Process::run(folder.path(), &["check", "--config", "gateway.yaml"], &[]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("listen         127.0.0.1:0, https://127.0.0.1:0\n"), "{}", ended.stdout);
}

/// What curl says of a POST: the answer, then the version and the status. `None` where there is no curl with HTTP/2.
async fn curl(client: &Client, folder: &Path, flag: &'static str, body: &str) -> Option<String> {
    let (port, folder, body) = (client.address.port(), folder.to_owned(), body.to_owned());
    let run = move || {
        let version = Command::new("curl").arg("-V").output().ok()?;
        String::from_utf8_lossy(&version.stdout).contains("HTTP2").then_some(())?;
        let run = Command::new("curl")
            .current_dir(folder)
            .env_clear()
            .stdin(Stdio::null())
            .args(["-sS", "-N", flag, "--cacert", "ca.pem", "--max-time", "10"])
            .args(["--resolve", &format!("localhost:{port}:127.0.0.1"), "-w", "\n%{http_version} %{http_code}"])
            .args(["-H", &format!("authorization: Bearer {KEY}"), "-H", "content-type: application/json"])
            .args(["--data-binary", &body, &format!("https://localhost:{port}{CHAT}")])
            .output()
            .expect("curl runs");
        Some(String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned())
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

#[tokio::test]
async fn curl_speaks_both_protocols() {
    let (service, client) = service(&authority()).await;
    let folder = service.folder.path();
    std::fs::write(folder.join("body.json"), chat(&"x".repeat(2 << 20))).expect("written");
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        for (body, holds) in [(chat_stream("hello").as_str(), "data: [DONE]\n\n"), ("@body.json", "chat.completion")] {
            // Where there is no such curl, the rest of this file has said the same.
            let Some(told) = curl(&client, folder, flag, body).await else { return };
            assert!(told.ends_with(&format!("\n{version} 200")) && told.contains(holds), "{flag}: {told}");
        }
    }
}
