//! The rest of an API behind one line: any method and path below a prefix, and nothing beside it.

use super::*;

#[tokio::test]
async fn any_method_and_path_below_the_prefix_goes_through() {
    let world = world().await;
    world.provider.script(Script::json(200, "{}").always());
    let mut client = world.connect().await;
    let calls = [
        ("GET", "/openai/v1/files?limit=2&after=a%2Fb", "/v1/files?limit=2&after=a%2Fb"),
        ("DELETE", "/openai/v1/files/file-1", "/v1/files/file-1"),
        ("POST", "/openai/v1/vector_stores/vs_1/files/", "/v1/vector_stores/vs_1/files"),
        ("PUT", "/openai/v1/a/b/c/d%20e", "/v1/a/b/c/d%20e"),
        ("PATCH", "/openai/v1/x:y;z=1", "/v1/x:y;z=1"),
        ("HEAD", "/openai/v1/files/file-1/content", "/v1/files/file-1/content"),
        ("GET", CHAT, "/v1/chat/completions"),
    ];
    for (method, path, _) in calls {
        let body: &[u8] = if matches!(method, "GET" | "HEAD") { b"" } else { b"\0any\xffthing" };
        let answer = client.request(method, path, &[bearer(KEY)], body).await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")), "{method} {path}");
    }
    let received = world.provider.received();
    let seen: Vec<_> = received.iter().map(|call| (call.method.as_str(), call.target.as_str())).collect();
    assert_eq!(seen, calls.map(|(method, _, target)| (method, target)));
    assert_eq!(received[1].body, &b"\0any\xffthing"[..]);
    world.log.calls(calls.len()).await;
    let metrics = world.metrics().await;
    assert!(metrics.contains("route=\"/openai/v1/*\"") && !metrics.contains("vector_stores"), "{metrics}");
}

#[tokio::test]
async fn what_has_a_route_of_its_own_is_still_read() {
    let world = world().await;
    let mut client = world.connect().await;
    let refused = client.request("POST", CHAT, &[bearer(KEY)], b"[]").await;
    refused.error(400, "invalid_request_error", "invalid_json");
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn odd_spellings_and_methods_are_unknown() {
    let world = world().await;
    let mut client = world.connect().await;
    let odd = [
        "/openai/v1",
        "/openai/v1/",
        "/openai/v1//files",
        "//openai/v1/files",
        "/openai/v1/./files",
        "/openai/v1/files/..",
        "/openai/v1/../admin",
        "/openai/v1/%2e%2e/admin",
        "/openai/v1/.%2E/admin",
        "/openai/v1/a%2fb",
        "/openai/v1/a%5Cb",
        "/openai/v1/a\\b",
        "/openai/v1/a%00",
        "/openai/v1/a%7f",
        "/openai/v1/a%0d%0ab",
        "/openai/v1/a%zz/b%",
        "/openai/v1/\u{e9}",
        "/openai/v10/files",
        "/openai/%76%31/files",
    ];
    for path in odd {
        let answer = client.request("GET", path, &[bearer(KEY)], b"").await;
        answer.error(404, "invalid_request_error", "unknown_url");
    }
    for method in ["TRACE", "ANY", "BREW"] {
        let answer = client.request(method, "/openai/v1/files", &[bearer(KEY)], b"").await;
        answer.error(404, "invalid_request_error", "unknown_url");
    }
    assert_eq!(world.provider.received().len(), 0);
}

#[tokio::test]
async fn scopes_open_parts_of_it() {
    let scopes = ["get:/openai/v1/files/*", "*:/openai/v1/batches/*", "post:/openai/v1/files"];
    let world = World::with(each_kind(&scopes, "")).await;
    world.provider.script(Script::json(200, "{}").always());
    let mut client = world.connect().await;
    let cases = [
        ("GET", "/openai/v1/files/file-1", 200),
        ("HEAD", "/openai/v1/files/file-1", 200),
        ("GET", "/openai/v1/files/file-1/content", 200),
        ("DELETE", "/openai/v1/files/file-1", 403),
        ("GET", "/openai/v1/files", 403),
        ("POST", "/openai/v1/files", 200),
        ("DELETE", "/openai/v1/batches/b_1", 200),
        ("GET", "/openai/v1/batchesx/b_1", 403),
        ("GET", "/openai/v1/vector_stores", 403),
        ("POST", UPLOAD, 403),
    ];
    for (method, path, status) in cases {
        assert_eq!(client.request(method, path, &[bearer(KEY)], b"").await.status, status, "{method} {path}");
    }
}
