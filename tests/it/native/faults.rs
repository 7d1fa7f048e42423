//! Providers that fail: the same table as for calls of the exchange, and answers that are cut never look complete.

use std::time::Instant;

use ai_gateway::demo::{Cut, CutAt, Fault, Framing, HowCut};

use super::*;

#[tokio::test]
async fn a_provider_that_fails_is_told_alike_on_both_ways() {
    let world = world_with("timeouts: { first_byte: { stream: 3s, other: 3s }, idle: 3s }").await;
    let secret = r#"{"error":{"message":"Incorrect API key provided: sk-provider-canary-7f3a"}}"#;
    // Not in the table: both `content-length` and `transfer-encoding`, of which Pingora drops the first before we see it.
    let rows: [(Script, u16, &str); 9] = [
        (fixed(401, &[("www-authenticate", "x")], secret), 502, "upstream_auth_error"),
        (fixed(403, &[], secret), 502, "upstream_auth_error"),
        (Script::cut(CutAt::Head, HowCut::Close), 502, "upstream_error"),
        (Script::cut(CutAt::Head, HowCut::Reset), 502, "upstream_error"),
        (Script::cut(CutAt::Head, HowCut::Stall), 504, "upstream_timeout"),
        (Script::fault(Fault::BadStatusLine), 502, "upstream_error"),
        (Script::fault(Fault::BadHeaderLine), 502, "upstream_error"),
        (Script::fault(Fault::TwoLengths), 502, "upstream_error"),
        (Script::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n"), 502, "upstream_error"),
    ];
    let count = rows.len();
    for (script, status, code) in rows {
        for path in [CHAT, UPLOAD] {
            world.provider.script(script.clone());
            let answer = world.post(path, "{}").await;
            assert_eq!(answer.status, status, "{path} {script:?}");
            let message = answer.error(status, "server_error", code);
            assert!(!message.contains("127.0.0.1") && !message.contains("canary"), "{path}: {message}");
            assert_eq!(answer.header("provider-name"), Some("openai"), "{path} {script:?}");
            assert_eq!(answer.header("www-authenticate"), None);
        }
    }
    assert_eq!(world.provider.received().len(), 2 * count, "a POST is never sent twice");
    // A line is written behind its answer, so that the next call's may overtake it.
    let calls = world.log.calls(2 * count).await;
    let mut statuses: Vec<&str> = calls.iter().filter_map(|call| call["statusCode"].as_str()).collect();
    statuses.sort_unstable();
    assert!(statuses.chunks(2).all(|pair| pair[0] == pair[1]), "{statuses:?}");
}

#[tokio::test]
async fn a_provider_that_is_not_there_is_told() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address");
    for base_url in [format!("http://{closed}"), "http://nowhere.invalid".to_owned()] {
        let world = World::with(Setup { base_url: Some(base_url), ..each_kind(ALL, "") }).await;
        for path in [CHAT, UPLOAD] {
            let answer = world.post(path, "{}").await;
            answer.error(502, "server_error", "upstream_error");
        }
        let calls = world.log.calls(2).await;
        assert_eq!(calls[0]["statusCode"], calls[1]["statusCode"]);
    }
}

#[tokio::test]
async fn other_errors_of_the_provider_pass_as_they_are() {
    let world = world().await;
    let mut client = world.connect().await;
    for status in [400, 404, 409, 422, 429, 500, 503] {
        world.provider.script(fixed(status, &[("retry-after", "7")], "no  such\n"));
        let answer = client.request("POST", UPLOAD, &[bearer(KEY)], b"x").await;
        assert_eq!(
            (answer.status, answer.text().as_str(), answer.header("retry-after")),
            (status, "no  such\n", Some("7"))
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_complete() {
    let world = world_with("timeouts: { first_byte: { stream: 1s, other: 1s }, idle: 1s }").await;
    for framing in [Framing::Length, Framing::Chunked] {
        for how in [HowCut::Close, HowCut::Reset, HowCut::Stall] {
            let cut = Some(Cut { at: CutAt::Body(3), how });
            world.provider.script(Script { framing, cut, ..fixed(200, &[], "hello") });
            let answer = world.post(SPEECH, "{}").await;
            assert_eq!((answer.status, answer.complete), (200, false), "{framing:?} {how:?}");
        }
    }
    for call in world.log.calls(6).await {
        assert_eq!(call["statusCode"], "200");
    }
}

#[tokio::test]
async fn an_answer_that_takes_too_long_in_all_is_cut() {
    let world = world_with("timeouts: { total: 1s }").await;
    let gap = Some(Duration::from_millis(100));
    world.provider.script(Script {
        gap,
        pieces: vec![1],
        framing: Framing::Chunked,
        ..fixed(200, &[], vec![b'x'; 100])
    });
    let started = Instant::now();
    let answer = world.post(SPEECH, "{}").await;
    assert_eq!((answer.status, answer.complete), (200, false));
    assert!(started.elapsed() < Duration::from_secs(5));
    eventually("the call is cancelled", async || world.provider.received()[0].cancelled).await;
}

/// What metrics tell of how attempts ended.
fn attempts(metrics: &str) -> String {
    metrics.lines().filter(|line| line.starts_with("gateway_upstream_attempts_total{")).collect()
}

/// Both versions of the client, with these times of the provider.
async fn stalls(timeouts: &str, outcome: &str) {
    for client in [Http::One, Http::Two] {
        let pair = Pair { client, ..Pair::default() };
        let setup = each_kind(ALL, &format!("timeouts: {{ first_byte: {{ other: 20s }}, {timeouts} }}"));
        let world = World::with(Setup { pair, ..setup }).await;
        for (count, framing) in (1..).zip([Framing::Length, Framing::Chunked]) {
            let cut = Some(Cut { at: CutAt::Body(3), how: HowCut::Stall });
            world.provider.script(Script { framing, cut, ..fixed(200, &[], "hello") });
            let started = Instant::now();
            let answer = world.client().await.post(SPEECH, "{}").await;
            assert_eq!((answer.status, answer.complete), (200, false), "{client:?} {framing:?}");
            assert!(started.elapsed() < Duration::from_secs(10), "{client:?} {framing:?}: {:?}", started.elapsed());
            eventually("it is cancelled", async || world.provider.received()[count - 1].cancelled).await;
            world.log.calls(count).await;
            let metrics = world.metrics().await;
            assert!(
                metrics.contains(&format!("outcome=\"{outcome}\"")),
                "{client:?} {framing:?}: {}",
                attempts(&metrics)
            );
        }
    }
}

#[tokio::test]
async fn a_stall_in_the_middle_ends_after_idle() {
    stalls("idle: 1s", "idle_timeout").await;
}

#[tokio::test]
async fn a_stall_in_the_middle_ends_after_the_time_for_all() {
    stalls("idle: 20s, total: 1s", "total_timeout").await;
}

#[tokio::test]
async fn a_client_that_reads_late_is_no_stall_of_the_provider() {
    let whole = vec![b'x'; 24 << 20];
    for client in [Http::One, Http::Two] {
        let pair = Pair { client, ..Pair::default() };
        let world = World::with(Setup { pair, ..each_kind(ALL, "timeouts: { idle: 500ms }") }).await;
        world.provider.script(fixed(200, &[], whole.clone()));
        let mut begun = world.client().await.begin(SPEECH, "{}").await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let came = match &mut begun {
            AnyBegun::Http1(client, _) => client.bytes(whole.len()).await,
            begun => begun.bytes(whole.len()).await,
        };
        assert!(came == whole, "{client:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call_at_the_provider_at_once() {
    let world = world().await;
    let waits = Script::cut(CutAt::Head, HowCut::Stall);
    let cut = Some(Cut { at: CutAt::Body(3), how: HowCut::Stall });
    let streams = Script { cut, ..fixed(200, &[], "hello") };
    for (count, script) in [waits, streams].into_iter().enumerate() {
        world.provider.script(script);
        let mut client = world.connect().await;
        client.send(with_key("POST", SPEECH, &[("content-length", "2")]) + "{}").await;
        eventually("it is there", async || world.provider.received().get(count).is_some_and(|call| call.body_complete))
            .await;
        if count == 1 {
            assert_eq!(client.head().await.status, 200);
        }
        drop(client);
        eventually("it is cancelled", async || world.provider.received()[count].cancelled).await;
        assert_eq!(world.log.calls(count + 1).await[count]["statusCode"], "499");
    }
}

#[tokio::test]
async fn what_has_no_body_is_sent_again_where_its_connection_was_stale() {
    let world = world().await;
    let mut client = world.connect().await;
    world.provider.script(Script::json(200, "{}"));
    assert_eq!(client.request("GET", VOICES, &[bearer(KEY)], b"").await.status, 200);
    world.provider.script(Script::cut(CutAt::Head, HowCut::Close));
    world.provider.script(Script::json(200, "{}"));
    assert_eq!(client.request("GET", VOICES, &[bearer(KEY)], b"").await.status, 200);
    let received = world.provider.received();
    assert_eq!(received.len(), 3);
    assert_eq!(received[1].connection_id, received[0].connection_id, "or nothing was stale");
    assert_eq!(world.log.calls(2).await[1]["attempts"], 2);
}
