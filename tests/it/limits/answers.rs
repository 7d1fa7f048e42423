//! What answers tell of limits, and the ceiling that a key sets.

use ai_gateway::demo::Script;

use super::*;

/// The default key file with more in its entry.
fn key_file(more: &str) -> Option<String> {
    Some(KEY_FILE.replace("\"username\": \"test\",", &format!("\"username\": \"test\", {more},")))
}

#[tokio::test]
async fn the_providers_own_rate_limits_make_way_for_ours() {
    let theirs =
        || Script::json(200, "{}").header("x-ratelimit-limit-requests", "9").header("x-ratelimit-reset-tokens", "7s");
    let world = World::with(limited("{ key: { tokens_per_minute: 5000 } }")).await;
    world.provider.script(theirs());
    let answer = world.post(CHAT, &capped(5)).await;
    assert_eq!(answer.header("x-upstream-ratelimit-limit-requests"), Some("9"));
    assert_eq!(answer.header("x-upstream-ratelimit-reset-tokens"), Some("7s"));
    assert_eq!(answer.header("x-ratelimit-limit-requests"), None, "we have no such limit");
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("5000"));
    let world = World::start().await;
    world.provider.script(theirs());
    let answer = world.post(CHAT, &capped(5)).await;
    assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("9"));
    assert_eq!(answer.header("x-upstream-ratelimit-limit-requests"), None);
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_what_is_told_of_limits() {
    let world = World::with(limited("{ key: { requests_per_minute: 5 } }")).await;
    let headers = [bearer(KEY), ("origin", "https://page.example".to_owned())];
    let answer = world.connect().await.request("GET", "/openai/v1/models", &headers, b"").await;
    let exposed = answer.header("access-control-expose-headers").expect("names").replace(' ', "");
    for name in ["x-gateway-max-output-tokens", "x-ratelimit-remaining-requests", "x-upstream-ratelimit-reset-tokens"] {
        assert!(exposed.split(',').any(|exposed| exposed == name), "{name} in {exposed}");
    }
}

#[tokio::test]
async fn a_key_sets_a_ceiling_where_the_request_names_none() {
    let key_file = key_file("\"default_max_output_tokens\": 7");
    let world = World::with(Setup { key_file, ..Setup::default() }).await;
    let plain = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"a long story please"}]}"#;
    let null = plain.replace("{\"model\"", "{\"max_completion_tokens\":null,\"model\"");
    for body in [plain, &null] {
        let answer = world.post(CHAT, body).await;
        assert_eq!((answer.status, answer.header("x-gateway-max-output-tokens")), (200, Some("7")));
        let sent = world.provider.received().pop().expect("a request").body;
        let sent: Value = serde_json::from_slice(&sent).expect("JSON");
        assert_eq!(sent["max_completion_tokens"], 7);
        assert!(answer.json()["usage"]["completion_tokens"].as_u64().is_some_and(|tokens| tokens <= 7));
    }
    for body in [capped(3), plain.replace("{\"model\"", "{\"max_tokens\":4,\"model\"")] {
        let answer = world.post(CHAT, &body).await;
        assert_eq!((answer.status, answer.header("x-gateway-max-output-tokens")), (200, None));
        assert_eq!(world.provider.received().pop().expect("a request").body, body);
    }
}

#[tokio::test]
async fn limits_of_the_key_file_go_first() {
    let limits = "\"limits\": { \"requests_per_minute\": 1 }";
    let setup = Setup { key_file: key_file(limits), ..limited("{ key: { requests_per_minute: 100 } }") };
    let world = World::with(setup).await;
    let statuses = [world.post(CHAT, &capped(5)).await.status, world.post(CHAT, &capped(5)).await.status];
    assert_eq!(statuses, [200, 429]);
}

#[tokio::test]
async fn how_limits_stand_takes_the_token() {
    let world =
        World::with(limited("{ users: { test: { requests_per_minute: 5, budgets: [ { usd: 2.5, per: day } ] } } }"))
            .await;
    assert_eq!(world.admin("/api/limits").await.status, 401);
    let all = standing(world.gateway.admin_address()).await;
    assert_eq!(all.len(), 2, "{all:?}");
    assert_eq!((&all[0]["limit"], &all[0]["value"]), (&"requests_per_minute".into(), &5.into()));
    assert_eq!((&all[1]["kind"], &all[1]["name"]), (&"user".into(), &"test".into()));
    assert_eq!((&all[1]["limit"], &all[1]["value"], &all[1]["used"]), (&"usd/day".into(), &"2.5".into(), &"0".into()));
    assert!(all[1]["window_end"].is_string());
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, r#"gateway_budget_used_ratio{kind="user",limit="usd/day",model="",name="test"}"#), 0.0);
    assert!(metrics.contains("gateway_budget_used_ratio{"));
}
