//! Calls at once: one too many is told to come again, whatever carries it, and its place is free when a call ends.

use ai_gateway::demo::Script;

use super::*;

const REFUSED: &str = r#"gateway_limit_rejections_total{limit="max_in_flight"}"#;

async fn world(most: usize, pair: Pair) -> World {
    let server = format!("limits: {{ max_in_flight: {most} }}");
    World::with(Setup { server, pair, ..each_kind(ALL, "") }).await
}

/// A script of a call that lasts until its client leaves.
fn lasting() -> Script {
    Script { path: Some("/v1/chat/completions".to_owned()), ..Script::delayed(SOON * 10) }
}

over_all_pairs!(one_call_too_many_is_told_to_come_again);
async fn one_call_too_many_is_told_to_come_again(pair: Pair) {
    let world = world(2, pair).await;
    let mut held = Vec::new();
    for number in 1..=2 {
        world.provider.script(lasting());
        held.push(world.client().await.ask(CHAT, &chat("x")).await);
        eventually("the provider is asked", async || world.provider.received().len() == number).await;
    }
    let mut client = world.client().await;
    for (method, path) in [("POST", CHAT), ("POST", UPLOAD), ("GET", MODELS)] {
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        let body = if method == "GET" { String::new() } else { chat("x") };
        let answer = client.request(method, path, &headers, body.as_bytes()).await;
        let message = answer.error(503, "server_error", "overloaded");
        assert_eq!(message, "The gateway is serving as many calls at once as it may; try again");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // What is no call of a good key has no need of a place, and takes none.
    assert_eq!(client.request("GET", "/livez", &[], b"").await.status, 200);
    assert_eq!(client.request("GET", MODELS, &[bearer("wrong")], b"").await.status, 401);
    assert_eq!(world.provider.received().len(), 2);
    eventually("each is counted", async || metric(&world.metrics().await, REFUSED) == 3.0).await;
    held.pop();
    eventually("there is room again", async || client.post(CHAT, &chat("x")).await.status == 200).await;
}

#[tokio::test]
async fn streams_uploads_and_websockets_take_places_until_they_end() {
    let world = world(3, Pair::default()).await;
    world.provider.script(Script { path: Some("/v1/chat/completions".to_owned()), ..slow(2_000, 50) });
    let stream = begin_stream(world.connect().await, &chat_stream("x")).await;
    let mut upload = world.connect().await;
    let kind = ("content-type", "multipart/form-data; boundary=b".to_owned());
    let headers = [bearer(KEY), kind, ("content-length", "1000".to_owned())];
    upload.send(head("POST", UPLOAD, &headers, b"")).await;
    upload.send("x").await;
    world.provider.script(agrees().on("/v1/realtime"));
    let mut websocket = world.connect().await;
    websocket.send(handshake(&[("authorization", &bearer(KEY).1)])).await;
    assert_eq!(websocket.head().await.status, 101);
    // Nobody asks before, who could be in the way himself.
    let in_flight = async || metric(&world.metrics().await, "gateway_inflight_requests");
    eventually("all three are there", async || in_flight().await == 3.0).await;
    assert_eq!(world.get(MODELS).await.status, 503);
    let mut next = Vec::new();
    for (number, call) in [stream.0, upload, websocket].into_iter().enumerate() {
        drop(call);
        eventually(&format!("call {number} gave its place back"), async || world.get(MODELS).await.status == 200).await;
        eventually("those who asked are gone", async || in_flight().await == 2.0).await;
        world.provider.script(lasting());
        next.push(AnyClient::Http1(world.connect().await).ask(CHAT, &chat("x")).await);
        eventually("another one takes it", async || in_flight().await == 3.0).await;
        assert_eq!(world.get(MODELS).await.status, 503);
    }
}

#[tokio::test]
async fn a_reload_changes_how_many_there_may_be() {
    let world = world(1, Pair::default()).await;
    world.provider.script(lasting());
    let _held = AnyClient::Http1(world.connect().await).ask(CHAT, &chat("x")).await;
    eventually("the provider is asked", async || world.provider.received().len() == 1).await;
    assert_eq!(world.get(MODELS).await.status, 503);
    let yaml = std::fs::read_to_string(world.config_file()).expect("read");
    std::fs::write(world.config_file(), yaml.replace("max_in_flight: 1", "max_in_flight: 2")).expect("written");
    world.gateway.reload().expect("a good configuration");
    assert_eq!(world.get(MODELS).await.status, 200);
}
