//! What is told of calls: health, metrics and the log.

mod log;
mod metrics;

use std::collections::BTreeSet;

use ai_gateway::demo::Script;

use crate::support::*;

/// All series of an exposition by name and labels, without their values.
fn series(exposition: &str) -> BTreeSet<String> {
    let lines = exposition.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

#[tokio::test]
async fn the_admin_service_answers_as_the_original_did() {
    let world = World::start().await;
    let ping = world.admin("/ping").await;
    assert_eq!((ping.status, ping.text().as_str()), (200, "pong"));
    assert_eq!(ping.header("content-type"), Some("text/html; charset=utf-8"));
    let metrics = world.admin("/metrics").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.text().ends_with('\n'));
    assert_eq!(world.admin("/livez").await.status, 200);
    let ready = world.admin("/readyz").await;
    assert_eq!((ready.status, ready.json()["ready"].as_bool()), (200, Some(true)));
    let unknown = world.admin("/openai/v1/models").await;
    assert_eq!((unknown.status, unknown.json()["error"]["code"].as_str()), (404, Some("unknown_url")));
    assert_eq!(world.admin("/api/keys").await.status, 404, "without a token there is no /api");
}

#[tokio::test]
async fn the_admin_token_opens_the_keys_and_shows_no_secret() {
    let token = "a-long-admin-token-canary";
    let world = World::with(Setup { admin: format!("token: {token}"), ..Setup::default() }).await;
    let ask = async |headers: &[(&str, String)]| {
        Connection::open(world.gateway.admin_address()).await.request("GET", "/api/keys", headers, b"").await
    };
    assert_eq!(ask(&[]).await.status, 401);
    assert_eq!(ask(&[bearer("wrong")]).await.status, 401);
    assert_eq!(ask(&[bearer(KEY)]).await.status, 401, "a client's key is none");
    let keys = ask(&[bearer(token)]).await;
    assert_eq!((keys.status, keys.json()["data"][0]["username"].as_str()), (200, Some("test")));
    assert!(!keys.text().contains("ebc5f4226c4010") && !keys.text().contains("ZmFrZQ"), "{}", keys.text());
}

#[tokio::test]
async fn the_proxys_port_has_health_and_nothing_else_of_the_admin_service() {
    let world = World::start().await;
    let ask = async |path: &str| world.connect().await.request("GET", path, &[], b"").await;
    assert_eq!(ask("/livez").await.status, 200);
    assert_eq!(ask("/readyz").await.status, 200);
    for path in ["/metrics", "/ping", "/api/keys"] {
        ask(path).await.error(404, "invalid_request_error", "unknown_url");
    }
}
