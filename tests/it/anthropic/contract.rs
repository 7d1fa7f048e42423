//! Keys, scopes, headers and bytes: what goes up and what comes back.

use ai_gateway::demo::Reply;

use super::*;

#[tokio::test]
async fn a_key_comes_in_either_header_and_never_goes_on() {
    let claude = Claude::start().await;
    let body = question("hello").to_string();
    let token = format!("Bearer {KEY}");
    for headers in [
        vec![("x-api-key", KEY)],
        vec![("authorization", token.as_str())],
        vec![("authorization", token.as_str()), ("x-api-key", KEY)],
    ] {
        let headers = json_headers(&headers);
        let answer = claude.world.connect().await.request("POST", MESSAGES, &headers, body.as_bytes()).await;
        assert_eq!((answer.status, answer.header("provider-name")), (200, Some("anthropic")), "{}", answer.text());
        let received = claude.provider.received().pop().expect("a request");
        assert_eq!(received.target, "/v1/messages");
        let credentials = ["x-api-key", "authorization", "api-key"].map(|name| received.header(name));
        assert_eq!(credentials, [Some(PROVIDER_KEY), None, None]);
        assert_eq!(received.headers.iter().filter(|(name, _)| name == "x-api-key").count(), 1);
        assert!(!received.headers.iter().any(|(_, value)| String::from_utf8_lossy(value).contains(KEY)));
    }
}

#[tokio::test]
async fn the_version_is_the_clients_or_the_default_and_betas_pass() {
    let claude = Claude::start().await;
    let body = question("hello").to_string();
    let sent = async |more: &[(&'static str, &str)]| {
        let headers = json_headers(&[&[("x-api-key", KEY)], more].concat());
        let answer = claude.world.connect().await.request("POST", MESSAGES, &headers, body.as_bytes()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let received = claude.provider.received().pop().expect("a request");
        let all = |wanted: &str| {
            let values = received.headers.iter().filter(|(name, _)| name == wanted);
            values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>()
        };
        (all("anthropic-version"), all("anthropic-beta"))
    };
    assert_eq!(sent(&[]).await, (vec!["2023-06-01".to_owned()], vec![]));
    let theirs = [("anthropic-version", "2099-01-01"), ("anthropic-beta", "a,b")];
    assert_eq!(sent(&theirs).await, (vec!["2099-01-01".to_owned()], vec!["a,b".to_owned()]));
    let setup = Setup::default();
    let fixed = Claude::with(setup, "headers: { anthropic-version: '2077-01-01' }").await;
    fixed.ask(&question("hello")).await;
    assert_eq!(fixed.provider.received()[0].header("anthropic-version"), Some("2077-01-01"));
}

#[tokio::test]
async fn refusals_have_anthropics_shape() {
    let key_file = KEYS.replace(
        r#"[{ "method": "*", "path": "/anthropic/*" }]"#,
        r#"[{ "method": "post", "path": "/anthropic/v1/messages" }], "models": ["claude-sonnet-*"]"#,
    );
    let setup = Setup { key_file: Some(key_file), server: "limits: { max_body: 1KiB }".to_owned(), ..Setup::default() };
    let claude = Claude::with(setup, "").await;
    let good = question("hello").to_string();
    let call = async |method: &str, path: &str, headers: &[(&'static str, &str)], body: &str| {
        claude.world.connect().await.request(method, path, &json_headers(headers), body.as_bytes()).await
    };
    let own = [("x-api-key", KEY)];
    let ask = async |headers: &[(&'static str, &str)], body: &str| call("POST", MESSAGES, headers, body).await;
    let answer = ask(&[], &good).await;
    assert_eq!(own_error(&answer, 401, "authentication_error"), "Invalid AI Gateway API key");
    assert!(answer.header("www-authenticate").is_some());
    own_error(&ask(&[("x-api-key", "wrong")], &good).await, 401, "authentication_error");
    own_error(&ask(&[("x-api-key", KEY), ("authorization", "Bearer other")], &good).await, 401, "authentication_error");
    let scope = own_error(&call("POST", COUNT, &own, &good).await, 403, "permission_error");
    assert_eq!(scope, "Invalid AI Gateway API scope");
    own_error(&call("GET", "/anthropic/v1/models", &own, "").await, 403, "permission_error");
    own_error(&ask(&own, &good.replace("sonnet", "opus")).await, 403, "permission_error");
    own_error(&ask(&own, "{").await, 400, "invalid_request_error");
    own_error(&ask(&own, &question(&"x".repeat(2000)).to_string()).await, 413, "request_too_large");
    let message = own_error(&call("POST", "/anthropic/v1/complete", &own, &good).await, 404, "not_found_error");
    assert_eq!(message, "Route not found");
    let elsewhere = call("POST", "/openai/v1/complete", &own, &good).await;
    elsewhere.error(404, "invalid_request_error", "unknown_url");
    assert_eq!(claude.asked(), [0, 0], "none was sent");
    assert_eq!(ask(&own, &good).await.status, 200, "the scope and the model are good for this");
}

#[tokio::test]
async fn bodies_and_answers_pass_byte_for_byte() {
    let claude = Claude::start().await;
    let odd = r#" { "max_tokens" : 40 , "messages":[{"role":"user","content":"caf\u00e9 🚣"}], "model":"claude-sonnet-4-5","big":123456789012345678901234567890 } "#;
    let direct = claude.provider.addr();
    let headers = json_headers(&[("x-api-key", PROVIDER_KEY), ("anthropic-version", "2023-06-01")]);
    for stream in [false, true] {
        let body = if stream { odd.replacen('{', "{\"stream\":true,", 1) } else { odd.to_owned() };
        let through = claude.world.post(MESSAGES, &body).await;
        let received = claude.provider.received().pop().expect("a request");
        assert_eq!(received.body, body.as_bytes());
        assert_eq!((through.status, through.complete), (200, true), "{}", through.text());
        // The harness looks for the provider's key in answers only.
        let plain = Connection::open(direct).await.request("POST", "/v1/messages", &headers, body.as_bytes()).await;
        assert_eq!(through.text(), plain.text());
        for name in ["content-type", "request-id", "anthropic-organization-id", "anthropic-ratelimit-tokens-limit"] {
            assert!(through.header(name).is_some() && through.header(name) == plain.header(name), "{name}");
        }
        assert!(through.header("x-request-id").is_some_and(|id| Some(id) != through.header("request-id")));
    }
}

#[tokio::test]
async fn the_providers_errors_pass_as_they_are() {
    let claude = Claude::start().await;
    for (status, kind) in [(400, "invalid_request_error"), (404, "not_found_error"), (413, "request_too_large")] {
        let body = error(kind, "theirs");
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        let reply = Reply::Fixed { status, headers, body: body.clone().into() };
        claude.provider.script(Script { reply, ..Script::default() });
        let answer = claude.ask(&question("hello")).await;
        assert_eq!((answer.status, answer.text()), (status, body));
    }
    for status in [401, 403] {
        claude.provider.script(Script::json(status, error("authentication_error", "invalid x-api-key")));
        let message = own_error(&claude.ask(&question("hello")).await, 502, "api_error");
        assert!(message.contains("the gateway's own credential"), "{message}");
    }
}
