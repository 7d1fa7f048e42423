//! What an answer's own headers tell of cost and time.
//!
//! Never does: say what the record does not.

use ai_gateway::demo::{Framing, Script};

use super::*;

const COST: &str = "x-gateway-cost-usd";

over_all_pairs! { a_small_json_answer_tells_what_it_cost, what_has_no_known_cost_or_no_known_end_tells_none }

async fn a_small_json_answer_tells_what_it_cost(pair: Pair) {
    let world = world(pair, "").await;
    let mut client = world.client().await;
    let answer = client.post(CHAT, &question("hello").to_string()).await;
    let record = record_of(&world, &answer).await;
    assert!(answer.header(COST).is_some_and(|cost| record["cost_usd"] == cost), "{:?}", answer.headers);
    assert!(answer.header("access-control-expose-headers").is_some_and(|names| names.contains(COST)));
    assert!(answer.header("server-timing").is_some());
    assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
    assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.header(COST), Some("0"));
    world.provider.script(Script::json(429, "{}"));
    assert_eq!(client.post(CHAT, &question("hello").to_string()).await.header(COST), Some("0"));
}

async fn what_has_no_known_cost_or_no_known_end_tells_none(pair: Pair) {
    let world = world(pair, "").await;
    let mut client = world.client().await;
    let image = json!({ "model": "gpt-image-1", "prompt": "a river" }).to_string();
    let large = json!({ "model": "text-embedding-3-large", "input": vec!["x"; 3] }).to_string();
    for (path, body) in [(CHAT, streamed(question("hello"))), (IMAGES, image), (EMBEDDINGS, large)] {
        let answer = client.post(path, &body).await;
        assert_eq!((answer.status, answer.complete, answer.header(COST)), (200, true, None), "{path}");
    }
    world.provider.script(Script { framing: Framing::Chunked, ..Script::default() });
    assert_eq!(client.post(CHAT, &question("hello").to_string()).await.header(COST), None);
    // Not what somebody else reckoned, either.
    world.provider.script(Script::default().header(COST, "9"));
    assert_eq!(client.post(CHAT, &streamed(question("hello"))).await.header(COST), None);
    assert_eq!(world.client().await.request("POST", CHAT, &[bearer("wrong")], b"{}").await.header(COST), None);
}

#[tokio::test]
async fn both_headers_can_be_switched_off() {
    let telemetry = "answer_headers: { cost: false, server_timing: false }".to_owned();
    let world = World::with(Setup { telemetry, ..setup(Pair::default(), "") }).await;
    let answer = world.post(CHAT, &question("hello").to_string()).await;
    assert_eq!((answer.header(COST), answer.header("server-timing")), (None, None));
    assert!(answer.header("provider-response-time").is_some());
    assert_eq!(record_of(&world, &answer).await["state"], "settled");
}
