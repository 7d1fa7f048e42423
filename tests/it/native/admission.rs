//! Who may: the same order of refusals as everywhere, decided before a byte of a body is read.

use super::*;

#[tokio::test]
async fn refusals_come_in_their_order_and_before_the_body() {
    let world = World::with(each_kind(&["post:/openai/v1/audio/speech"], "")).await;
    let cases = [
        ("wrong", "/openai/v2/audio", 404, "unknown_url"),
        (KEY, "/other/v1/audio/speech", 404, "unknown_url"),
        ("wrong", UPLOAD, 401, "invalid_api_key"),
        (KEY, UPLOAD, 403, "insufficient_permissions"),
        (KEY, "/openai/v1/files", 403, "insufficient_permissions"),
    ];
    for (key, path, status, code) in cases {
        let mut client = world.connect().await;
        let headers = [bearer(key), ("content-length", "100000000".to_owned())];
        client.send(head("POST", path, &headers, b"")).await;
        let refused = tokio::time::timeout(Duration::from_secs(1), client.response("POST")).await;
        refused.expect("before the body is there").error(status, "invalid_request_error", code);
    }
    assert_eq!((world.provider.received().len(), world.provider.connections_accepted()), (0, 0));
}

#[tokio::test]
async fn a_key_with_a_list_of_models_is_refused_where_the_model_is_not_seen() {
    let key = key_file(ALL, r#", "models": ["gpt-4o*"]"#);
    let routes = "routes: [post /v1/chat/completions, post /v1/audio/speech stream, get /v1/realtime websocket, \
        \"get /v1/models/{model}\", \"delete /v1/models/{model} stream\", any /v1/* opaque]";
    let world = World::with(Setup { provider: routes.to_owned(), key_file: Some(key), ..Setup::default() }).await;
    let mut client = world.connect().await;
    for (method, path) in [("POST", SPEECH), ("GET", "/openai/v1/files"), ("GET", REALTIME)] {
        let refused = client.request(method, path, &[bearer(KEY)], b"").await;
        refused.error(403, "invalid_request_error", "route_not_metered");
        assert_eq!(refused.header("connection"), Some("keep-alive"));
    }
    assert_eq!(world.provider.received().len(), 0);
    world.provider.script(Script::json(200, "{}").always());
    assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
    let delete = async |client: &mut Connection, model: &str| {
        client.request("DELETE", &format!("/openai/v1/models/{model}"), &[bearer(KEY)], b"").await
    };
    assert_eq!(delete(&mut client, "gpt-4o-mini").await.status, 200, "the path names the model");
    delete(&mut client, "o1").await.error(403, "invalid_request_error", "model_not_allowed");
}

#[tokio::test]
async fn an_upgrade_is_passed_on_no_other_route() {
    let world = world().await;
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "x")];
    for path in [VOICES, "/openai/v1/files", "/openai/v1/models"] {
        world.provider.script(Script::json(200, "{}"));
        let mut client = world.connect().await;
        client.send(with_key("GET", path, &upgrade)).await;
        assert_eq!(client.response("GET").await.status, 200, "{path}");
        let received = world.provider.received().pop().expect("a call");
        for name in ["upgrade", "connection", "sec-websocket-key"] {
            assert_eq!(received.header(name), None, "{path}");
        }
        world.provider.script(Script::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"));
        let mut client = world.connect().await;
        client.send(with_key("GET", path, &upgrade)).await;
        client.response("GET").await.error(502, "server_error", "upstream_error");
    }
}
