//! What each limit refuses, and what a refused call uses: nothing.

use std::time::Duration;

use ai_gateway::demo::Script;

use super::*;

#[tokio::test]
async fn requests_per_minute() {
    let world = World::with(limited("{ users: { test: { requests_per_minute: 2 } } }")).await;
    for left in ["1", "0"] {
        let answer = world.post(CHAT, &capped(5)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some(left));
        assert!(answer.header("x-ratelimit-reset-requests").is_some_and(|time| time.ends_with('s')));
        assert_eq!(answer.header("x-ratelimit-limit-tokens"), None);
    }
    let refused = world.post(CHAT, &capped(5)).await;
    let message = refused.error(429, "requests", "rate_limit_exceeded");
    let start = "Rate limit reached for the user test (requests_per_minute): limit 2, used 2 in the last minute";
    assert!(message.starts_with(start), "{message}");
    let wait: u64 = refused.header("retry-after").expect("a time").parse().expect("a number");
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(refused.header("x-should-retry"), None);
    assert_eq!(world.provider.received().len(), 2, "a refused call is not sent");
    assert_eq!(used(world.gateway.admin_address()).await, (2, 0), "and counts for nothing");
    world.log.calls(3).await;
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, r#"gateway_limit_rejections_total{limit="requests_per_minute"}"#), 1.0);
    assert_eq!(metric(&metrics, "gateway_reservations_outstanding"), 0.0);
}

#[tokio::test]
async fn tokens_per_minute() {
    let world = World::with(limited("{ models: { gpt-4o-mini: { tokens_per_minute: 400 } } }")).await;
    let answer = world.post(CHAT, &capped(100)).await;
    assert_eq!((answer.status, answer.header("x-ratelimit-limit-tokens")), (200, Some("400")));
    let usage = answer.json()["usage"]["total_tokens"].as_u64().expect("a number");
    eventually("what it used counts", async || used(world.gateway.admin_address()).await == (usage, 0)).await;
    let refused = world.post(CHAT, &capped(390)).await;
    let message = refused.error(429, "tokens", "rate_limit_exceeded");
    assert!(
        message.contains("for this gateway for the model gpt-4o-mini (tokens_per_minute): limit 400 tokens"),
        "{message}"
    );
    let left = (400 - usage).to_string();
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some(left.as_str()));
}

#[tokio::test]
async fn concurrent_requests() {
    let world = World::with(limited("{ key: { concurrent_requests: 1 } }")).await;
    world.provider.script(Script::delayed(Duration::from_secs(600)));
    let running = world.client().await.ask(CHAT, &capped(5)).await;
    eventually("one is running", async || world.provider.received().len() == 1).await;
    let refused = world.post(CHAT, &capped(5)).await;
    let message = refused.error(429, "requests", "rate_limit_exceeded");
    assert!(message.starts_with("Too many requests of this API key at once (concurrent_requests): limit 1, running 1"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(running);
    eventually("its place is free", async || world.post(CHAT, &capped(5)).await.status == 200).await;
}

#[tokio::test]
async fn budgets_in_usd_and_tokens() {
    for limits in ["{ usd: 0.001, per: month }", "{ tokens: 1000, per: total }"] {
        let world = World::with(limited(&format!("{{ gateway: {{ budgets: [ {limits} ] }} }}"))).await;
        let admin = world.gateway.admin_address();
        let answer = world.post(CHAT, &capped(500)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let usage = answer.json()["usage"]["total_tokens"].as_u64().expect("a number");
        eventually("what it used counts", async || used(admin).await == (usage, 0)).await;
        let refused = world.post(CHAT, &capped(1000)).await;
        let message = refused.error(429, "insufficient_quota", "insufficient_quota");
        assert!(message.starts_with("The budget of this gateway ("), "{message}");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert_eq!(refused.header("retry-after").is_some(), limits.contains("month"));
        assert_eq!(used(admin).await, (usage, 0), "a refused call uses nothing");
        assert_eq!(world.provider.received().len(), 1);
        for path in ["/openai/v1/models", "/openai/v1/models/gpt-4o-mini"] {
            assert_eq!(world.get(path).await.status, 200, "what generates nothing costs nothing");
        }
        assert_eq!(used(admin).await, (usage, 0));
    }
}

#[tokio::test]
async fn a_budget_that_calls_in_flight_hold_is_told_apart() {
    let world = World::with(limited("{ gateway: { budgets: [ { usd: 0.001, per: day } ] } }")).await;
    world.provider.script(Script::delayed(Duration::from_secs(600)));
    let running = world.client().await.ask(CHAT, &capped(600)).await;
    eventually("one is running", async || world.provider.received().len() == 1).await;
    let refused = world.post(CHAT, &capped(600)).await;
    let message = refused.error(429, "tokens", "budget_reserved");
    assert!(message.contains("is held by calls in flight"), "{message}");
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), (Some("1"), None));
    drop(running);
}

#[tokio::test]
async fn a_call_that_fails_costs_nothing() {
    let world = World::with(limited("{ gateway: { budgets: [ { usd: 0.001, per: day } ] } }")).await;
    world.provider.script(Script::json(500, "{}").times(2));
    assert_eq!(world.post(CHAT, &capped(600)).await.status, 500);
    eventually("all is free", async || used(world.gateway.admin_address()).await == (0, 0)).await;
}

#[tokio::test]
async fn what_has_no_price_or_no_bound() {
    let world = World::with(limited("{ gateway: { budgets: [ { usd: 1, per: day } ] } }")).await;
    let body = capped(5).replace("gpt-4o-mini", "nobody-knows");
    let refused = world.post(CHAT, &body).await;
    refused.error(400, "invalid_request_error", "model_not_priced");
    assert_eq!(refused.json()["error"]["param"], "model");
    for member in ["\"speed\":\"fast\",", "\"service_tier\":\"priority\","] {
        let body = capped(5).replacen('{', &format!("{{{member}"), 1);
        let message = world.post(CHAT, &body).await.error(400, "invalid_request_error", "model_not_priced");
        assert!(message.contains("its service tier"), "{message}");
    }
    assert_eq!(world.post(CHAT, &capped(5).replacen('{', "{\"service_tier\":\"auto\",", 1)).await.status, 200);
    let world = World::with(limited("{ gateway: { budgets: [ { tokens: 1000000, per: day } ] } }")).await;
    assert_eq!(world.post(CHAT, &body).await.status, 404, "it reaches the provider: tokens need a ceiling only");
    let unbounded = body.replace("\"max_completion_tokens\":5,", "");
    assert!(unbounded.len() < body.len());
    let message = world.post(CHAT, &unbounded).await.error(400, "invalid_request_error", "model_not_priced");
    assert!(message.contains("send max_completion_tokens"), "{message}");
}

#[tokio::test]
async fn limits_in_shadow_only_count() {
    let shadow =
        "{ users: { test: { requests_per_minute: 1, budgets: [ { usd: 0.000001, per: day } ], shadow: true } } }";
    let world = World::with(limited(shadow)).await;
    for _ in 0..3 {
        let answer = world.post(CHAT, &capped(5)).await;
        assert_eq!((answer.status, answer.header("x-upstream-ratelimit-limit-requests")), (200, None));
    }
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, r#"gateway_limit_shadow_rejections_total{limit="requests_per_minute"}"#), 2.0);
    assert_eq!(metric(&metrics, r#"gateway_limit_shadow_rejections_total{limit="usd/day"}"#), 3.0);
    assert_eq!(metric(&metrics, r#"gateway_limit_rejections_total{limit="requests_per_minute"}"#), 0.0);
}
