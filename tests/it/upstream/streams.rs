//! Failures in the middle of an answer: a stream is told in-band where an event may begin, anything else is aborted.

use std::time::Duration;

use ai_gateway::demo::{Cut, CutAt, Fault, Framing, HowCut, Script};

use super::*;

const EVENTS: [&str; 3] = ["data: {\"n\":1}\n\n", "data: {\"n\":2}\r\n\r\n", "data: [DONE]\n\n"];

fn cut(at: CutAt, how: HowCut) -> Script {
    Script { cut: Some(Cut { at, how }), ..Script::events(EVENTS) }
}

/// The error inside a stream that was cut behind `before`, without an end.
fn told_within(answer: &Response, before: &str) -> String {
    assert_eq!((answer.status, answer.complete), (200, false));
    let text = answer.text();
    let event = text.strip_prefix(before).expect("what came before the cut").to_owned();
    let event = event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).expect("one event");
    let error: serde_json::Value = serde_json::from_str(event).expect("JSON");
    assert_eq!(error["error"]["type"], "server_error");
    error["error"]["code"].as_str().expect("a code").to_owned()
}

#[tokio::test]
async fn a_stream_that_is_cut_between_events_says_so() {
    let world = World::with(timeouts("idle: 500ms")).await;
    for (how, code) in
        [(HowCut::Close, "upstream_error"), (HowCut::Reset, "upstream_error"), (HowCut::Stall, "upstream_timeout")]
    {
        for count in 0..=2 {
            world.provider.script(cut(CutAt::Pieces(count), how));
            let answer = world.post(CHAT, &chat_stream("x")).await;
            assert_eq!(told_within(&answer, &EVENTS[..count].concat()), code, "{how:?} {count}");
        }
    }
    let calls = world.log.calls(9).await;
    assert!(calls.iter().all(|call| call["statusCode"] == "200"), "what was committed stands");
    let codes = calls.iter().filter_map(|call| call["code"].as_str());
    assert_eq!(codes.filter(|code| *code == "upstream_timeout").count(), 3);
    let failed = world.log.lines().into_iter().filter(|line| line["message"] == "gateway request failed");
    assert_eq!(failed.count(), 9, "no cut passes for a success");
}

#[tokio::test]
async fn a_stream_that_is_cut_within_an_event_is_aborted() {
    let world = World::with(timeouts("idle: 500ms")).await;
    for how in [HowCut::Close, HowCut::Reset, HowCut::Stall] {
        for at in [1, 13, EVENTS[0].len() + 5, EVENTS[0].len() + EVENTS[1].len() - 1] {
            world.provider.script(cut(CutAt::Body(at), how));
            let answer = world.post(CHAT, &chat_stream_with_usage("x")).await;
            assert_eq!((answer.status, answer.complete), (200, false), "{how:?} {at}");
            assert_eq!(answer.text(), EVENTS.concat()[..at], "{how:?} {at}");
        }
    }
}

#[tokio::test]
async fn half_an_event_that_may_hold_a_usage_gives_way_to_the_error() {
    let world = World::with(timeouts("idle: 500ms")).await;
    for (how, code) in [(HowCut::Close, "upstream_error"), (HowCut::Stall, "upstream_timeout")] {
        for (at, whole) in [(1, 0), (13, 0), (EVENTS[0].len() + 5, 1)] {
            world.provider.script(cut(CutAt::Body(at), how));
            let answer = world.post(CHAT, &chat_stream("x")).await;
            assert_eq!(told_within(&answer, &EVENTS[..whole].concat()), code, "{how:?} {at}");
        }
    }
}

#[tokio::test]
async fn a_plain_answer_that_is_cut_is_aborted() {
    let world = World::with(timeouts("idle: 500ms")).await;
    let body = r#"{"object":"chat.completion","choices":[]}"#;
    for framing in [Framing::Length, Framing::Chunked] {
        for how in [HowCut::Close, HowCut::Reset, HowCut::Stall] {
            for at in [0, 10, body.len()] {
                if framing == Framing::Length && at == body.len() {
                    continue;
                }
                let cut = Some(Cut { at: CutAt::Body(at), how });
                world.provider.script(Script { cut, framing, ..Script::json(200, body) });
                let answer = world.post(CHAT, &chat("x")).await;
                assert_eq!((answer.status, answer.complete), (200, false), "{framing:?} {how:?} {at}");
                assert_eq!(answer.text(), body[..at], "{framing:?} {how:?} {at}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_whose_framing_breaks_never_looks_complete() {
    let world = World::start().await;
    for fault in [Fault::ShortBody, Fault::BadChunkSize, Fault::LongChunk] {
        for body in [chat("x"), chat_stream("x")] {
            world.provider.script(Script::fault(fault));
            let answer = world.post(CHAT, &body).await;
            assert_eq!((answer.status, answer.complete), (200, false), "{fault:?}");
        }
    }
    assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
    assert_eq!(world.provider.connections_accepted(), 7, "no broken connection was used again");
}

#[tokio::test]
async fn an_answer_may_not_last_longer_than_its_total() {
    let world = World::with(timeouts("first_byte: { stream: 1s, other: 1s }, idle: 1s, total: 1s")).await;
    world.provider.script(Script { words: Some(1000), gap: Some(Duration::from_millis(50)), ..Script::default() });
    let answer = world.post(CHAT, &chat_stream("x")).await;
    let text = answer.text();
    let last = text.rfind("data: ").expect("events");
    assert_eq!(told_within(&answer, &text[..last]), "upstream_timeout");
    assert!(!text.contains("[DONE]") && text[last..].contains("longer than is allowed"));
    let calls = world.provider.wait_for(|calls| calls[0].cancelled, SOON).await.expect("it is cancelled");
    assert!(calls[0].aborted_after().is_some_and(|after| after < Duration::from_secs(5)));
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_a_stream_cancels_it() {
    let world = World::start().await;
    world.provider.script(Script { words: Some(1000), gap: Some(Duration::from_millis(20)), ..Script::default() });
    world.provider.script(cut(CutAt::Pieces(1), HowCut::Stall));
    for count in 1..=2 {
        let mut client = world.connect().await;
        let body = chat_stream("x");
        client.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
        assert_eq!(client.head().await.status, 200);
        assert!(client.chunk().await.is_some_and(|chunk| chunk.starts_with(b"data: ")));
        drop(client);
        let calls = world.provider.wait_for(|calls| calls[count - 1].cancelled, SOON).await.expect("it is cancelled");
        assert!(calls[count - 1].aborted_after().is_some_and(|after| after < Duration::from_secs(5)));
        assert_eq!(world.log.calls(count).await[count - 1]["statusCode"], "499");
    }
}
