//! A call, from its key to its record.

use crate::support::*;

#[tokio::test]
async fn a_call_goes_through_and_is_told_once() {
    let world = World::start().await;
    let answer = world.post("/openai/v1/chat/completions", &chat("hello")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.complete);
    assert_eq!(answer.json()["object"], "chat.completion");
    assert_eq!(answer.header("provider-name"), Some("openai"));
    let received = world.provider.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].target, "/v1/chat/completions");
    assert_eq!(received[0].header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
    let calls = world.log.calls(1).await;
    assert_eq!(calls[0]["statusCode"], "200");
    assert_eq!(calls[0]["username"], "test");
    assert!(world.metrics().await.contains(r#"gateway_requests_total{method="POST""#));
}

#[tokio::test]
async fn a_stream_arrives_whole() {
    let world = World::start().await;
    let answer = world.post("/openai/v1/chat/completions", &chat_stream("hello")).await;
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert!(answer.complete);
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn a_wrong_key_goes_nowhere() {
    let world = World::start().await;
    let answer = world.connect().await.request("GET", "/openai/v1/models", &[bearer("wrong")], b"").await;
    assert_eq!(answer.error(401, "invalid_request_error", "invalid_api_key"), "Invalid AI Gateway API key");
    assert_eq!(world.provider.received().len(), 0);
}
