//! Clients that neither go on with an upload nor give it up.
//!
//! Never does: wait for the clients' own time to run out; there is none.

use ai_gateway::demo::Script;
use tokio::time::timeout;

use super::*;
use crate::native::fixed;

#[tokio::test]
async fn an_upload_that_never_ends_behind_a_whole_answer_is_ended_over_http_2() {
    let authority = authority();
    let Setup { listen, files, .. } = with_tls(&authority, "");
    let world = World::with(Setup { listen, files, ..each_kind(ALL, "") }).await;
    let h2 = Client::new(world.gateway.addresses()[1], &authority).h2().await;
    for answer in [fixed(413, &[], "too large"), fixed(204, &[], "")] {
        let status = if world.provider.received().is_empty() { 413 } else { 204 };
        world.provider.script(Script { read_body: Some(5), ..answer });
        let (answer, mut send) = h2.send("POST", UPLOAD, &[bearer(KEY)], false).await;
        send_all(&mut send, b"hello", false).await;
        // The body is left as it is: neither ended nor reset.
        let answer = timeout(SOON, answer).await.expect("in time").expect("an answer");
        assert_eq!(answer.status(), status);
        eventually("the call is over", async || metric(&world.metrics().await, "gateway_inflight_requests") == 0.0)
            .await;
        drop(send);
    }
    let calls = world.log.calls(2).await;
    let statuses: Vec<_> = calls.iter().map(|call| (call["statusCode"].as_str(), call["code"].as_str())).collect();
    assert_eq!(statuses, [(Some("413"), None), (Some("204"), None)], "the answers were whole");
}

#[tokio::test]
async fn an_upload_that_drips_is_refused() {
    let server = "limits: { body_timeout: 1s }".to_owned();
    let world = World::with(Setup { server, ..each_kind(ALL, "") }).await;
    let mut client = world.connect().await;
    let head = format!("POST {UPLOAD} HTTP/1.1\r\nhost: gateway.test\r\nauthorization: Bearer {KEY}\r\n");
    client.send(head + "transfer-encoding: chunked\r\n\r\n").await;
    for _ in 0..100 {
        // Each byte comes well within the time of a single read.
        if world.log.calls_so_far().len() == 1 || !client.try_send("1\r\nx\r\n").await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let calls = world.log.calls(1).await;
    assert_eq!((calls[0]["statusCode"].as_str(), calls[0]["code"].as_str()), (Some("408"), Some("request_timeout")));
}
