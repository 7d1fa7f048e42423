//! What messages used and cost: the three kinds of input apart, at the shipped book's prices.

use ai_gateway::demo::{CutAt, HowCut};

use super::*;

/// A conversation whose beginning is marked for the cache, for five minutes or an hour.
fn cached(ttl: &str, goes_on: bool) -> Value {
    let mut asked = question("Where does the river go?");
    let control = json!({ "type": "ephemeral", "ttl": ttl });
    asked["system"] = json!([{ "type": "text", "text": "word ".repeat(1000), "cache_control": control }]);
    if goes_on {
        let more = [json!({ "role": "assistant", "content": "North." }), json!({ "role": "user", "content": "Why?" })];
        asked["messages"].as_array_mut().expect("a list").extend(more);
    }
    asked
}

/// What a thousand tokens cost at these prices of claude-sonnet-4-5, and the rest at its plain ones, in millionths.
fn cost(thousand: f64, uncached: u64, output: u64) -> f64 {
    thousand * 1000.0 + 3.0 * uncached as f64 + 15.0 * output as f64
}

#[tokio::test]
async fn the_kinds_of_input_are_told_and_charged_apart() {
    for (asked, kind, price) in [
        (cached("5m", false), Some("cache_write"), 3.75),
        (cached("1h", false), Some("cache_write_1h"), 6.0),
        (cached("5m", true), Some("cached_input"), 0.3),
        (question("Where does the river go?"), None, 0.0),
    ] {
        for asked in [asked.clone(), streamed(asked)] {
            let claude = Claude::start().await;
            let answer = claude.ask(&asked).await;
            assert_eq!((answer.status, answer.complete), (200, true), "{}", answer.text());
            let line = claude.line().await;
            let used = claude.provider.received()[0].used.expect("a count");
            let counts =
                [&line["usage"]["input"], &line["usage"]["output"]].map(|count| count.as_u64().expect("a count"));
            assert_eq!((&line["certainty"], counts), (&"settled".into(), [used.input, used.output]), "{line}");
            let marked = if kind.is_some() { 1000 } else { 0 };
            let kinds = ["cache_write", "cache_write_1h", "cached_input"].map(|kind| line["usage"][kind].as_u64());
            let expected = match kind {
                Some("cache_write") => [Some(1000), None, None],
                Some("cache_write_1h") => [Some(1000), Some(1000), None],
                Some(_) => [None, None, Some(1000)],
                None => [None; 3],
            };
            assert_eq!(kinds, expected, "{line}");
            let told = line["cost"].as_str().expect("a cost").parse::<f64>().expect("a number") * 1e6;
            let expected = cost(if marked > 0 { price } else { 0.0 }, used.input - marked, used.output);
            assert!((told - expected).abs() < 0.001, "{told} {expected}: {line}");
            assert_eq!(line["answeredModel"], "claude-sonnet-4-5");
            assert_eq!(line["ttftMs"].is_u64(), asked["stream"] == true, "{line}");
            let metrics = claude.world.metrics().await;
            let labels = r#"model="claude-sonnet-4-5",provider="anthropic",type="input",user="test""#;
            assert_eq!(metric(&metrics, &format!("gateway_tokens_total{{{labels}}}")), used.input as f64);
        }
    }
}

#[tokio::test]
async fn nothing_is_asked_for_that_the_client_did_not_ask() {
    let claude = Claude::start().await;
    let body = streamed(question("hello")).to_string();
    claude.world.post(MESSAGES, &body).await;
    assert_eq!(claude.provider.received()[0].body, body.as_bytes(), "a usage comes by itself");
}

#[tokio::test]
async fn a_stream_that_is_left_has_its_own_input_and_what_was_seen_of_the_output() {
    let claude = Claude::start().await;
    let words = 200;
    claude.provider.script(Script { words: Some(words), gap: Some(Duration::from_millis(3)), ..Script::default() });
    let asked = streamed(cached("5m", true)).to_string();
    let mut begun = claude.world.client().await.begin(MESSAGES, &asked).await;
    let seen = begun.bytes(3000).await;
    drop(begun);
    let line = claude.line().await;
    let used = claude.provider.received()[0].used.expect("a count");
    assert_eq!((&line["certainty"], &line["statusCode"]), (&"estimated".into(), &"499".into()), "{line}");
    assert_eq!((&line["usage"]["input"], &line["usage"]["cached_input"]), (&used.input.into(), &1000.into()), "{line}");
    let output = line["usage"]["output"].as_u64().expect("a count");
    let text: String = String::from_utf8_lossy(&seen)
        .split("\n\n")
        .filter_map(|event| {
            let data: Value = serde_json::from_str(event.split_once("data: ")?.1).ok()?;
            data["delta"]["text"].as_str().map(str::to_owned)
        })
        .collect();
    assert!(output >= text.len() as u64 / 3 && output < 10 * words as u64, "{output}: {line}");
    assert!(line["cost"].is_string());
}

#[tokio::test]
async fn a_stream_that_the_provider_cuts_is_estimated() {
    let claude = Claude::start().await;
    claude.provider.script(Script { words: Some(60), ..Script::cut(CutAt::Pieces(30), HowCut::Close) });
    let answer = claude.ask(&streamed(question("hello"))).await;
    assert_eq!((answer.status, answer.complete), (200, false));
    let line = claude.line().await;
    assert_eq!((&line["certainty"], &line["code"]), (&"estimated".into(), &"upstream_error".into()), "{line}");
    assert!(line["usage"]["output"].as_u64().is_some_and(|output| output > 1), "{line}");
}

#[tokio::test]
async fn counting_tokens_uses_none() {
    let claude = Claude::start().await;
    let answer = claude.world.post(COUNT, &question("one two three").to_string()).await;
    assert_eq!((answer.status, &answer.json()), (200, &json!({ "input_tokens": 7 })), "{}", answer.text());
    assert_eq!(claude.provider.received()[0].target, "/v1/messages/count_tokens");
    let line = claude.line().await;
    assert_eq!(
        (&line["certainty"], &line["cost"], &line["usage"]),
        (&"settled".into(), &"0".into(), &Value::Null),
        "{line}"
    );
}
