//! Routes that tell the model of calls whose bodies pass unread: whom that admits, and what logs and metrics say of it.

use super::*;

const ROUTES: &str = r#"routes: [
    { route: "get /v1/realtime websocket", model: query },
    { route: "get /v1/audio/voices stream", model: query },
    { route: "post /v1/audio/transcriptions stream", model: whisper-1 },
    { route: "post /v1/audio/speech stream", model: tts-1 },
    "get /v1/files stream"
]"#;

/// A world with [`ROUTES`], and a key with this list of models where there is one.
async fn world_of(models: Option<&str>) -> World {
    let more = models.map_or_else(String::new, |models| format!(r#", "models": {models}"#));
    let key_file = Some(key_file(ALL, &more));
    World::with(Setup { provider: ROUTES.replace('\n', " "), key_file, ..Setup::default() }).await
}

#[tokio::test]
async fn a_key_with_a_list_of_models_may_use_what_the_route_tells() {
    let world = world_of(Some(r#"["gpt-realtime*", "whisper-1"]"#)).await;
    world.provider.script(Script::json(200, "{}").always());
    let mut client = world.connect().await;
    let calls = [
        ("GET", "/openai/v1/audio/voices?model=gpt-realtime-mini&a=1"),
        ("HEAD", "/openai/v1/audio/voices/?a=b&model=gpt%2Drealtime"),
        ("POST", "/openai/v1/audio/transcriptions?model=o1"),
    ];
    for (method, path) in calls {
        let answer = client.request(method, path, &[bearer(KEY)], b"").await;
        assert_eq!(answer.status, 200, "{method} {path}");
    }
    let targets: Vec<_> = world.provider.received().into_iter().map(|call| call.target).collect();
    let forwarded = [
        "/v1/audio/voices?model=gpt-realtime-mini&a=1",
        "/v1/audio/voices?a=b&model=gpt%2Drealtime",
        "/v1/audio/transcriptions?model=o1",
    ];
    assert_eq!(targets, forwarded, "as the client wrote it");
    let told: Vec<_> = world.log.calls(3).await.iter().map(|call| call["model"].to_string()).collect();
    assert_eq!(told, [r#""gpt-realtime-mini""#, r#""gpt-realtime""#, r#""whisper-1""#]);
    let metrics = world.metrics().await;
    for model in ["gpt-realtime-mini", "gpt-realtime", "whisper-1"] {
        assert!(metrics.contains(&format!("model=\"{model}\"")), "{model}: {metrics}");
    }
}

#[tokio::test]
async fn a_websocket_is_for_the_model_of_its_query() {
    let world = world_of(Some(r#"["gpt-realtime"]"#)).await;
    let mut client = websocket::open(&world).await;
    client.send("hello").await;
    assert_eq!(client.bytes(5).await, b"hello");
    drop(client);
    assert_eq!(world.provider.received()[0].target, "/v1/realtime?model=gpt-realtime");
    let call = &world.log.calls(1).await[0];
    assert_eq!((call["statusCode"].as_str(), call["model"].as_str()), (Some("101"), Some("gpt-realtime")));
    let counted = r#"gateway_requests_total{method="GET",model="gpt-realtime",provider="openai",route="/openai/v1/realtime",status="101"} 1"#;
    let metrics = world.metrics().await;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn any_other_model_is_refused_before_anything_is_sent() {
    let world = world_of(Some(r#"["gpt-realtime*", "whisper-1"]"#)).await;
    let mut client = world.connect().await;
    let cases = [
        ("GET", "/openai/v1/audio/voices?model=o1", 403, "model_not_allowed"),
        ("GET", "/openai/v1/audio/voices", 403, "model_not_allowed"),
        ("GET", "/openai/v1/audio/voices?intent=transcription", 403, "model_not_allowed"),
        ("POST", "/openai/v1/audio/speech?model=whisper-1", 403, "model_not_allowed"),
        ("GET", "/openai/v1/files?model=whisper-1", 403, "route_not_metered"),
        ("GET", "/openai/v1/audio/voices?model=gpt-realtime&model=o1", 400, "invalid_query"),
        ("GET", "/openai/v1/audio/voices?model=gpt-realtime&mod%65l=o1", 400, "invalid_query"),
        ("GET", "/openai/v1/audio/voices?model=gpt-realtime&Model=o1", 400, "invalid_query"),
        ("GET", "/openai/v1/audio/voices?model=gpt-realtime&model[]=o1", 400, "invalid_query"),
        ("GET", "/openai/v1/audio/voices?model=gpt-realtime;model=o1", 400, "invalid_query"),
        ("GET", "/openai/v1/audio/voices?model=gpt-realtime%26model%3Do1", 400, "invalid_query"),
    ];
    for (method, path, status, code) in cases {
        let refused = client.request(method, path, &[bearer(KEY)], b"").await;
        refused.error(status, "invalid_request_error", code);
        assert_eq!(refused.header("connection"), Some("keep-alive"), "{path}");
    }
    assert_eq!(world.provider.received().len(), 0);
    let refused = &world.log.calls(cases.len()).await[0];
    assert_eq!((refused["statusCode"].as_str(), refused["model"].as_str()), (Some("403"), Some("o1")));
}

#[tokio::test]
async fn a_key_without_a_list_needs_no_model_but_names_it_plainly() {
    let world = world_of(None).await;
    world.provider.script(Script::json(200, "{}").always());
    let mut client = world.connect().await;
    for query in ["", "?call_id=rtc_1", "?model=o1"] {
        let path = format!("/openai/v1/audio/voices{query}");
        assert_eq!(client.request("GET", &path, &[bearer(KEY)], b"").await.status, 200, "{query}");
    }
    let refused = client.request("GET", "/openai/v1/audio/voices?model=a&model=b", &[bearer(KEY)], b"").await;
    let message = refused.error(400, "invalid_request_error", "invalid_query");
    assert_eq!(message, "The request has an invalid query: the parameter \"model\" stands twice");
    let refused = client.request("GET", "/openai/v1/audio/voices?model=a&model=b", &[bearer("wrong")], b"").await;
    refused.error(401, "invalid_request_error", "invalid_api_key");
}
