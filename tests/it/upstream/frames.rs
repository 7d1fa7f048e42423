//! Providers over HTTP/2 that break it, or use what no library of servers does, frame by frame.
//!
//! Never does: ask what a scripted provider can do.

use tokio::time::timeout;

use super::*;
use crate::support::frames::*;

async fn started() -> (World, Frames) {
    Frames::start(Setup::default()).await
}

/// A call and what the provider does meanwhile.
async fn call<T>(world: &World, body: &str, provider: impl Future<Output = T>) -> (Response, T) {
    timeout(SOON, async { tokio::join!(world.post(CHAT, body), provider) }).await.expect("in time")
}

#[tokio::test]
async fn what_is_beyond_the_last_stream_of_a_farewell_is_sent_once_more() {
    let (world, frames) = started().await;
    let provider = async {
        let mut first = frames.accept().await;
        let stream = first.request().await;
        // The last stream that was looked at is none, and there is no error.
        first.send(GO_AWAY, 0, 0, &[0; 8]).await;
        let mut second = frames.accept().await;
        let again = second.request().await;
        second.answer(again, "{}").await;
        (first, second, stream)
    };
    let (answer, (_first, mut second, stream)) = call(&world, &chat("x"), provider).await;
    assert_eq!((answer.status, answer.text().as_str(), stream), (200, "{}", 1));
    let provider = async {
        let stream = second.request().await;
        second.answer(stream, "[]").await;
    };
    assert_eq!(call(&world, &chat("x"), provider).await.0.text(), "[]", "the second connection goes on");
}

#[tokio::test]
async fn what_a_farewell_includes_is_not_repeated() {
    let (world, frames) = started().await;
    let provider = async {
        let mut wire = frames.accept().await;
        let stream = wire.request().await;
        wire.send(GO_AWAY, 0, 0, &[&stream.to_be_bytes()[..], &[0; 4]].concat()).await;
    };
    // A second connection would wait for its handshake, and this would be a 504.
    let (answer, ()) = call(&world, &chat("x"), provider).await;
    told(&answer, 502, "upstream_error");
}

#[tokio::test]
async fn a_connection_that_its_provider_closed_while_it_was_quiet_costs_a_post_nothing() {
    let (world, frames) = started().await;
    for _ in 0..3 {
        let provider = async {
            let mut wire = frames.accept().await;
            let stream = wire.request().await;
            wire.answer(stream, "{}").await;
            wire
        };
        let (answer, mut wire) = call(&world, &chat("x"), provider).await;
        assert_eq!(answer.status, 200);
        wire.close().await;
    }
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_by_a_reset_and_the_connection_stays() {
    let (world, frames) = started().await;
    let asked = world.client().await.ask(CHAT, &chat("x")).await;
    let mut wire = frames.accept().await;
    let stream = wire.request().await;
    drop(asked);
    let reset = wire.next().await.expect("a frame");
    // CANCEL, RFC 9113 section 7.
    assert_eq!((reset.kind, reset.stream, reset.payload), (RST_STREAM, stream, vec![0, 0, 0, 8]));
    let provider = async {
        let stream = wire.request().await;
        wire.answer(stream, "{}").await;
    };
    assert_eq!(call(&world, &chat("x"), provider).await.0.status, 200);
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_is_told_or_cut() {
    let (world, frames) = started().await;
    let mut wire = None;
    let heads: [(&[(&str, &str)], &str); 7] = [
        (&[("content-length", "5")], "hell"),
        (&[("content-length", "5")], "hello!"),
        (&[("content-length", "x")], "hello"),
        (&[("content-length", "5"), ("content-length", "6")], "hello"),
        (&[("transfer-encoding", "chunked")], "hello"),
        (&[("connection", "close")], "hello"),
        (&[("Upper-Case", "x")], "hello"),
    ];
    for (headers, body) in heads {
        let provider = async {
            let wire = match &mut wire {
                Some(wire) => wire,
                none => none.insert(frames.accept().await),
            };
            let stream = wire.request().await;
            wire.send(HEADERS, END_HEADERS, stream, &Wire::head(headers)).await;
            wire.send(DATA, END_STREAM, stream, body.as_bytes()).await;
            // A reset of this stream, or the end of the connection.
            wire.next().await.is_some_and(|frame| frame.kind == RST_STREAM)
        };
        let (answer, stays) = call(&world, &chat("x"), provider).await;
        assert!(answer.status == 502 || !answer.complete, "{headers:?}: {answer:?}");
        if !stays {
            wire = None;
        }
    }
}

#[tokio::test]
async fn trailers_are_no_headers_and_no_body() {
    let (world, frames) = started().await;
    let provider = async {
        let mut wire = frames.accept().await;
        let stream = wire.request().await;
        wire.send(HEADERS, END_HEADERS, stream, &Wire::head(&[("x-early", "1")])).await;
        wire.send(DATA, 0, stream, b"{}").await;
        wire.send(HEADERS, END_HEADERS | END_STREAM, stream, &Wire::head(&[("x-late", "1")])[1..]).await;
        wire
    };
    let (answer, _wire) = call(&world, &chat("x"), provider).await;
    assert_eq!((answer.status, answer.complete, answer.text().as_str()), (200, true, "{}"));
    assert_eq!((answer.header("x-early"), answer.header("x-late")), (Some("1"), None));
}

#[tokio::test]
async fn a_whole_answer_with_a_reset_behind_it_is_whole() {
    let (world, frames) = started().await;
    let large = format!("{{\"model\":\"{}\"}}", "x".repeat(1_000_000));
    let provider = async {
        let mut wire = frames.accept().await;
        // The window of the stream is 64 KiB, so that the request is not sent whole.
        let stream = wire.next().await.expect("a head").stream;
        wire.answer(stream, "no more").await;
        wire.send(RST_STREAM, 0, stream, &[0; 4]).await;
        wire
    };
    let (answer, _wire) = call(&world, &large, provider).await;
    assert_eq!((answer.status, answer.complete, answer.text().as_str()), (200, true, "no more"));
}

#[tokio::test]
async fn a_provider_that_says_nothing_after_its_handshake_is_given_up_in_time() {
    let (world, frames) = Frames::start(timeouts(Pair::default(), "first_byte: { stream: 1s, other: 1s }")).await;
    let provider = async {
        let mut wire = frames.accept().await;
        let stream = wire.request().await;
        let reset = wire.next().await.expect("a frame");
        (stream == reset.stream).then_some(reset.kind)
    };
    let (answer, kind) = call(&world, &chat("x"), provider).await;
    told(&answer, 504, "upstream_timeout");
    assert_eq!(kind, Some(RST_STREAM));
}
