//! What policies change of a call: headers, the provider, the model, the body; and what they may not.

use ai_gateway::demo::Script;

use super::*;

#[tokio::test]
async fn a_header_replaces_the_clients_and_the_configurations() {
    let first = change(|call| {
        call.set_header("x-tier", "bronze")?;
        call.set_header("X-Region", "eu")
    });
    let second = change(|call| call.set_header("x-tier", "gold"));
    let setup = Setup { provider: "headers: { x-region: us, x-kept: \"1\" }".to_owned(), ..Setup::default() };
    let world = World::with(Setup { policies: all(&[&first, &second]), ..setup }).await;
    let headers = [bearer(KEY), ("x-tier", "platinum".to_owned()), ("x-other", "2".to_owned())];
    let mut client = world.connect().await;
    assert_eq!(client.request("POST", CHAT, &headers, chat("x").as_bytes()).await.status, 200);
    let received = &world.provider.received()[0];
    for (name, value) in [("x-tier", "gold"), ("x-region", "eu"), ("x-kept", "1"), ("x-other", "2")] {
        assert_eq!((received.header(name), received.header_count(name)), (Some(value), 1), "{name}");
    }
}

#[tokio::test]
async fn another_provider_is_asked_by_its_own_url_and_key_and_told_everywhere() {
    let policy = change(|call| {
        call.use_provider("inner")?;
        assert_eq!((call.provider(), call.route()), ("inner", CHAT));
        Ok(())
    });
    let (inner, providers) = inner("").await;
    let world = World::with(Setup { policies: all(&[&policy]), providers, ..Setup::default() }).await;
    let answer = world.post(&format!("{CHAT}?a=1"), &chat("hello")).await;
    assert_eq!((answer.status, answer.header("provider-name")), (200, Some("inner")));
    assert!(world.provider.received().is_empty());
    assert_eq!(inner.received()[0].target, "/house/v1/chat/completions?a=1");
    let call = &world.log.calls(1).await[0];
    assert_eq!((call["providerName"].as_str(), call["path"].as_str()), (Some("inner"), Some(CHAT)));
    let metrics = world.metrics().await;
    let series = format!(
        "gateway_requests_total{{method=\"POST\",model=\"gpt-4o-mini\",provider=\"inner\",route=\"{CHAT}\",status=\"200\"}}"
    );
    assert_eq!(metric(&metrics, &series), 1.0, "{metrics}");
    assert_eq!(metric(&metrics, "gateway_upstream_attempts_total{outcome=\"success\",provider=\"inner\"}"), 1.0);
    eventually("it has settled", async || policy.settled().len() == 1).await;
    assert_eq!(policy.settled(), [(200, None, Some("inner".to_owned()))]);
    // Where that one cannot be reached, the answer says who it was.
    inner.stop().await;
    let answer = world.post(CHAT, &chat("hello")).await;
    assert_eq!((answer.status, answer.header("provider-name")), (502, Some("inner")));
}

#[tokio::test]
async fn another_model_is_asked_for_and_every_other_byte_stays() {
    let first = change(|call| call.use_model("gpt-4.1 \"mini\""));
    let second = change(|call| {
        assert_eq!(call.model(), Some("gpt-4.1 \"mini\""), "the next policy sees the change");
        let at = call.values_of("n").pop().ok_or(PolicyError::OutOfBounds)?;
        call.splice(at, "2")
    });
    let world = world(&[&first, &second]).await;
    world.provider.script(Script::json(200, "{}").always());
    let body =
        r#" {"n" : 1, "messages":[{"role":"user","content":"x"}], "big":123456789012345678901, "model" : "gpt-4o" } "#;
    assert_eq!(world.post(CHAT, body).await.status, 200);
    let expected = body.replace(r#""gpt-4o""#, r#""gpt-4.1 \"mini\"""#).replace(": 1,", ": 2,");
    assert_eq!(body_of(&world.provider, 0), expected);
    assert_eq!(world.log.calls(1).await[0]["model"], "gpt-4.1 \"mini\"");
    let body = r#"{"n":1,"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(world.post(CHAT, body).await.status, 200);
    assert_eq!(
        body_of(&world.provider, 1),
        r#"{"model":"gpt-4.1 \"mini\"","n":2,"messages":[{"role":"user","content":"x"}]}"#
    );
}

#[tokio::test]
async fn what_a_policy_makes_of_a_body_is_held_to_the_keys_models() {
    let policy = change(|call| match call.headers().get("x-model").and_then(|value| value.to_str().ok()) {
        Some("none") => {
            let at = call.values_of("model").pop().ok_or(PolicyError::NoBody)?;
            call.splice(at, "7")
        }
        Some(model) => {
            let model = model.to_owned();
            call.use_model(&model)
        }
        None => Ok(()),
    });
    let key_file = KEY_FILE.replacen("\"username\"", "\"models\": [\"gpt-4o*\"], \"username\"", 1);
    let setup = Setup { policies: all(&[&policy]), key_file: Some(key_file), ..Setup::default() };
    let world = World::with(setup).await;
    let mut client = world.connect().await;
    let mut ask = async |model: &str| {
        let headers = [bearer(KEY), ("x-model", model.to_owned())];
        client.request("POST", CHAT, &headers, chat("x").as_bytes()).await
    };
    assert_eq!(ask("gpt-4o").await.status, 200);
    for model in ["o3", "none"] {
        ask(model).await.error(403, "invalid_request_error", "model_not_allowed");
    }
    assert_eq!(world.provider.received().len(), 1);
}

#[tokio::test]
async fn what_may_not_be_is_refused_and_the_log_says_what() {
    type Try = fn(&mut Look<'_>) -> Result<(), PolicyError>;
    let tries: &[(Try, &str)] = &[
        (
            |call| call.set_header("Authorization", "Bearer x"),
            "the header \"Authorization\" is not for a policy to set",
        ),
        (|call| call.set_header("host", "evil"), "the header \"host\" is not for a policy to set"),
        (|call| call.set_header("x-request-id", "x"), "the header \"x-request-id\" is not for a policy to set"),
        (|call| call.set_header("x a", "x"), "the header \"x a\" is not for a policy to set"),
        (
            |call| call.set_header("x-a", "x\r\nhost: evil"),
            "the value of the header \"x-a\" holds characters that a header cannot carry",
        ),
        (|call| call.use_provider("nobody"), "there is no provider \"nobody\""),
        (|call| call.use_provider("inner"), "the provider \"inner\" has no such route as the call's"),
        (|call| call.splice(5..1_000_000, ""), "a change is outside of the body, or overlaps another one"),
        (|call| call.splice(0..1, "["), "the changed body is no request: an object is expected"),
        (
            |call| call.splice(1..1, "\"model\":1,"),
            "the changed body is no request: the field `model` stands twice at line 1 column 12",
        ),
        (
            |call| call.splice(1..1, format!("\"x\":\"{}\",", "y".repeat(1024))),
            "the changed body is larger than the 1024 bytes of server.limits.max_body",
        ),
        (|_| Err(PolicyError::Other("the list is stale".into())), "the list is stale"),
    ];
    let policy = change(|call| {
        let wanted: usize = call.headers()["x-try"].to_str().expect("ASCII").parse().expect("a number");
        tries[wanted].0(call)
    });
    let (_inner, providers) = inner(", routes: [ get /v1/models, post /v1/chat/completions stream ]").await;
    let server = "limits: { max_body: 1KiB }".to_owned();
    let world = World::with(Setup { policies: all(&[&policy]), providers, server, ..Setup::default() }).await;
    let mut client = world.connect().await;
    for (index, (_, cause)) in tries.iter().enumerate() {
        let headers = [bearer(KEY), ("x-try", index.to_string())];
        let answer = client.request("POST", CHAT, &headers, chat("x").as_bytes()).await;
        let message = answer.error(500, "server_error", "policy_failed");
        assert_eq!(message, "A policy of this gateway failed; the operator has to mend this");
        assert_eq!(world.log.calls(index + 1).await[index]["cause"], format!("policy rule: {cause}"));
    }
    assert!(world.provider.received().is_empty());
}
