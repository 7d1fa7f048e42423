//! Calls that do not come to their end: each has its record, and an estimate says that it is one.
//!
//! Never does: wait for a time; the provider's pace gives the moment.

use std::time::Duration;

use ai_gateway::demo::{CutAt, HowCut, ProviderOptions, Script};

use super::*;

over_all_pairs! {
    a_client_that_leaves_anywhere_leaves_an_estimate_within_bounds,
    a_client_that_leaves_before_the_head_leaves_an_estimate_of_its_request,
    a_stream_that_the_provider_cuts_is_estimated,
    what_the_provider_refuses_costs_nothing,
    an_upload_that_is_left_is_unknown_once_the_provider_has_all_of_it,
    a_usage_that_is_half_readable_is_an_estimate,
}

const PACED: Duration = Duration::from_millis(3);

fn paced() -> Script {
    Script { words: Some(120), gap: Some(PACED), ..Script::default() }
}

/// The bytes of text that the events of a stream carry.
fn visible(stream: &[u8]) -> u64 {
    let events = String::from_utf8_lossy(stream);
    let content = events.split("\n\n").filter_map(|event| {
        let event: Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
        event["choices"][0]["delta"]["content"].as_str().map(|text| text.len() as u64)
    });
    content.sum()
}

async fn a_client_that_leaves_anywhere_leaves_an_estimate_within_bounds(pair: Pair) {
    let world = world(pair, "").await;
    let body = streamed(question("Where does the river go?"));
    world.provider.script(Script { gap: None, ..paced() });
    let whole = visible(&world.client().await.post(CHAT, &body).await.body).div_ceil(3);
    for read in [0, 1, 333, 1_000, 2_500, 7_777, 15_000] {
        world.provider.script(paced());
        let mut begun = world.client().await.begin(CHAT, &body).await;
        let id = begun.head().header("x-request-id").expect("an id").to_owned();
        let seen = begun.bytes(read).await;
        drop(begun);
        let record = record(world.gateway.admin_address(), &id).await;
        assert_eq!((&record["state"], &record["status"]), (&"estimated".into(), &499.into()), "{read}");
        assert_eq!(record["error"], "client_closed_request");
        let asked = world.provider.received().pop().expect("a request").body_length;
        assert_eq!(record["tokens"]["input"], asked.div_ceil(3));
        let output = record["tokens"]["output"].as_u64().expect("a count");
        assert!((visible(&seen) / 3..=whole).contains(&output), "{read}: {output} of {whole}");
        assert!(record["cost_usd"].is_string() && record["prices"].is_string(), "{record}");
    }
    assert_eq!(metric(&world.metrics().await, r#"gateway_metered_total{certainty="estimated"}"#), 7.0);
}

async fn a_client_that_leaves_before_the_head_leaves_an_estimate_of_its_request(pair: Pair) {
    let world = world(pair, "").await;
    world.provider.script(Script::cut(CutAt::Head, HowCut::Stall));
    let asked = world.client().await.ask(CHAT, &question("hello").to_string()).await;
    world.provider.wait_for(|calls| calls.first().is_some_and(|call| call.body_complete), SOON).await.expect("sent");
    drop(asked);
    let calls = world.log.calls(1).await;
    let record = record(world.gateway.admin_address(), calls[0]["requestId"].as_str().expect("an id")).await;
    let input = (question("hello").to_string().len() as u64).div_ceil(3);
    assert_eq!((&record["state"], tokens(&record)), (&"estimated".into(), json!([input, 0])));
}

async fn a_stream_that_the_provider_cuts_is_estimated(pair: Pair) {
    let world = world(pair, "").await;
    for how in [HowCut::Close, HowCut::Reset] {
        world.provider.script(Script { cut: Script::cut(CutAt::Pieces(20), how).cut, ..paced() });
        let answer = world.client().await.post(CHAT, &streamed(question("hello"))).await;
        let record = record_of(&world, &answer).await;
        assert_eq!((&record["state"], &record["error"]), (&"estimated".into(), &"upstream_error".into()), "{how:?}");
        let output = record["tokens"]["output"].as_u64().expect("a count");
        assert_eq!((output, &record["status"]), (visible(&answer.body).div_ceil(3), &200.into()), "{how:?}");
    }
}

async fn what_the_provider_refuses_costs_nothing(pair: Pair) {
    let world = world(pair, "").await;
    for status in [400, 429, 500] {
        world
            .provider
            .script(Script::json(status, r#"{"error":{"message":"no","type":"x","param":null,"code":null}}"#));
        let answer = world.client().await.post(CHAT, &question("hello").to_string()).await;
        assert_eq!(answer.status, status);
        let record = record_of(&world, &answer).await;
        assert_eq!((&record["state"], tokens(&record)), (&"failed".into(), Value::Null));
        assert_eq!((&record["status"], &record["cost_usd"]), (&status.into(), &"0".into()));
    }
    assert_eq!(metric(&world.metrics().await, r#"gateway_metered_total{certainty="failed"}"#), 3.0);
}

async fn an_upload_that_is_left_is_unknown_once_the_provider_has_all_of_it(pair: Pair) {
    let world = world(pair, "").await;
    world.provider.script(Script::cut(CutAt::Head, HowCut::Stall));
    let asked = world.client().await.ask(TRANSCRIPTIONS, "--x--").await;
    world.provider.wait_for(|calls| calls.first().is_some_and(|call| call.body_complete), SOON).await.expect("sent");
    drop(asked);
    world.log.calls(1).await;
    // One that comes to half of its body.
    let mut client = world.connect().await;
    let headers = [bearer(KEY), ("content-length", "1000".to_owned())];
    client.send(head("POST", TRANSCRIPTIONS, &headers, b"") + "--x--").await;
    world.provider.wait_for(|calls| calls.get(1).is_some_and(|call| call.body_length == 5), SOON).await.expect("begun");
    drop(client);
    let calls = world.log.calls(2).await;
    let mut seen = Vec::new();
    for call in calls {
        let record = record(world.gateway.admin_address(), call["requestId"].as_str().expect("an id")).await;
        seen.push(json!([record["state"], tokens(&record), record["cost_usd"], record["status"]]));
    }
    assert_eq!(seen, [json!(["unknown", null, null, 499]), json!(["failed", null, "0", 499])]);
}

#[tokio::test]
async fn a_model_without_a_price_costs_what_nobody_knows() {
    let options = ProviderOptions {
        api_key: Some(PROVIDER_KEY.to_owned()),
        models: vec!["house-model".to_owned()],
        ..ProviderOptions::default()
    };
    let world = World::with(Setup { options: Some(options), ..setup(Pair::default(), "") }).await;
    let mut request = question("hello");
    request["model"] = "house-model".into();
    let answer = world.post(CHAT, &request.to_string()).await;
    let record = record_of(&world, &answer).await;
    assert_eq!((&record["state"], tokens(&record)), (&"settled".into(), counted(&world)));
    assert_eq!((&record["cost_usd"], &record["prices"]), (&Value::Null, &Value::Null));
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, r#"gateway_cost_unknown_total{model="house-model",provider="openai"}"#), 1.0);
    assert!(!metrics.contains("gateway_cost_usd_total{"), "never 0");
    let calls = world.log.calls(1).await;
    assert!(calls[0].get("cost").is_none() && calls[0]["usage"]["input"].is_u64(), "{}", calls[0]);
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_stream_settles_it() {
    let server = "shutdown: { readiness_delay: 10ms, grace: 1s }".to_owned();
    let mut service = Service::with(Setup { server, ..setup(Pair::default(), "timeouts: { total: 1s }") }).await;
    service.provider.script(Script { words: Some(5_000), gap: Some(PACED), ..Script::default() });
    let mut client = service.connect().await;
    let body = streamed(question("hello"));
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    client.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
    client.head().await;
    client.chunk().await.expect("a piece");
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    let args = ["usage", "--config", "gateway.yaml", "--json", "--by", "state"];
    let told = Process::run(service.folder.path(), &args, &[]).await;
    let told: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{}", told.stderr));
    assert_eq!((&told["data"][0]["state"], &told["total"]["requests"]), (&"estimated".into(), &1.into()), "{told}");
}

async fn a_usage_that_is_half_readable_is_an_estimate(pair: Pair) {
    let world = world(pair, "").await;
    let body = question("hello").to_string();
    let input = (body.len() as u64).div_ceil(3);
    let mut client = world.client().await;
    for (usage, state, expected) in [
        (json!({ "prompt_tokens": "10", "completion_tokens": 5 }), "estimated", [input, 5]),
        (json!({ "prompt_tokens": -10, "completion_tokens": 5 }), "estimated", [input, 5]),
        (json!({ "completion_tokens": 5 }), "estimated", [input, 5]),
        (json!({ "prompt_tokens": 10 }), "estimated", [10, 1]),
        (json!({ "prompt_tokens": 10, "completion_tokens": 1_u64 << 54 }), "estimated", [10, 1]),
        (json!({ "prompt_tokens": "10", "completion_tokens": 5, "total_tokens": 15 }), "settled", [10, 5]),
        (json!({ "prompt_tokens": 10, "completion_tokens": 5 }), "settled", [10, 5]),
    ] {
        let message =
            json!({ "index": 0, "message": { "role": "assistant", "content": "Hi." }, "finish_reason": "stop" });
        let told = json!({ "model": "gpt-4o-mini", "choices": [message], "usage": usage });
        world.provider.script(Script::json(200, told.to_string()));
        let record = record_of(&world, &client.post(CHAT, &body).await).await;
        assert_eq!((&record["state"], tokens(&record)), (&state.into(), json!(expected)), "{usage}");
    }
    let told =
        json!({ "object": "list", "data": [], "model": "text-embedding-3-small", "usage": { "prompt_tokens": 8 } });
    world.provider.script(Script::json(200, told.to_string()));
    let embedding = json!({ "model": "text-embedding-3-small", "input": "hello" }).to_string();
    let record = record_of(&world, &client.post(EMBEDDINGS, &embedding).await).await;
    assert_eq!((&record["state"], tokens(&record)), (&"settled".into(), json!([8, 0])));
}
