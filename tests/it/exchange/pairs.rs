//! What holds whichever version of HTTP is spoken on either side: large bodies, early answers, answers of every form.
//!
//! Never does: count connections, which differ.

use std::time::Duration;

use ai_gateway::demo::{CutAt, Framing, HowCut, Interim, Script};

use super::*;

const LARGE: usize = 20_000_000;

over_all_pairs! {
    twenty_megabytes_arrive_whole_in_either_framing,
    twenty_megabytes_come_back_whole,
    a_provider_that_answers_before_it_has_read_everything_is_heard,
    a_provider_that_neither_reads_nor_answers_is_given_up,
    an_answer_is_the_same_in_each_framing,
    answers_without_a_body_leave_both_sides_usable,
    interim_answers_are_passed_over,
    a_long_answer_head_passes_and_a_huge_one_does_not,
    a_request_without_a_body_is_forwarded_without_one,
    many_calls_at_once_get_each_its_own_answer,
}

async fn twenty_megabytes_arrive_whole_in_either_framing(pair: Pair) {
    let world = World::of(pair).await;
    let body = sized(LARGE);
    world.provider.script(Script::json(200, "{}").times(2));
    // By its length over HTTP/1.1; over HTTP/2 without one.
    let mut client = world.client().await;
    assert_eq!(client.post(CHAT, &body).await.status, 200);
    match &mut client {
        AnyClient::Http1(client) => {
            client.send(post_head(&[("transfer-encoding", "chunked")])).await;
            client.send(chunked(&body, 70_001)).await;
            assert_eq!(client.response("POST").await.status, 200);
        }
        AnyClient::Http2(client) => {
            let with_length: Vec<_> = json().into_iter().chain([("content-length", body.len().to_string())]).collect();
            assert_eq!(client.request("POST", CHAT, &with_length, body.as_bytes()).await.status, 200);
        }
    }
    assert_eq!(world.provider.received().len(), 2);
    for call in world.provider.received() {
        assert_eq!((call.body_sha256.as_deref(), call.header_count("transfer-encoding")), (Some(&*sha256(&body)), 0));
        assert_eq!((call.header("content-length"), call.http2), (Some("20000000"), pair.provider == Http::Two));
    }
}

async fn twenty_megabytes_come_back_whole(pair: Pair) {
    let world = World::of(pair).await;
    let body = sized(LARGE);
    let mut client = world.client().await;
    for framing in [Framing::Length, Framing::Chunked] {
        world.provider.script(Script { framing, pieces: vec![100_000], ..fixed(200, &[], body.clone()) });
        let answer = client.post(CHAT, &chat("x")).await;
        assert!(answer.status == 200 && answer.complete && answer.body == body.as_bytes(), "{framing:?}");
    }
}

async fn a_provider_that_answers_before_it_has_read_everything_is_heard(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
    let body = sized(LARGE);
    for read in [0, 1000] {
        world.provider.script(Script { read_body: Some(read), ..fixed(413, &[], "too large") });
        let answer = client.post(CHAT, &body).await;
        assert_eq!((answer.status, answer.text().as_str()), (413, "too large"), "{read}");
    }
    assert_eq!(client.post(CHAT, &chat("still good")).await.status, 200);
}

async fn a_provider_that_neither_reads_nor_answers_is_given_up(pair: Pair) {
    let provider = "timeouts: { first_byte: { stream: 1s, other: 1s } }".to_owned();
    let world = World::with(Setup { provider, pair, ..Setup::default() }).await;
    world.provider.script(Script { read_body: Some(0), drain: false, ..Script::cut(CutAt::Head, HowCut::Stall) });
    let answer = world.client().await.post(CHAT, &sized(LARGE)).await;
    answer.error(504, "server_error", "upstream_timeout");
}

async fn an_answer_is_the_same_in_each_framing(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
    let body: String = ('a'..='z').cycle().take(200_000).collect();
    for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
        for pieces in [vec![], vec![1, 2, 3, 70_000], vec![997]] {
            let date = ("date", "Thu, 01 Jan 1970 00:00:01 GMT");
            world.provider.script(Script { framing, pieces, ..fixed(200, &[date], body.clone()) });
            let answer = client.post(CHAT, &chat("x")).await;
            assert_eq!((answer.status, answer.complete), (200, true));
            let dates = answer.headers.iter().filter(|(name, _)| name == "date").count();
            assert_eq!(dates, 1, "{:?}", answer.headers);
            assert!(answer.body == body.as_bytes(), "{framing:?}");
            let known = framing == Framing::Length;
            let chunked = !known && pair.client == Http::One;
            assert_eq!(answer.header("content-length"), known.then_some("200000"));
            assert_eq!(answer.header("transfer-encoding"), chunked.then_some("chunked"));
        }
    }
}

async fn answers_without_a_body_leave_both_sides_usable(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
    let heads = [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 204 No Content\r\ncontent-length: 7\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: x\r\n\r\n", 304),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", 200),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nhi", 200),
    ];
    for (method, raw, status) in heads {
        world.provider.script(Script::raw(raw));
        let answer = client.request(method, MODELS, &[bearer(KEY)], b"").await;
        assert_eq!((answer.status, answer.complete), (status, true), "{raw}");
        let lengths = answer.headers.iter().filter(|(name, _)| name == "content-length").count();
        assert!(lengths <= usize::from(status != 204), "{raw}");
        assert!(status == 200 || answer.header("transfer-encoding").is_none(), "{raw}");
    }
    // Whose usage the gateway asks for, and would hide.
    let stream = r#"{"model":"gpt-4o","stream":true,"messages":[]}"#;
    for status in [204, 304] {
        world.provider.script(Script::raw(format!("HTTP/1.1 {status} X\r\ncontent-type: text/event-stream\r\n\r\n")));
        let answer = client.post(CHAT, stream).await;
        assert_eq!((answer.status, answer.complete, &*answer.body), (status, true, &b""[..]));
        assert_eq!(answer.header("transfer-encoding"), None);
    }
    assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.json()["object"], "list");
}

async fn interim_answers_are_passed_over(pair: Pair) {
    let world = World::of(pair).await;
    let interim = |status| Interim { status, headers: vec![("link".to_owned(), "</a>".to_owned())] };
    let interim = vec![interim(103), interim(102), interim(100)];
    world.provider.script(Script { interim, ..Script::json(200, r#"{"a":1}"#) });
    let answer = world.client().await.request("GET", MODELS, &[bearer(KEY)], b"").await;
    assert_eq!((answer.status, answer.header("link"), answer.text().as_str()), (200, None, r#"{"a":1}"#));
}

async fn a_long_answer_head_passes_and_a_huge_one_does_not(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
    let huge = Script::json(200, "{}").header("x-long", &"x".repeat(70_000));
    let many = (0..200).fold(Script::json(200, "{}"), |script, count| script.header(&format!("x-{count}"), "1"));
    for script in [huge, many] {
        world.provider.script(script);
        client.post(CHAT, "{}").await.error(502, "server_error", "upstream_error");
    }
    // What the client takes of it is its own matter.
    let length = if pair.client == Http::One { 60_000 } else { 10_000 };
    world.provider.script(Script::json(200, "{}").header("x-long", &"x".repeat(length)));
    let answer = client.post(CHAT, "{}").await;
    assert_eq!((answer.status, answer.header("x-long").map(str::len)), (200, Some(length)));
}

async fn a_request_without_a_body_is_forwarded_without_one(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
    world.provider.script(Script::json(200, "{}"));
    assert_eq!(client.post(CHAT, "").await.status, 200);
    assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    let received = world.provider.received();
    assert_eq!((received[0].header("content-length"), received[0].body_length), (Some("0"), 0));
    assert_eq!((received[1].header("content-length"), received[1].body_complete), (None, true));
}

async fn many_calls_at_once_get_each_its_own_answer(pair: Pair) {
    let world = std::sync::Arc::new(World::of(pair).await);
    world.provider.script(Script { gap: Some(Duration::from_millis(1)), ..Script::default() }.always());
    let call = |index: usize| {
        let world = std::sync::Arc::clone(&world);
        tokio::spawn(async move {
            let text = format!("call {index} {}", "y".repeat(index * 10));
            let answer = world.client().await.post(CHAT, &chat_stream_with_usage(&text)).await;
            (text, answer)
        })
    };
    let mut bodies = std::collections::HashSet::new();
    for call in (0..60).map(call).collect::<Vec<_>>() {
        let (text, answer) = call.await.expect("no panic");
        assert!(answer.complete && answer.text().ends_with("data: [DONE]\n\n"), "{text}: {}", answer.text());
        bodies.insert(sha256(chat_stream_with_usage(&text)));
    }
    let received: std::collections::HashSet<_> =
        world.provider.received().into_iter().filter_map(|call| call.body_sha256).collect();
    assert_eq!(received, bodies);
}
