//! What a client sees of a usage that the gateway asked for: nothing.
//!
//! Never does: compare with anything but the same call where nothing was asked for.

use ai_gateway::demo::{Framing, Script};

use super::*;

over_all_pairs! {
    a_stream_is_the_same_with_and_without_the_gateways_own_question,
    a_client_that_asks_gets_the_usage,
    a_provider_that_is_not_asked_is_estimated,
}

fn requests() -> Vec<(&'static str, Value)> {
    let tool = json!({ "type": "function", "function": { "name": "get_weather", "parameters": {
        "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"],
    } } });
    let mut several = question("Where does the river go?");
    several["n"] = 3.into();
    let mut with_tool = question("What is the weather in Paris?");
    with_tool["tools"] = json!([tool]);
    let mut refusing = question("x");
    refusing["stream_options"] = json!({ "include_usage": false });
    vec![
        (CHAT, question("Say \u{1f6a3} hello")),
        (CHAT, several),
        (CHAT, with_tool),
        (CHAT, refusing),
        (COMPLETIONS, json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "Once upon" })),
    ]
}

async fn a_stream_is_the_same_with_and_without_the_gateways_own_question(pair: Pair) {
    let (asks, silent) = (world(pair, "").await, world(pair, "inject_usage: off").await);
    let (mut asking, mut plain) = (asks.client().await, silent.client().await);
    for (path, request) in requests() {
        let body = streamed(request);
        for framing in [Framing::Chunked, Framing::Length, Framing::UntilClose] {
            for pieces in [vec![], vec![61], vec![13, 500], vec![70_000]] {
                let script = || Script { framing, pieces: pieces.clone(), ..Script::default() };
                asks.provider.script(script());
                silent.provider.script(script());
                let (one, other) = (asking.post(path, &body).await, plain.post(path, &body).await);
                assert!(one.complete && other.complete, "{framing:?} {pieces:?}");
                assert_eq!(one.text(), other.text(), "{framing:?} {pieces:?}");
                assert!(!one.text().contains("\"usage\""), "{framing:?} {pieces:?}");
                let kind = |answer: &Response| answer.header("content-type").map(str::to_owned);
                assert_eq!(kind(&one), kind(&other));
                let asked = String::from_utf8(asks.provider.received().pop().expect("a request").body.to_vec());
                assert!(asked.expect("UTF-8").contains("\"include_usage\":true"), "it was asked for");
                assert_eq!(silent.provider.received().pop().expect("a request").body, body.as_bytes());
                let record = record_of(&asks, &one).await;
                assert_eq!((&record["state"], tokens(&record)), (&"settled".into(), counted(&asks)));
            }
        }
    }
}

async fn a_client_that_asks_gets_the_usage(pair: Pair) {
    let world = world(pair, "").await;
    let mut client = world.client().await;
    for (path, request) in requests() {
        let body = asking(request);
        let answer = client.post(path, &body).await;
        let text = answer.text();
        let last =
            text.strip_suffix("\n\ndata: [DONE]\n\n").and_then(|text| text.rsplit_once("data: ")).expect("events");
        let last: Value = serde_json::from_str(last.1).expect("JSON");
        let told = json!([last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]]);
        assert_eq!((&last["choices"], &told), (&json!([]), &counted(&world)));
        assert!(text.contains("\"usage\":null"));
        assert_eq!(world.provider.received().pop().expect("a request").body, body.as_bytes(), "as it was sent");
        let record = record_of(&world, &answer).await;
        assert_eq!((&record["state"], tokens(&record)), (&"settled".into(), counted(&world)));
    }
}

async fn a_provider_that_is_not_asked_is_estimated(pair: Pair) {
    let world = world(pair, "inject_usage: off").await;
    let body = streamed(question("hello"));
    let answer = world.client().await.post(CHAT, &body).await;
    let record = record_of(&world, &answer).await;
    assert_eq!((&record["state"], &record["error"]), (&"estimated".into(), &Value::Null));
    let input = (body.len() as u64).div_ceil(3);
    let used = world.provider.received()[0].used.expect("a count");
    assert_eq!(record["tokens"]["input"], input);
    assert!(input >= used.input && record["tokens"]["output"].as_u64() >= Some(used.output), "{record} {used:?}");
}
