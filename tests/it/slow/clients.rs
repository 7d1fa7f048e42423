//! Five hundred clients that are slow in every way there is, at once.

use super::*;
use crate::support::heavy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_slow_clients_slow_nobody_else() {
    let each = heavy::number("AI_GATEWAY_TEST_SLOW_CLIENTS", 500) / 5;
    // All are to be there at once, however long it takes to make them.
    let server = "limits: { head_timeout: 5m, body_timeout: 5m, idle_timeout: 5m }".to_owned();
    let service = Service::with(Setup { server, ..Setup::default() }).await;
    let address = service.address;
    let big = "x".repeat(2 << 20);
    service.provider.script(Script::json(200, format!("\"{big}\"")).on("/v1/embeddings").always());
    let body = chat("x");
    let chat_head =
        head("POST", CHAT, &[bearer(KEY), ("content-type", "application/json".to_owned())], body.as_bytes());
    let mut held = Vec::new();
    for _ in 0..each {
        // Nothing at all; half a head; a head and half a body; a whole call whose answer is not read; one that idles.
        held.push(Connection::open(address).await);
        for sent in [&chat_head[..20], &format!("{chat_head}{}", &body[..10])] {
            let mut client = Connection::open(address).await;
            client.send(sent).await;
            held.push(client);
        }
        let mut deaf = Connection::open(address).await;
        let large = r#"{"model":"m","input":"x"}"#;
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        deaf.send(head("POST", "/openai/v1/embeddings", &headers, large.as_bytes()) + large).await;
        held.push(deaf);
        let mut idle = Connection::open(address).await;
        assert_eq!(idle.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
        held.push(idle);
    }
    let all = held.len() as f64;
    eventually("all are let in", async || service.metric("gateway_connections").await >= all).await;
    others_are_served(address).await;
    // Those that are still waited for go on, in any order.
    for client in held.chunks_mut(5).rev().take(10) {
        client[2].send(&body[10..]).await;
        assert_eq!(client[2].response("POST").await.status, 200);
        let answer = client[3].response("POST").await;
        assert!(answer.complete && answer.body.len() == big.len() + 2);
        assert_eq!(client[4].request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    }
}
