//! The access log: its fields, and a reader that is stuck.

use std::time::Duration;

use serde_json::Value;

use super::*;

/// All access lines and failure lines, whole.
fn access_lines(log: &Log) -> Vec<Value> {
    let of_calls = |line: &Value| line["message"].as_str().is_some_and(|text| text.starts_with("gateway request"));
    log.lines().into_iter().filter(of_calls).collect()
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_success_has_one_line_with_the_originals_fields_and_ours() {
    let world = World::start().await;
    let headers =
        [bearer(KEY), ("content-type", "application/json".to_owned()), ("on-behalf-of", "jane \"x\"\t".to_owned())];
    let path = "/openai/v1/chat/completions?secret=query";
    let answer = world.connect().await.request("POST", path, &headers, chat("hello").as_bytes()).await;
    assert_eq!(answer.status, 200);
    world.log.calls(1).await;
    let lines = access_lines(&world.log);
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    assert_eq!(names(line), ["level", "timestamp", "pid", "hostname", "meta", "message"]);
    assert_eq!((line["level"].as_str(), line["pid"].as_u64()), (Some("INFO"), Some(std::process::id().into())));
    let timestamp = line["timestamp"].as_str().expect("a text");
    assert!(timestamp.len() == "2026-01-01T00:00:00.000Z".len() && timestamp.ends_with('Z'), "{timestamp}");
    let meta = &line["meta"];
    let expected = [
        "method",
        "path",
        "providerName",
        "model",
        "username",
        "keyId",
        "onBehalfOf",
        "statusCode",
        "requestId",
        "durationMs",
        "overheadUs",
        "attempts",
        "certainty",
        "usage",
        "cost",
        "answeredModel",
        "clientAddress",
    ];
    assert_eq!(names(meta), expected);
    assert_eq!(meta["method"], "POST");
    assert_eq!(meta["path"], "/openai/v1/chat/completions", "a query may hold anything and is not told");
    assert_eq!(meta["providerName"], "openai");
    assert_eq!(meta["model"], "gpt-4o-mini");
    assert_eq!(meta["username"], "test");
    assert_eq!(meta["keyId"], "ebc5f4226c40");
    assert_eq!(meta["onBehalfOf"], "jane \"x\"");
    assert_eq!(meta["statusCode"], "200");
    assert_eq!(meta["requestId"].as_str(), answer.header("x-request-id"));
    assert_eq!(meta["attempts"], 1);
    assert_eq!(meta["certainty"], "settled");
    assert_eq!(meta["answeredModel"], "gpt-4o-mini");
    assert_eq!(meta["clientAddress"], "127.0.0.1");
    assert!(meta["durationMs"].is_u64() && meta["overheadUs"].is_u64());
}

#[tokio::test]
async fn a_refusal_has_a_second_line_and_names_nobody() {
    let world = World::start().await;
    let headers = [bearer("wrong"), ("username", "forged".to_owned()), ("on-behalf-of", "forged".to_owned())];
    let answer = world.connect().await.request("GET", "/openai/v1/models", &headers, b"").await;
    answer.error(401, "invalid_request_error", "invalid_api_key");
    world.log.calls(1).await;
    let lines = access_lines(&world.log);
    let told: Vec<_> = lines.iter().map(|line| (line["level"].as_str(), line["message"].as_str())).collect();
    assert_eq!(
        told,
        [(Some("INFO"), Some("gateway request")), (Some("ERROR"), Some("gateway request failed"))],
        "alerts look for these two"
    );
    assert_eq!(lines[0]["meta"], lines[1]["meta"]);
    let meta = &lines[0]["meta"];
    assert_eq!((meta["statusCode"].as_str(), meta["code"].as_str()), (Some("401"), Some("invalid_api_key")));
    assert_eq!(names(meta).iter().find(|name| ["username", "keyId", "onBehalfOf", "model"].contains(name)), None);
    assert!(!meta.to_string().contains("forged"));
}

#[tokio::test]
async fn a_refused_key_that_is_known_is_named_by_its_id() {
    for (more, path, status) in [
        ("\"disabled\": true, ", "/openai/v1/models", 401),
        ("\"expires_at\": \"2020-01-01T00:00:00Z\", ", "/openai/v1/models", 401),
        ("", "/openai/v1/files", 403),
    ] {
        let key_file = KEY_FILE.replacen("\"username\"", &format!("{more}\"username\""), 1);
        let routes = "routes: [get /v1/models, get /v1/files]".to_owned();
        let world = World::with(Setup { key_file: Some(key_file), provider: routes, ..Setup::default() }).await;
        assert_eq!(world.get(path).await.status, status, "{more}");
        world.log.calls(1).await;
        for line in access_lines(&world.log) {
            assert_eq!(line["meta"]["keyId"], "ebc5f4226c40", "{line}");
        }
    }
}

#[tokio::test]
async fn a_providers_error_is_a_failure_too() {
    let world = World::start().await;
    world.provider.script(Script::json(429, r#"{"error":{"message":"slow down"}}"#));
    assert_eq!(world.post("/openai/v1/chat/completions", &chat("x")).await.status, 429);
    world.log.calls(1).await;
    let lines = access_lines(&world.log);
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[1]["level"].as_str(), lines[1]["meta"]["statusCode"].as_str()), (Some("ERROR"), Some("429")));
}

#[tokio::test]
async fn a_stream_that_its_client_left_is_a_499() {
    let world = World::start().await;
    let script = Script { words: Some(2_000), gap: Some(Duration::from_millis(10)), ..Script::default() };
    world.provider.script(script);
    let mut connection = world.connect().await;
    let body = chat_stream("x");
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    connection.send(head("POST", "/openai/v1/chat/completions", &headers, body.as_bytes())).await;
    connection.send(body).await;
    connection.head().await;
    drop(connection);
    let call = &world.log.calls(1).await[0];
    assert_eq!(call["statusCode"], "499");
    assert_eq!(call["username"], "test");
    assert!(call["code"].is_string(), "{call}");
    assert_eq!(access_lines(&world.log)[1]["message"], "gateway request failed");
}

#[tokio::test]
async fn the_access_log_can_be_off() {
    let world = World::with(Setup { telemetry: "access_log: off".to_owned(), ..Setup::default() }).await;
    assert_eq!(world.get("/openai/v1/models").await.status, 200);
    assert_eq!(world.get("/nothing").await.status, 404);
    let refused =
        r#"gateway_requests_total{method="GET",model="unknown",provider="unknown",route="unknown",status="404"}"#;
    eventually("both have settled", async || metric(&world.metrics().await, refused) == 1.0).await;
    assert!(access_lines(&world.log).is_empty());
}

/// Sends this many requests over a few connections and checks each status.
async fn ask(address: std::net::SocketAddr, count: usize, path: String, status: u16) {
    let mut lanes = Vec::new();
    for _ in 0..4 {
        let (mut connection, path) = (Connection::open(address).await, path.clone());
        lanes.push(tokio::spawn(async move {
            for _ in 0..count / 4 {
                assert_eq!(connection.request("GET", &path, &[bearer(KEY)], b"").await.status, status);
            }
        }));
    }
    for lane in lanes {
        lane.await.expect("no panic");
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_costs_lines_and_no_calls() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let mut process = Process::start_unread(folder.path(), SERVE, &[]);
    let (address, admin) = process.serves().await;
    process.hang_up();
    ask(address, 400, "/openai/v1/models".to_owned(), 200).await;
    eventually("lost lines are counted", async || {
        let metrics = Connection::open(admin).await.request("GET", "/metrics", &[], b"").await.text();
        metric(&metrics, "gateway_log_dropped_total") >= 400.0
    })
    .await;
    process.signal("TERM");
    assert_eq!(process.end_unread().await, Some(0));
}

#[tokio::test]
async fn a_reader_that_is_stuck_costs_lines_and_no_calls() {
    let (provider, folder) = prepare(&Setup::default()).await;
    let mut process = Process::start_unread(folder.path(), SERVE, &[]);
    let (address, admin) = process.serves().await;
    provider.script(Script::json(200, "{}").on("/v1/models").always());
    let dropped = async || {
        let metrics = Connection::open(admin).await.request("GET", "/metrics", &[], b"").await.text();
        metric(&metrics, "gateway_log_dropped_total")
    };
    assert_eq!(dropped().await, 0.0);
    // Each call has two lines of a kilobyte: 8 MiB are full after some 3,500 of them.
    let long = format!("/{}", "x".repeat(1_023));
    for _ in 0..10 {
        ask(address, 600, long.clone(), 404).await;
        if dropped().await > 0.0 {
            break;
        }
    }
    assert!(dropped().await > 0.0, "the queue is bounded");
    ask(address, 2_400, "/openai/v1/models".to_owned(), 200).await;
    assert!(process.runs());
    process.signal("TERM");
    let ended = process.end_unread().await;
    assert_eq!(ended, Some(0), "a stuck reader does not keep it from ending");
}
