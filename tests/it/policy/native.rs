//! Policies and the routes whose bodies pass unread.

use ai_gateway::demo::Script;

use super::*;

fn setup(policy: &Arc<Rule>) -> Setup {
    let routes = "routes: [ post /v1/audio/transcriptions stream, get /v1/realtime websocket ]";
    let key_file = KEY_FILE.replacen("/v1/models", "/v1/realtime", 1).replacen("/v1/embeddings", "/v1/audio/*", 1);
    Setup { provider: routes.to_owned(), key_file: Some(key_file), policies: all(&[policy]), ..Setup::default() }
}

#[tokio::test]
async fn an_upload_goes_where_they_say_with_the_headers_that_they_set() {
    let policy = change(|call| {
        assert_eq!((call.body(), call.model(), call.stream()), (None, None, false));
        call.set_header("x-tier", "gold")?;
        call.use_provider("inner")
    });
    let (inner, providers) = inner(", routes: [ post /v1/audio/transcriptions stream ]").await;
    let world = World::with(Setup { providers, ..setup(&policy) }).await;
    inner.script(Script::json(200, "{}").on("/house/v1/audio/transcriptions"));
    let headers = [bearer(KEY), ("content-type", "multipart/form-data; boundary=x".to_owned())];
    let answer = world.connect().await.request("POST", UPLOAD, &headers, b"--x--").await;
    assert_eq!((answer.status, answer.header("provider-name")), (200, Some("inner")));
    let received = &inner.received()[0];
    assert_eq!((received.header("x-tier"), &received.body[..]), (Some("gold"), &b"--x--"[..]));
    assert_eq!(world.log.calls(1).await[0]["providerName"], "inner");
    eventually("it has settled", async || policy.settled().len() == 1).await;
    assert!(world.provider.received().is_empty());
}

#[tokio::test]
async fn an_upload_that_they_refuse_is_not_even_invited() {
    let policy = rule(|_| denied("no_uploads"));
    let world = World::with(setup(&policy)).await;
    let mut client = world.connect().await;
    let more = [bearer(KEY), ("expect", "100-continue".to_owned()), ("content-length", "100000".to_owned())];
    client.send(head("POST", UPLOAD, &more, b"")).await;
    let first = client.head().await;
    assert_eq!(first.status, 403, "and not 100");
    assert!(world.provider.received().is_empty());
    eventually("it has settled", async || policy.settled().len() == 1).await;
}

#[tokio::test]
async fn what_is_not_read_cannot_be_changed() {
    for body in [b"".as_slice(), b"{\"model\":\"x\"}"] {
        let policy = change(|call| {
            assert_eq!(call.splice(0..0, " "), Err(PolicyError::NoBody));
            call.use_model("gpt-4o")
        });
        let world = World::with(setup(&policy)).await;
        let answer = world.connect().await.request("POST", UPLOAD, &[bearer(KEY)], body).await;
        answer.error(500, "server_error", "policy_failed");
        let cause = "policy rule: there is no body to change: the call has none, or its route passes it unread";
        assert_eq!(world.log.calls(1).await[0]["cause"], cause);
    }
}

#[tokio::test]
async fn a_websocket_is_looked_at_without_the_key_among_its_protocols() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let policy = {
        let seen = Arc::clone(&seen);
        change(move |call| {
            seen.lock().expect("no panic").push(format!("{:?} {:?}", call.query(), call.headers()));
            assert!(call.set_header("sec-websocket-protocol", "x").is_err());
            call.set_header("x-tier", "gold")
        })
    };
    let world = World::with(setup(&policy)).await;
    world.provider.script(agrees());
    let protocols = format!("realtime, openai-insecure-api-key.{KEY}");
    let mut client = world.connect().await;
    client.send(handshake(&[("sec-websocket-protocol", &protocols)])).await;
    assert_eq!(client.head().await.status, 101);
    client.send("ping").await;
    assert_eq!(client.bytes(4).await, b"ping");
    let seen = seen.lock().expect("no panic").join("\n");
    assert!(seen.contains("model=gpt-realtime") && seen.contains("\"sec-websocket-protocol\": \"realtime\""), "{seen}");
    assert!(!seen.contains("openai-insecure-api-key"), "{seen}");
    assert_eq!(world.provider.received()[0].header("x-tier"), Some("gold"));
}
