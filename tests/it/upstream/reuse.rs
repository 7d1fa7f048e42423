//! Connections to the provider: used again where that is safe, and a call never sent twice where it is not.

use ai_gateway::demo::{After, CutAt, Fault, Framing, HowCut, Received, Script, Version};

use super::*;

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let world = World::start().await;
    // On one connection a call follows the end of the one before; others may come before the pool has it back.
    let mut client = world.connect().await;
    for _ in 0..5 {
        assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
        assert!(client.post(CHAT, &chat_stream("x")).await.complete);
        assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
    }
    assert_eq!(world.provider.received().len(), 15);
    assert!(world.connections_were_shared());
}

#[tokio::test]
async fn a_connection_that_ends_with_its_answer_is_not_used_again() {
    let world = World::start().await;
    let scripts = [
        Script { after: After::Close, ..Script::default() },
        Script { after: After::SilentClose, ..Script::default() },
        Script { framing: Framing::UntilClose, ..Script::default() },
        Script { version: Version::Http10, ..Script::default() },
    ];
    for (count, script) in scripts.into_iter().enumerate() {
        let last = script.after == After::SilentClose;
        world.provider.script(script);
        assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
        assert_eq!(world.provider.connections_accepted(), count + 1);
        if last {
            // Nothing announced this close; once it has arrived, the pool has to know.
            assert!(world.provider.wait_until(|provider| provider.open_connections() == 0, SOON).await);
        }
    }
    assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
}

/// A call on a connection that was kept, which breaks `times` times at the first byte that is asked of it.
async fn on_a_kept_connection(world: &World, method: &str, how: HowCut, times: u32) -> (Response, Vec<Received>) {
    let mut client = world.connect().await;
    loop {
        assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.status, 200);
        world.provider.clear_received();
        world.provider.script(Script::cut(CutAt::Head, how).times(times));
        let answer = match method {
            "POST" => client.post(CHAT, &chat("x")).await,
            _ => client.request("GET", MODELS, &[bearer(KEY)], b"").await,
        };
        world.provider.clear_scripts();
        let received = world.provider.received();
        // See `World::connections_were_shared` for why it may have been a new one.
        if received[0].request_number > 1 {
            return (answer, received);
        }
    }
}

#[tokio::test]
async fn a_kept_connection_that_breaks_costs_a_get_nothing_and_a_post_is_not_repeated() {
    let world = World::start().await;
    for how in [HowCut::Close, HowCut::Reset] {
        let (answer, received) = on_a_kept_connection(&world, "GET", how, 1).await;
        assert_eq!((answer.status, received.len()), (200, 2));
        assert_eq!(received[0].target, received[1].target);
        assert_ne!(received[0].connection_id, received[1].connection_id);

        let (answer, received) = on_a_kept_connection(&world, "GET", how, 2).await;
        told(&answer, 502, "upstream_error");
        assert_eq!(received.len(), 2, "it is repeated once");

        let (answer, received) = on_a_kept_connection(&world, "POST", how, 1).await;
        told(&answer, 502, "upstream_error");
        assert_eq!(received.len(), 1);
    }
}

#[tokio::test]
async fn a_get_on_a_new_connection_is_not_repeated() {
    let world = World::start().await;
    world.provider.script(Script::cut(CutAt::Head, HowCut::Close));
    told(&world.get(MODELS).await, 502, "upstream_error");
    assert_eq!(world.provider.received().len(), 1);
}

#[tokio::test]
async fn bytes_behind_an_answer_are_never_the_next_answer() {
    let world = World::start().await;
    let forged = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
    let mut scripts = Vec::new();
    for framing in [Framing::Length, Framing::Chunked] {
        scripts.push(Script { framing, trailing: forged.into(), ..Script::default() });
        scripts.push(Script { framing, trailing: "\r\n".into(), ..Script::default() });
    }
    scripts.push(Script { trailing: forged.into(), ..fixed(204, &[], "") });
    scripts.push(Script { trailing: forged.into(), ..fixed(304, &[], "") });
    scripts.push(Script::raw(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{{}}{forged}")));
    scripts.push(Script::fault(Fault::LongBody));
    for script in scripts {
        let what = format!("{:?} {:?}", script.reply, script.framing);
        world.provider.script(script);
        assert!(world.get(MODELS).await.complete, "{what}");
        let next = world.post(CHAT, &chat("x")).await;
        assert_eq!((next.status, &next.json()["object"]), (200, &"chat.completion".into()), "{what}");
    }
}

#[tokio::test]
async fn the_answer_to_a_head_has_no_body_whatever_the_provider_sends() {
    let world = World::start().await;
    let mut client = world.connect().await;
    world.provider.script(Script::raw("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged"));
    let answer = client.request("HEAD", MODELS, &[bearer(KEY)], b"").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    let next = client.request("GET", MODELS, &[bearer(KEY)], b"").await;
    assert_eq!((next.status, &next.json()["object"]), (200, &"list".into()));
}
