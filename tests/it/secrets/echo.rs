//! A provider that gives the gateway's own key back: in its place a client reads as many asterisks.

use ai_gateway::demo::{Framing, Reply};

use super::*;

const CHAT: &str = "/openai/v1/chat/completions";

/// A call that reaches an echo of all that the provider was sent, the key among it.
async fn echoed(world: &World, path: &str, script: Script) -> Response {
    world.provider.script(Script { reply: Reply::Echo, ..script });
    let mut client = world.client().await;
    let answer = client.post(path, &chat("x")).await;
    assert_eq!((answer.status, answer.complete), (200, true), "{path}");
    assert_eq!(answer.json()["body_length"], chat("x").len());
    answer
}

fn covered() -> String {
    "*".repeat(PROVIDER_KEY.len())
}

async fn a_key_in_a_body_is_covered_wherever_it_is_cut(pair: Pair) {
    let provider = "routes: [post /v1/chat/completions, any /v1/* opaque]".to_owned();
    let key_file = Some(key_file(ALL, ""));
    let world = World::with(Setup { provider, key_file, pair, ..Setup::default() }).await;
    for path in [CHAT, "/openai/v1/anything"] {
        for framing in [Framing::Length, Framing::Chunked, Framing::UntilClose] {
            if framing == Framing::UntilClose && pair.provider == Http::Two {
                continue;
            }
            // Smaller ones would spend what a client of HTTP/2 allows for small frames.
            for pieces in [vec![], vec![11], vec![usize::MAX]] {
                let answer = echoed(&world, path, Script { framing, pieces, ..Script::default() }).await;
                assert!(answer.text().contains(&format!("Bearer {}\"", covered())), "{}", answer.text());
            }
        }
    }
}

async fn a_key_in_a_header_is_covered(pair: Pair) {
    let provider = "routes: [post /v1/chat/completions, any /v1/* opaque]".to_owned();
    let key_file = Some(key_file(ALL, ""));
    let world = World::with(Setup { provider, key_file, pair, ..Setup::default() }).await;
    for path in [CHAT, "/openai/v1/anything"] {
        let headers = vec![("x-debug".to_owned(), format!("authorization=Bearer {PROVIDER_KEY};"))];
        let answer = echoed(&world, path, Script { headers, ..Script::default() }).await;
        assert_eq!(answer.header("x-debug"), Some(&*format!("authorization=Bearer {};", covered())));
    }
}

async fn a_key_in_an_error_or_a_stream_is_covered(pair: Pair) {
    let world = World::of(pair).await;
    let error = format!(r#"{{"error":{{"message":"no such key: {PROVIDER_KEY}","type":"invalid_request_error"}}}}"#);
    world.provider.script(Script::json(400, error.clone()));
    let refused = world.client().await.post(CHAT, &chat("x")).await;
    assert_eq!((refused.status, refused.text()), (400, error.replace(PROVIDER_KEY, &covered())));
    let events = vec![format!("data: {{\"echo\":\"{PROVIDER_KEY}\"}}\n\n"), "data: [DONE]\n\n".to_owned()];
    world.provider.script(Script { reply: Reply::Events(events.clone()), ..Script::default() });
    let stream = world.client().await.post(CHAT, &chat_stream("x")).await;
    assert_eq!((stream.status, stream.text()), (200, events.concat().replace(PROVIDER_KEY, &covered())));
}

async fn what_only_begins_like_a_key_arrives_as_it_was(pair: Pair) {
    let provider = "routes: [post /v1/chat/completions, any /v1/* opaque]".to_owned();
    let key_file = Some(key_file(ALL, ""));
    let world = World::with(Setup { provider, key_file, pair, ..Setup::default() }).await;
    for path in [CHAT, "/openai/v1/anything"] {
        for framing in [Framing::Length, Framing::Chunked] {
            for end in 1..PROVIDER_KEY.len() {
                let body = format!("so it ends: {}", &PROVIDER_KEY[..end]);
                let reply = Reply::Fixed { status: 200, headers: Vec::new(), body: body.clone().into() };
                world.provider.script(Script { reply, framing, pieces: vec![12 + end / 2], ..Script::default() });
                let answer = world.client().await.post(path, &chat("x")).await;
                assert_eq!((answer.text(), answer.complete), (body, true), "{path} {framing:?}");
            }
        }
    }
}

over_all_pairs!(
    a_key_in_a_body_is_covered_wherever_it_is_cut,
    a_key_in_a_header_is_covered,
    a_key_in_an_error_or_a_stream_is_covered,
    what_only_begins_like_a_key_arrives_as_it_was,
);
