//! Providers that hang: calls to others go on, and so does what the gateway does by itself.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_and_fifty_hanging_calls_starve_no_other_route() {
    let (hanging, port) = silent().await;
    let setup = Setup {
        providers: format!("  hanging: {{ base_url: \"http://127.0.0.1:{port}\", api_key: x }}"),
        key_file: Some(KEY_FILE.replacen(
            "\"scopes\": [",
            "\"scopes\": [{\"method\": \"*\", \"path\": \"/hanging/*\"},",
            1,
        )),
        ..Setup::default()
    };
    let service = Service::with(setup).await;
    let body = chat("x");
    let mut held = Vec::new();
    for _ in 0..150 {
        let mut client = service.connect().await;
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        client.send(head("POST", "/hanging/v1/chat/completions", &headers, body.as_bytes()) + &body).await;
        held.push(client);
    }
    eventually("all hang", async || service.metric("gateway_inflight_requests").await == 150.0).await;
    others_are_served(service.address).await;
    // Some of the same provider's are answered later than others: those do not wait for these.
    let mut provider = hanging.lock().await.swap_remove(0);
    use tokio::io::AsyncWriteExt as _;
    provider
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .expect("sent");
    let mut answered = JoinSet::new();
    held.into_iter().for_each(|mut client| drop(answered.spawn(async move { client.response("POST").await.status })));
    assert_eq!(answered.join_next().await.expect("one").expect("no panic"), 200);
    answered.abort_all();
    eventually("who leaves is gone", async || service.metric("gateway_inflight_requests").await == 0.0).await;
}

type Held = std::sync::Arc<tokio::sync::Mutex<Vec<tokio::net::TcpStream>>>;

/// A provider that takes connections and says nothing; what it holds, and its port.
async fn silent() -> (Held, u16) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let held = Held::default();
    let own = held.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            own.lock().await.push(stream);
        }
    });
    (held, port)
}
