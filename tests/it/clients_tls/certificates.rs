//! Certificates of both sides: replaced on a listener that serves, refused whole where they are bad, asked of clients.
//!
//! Never does: restart a gateway.

use std::path::Path;
use std::time::Duration;

use ai_gateway::demo::Script;

use super::*;

fn write(folder: &Path, (cert, key): (String, String)) {
    std::fs::write(folder.join("cert.pem"), cert).expect("written");
    std::fs::write(folder.join("key.pem"), key).expect("written");
}

/// What the gateway shows to this client.
async fn shown(client: &Client) -> io::Result<Vec<u8>> {
    let stream = client.connect(&["h2"]).await?;
    Ok(stream.get_ref().1.peer_certificates().expect("a certificate")[0].to_vec())
}

#[tokio::test]
async fn a_reload_shows_a_new_certificate_and_keeps_old_connections() {
    let (world, client) = world("").await;
    let (next, first) = (authority(), shown(&client).await.expect("a handshake"));
    let h2 = client.h2().await;
    world.provider.script(Script { words: Some(10), gap: Some(Duration::from_millis(50)), ..Script::default() });
    let mut begun = h2.begin("POST", CHAT, &json(), chat_stream("x").as_bytes()).await;
    assert!(begun.piece().await.expect("a piece").is_some());
    write(world.folder.path(), certificate(&next));
    assert_eq!(shown(&client).await.expect("a handshake"), first, "not before the reload");
    world.gateway.reload().expect("reloaded");
    assert!(shown(&client).await.is_err(), "the old authority vouches no longer");
    let new = Client { believes: next.der().clone(), ..client };
    assert_ne!(shown(&new).await.expect("a handshake"), first);
    assert_eq!(new.h2().await.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    let (stream, reset) = begun.rest().await;
    assert!(stream.complete && reset.is_none() && stream.text().ends_with("data: [DONE]\n\n"));
    assert_eq!(h2.post(CHAT, &chat("hello")).await.status, 200, "the old connection lives on");
    assert_eq!(metric(&world.metrics().await, "gateway_restart_required"), 0.0);
}

#[tokio::test]
async fn a_bad_certificate_refuses_the_whole_reload() {
    let (world, client) = world("").await;
    let first = shown(&client).await.expect("a handshake");
    let (next, other) = (certificate(&authority()), certificate(&authority()));
    let yaml = std::fs::read_to_string(world.config_file()).expect("read");
    std::fs::write(world.config_file(), yaml.replace("threads: 2", "threads: 2, limits: { max_body: 1KiB }"))
        .expect("written");
    for (cert, key) in
        [(next.0.clone(), other.1), (next.0.clone(), String::new()), ("rubbish".to_owned(), next.1.clone())]
    {
        write(world.folder.path(), (cert, key));
        let report = world.gateway.reload().expect_err("refused").to_string();
        assert!(report.contains("gateway.yaml:1:") && report.contains("server.listen[1].tls."), "{report}");
        assert_eq!(shown(&client).await.expect("a handshake"), first);
        assert_eq!(
            client.h2().await.post(CHAT, &chat(&"x".repeat(2000))).await.status,
            200,
            "the rest is as it was too"
        );
    }
    write(world.folder.path(), next);
    world.gateway.reload().expect("reloaded");
    assert!(shown(&client).await.is_err(), "another authority");
}

#[tokio::test]
async fn clients_show_a_certificate_where_one_is_asked_for() {
    let authority = authority();
    let world = World::with(with_tls(&authority, ", client_ca: ca.pem")).await;
    let client = Client::new(world.gateway.addresses()[1], &authority);
    let own = Client { shows: Some(certificate(&authority)), ..client.clone() };
    let foreign = Client { shows: Some(certificate(&super::authority())), ..client.clone() };
    let h2 = own.h2().await;
    assert_eq!(h2.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    assert_eq!(h2.request("GET", MODELS, &[], b"").await.status, 401, "a certificate is no key");
    for refused in [client, foreign] {
        // In TLS 1.3 a client hears of it only when it reads.
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        if let Ok(mut stream) = refused.connect(&["http/1.1"]).await {
            let _ = stream.write_all(head("GET", MODELS, &[bearer(KEY)], b"").as_bytes()).await;
            let mut told = Vec::new();
            let read = timeout(SOON, stream.read_to_end(&mut told)).await.expect("in time");
            assert!(read.is_err() && told.is_empty(), "{told:?}");
        }
    }
    assert_eq!(world.provider.received().len(), 1);
    std::fs::write(world.folder.path().join("ca.pem"), super::authority().pem()).expect("written");
    world.gateway.reload().expect("reloaded");
    assert_eq!(
        metric(&world.metrics().await, "gateway_restart_required"),
        1.0,
        "another authority waits for a restart"
    );
    assert_eq!(own.h2().await.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
}
