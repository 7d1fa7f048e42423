//! What an answer's own headers tell of cost and time.
//!
//! Never does: say what the record does not.

use ai_gateway::demo::{Framing, Script};

use super::*;

const COST: &str = "x-gateway-cost-usd";

over_all_pairs! {
    a_small_json_answer_tells_what_it_cost,
    what_has_no_known_cost_or_no_known_end_tells_none,
    an_absurd_usage_is_the_same_in_the_header_the_ledger_and_the_metrics,
}

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

async fn an_absurd_usage_is_the_same_in_the_header_the_ledger_and_the_metrics(pair: Pair) {
    const MOST: u64 = 1 << 31;
    let prices = "prices: { models: { openai: { dear: { usd_per_million_tokens: { input: 1, output: 1000000 } } } } }";
    let world = World::with(Setup { sections: prices.to_owned(), ..setup(pair, "") }).await;
    let mut client = world.client().await;
    let mut before = [0.0; 3];
    let estimate = (question("hello").to_string().len() as u64).div_ceil(3);
    for (model, used, state, told) in [
        ("gpt-4o-mini", [MOST, MOST], "settled", json!([MOST, MOST])),
        ("gpt-4o-mini", [MOST, MOST + 1], "estimated", json!([MOST, 1])),
        ("gpt-4o-mini", [1 << 53, 1 << 41], "estimated", json!([estimate, 1])),
        // More money than the ledger has room for is not known.
        ("dear", [1, MOST], "settled", json!([1, MOST])),
    ] {
        let message =
            json!({ "index": 0, "message": { "role": "assistant", "content": "Hi." }, "finish_reason": "stop" });
        let usage = json!({ "prompt_tokens": used[0], "completion_tokens": used[1] });
        let told_answer = json!({ "model": model, "choices": [message], "usage": usage });
        world.provider.script(Script::json(200, told_answer.to_string()));
        let mut request = question("hello");
        request["model"] = model.into();
        let answer = client.post(CHAT, &request.to_string()).await;
        let record = record_of(&world, &answer).await;
        assert_eq!((&record["state"], tokens(&record)), (&state.into(), told), "{used:?}");
        assert_eq!(record["cost_usd"].as_str(), answer.header(COST), "{used:?}");
        assert_eq!(record["cost_usd"].is_null(), model == "dear");
        let metrics = world.metrics().await;
        let tokens_of = |kind: &str| {
            let labels = format!(r#"model="{model}",provider="openai",type="{kind}",user="test""#);
            metric(&metrics, &format!("gateway_tokens_total{{{labels}}}"))
        };
        let money =
            metric(&metrics, &format!(r#"gateway_cost_usd_total{{model="{model}",provider="openai",user="test"}}"#));
        let now = [tokens_of("input"), tokens_of("output"), money];
        if model == "dear" {
            assert_eq!(now, [1.0, MOST as f64, 0.0]);
            continue;
        }
        let cost = record["cost_usd"].as_str().expect("known").parse::<f64>().expect("a number");
        let record_of_tokens = |kind: &str| record["tokens"][kind].as_u64().expect("a count") as f64;
        assert_eq!(now[0] - before[0], record_of_tokens("input"));
        assert_eq!(now[1] - before[1], record_of_tokens("output"));
        assert!((now[2] - before[2] - cost).abs() < 1e-6, "{now:?} {cost}");
        before = now;
    }
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
