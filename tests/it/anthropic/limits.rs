//! Limits and budgets, whose refusals are in Anthropic's shape, and whose reservations go by `max_tokens`.

use super::*;

/// A world with these `limits:`, in which a token costs a millionth of a dollar.
async fn limited(limits: &str) -> Claude {
    let sections = format!(
        "prices: {{ models: {{ anthropic: {{ claude-sonnet-4-5: {{ usd_per_million_tokens: {{ input: 1, output: 1 }}, \
         max_input_tokens: 100000, max_output_tokens: 1000 }} }} }} }}\nlimits: {limits}\n"
    );
    Claude::with(Setup { sections, ..Setup::default() }, "").await
}

fn capped(ceiling: u64) -> Value {
    let mut asked = question("hello");
    asked["max_tokens"] = ceiling.into();
    asked
}

#[tokio::test]
async fn a_rate_limit_is_told_in_anthropics_shape() {
    let claude = limited("{ users: { test: { requests_per_minute: 1 } } }").await;
    assert_eq!(claude.ask(&capped(5)).await.status, 200);
    let refused = claude.ask(&capped(5)).await;
    let message = own_error(&refused, 429, "rate_limit_error");
    assert!(message.starts_with("Rate limit reached for the user test (requests_per_minute): limit 1"), "{message}");
    let wait: u64 = refused.header("retry-after").expect("a time").parse().expect("a number");
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(claude.asked(), [1, 0]);
}

#[tokio::test]
async fn max_tokens_is_what_is_reserved() {
    let claude = limited("{ users: { test: { tokens_per_minute: 600 } } }").await;
    let answer = claude.ask(&capped(300)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let used = claude.provider.received()[0].used.expect("a count");
    let left = (600 - used.input - used.output).to_string();
    // What was reserved is given back once the call has settled.
    claude.world.log.calls(1).await;
    let refused = claude.ask(&capped(599)).await;
    own_error(&refused, 429, "rate_limit_error");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some(left.as_str()));
    assert_eq!(claude.ask(&capped(300)).await.status, 200, "with a lower ceiling it fits");
}

#[tokio::test]
async fn a_spent_budget_is_not_worth_a_retry() {
    let claude = limited("{ users: { test: { budgets: [ { usd: 0.000001, per: day } ] } } }").await;
    let refused = claude.ask(&capped(500)).await;
    let message = own_error(&refused, 429, "rate_limit_error");
    assert!(message.contains("The budget of the user test (usd/day)"), "{message}");
    assert_eq!(refused.json()["error"]["details"]["error_code"], "insufficient_quota");
    assert_eq!(refused.header("x-should-retry"), Some("false"), "which Anthropic's SDKs obey, too");
}

#[tokio::test]
async fn counting_tokens_holds_none() {
    let claude = limited("{ users: { test: { tokens_per_minute: 1, requests_per_minute: 2 } } }").await;
    let count = question("hello").to_string();
    for _ in 0..2 {
        assert_eq!(claude.world.post(COUNT, &count).await.status, 200);
    }
    let refused = claude.world.post(COUNT, &count).await;
    let message = own_error(&refused, 429, "rate_limit_error");
    assert!(message.contains("requests_per_minute"), "it is a request all the same: {message}");
}

#[tokio::test]
async fn a_key_sets_max_tokens_where_the_request_names_none() {
    let key_file = KEYS.replace("\"username\": \"test\",", "\"username\": \"test\", \"default_max_output_tokens\": 7,");
    let claude = Claude::with(Setup { key_file: Some(key_file), ..Setup::default() }, "").await;
    let mut asked = question("hello");
    asked.as_object_mut().expect("an object").remove("max_tokens");
    let answer = claude.ask(&asked).await;
    assert_eq!((answer.status, answer.header("x-gateway-max-output-tokens")), (200, Some("7")), "{}", answer.text());
    let sent: Value = serde_json::from_slice(&claude.provider.received()[0].body).expect("JSON");
    assert_eq!(sent["max_tokens"], 7);
}
