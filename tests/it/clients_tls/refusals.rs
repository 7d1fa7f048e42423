//! Refusals over HTTP/2: in OpenAI's shape, and the connection is good afterwards.
//!
//! Never does: accept a refusal by its status alone.

use std::time::{Duration, Instant};

use super::*;

#[tokio::test]
async fn refusals_have_openais_shape_and_leave_the_connection() {
    let (world, client) = world("limits: { max_body: 100KiB }").await;
    let h2 = client.h2().await;
    let invalid = "invalid_request_error";
    h2.post("/nowhere", &chat("x")).await.error(404, invalid, "unknown_url");
    let wrong = [("authorization", "Bearer wrong".to_owned()), ("content-type", "application/json".to_owned())];
    h2.request("POST", CHAT, &wrong, chat("x").as_bytes()).await.error(401, invalid, "invalid_api_key");
    let form = [bearer(KEY), ("content-type", "multipart/form-data".to_owned())];
    h2.request("POST", CHAT, &form, b"x").await.error(415, invalid, "unsupported_media_type");
    h2.post(CHAT, "{").await.error(400, invalid, "invalid_json");
    let large = chat(&"x".repeat(200 << 10));
    let declared: Vec<_> = json().into_iter().chain([("content-length", large.len().to_string())]).collect();
    for headers in [&json()[..], &declared] {
        h2.request("POST", CHAT, headers, large.as_bytes()).await.error(413, invalid, "request_too_large");
    }
    let long = format!("{MODELS}?{}", "x".repeat(9 << 10));
    h2.request("GET", &long, &[bearer(KEY)], b"").await.error(414, invalid, "uri_too_long");
    assert_eq!(world.provider.received().len(), 0, "nothing was forwarded");
    assert_eq!(h2.post(CHAT, &chat("hello")).await.status, 200, "the connection is as good as before");
    let calls = world.log.calls(8).await;
    let mut statuses: Vec<_> = calls.iter().filter_map(|call| call["statusCode"].as_str()).collect();
    // A refused call is over when its body is.
    statuses.sort_unstable();
    assert_eq!(statuses, ["200", "400", "401", "404", "413", "413", "414", "415"]);
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let (_world, client) = world("limits: { max_header_bytes: 8KiB }").await;
    let h2 = client.h2().await;
    let headers = [bearer(KEY), ("x-long", "x".repeat(9 << 10))];
    h2.request("GET", MODELS, &headers, b"").await.error(431, "invalid_request_error", "headers_too_large");
    assert_eq!(h2.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
}

#[tokio::test]
async fn a_refusal_does_not_wait_for_the_body() {
    let (world, client) = world("").await;
    let h2 = client.h2().await;
    for _ in 0..50 {
        let (answer, mut send) = h2.send("POST", CHAT, &[("content-type", "application/json".to_owned())], false).await;
        send_all(&mut send, &[b'x'; 60 << 10], false).await;
        let started = Instant::now();
        let begun = begun(answer, send).await;
        assert_eq!(begun.head.status, 401);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    assert_eq!(h2.post(CHAT, &chat("hello")).await.status, 200, "what was not read has not used up the window");
    assert_eq!(world.provider.received().len(), 1);
}

#[tokio::test]
async fn a_body_that_stands_still_is_refused_in_time() {
    let (world, client) = world("limits: { body_timeout: 300ms }").await;
    let h2 = client.h2().await;
    let (answer, mut send) = h2.send("POST", CHAT, &json(), false).await;
    send_all(&mut send, b"{\"model\":", false).await;
    let (refused, _) = begun(answer, send).await.rest().await;
    refused.error(408, "invalid_request_error", "request_timeout");
    assert_eq!(h2.post(CHAT, &chat("hello")).await.status, 200);
    assert_eq!(world.provider.received().len(), 1);
}

#[tokio::test]
async fn what_http2_forbids_costs_the_stream_and_not_the_connection() {
    let (world, client) = world("").await;
    let h2 = client.h2().await;
    let short = [bearer(KEY), ("content-type", "application/json".to_owned()), ("content-length", "3".to_owned())];
    let (answer, mut send) = h2.send("POST", CHAT, &short, false).await;
    send_all(&mut send, chat("x").as_bytes(), true).await;
    assert!(timeout(SOON, answer).await.expect("in time").is_err(), "more than content-length says");
    assert_eq!(h2.post(CHAT, &chat("hello")).await.status, 200);
    assert_eq!(world.provider.received().len(), 1);
}
