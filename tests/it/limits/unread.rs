//! Budgets on routes whose bodies pass unread: who is refused there, and what a price for each call makes of that.

use ai_gateway::demo::Script;

use super::*;

const SPEECH: &str = "/openai/v1/audio/speech";
const PRICED: &str = "/openai/v1/audio/transcriptions";

async fn world(limits: &str) -> World {
    let key_file = KEY_FILE.replace("\"get\", \"path\": \"/openai/v1/models\"", "\"*\", \"path\": \"/openai/*\"");
    let provider = "routes: [post /v1/audio/speech stream, get /v1/realtime websocket, \
        { route: post /v1/audio/transcriptions stream, price_per_request: 0.004 }]";
    let setup = limited(&format!("{{ key: {{ {limits} }} }}"));
    World::with(Setup { key_file: Some(key_file), provider: provider.to_owned(), ..setup }).await
}

#[tokio::test]
async fn whoever_has_a_budget_is_refused_where_nothing_tells_what_a_call_uses() {
    for (limits, tells) in [
        ("budgets: [ { usd: 1, per: day } ]", true),
        ("budgets: [ { tokens: 1000, per: day } ]", false),
        ("tokens_per_minute: 1000", false),
    ] {
        let world = world(limits).await;
        let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
        let upgrade: Vec<_> = upgrade.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        let headers: Vec<_> = [bearer(KEY)].into_iter().chain(upgrade).collect();
        let refused = world.connect().await.request("GET", "/openai/v1/realtime", &headers, b"").await;
        refused.error(403, "invalid_request_error", "route_not_metered");
        world.post(SPEECH, "{}").await.error(403, "invalid_request_error", "route_not_metered");
        assert_eq!(world.provider.received().len(), 0);
        world.provider.script(Script::json(200, "{}"));
        let priced = world.post(PRICED, "{}").await;
        if tells {
            assert_eq!(priced.status, 200, "{}", priced.text());
        } else {
            priced.error(403, "invalid_request_error", "route_not_metered");
        }
    }
}

#[tokio::test]
async fn a_price_for_each_call_is_what_a_budget_counts() {
    let world = world("budgets: [ { usd: 0.01, per: day } ]").await;
    let admin = world.gateway.admin_address();
    world.provider.script(Script::json(500, "{}"));
    assert_eq!(world.post(PRICED, "{}").await.status, 500);
    eventually("what failed costs nothing", async || used(admin).await == (0, 0)).await;
    world.provider.script(Script::json(200, r#"{"text":"hello"}"#).always());
    for spent in [4000, 8000] {
        assert_eq!(world.post(PRICED, "{}").await.status, 200);
        eventually("it is charged", async || used(admin).await == (spent, 0)).await;
    }
    world.post(PRICED, "{}").await.error(429, "insufficient_quota", "insufficient_quota");
    assert_eq!((used(admin).await, world.provider.received().len()), ((8000, 0), 3));
    let calls = world.log.calls(4).await;
    let costs: Vec<_> = calls.iter().map(|call| (call["certainty"].as_str(), call["cost"].clone())).collect();
    assert_eq!(costs.iter().filter(|(certainty, _)| *certainty == Some("settled")).count(), 2, "{costs:?}");
    let metrics = world.metrics().await;
    let cost = metrics.lines().find(|line| line.starts_with("gateway_cost_usd_total{")).expect("a cost");
    assert!(cost.ends_with(" 0.008"), "{cost}");
}
