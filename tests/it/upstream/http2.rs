//! What only HTTP/2 can do to a call: shared connections, refusals, farewells, resets, and clients that stop reading.
//!
//! Never does: ask what holds for both versions; that is in `exchange::pairs` and beside it.

use std::collections::HashSet;
use std::time::Duration;

use ai_gateway::demo::{After, Cut, CutAt, Framing, HowCut, ProviderOptions, Script};
use tokio::time::timeout;

use super::*;

const PAIR: Pair = Pair { client: Http::One, provider: Http::Two };
const EVENTS: [&str; 3] = ["data: {\"n\":1}\n\n", "data: {\"n\":2}\n\n", "data: [DONE]\n\n"];

fn stalls(at: CutAt) -> Script {
    Script { cut: Some(Cut { at, how: HowCut::Stall }), ..Script::events(EVENTS) }
}

fn connections(world: &World) -> usize {
    world.provider.received().iter().map(|call| call.connection_id).collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn a_hundred_calls_at_the_start_share_one_connection() {
    let world = World::of(PAIR).await;
    world.provider.script(stalls(CutAt::Head).always());
    let mut asked = Vec::new();
    for _ in 0..100 {
        asked.push(world.client().await.ask(CHAT, &chat("x")).await);
    }
    world.provider.wait_for(|calls| calls.len() == 100, SOON).await.expect("all have arrived");
    assert_eq!(world.provider.connections_accepted(), 1);
    // One more than a connection takes.
    asked.push(world.client().await.ask(CHAT, &chat("x")).await);
    world.provider.wait_for(|calls| calls.len() == 101, SOON).await.expect("it has arrived");
    assert_eq!(world.provider.connections_accepted(), 2);
    drop(asked);
    world.provider.wait_for(|calls| calls.iter().all(|call| call.cancelled), SOON).await.expect("all are cancelled");
    world.provider.clear_scripts();
    assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
    assert_eq!(world.provider.connections_accepted(), 2, "cancelled streams leave their connections good");
}

#[tokio::test]
async fn a_provider_gets_no_more_streams_than_it_allows() {
    let options =
        ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), control: true, streams: 7, ..Default::default() };
    let world = World::with(Setup { pair: PAIR, options: Some(options), ..Setup::default() }).await;
    world.provider.script(stalls(CutAt::Head).always());
    let mut asked = Vec::new();
    for _ in 0..30 {
        asked.push(world.client().await.ask(CHAT, &chat("x")).await);
    }
    let calls = world.provider.wait_for(|calls| calls.len() == 30, SOON).await.expect("all have arrived");
    for id in calls.iter().map(|call| call.connection_id) {
        assert!(calls.iter().filter(|call| call.connection_id == id).count() <= 7);
    }
    assert!(calls.iter().all(|call| !call.cancelled), "none was refused");
}

#[tokio::test]
async fn a_stream_that_was_refused_is_sent_once_more() {
    let world = World::of(PAIR).await;
    for (times, status, calls) in [(1, 200, 2), (2, 502, 2)] {
        for method in ["POST", "GET"] {
            world.provider.clear_received();
            world.provider.script(Script::cut(CutAt::Head, HowCut::Refuse).times(times));
            let answer = match method {
                "POST" => world.post(CHAT, &chat("x")).await,
                _ => world.get(MODELS).await,
            };
            assert_eq!((answer.status, world.provider.received().len()), (status, calls), "{method} {times}");
            let received = world.provider.received();
            assert_ne!(received[0].connection_id, received[1].connection_id);
        }
    }
    assert_eq!(world.log.calls(4).await[0]["statusCode"], "200");
    let metrics = world.metrics().await;
    let retried = metrics.lines().filter(|line| line.contains("attempts_total") && line.contains("retried"));
    assert_eq!(retried.count(), 1, "{metrics}");
}

#[tokio::test]
async fn a_large_body_that_was_refused_on_its_way_is_sent_once_more() {
    let world = World::of(PAIR).await;
    let body = chat(&"x".repeat(20_000_000));
    world.provider.script(Script::cut(CutAt::Head, HowCut::Refuse));
    assert_eq!(world.post(CHAT, &body).await.status, 200);
    let received = world.provider.received();
    assert_eq!((received.len(), received[1].body_length), (2, body.len() as u64));
}

#[tokio::test]
async fn any_other_reset_is_told_and_a_post_is_not_repeated() {
    let world = World::of(PAIR).await;
    assert_eq!(world.get(MODELS).await.status, 200);
    world.provider.clear_received();
    for how in [HowCut::Reset, HowCut::Close, HowCut::GoAway] {
        world.provider.script(Script::cut(CutAt::Head, how));
        told(&world.post(CHAT, &chat("x")).await, 502, "upstream_error");
    }
    world.provider.script(Script { cut: Script::cut(CutAt::Pieces(1), HowCut::Refuse).cut, ..Script::events(EVENTS) });
    let answer = world.post(CHAT, &chat_stream("x")).await;
    assert!(answer.text().starts_with(EVENTS[0]) && !answer.complete, "it had been begun");
    assert_eq!(world.provider.received().len(), 4);
}

#[tokio::test]
async fn an_answer_of_which_all_came_is_whole_whatever_its_provider_does_behind_it() {
    let provider = "timeouts: { idle: 1s }".to_owned();
    let world = World::with(Setup { provider, pair: PAIR, ..Setup::default() }).await;
    let body = r#"{"object":"chat.completion"}"#;
    for how in [HowCut::Reset, HowCut::Close, HowCut::Stall] {
        let cut = Script::cut(CutAt::Body(body.len()), how).cut;
        world.provider.script(Script { cut, framing: Framing::Length, ..Script::json(200, body) });
        let answer = world.post(CHAT, &chat("x")).await;
        assert_eq!((answer.status, answer.complete, &*answer.text()), (200, true, body), "{how:?}");
        assert_eq!(answer.header("content-length"), Some(&*body.len().to_string()), "{how:?}");
    }
}

#[tokio::test]
async fn a_get_that_loses_a_kept_connection_is_repeated_once() {
    let world = World::of(PAIR).await;
    for how in [HowCut::Close, HowCut::GoAway] {
        assert_eq!(world.get(MODELS).await.status, 200);
        world.provider.clear_received();
        world.provider.script(Script::cut(CutAt::Head, how));
        assert_eq!((world.get(MODELS).await.status, world.provider.received().len()), (200, 2), "{how:?}");
    }
}

#[tokio::test]
async fn a_farewell_lets_streams_end_and_takes_no_new_ones() {
    let world = World::of(PAIR).await;
    let gap = Some(Duration::from_millis(100));
    world.provider.script(Script { after: After::Close, words: Some(20), gap, ..Script::default() });
    let mut begun = world.client().await.begin(CHAT, &chat_stream("x")).await;
    assert!(begun.piece().await.is_some());
    for _ in 0..3 {
        assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
    }
    let mut last = Vec::new();
    while let Some(piece) = begun.piece().await {
        last = piece;
    }
    assert!(String::from_utf8_lossy(&last).ends_with("data: [DONE]\n\n"));
    let ids: Vec<u64> = world.provider.received().iter().map(|call| call.connection_id).collect();
    assert_eq!(ids, [1, 2, 2, 2]);
}

#[tokio::test]
async fn an_end_of_the_connection_is_told_in_each_of_its_streams() {
    let world = World::of(PAIR).await;
    world.provider.script(stalls(CutAt::Pieces(1)).times(5));
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut begun = world.client().await.begin(CHAT, &chat_stream("x")).await;
        assert_eq!(begun.bytes(EVENTS[0].len()).await, EVENTS[0].as_bytes());
        streams.push(begun);
    }
    let cut = Some(Cut { at: CutAt::Pieces(2), how: HowCut::GoAway });
    world.provider.script(Script { cut, ..Script::events(EVENTS) });
    let last = world.post(CHAT, &chat_stream("x")).await;
    assert!(last.text().starts_with(&EVENTS[..2].concat()) && last.text().contains("\"code\":\"upstream_error\""));
    for mut stream in streams {
        let told = stream.piece().await.expect("an event");
        assert!(String::from_utf8_lossy(&told).contains("\"code\":\"upstream_error\""));
        assert!(stream.piece().await.is_none());
    }
    assert_eq!(connections(&world), 1);
    assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
}

#[tokio::test]
async fn a_cut_of_one_stream_leaves_the_others() {
    let world = World::with(timeouts(PAIR, "idle: 1s")).await;
    let gap = Some(Duration::from_millis(100));
    world.provider.script(Script { words: Some(30), gap, ..Script::default() });
    let mut long = world.client().await.begin(CHAT, &chat_stream("x")).await;
    assert!(long.piece().await.is_some());
    for how in [HowCut::Reset, HowCut::Stall] {
        world.provider.script(Script { cut: Some(Cut { at: CutAt::Pieces(1), how }), ..Script::events(EVENTS) });
        assert!(world.post(CHAT, &chat_stream("x")).await.text().contains("\"error\""));
    }
    let mut last = Vec::new();
    while let Some(piece) = long.piece().await {
        last = piece;
    }
    assert!(String::from_utf8_lossy(&last).ends_with("data: [DONE]\n\n"));
    assert_eq!(connections(&world), 1);
}

#[tokio::test]
async fn a_client_that_stopped_reading_holds_up_no_other() {
    let world = World::of(PAIR).await;
    world.provider.script(fixed_of(30_000_000).times(20));
    let mut deaf = Vec::new();
    for _ in 0..20 {
        deaf.push(world.client().await.begin(CHAT, &chat("x")).await);
    }
    world.provider.script(fixed_of(2_000_000).always());
    let call = timeout(SOON, world.post(CHAT, &chat("x"))).await.expect("in time");
    assert_eq!((call.status, call.body.len()), (200, 2_000_000));
    assert_eq!(connections(&world), 1);
}

fn fixed_of(length: usize) -> Script {
    let reply = Reply::Fixed { status: 200, headers: Vec::new(), body: vec![b'x'; length].into() };
    Script { reply, ..Script::default() }
}
