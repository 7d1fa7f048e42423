//! Failures before an answer's head is there: the client gets an error of the gateway's own.

use ai_gateway::demo::{CutAt, Fault, HowCut, Script};

use super::*;

over_all_pairs! {
    a_provider_that_is_down_is_told,
    an_end_before_the_head_is_told,
    a_provider_that_does_not_begin_to_answer_is_given_up_by_the_kind_of_call,
    a_client_that_leaves_cancels_its_call_at_the_provider,
}

async fn a_provider_that_is_down_is_told(pair: Pair) {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let scheme = if pair.provider == Http::One { "http" } else { "https" };
    let base_url = Some(format!("{scheme}://{}", free.local_addr().expect("an address")));
    drop(free);
    let world = World::with(Setup { base_url, pair, ..Setup::default() }).await;
    let mut client = world.client().await;
    for _ in 0..3 {
        told(&client.post(CHAT, &chat("x")).await, 502, "upstream_error");
    }
    told(&client.request("GET", MODELS, &[bearer(KEY)], b"").await, 502, "upstream_error");
}

#[tokio::test]
async fn a_provider_without_an_address_is_told_in_bounded_time() {
    let base_url = Some("http://provider.invalid:8080".to_owned());
    let world = World::with(Setup { base_url, ..Setup::default() }).await;
    let answer = world.post(CHAT, &chat("x")).await;
    told(&answer, 502, "upstream_error");
    assert!(!answer.text().contains("provider.invalid"), "{}", answer.text());
}

async fn an_end_before_the_head_is_told(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
    let half = "HTTP/1.1 200 OK\r\ncontent-le";
    for how in [HowCut::Reset, HowCut::Close] {
        world.provider.script(Script::cut(CutAt::Head, how));
        told(&client.post(CHAT, &chat("x")).await, 502, "upstream_error");
        let cut = Script::cut(CutAt::Body(half.len()), how).cut;
        world.provider.script(Script { cut, ..Script::raw(half) });
        told(&client.post(CHAT, &chat("x")).await, 502, "upstream_error");
    }
    assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
    assert_eq!(world.provider.received().len(), 5, "none of them was sent twice");
}

#[tokio::test]
async fn a_head_that_is_none_or_could_be_read_in_two_ways_is_told_and_its_connection_dropped() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let faults =
        [Fault::BadStatusLine, Fault::BadHeaderLine, Fault::NulInHeader, Fault::LengthAndChunked, Fault::TwoLengths];
    let heads = [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "<html>Bad gateway</html>\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 999 What\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ];
    let scripts = faults.map(Script::fault).into_iter().chain(heads.map(Script::raw));
    let mut count = 0;
    for script in scripts {
        let what = format!("{:?} {:?}", script.fault, script.reply);
        world.provider.script(script);
        count += 1;
        let answer = client.post(CHAT, &chat("x")).await;
        assert_eq!(answer.status, 502, "{what}");
        told(&answer, 502, "upstream_error");
        assert_eq!(world.provider.connections_accepted(), count, "{what}");
    }
    assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
    let calls = world.log.calls(count + 1).await;
    assert_eq!((calls[0]["statusCode"].as_str(), calls[count]["statusCode"].as_str()), (Some("502"), Some("200")));
}

async fn a_provider_that_does_not_begin_to_answer_is_given_up_by_the_kind_of_call(pair: Pair) {
    for (limits, body, other) in [
        ("first_byte: { stream: 300ms, other: 5s }", chat_stream("x"), chat("x")),
        ("first_byte: { stream: 5s, other: 300ms }", chat("x"), chat_stream("x")),
    ] {
        let world = World::with(timeouts(pair, limits)).await;
        let mut client = world.client().await;
        world.provider.script(Script::cut(CutAt::Head, HowCut::Stall));
        told(&client.post(CHAT, &body).await, 504, "upstream_timeout");
        let received = world.provider.wait_for(|calls| calls[0].cancelled, SOON).await;
        assert!(received.is_ok(), "the provider is told");
        world.provider.script(Script::delayed(std::time::Duration::from_millis(600)));
        assert_eq!(client.post(CHAT, &other).await.status, 200);
    }
}

async fn a_client_that_leaves_cancels_its_call_at_the_provider(pair: Pair) {
    let world = World::of(pair).await;
    world.provider.script(Script::cut(CutAt::Head, HowCut::Stall).always());
    for count in 1..=3 {
        let call = world.client().await.ask(CHAT, &chat("x")).await;
        world.provider.wait_for(|calls| calls.len() == count, SOON).await.expect("it is there");
        drop(call);
        let calls = world.provider.wait_for(|calls| calls[count - 1].cancelled, SOON).await.expect("it is cancelled");
        let after = calls[count - 1].aborted_after().expect("noted");
        assert!(after < std::time::Duration::from_secs(2), "{after:?}");
        assert_eq!(world.log.calls(count).await[count - 1]["statusCode"], "499");
    }
    world.provider.clear_scripts();
    world.provider.script(Script { read_body: Some(0), drain: false, ..Script::cut(CutAt::Head, HowCut::Stall) });
    let large = format!("{{\"model\":\"{}\"}}", "x".repeat(20_000_000));
    let call = world.client().await.ask(CHAT, &large).await;
    world.provider.wait_for(|calls| calls.len() == 4, SOON).await.expect("it is there");
    drop(call);
    // TCP cannot tell a provider that does not read, but the gateway lets go.
    assert_eq!(world.log.calls(4).await[3]["statusCode"], "499");
}
