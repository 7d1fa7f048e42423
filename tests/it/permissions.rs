//! What a key may do beyond its routes, and what a refusal says of it.

use crate::support::*;

over_all_pairs! {
    a_key_with_models_uses_these_and_no_other,
    no_spelling_of_the_body_gets_around_the_list_of_models,
    a_challenge_says_what_was_wrong_with_the_credential,
    a_missing_scope_is_named_in_the_challenge,
    configured_query_parameters_take_the_place_of_the_clients,
}

/// A key file with one key, `fake`, that may use two models.
const LIMITED: &str = r#"{
  "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "id": "key_limited", "username": "test", "salt": "ZmFrZQ==",
    "scopes": [{ "method": "*", "path": "/openai/*" }],
    "models": ["gpt-4o-mini", "text-embedding-*"]
  }
}"#;

async fn limited(pair: Pair) -> World {
    World::with(Setup { key_file: Some(LIMITED.to_owned()), pair, ..Setup::default() }).await
}

async fn get(client: &mut AnyClient, path: &str) -> Response {
    client.request("GET", path, &[bearer(KEY)], b"").await
}

async fn a_key_with_models_uses_these_and_no_other(pair: Pair) {
    let world = limited(pair).await;
    let mut client = world.client().await;
    assert_eq!(client.post("/openai/v1/chat/completions", &chat("hello")).await.status, 200);
    let embeddings = r#"{"input":"x","model":"text-embedding-3-small"}"#;
    assert_eq!(client.post("/openai/v1/embeddings", embeddings).await.status, 200);
    let list = get(&mut client, "/openai/v1/models").await;
    assert_eq!(list.status, 200, "the list of models takes no model");
    assert_eq!(get(&mut client, "/openai/v1/models/gpt-4o-mini").await.status, 200);
    world.provider.clear_received();
    for body in [r#"{"messages":[],"model":"gpt-4o"}"#, r#"{"messages":[]}"#, r#"{"model":7}"#, ""] {
        let answer = client.post("/openai/v1/chat/completions", body).await;
        answer.error(403, "invalid_request_error", "model_not_allowed");
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    get(&mut client, "/openai/v1/models/gpt-4o").await.error(404, "invalid_request_error", "model_not_found");
    assert_eq!(world.provider.received().len(), 0);
}

async fn no_spelling_of_the_body_gets_around_the_list_of_models(pair: Pair) {
    let world = limited(pair).await;
    let mut client = world.client().await;
    for name in ["model", "m\\u006fdel", "Model", "MODEL", "mod\\u0045l"] {
        for (first, second) in [("gpt-4o-mini", "gpt-4o"), ("gpt-4o", "gpt-4o-mini")] {
            let body = format!(r#"{{"model":"{first}","messages":[],"{name}":"{second}"}}"#);
            let answer = client.post("/openai/v1/chat/completions", &body).await;
            answer.error(400, "invalid_request_error", "invalid_json");
        }
    }
    assert_eq!(world.provider.received().len(), 0);
}

async fn a_challenge_says_what_was_wrong_with_the_credential(pair: Pair) {
    let world = World::of(pair).await;
    let cases = [
        (None, "error_description=\"no key was sent\""),
        (Some("Basic fake"), "error_description=\"Authorization is not Bearer KEY\""),
        (Some("Bearer wrong"), "error_description=\"this gateway did not issue the key\""),
        (Some("Bearer sk-aigw-short"), "error_description=\"the checksum of the key does not match\""),
    ];
    for (authorization, says) in cases {
        let headers: Vec<_> = authorization.map(|value| ("authorization", value.to_owned())).into_iter().collect();
        let answer = world.client().await.request("GET", "/openai/v1/models", &headers, b"").await;
        answer.error(401, "invalid_request_error", "invalid_api_key");
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Bearer realm=") && challenge.contains(says), "{challenge}");
    }
}

async fn a_missing_scope_is_named_in_the_challenge(pair: Pair) {
    let key_file = LIMITED.replace(r#""*", "path": "/openai/*""#, r#""get", "path": "/openai/v1/models""#);
    let world = World::with(Setup { key_file: Some(key_file), pair, ..Setup::default() }).await;
    let mut client = world.client().await;
    let answer = client.post("/openai/v1/chat/completions", &chat("hello")).await;
    assert_eq!(
        answer.error(403, "invalid_request_error", "insufficient_permissions"),
        "Invalid AI Gateway API scope",
        "the message stays the original's"
    );
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(challenge.ends_with("scope=\"post:/openai/v1/chat/completions\""), "{challenge}");
}

#[tokio::test]
async fn http_1_1_needs_a_host() {
    let world = World::start().await;
    let mut client = world.connect().await;
    client.send("GET /openai/v1/models HTTP/1.1\r\nauthorization: Bearer fake\r\n\r\n").await;
    client.response("GET").await.error(400, "invalid_request_error", "invalid_header");
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn a_gateway_that_drains_tells_its_clients_that_the_connection_ends() {
    let server = "shutdown: { readiness_delay: 10s, grace: 900s }".to_owned();
    let world = World::with(Setup { server, ..Setup::default() }).await;
    let mut client = world.connect().await;
    let headers = [bearer(KEY)];
    let before = client.request("GET", "/openai/v1/models", &headers, b"").await;
    assert_eq!((before.status, before.header("connection")), (200, Some("keep-alive")));
    world.gateway.drain();
    eventually("it drains", async || world.admin("/readyz").await.status == 503).await;
    let after = client.request("GET", "/openai/v1/models", &headers, b"").await;
    assert_eq!((after.status, after.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    let refused = world.connect().await.request("GET", "/openai/v1/none", &headers, b"").await;
    assert_eq!((refused.status, refused.header("connection")), (404, Some("close")));
}

async fn configured_query_parameters_take_the_place_of_the_clients(pair: Pair) {
    let provider = "query: { api-version: \"2024-10-21\" }".to_owned();
    let world = World::with(Setup { provider, pair, ..Setup::default() }).await;
    let mut client = world.client().await;
    get(&mut client, "/openai/v1/models?limit=1&api-version=1999&api%2Dversion=2000").await;
    assert_eq!(world.provider.received()[0].target, "/v1/models?limit=1&api-version=2024-10-21");
}
