//! Failures in the middle of an answer: a stream is told in-band where an event may begin, anything else is aborted.

use std::time::Duration;

use ai_gateway::demo::{Cut, CutAt, Fault, Framing, HowCut, Script};

use super::*;

over_all_pairs! {
    a_stream_that_is_cut_between_events_says_so,
    a_stream_that_is_cut_within_an_event_is_aborted,
    half_an_event_that_may_hold_a_usage_gives_way_to_the_error,
    a_plain_answer_that_is_cut_is_aborted,
    a_small_answer_that_is_cut_is_refused,
    an_answer_whose_framing_breaks_never_looks_complete,
    an_answer_may_not_last_longer_than_its_total,
    a_client_that_leaves_in_the_middle_of_a_stream_cancels_it,
    each_event_is_there_before_the_next_one_is_sent,
}

const EVENTS: [&str; 3] = ["data: {\"n\":1}\n\n", "data: {\"n\":2}\r\n\r\n", "data: [DONE]\n\n"];

fn cut(at: CutAt, how: HowCut) -> Script {
    Script { cut: Some(Cut { at, how }), ..Script::events(EVENTS) }
}

/// The error inside a stream that was cut behind `before`, without an end.
fn told_within(answer: &Response, before: &str) -> String {
    // Over HTTP/2 the event is the end of its stream: a reset would overtake it.
    assert_eq!((answer.status, answer.complete), (200, answer.version == "HTTP/2.0"));
    let text = answer.text();
    let event = text.strip_prefix(before).expect("what came before the cut").to_owned();
    let event = event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).expect("one event");
    let error: serde_json::Value = serde_json::from_str(event).expect("JSON");
    assert_eq!(error["error"]["type"], "server_error");
    error["error"]["code"].as_str().expect("a code").to_owned()
}

async fn a_stream_that_is_cut_between_events_says_so(pair: Pair) {
    let world = World::with(timeouts(pair, "idle: 500ms")).await;
    for (how, code) in
        [(HowCut::Close, "upstream_error"), (HowCut::Reset, "upstream_error"), (HowCut::Stall, "upstream_timeout")]
    {
        for count in 0..=2 {
            world.provider.script(cut(CutAt::Pieces(count), how));
            let answer = world.client().await.post(CHAT, &chat_stream("x")).await;
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

async fn a_stream_that_is_cut_within_an_event_is_aborted(pair: Pair) {
    let world = World::with(timeouts(pair, "idle: 500ms")).await;
    for how in [HowCut::Close, HowCut::Reset, HowCut::Stall] {
        for at in [1, 13, EVENTS[0].len() + 5, EVENTS[0].len() + EVENTS[1].len() - 1] {
            world.provider.script(cut(CutAt::Body(at), how));
            let answer = world.client().await.post(CHAT, &chat_stream_with_usage("x")).await;
            assert_eq!((answer.status, answer.complete), (200, false), "{how:?} {at}");
            assert_eq!(answer.text(), EVENTS.concat()[..at], "{how:?} {at}");
        }
    }
}

async fn half_an_event_that_may_hold_a_usage_gives_way_to_the_error(pair: Pair) {
    let world = World::with(timeouts(pair, "idle: 500ms")).await;
    for (how, code) in [(HowCut::Close, "upstream_error"), (HowCut::Stall, "upstream_timeout")] {
        for (at, whole) in [(1, 0), (13, 0), (EVENTS[0].len() + 5, 1)] {
            world.provider.script(cut(CutAt::Body(at), how));
            let answer = world.client().await.post(CHAT, &chat_stream("x")).await;
            assert_eq!(told_within(&answer, &EVENTS[..whole].concat()), code, "{how:?} {at}");
        }
    }
}

async fn a_plain_answer_that_is_cut_is_aborted(pair: Pair) {
    let world = World::with(timeouts(pair, "idle: 500ms")).await;
    let small = r#"{"object":"chat.completion","choices":[]}"#.to_owned();
    let large = format!("{{\"padding\":\"{}\"}}", "x".repeat(70_000));
    for (framing, body) in [(Framing::Length, &large), (Framing::Chunked, &small)] {
        for how in [HowCut::Close, HowCut::Reset, HowCut::Stall] {
            for at in [0, 10, body.len()] {
                if framing == Framing::Length && at == body.len() {
                    continue;
                }
                let cut = Some(Cut { at: CutAt::Body(at), how });
                world.provider.script(Script { cut, framing, ..Script::json(200, body.clone()) });
                let answer = world.client().await.post(CHAT, &chat("x")).await;
                assert_eq!((answer.status, answer.complete), (200, false), "{framing:?} {how:?} {at}");
                assert_eq!(answer.text(), body[..at], "{framing:?} {how:?} {at}");
            }
        }
    }
}

async fn a_small_answer_that_is_cut_is_refused(pair: Pair) {
    let world = World::with(timeouts(pair, "idle: 500ms")).await;
    let mut client = world.client().await;
    for (how, status, code) in [
        (HowCut::Close, 502, "upstream_error"),
        (HowCut::Reset, 502, "upstream_error"),
        (HowCut::Stall, 504, "upstream_timeout"),
    ] {
        for at in [0, 10] {
            let cut = Some(Cut { at: CutAt::Body(at), how });
            world.provider.script(Script { cut, ..Script::json(200, "{\"object\":\"chat.completion\"}") });
            told(&client.post(CHAT, &chat("x")).await, status, code);
        }
    }
    assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
}

async fn an_answer_whose_framing_breaks_never_looks_complete(pair: Pair) {
    let world = World::of(pair).await;
    let http1 = pair.provider == Http::One;
    // HTTP/2 has no chunks, and what is beyond the length is an error there.
    let faults =
        if http1 { vec![Fault::ShortBody, Fault::BadChunkSize, Fault::LongChunk] } else { vec![Fault::ShortBody] };
    for fault in &faults {
        for body in [chat("x"), chat_stream("x")] {
            world.provider.script(Script::fault(*fault));
            let answer = world.client().await.post(CHAT, &body).await;
            let told = answer.text().contains("\"code\":\"upstream_error\"");
            let refused = answer.status == 502 && told && *fault == Fault::ShortBody && !body.contains("stream");
            // A stream whose last event came is whole, whatever becomes of its framing.
            let whole = answer.text().ends_with("data: [DONE]\n\n");
            let cut = answer.status == 200 && answer.complete == (whole || (pair.client == Http::Two && told));
            assert!(refused || cut, "{fault:?} {answer:?}");
        }
    }
    if !http1 {
        for body in [chat("x"), chat_stream("x")] {
            world.provider.script(Script::fault(Fault::LongBody));
            let answer = world.client().await.post(CHAT, &body).await;
            let told = pair.client == Http::Two && answer.text().contains("\"code\":\"upstream_error\"");
            let whole = answer.text().ends_with("data: [DONE]\n\n");
            assert!(answer.status == 502 || answer.complete == (told || whole), "{}", answer.text());
        }
    }
    assert_eq!(world.client().await.post(CHAT, &chat("x")).await.status, 200);
    let connections = if http1 { 7 } else { 1 };
    assert_eq!(
        world.provider.connections_accepted(),
        connections,
        "a broken connection was used again, or a good one not"
    );
}

async fn an_answer_may_not_last_longer_than_its_total(pair: Pair) {
    let world = World::with(timeouts(pair, "first_byte: { stream: 1s, other: 1s }, idle: 1s, total: 1s")).await;
    world.provider.script(Script { words: Some(1000), gap: Some(Duration::from_millis(50)), ..Script::default() });
    let answer = world.client().await.post(CHAT, &chat_stream("x")).await;
    let text = answer.text();
    let last = text.rfind("data: ").expect("events");
    assert_eq!(told_within(&answer, &text[..last]), "upstream_timeout");
    assert!(!text.contains("[DONE]") && text[last..].contains("longer than is allowed"));
    let calls = world.provider.wait_for(|calls| calls[0].cancelled, SOON).await.expect("it is cancelled");
    assert!(calls[0].aborted_after().is_some_and(|after| after < Duration::from_secs(5)));
}

async fn a_client_that_leaves_in_the_middle_of_a_stream_cancels_it(pair: Pair) {
    let world = World::of(pair).await;
    world.provider.script(Script { words: Some(1000), gap: Some(Duration::from_millis(20)), ..Script::default() });
    world.provider.script(cut(CutAt::Pieces(1), HowCut::Stall));
    for count in 1..=2 {
        let mut begun = world.client().await.begin(CHAT, &chat_stream("x")).await;
        assert_eq!(begun.head().status, 200);
        assert!(begun.piece().await.is_some_and(|piece| piece.starts_with(b"data: ")));
        drop(begun);
        let calls = world.provider.wait_for(|calls| calls[count - 1].cancelled, SOON).await.expect("it is cancelled");
        assert!(calls[count - 1].aborted_after().is_some_and(|after| after < Duration::from_secs(5)));
        assert_eq!(world.log.calls(count).await[count - 1]["statusCode"], "499");
    }
}

async fn each_event_is_there_before_the_next_one_is_sent(pair: Pair) {
    let world = World::of(pair).await;
    for count in 1..EVENTS.len() {
        // The provider sends no more before the client leaves.
        world.provider.script(cut(CutAt::Pieces(count), HowCut::Stall));
        let mut begun = world.client().await.begin(CHAT, &chat_stream("x")).await;
        let expected = EVENTS[..count].concat();
        assert_eq!(begun.bytes(expected.len()).await, expected.as_bytes());
    }
    // The head, too.
    world.provider.script(cut(CutAt::Pieces(0), HowCut::Stall));
    assert_eq!(world.client().await.begin(CHAT, &chat_stream("x")).await.head().status, 200);
    world.provider.wait_for(|calls| calls.iter().all(|call| call.cancelled), SOON).await.expect("all are cancelled");
}
