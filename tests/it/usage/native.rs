//! Records of calls whose bodies pass unread: WebSockets, and the rest of an API.
//!
//! Never does: look at the bytes; `native` does.

use ai_gateway::demo::Script;
use tokio::io::AsyncWriteExt as _;

use super::*;

async fn native() -> World {
    World::with(Setup { admin: format!("token: {TOKEN}"), ..each_kind(ALL, "") }).await
}

/// The state, tokens, cost, version of the prices and status of a record.
fn gist(record: &Value) -> Value {
    json!([record["state"], record["tokens"], record["cost_usd"], record["prices"], record["status"]])
}

#[tokio::test]
async fn a_websocket_is_an_intent_while_it_is_open_and_unknown_behind_that() {
    let world = native().await;
    let admin = world.gateway.admin_address();
    world.provider.script(agrees());
    let mut client = world.connect().await;
    client.send(handshake(&[("authorization", &format!("Bearer {KEY}"))])).await;
    let head = client.head().await;
    let id = head.header("x-request-id").expect("an id").to_owned();
    client.send("hello").await;
    assert_eq!(client.bytes(5).await, b"hello");
    eventually("it is an intent", async || records(admin).await.iter().any(|open| open["id"] == id.as_str())).await;
    assert_eq!(records(admin).await[0]["state"], "intent");
    client.stream.shutdown().await.expect("shut down");
    assert!(client.is_closed().await);
    let record = record(admin, &id).await;
    assert_eq!(gist(&record), json!(["unknown", null, null, null, 101]), "{record}");
    assert_eq!((&record["route"], &record["provider"]), (&"GET /openai/v1/realtime".into(), &"openai".into()));
    assert_eq!((&record["attempts"], &record["error"]), (&1.into(), &Value::Null));
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, r#"gateway_metered_total{certainty="unknown"}"#), 1.0);
}

#[tokio::test]
async fn what_is_opaque_costs_nothing_where_it_generates_nothing_and_nobody_knows_what_elsewhere() {
    let world = native().await;
    let mut client = world.connect().await;
    let told = r#"{"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#;
    for (method, status, body, expected) in [
        ("GET", 200, "{}", json!(["settled", null, "0", null, 200])),
        ("DELETE", 200, "{}", json!(["settled", null, "0", null, 200])),
        ("POST", 200, "{}", json!(["unknown", null, null, null, 200])),
        ("POST", 400, "{}", json!(["failed", null, "0", null, 400])),
        ("POST", 503, told, json!(["failed", null, "0", null, 503])),
    ] {
        world.provider.script(Script::json(status, body));
        let body: &[u8] = if method == "POST" { b"\0any\xffthing" } else { b"" };
        let answer = client.request(method, "/openai/v1/files/file-1", &[bearer(KEY)], body).await;
        assert_eq!(answer.status, status, "{method}");
        let record = record_of(&world, &answer).await;
        assert_eq!(gist(&record), expected, "{method} {record}");
        assert_eq!(record["route"], format!("{method} /openai/v1/*"));
    }
    // A usage that can be read is told, and has no price without a model.
    world.provider.script(Script::json(200, told));
    let answer = client.request("POST", "/openai/v1/rerank", &[bearer(KEY)], b"{}").await;
    let record = record_of(&world, &answer).await;
    assert_eq!(
        (&record["state"], tokens(&record), &record["cost_usd"]),
        (&"settled".into(), json!([7, 2]), &Value::Null)
    );
}
