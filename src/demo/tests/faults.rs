//! Tests of scripts that break an answer: cuts, stalls, resets and malformed heads.
//!
//! Invariant: what arrives is compared byte for byte, because that is what a gateway's parser will meet.
//! Never does: send a valid answer.

use std::io::ErrorKind;

use serde_json::json;

use super::super::{CutAt, Fault, Framing, HowCut, Reply, Script};
use super::client::{Client, get, post};
use super::{SOON, chat, provider};

fn text(framing: Framing) -> Script {
    Script {
        reply: Reply::Fixed { status: 200, headers: Vec::new(), body: "hello".into() },
        framing,
        ..Script::default()
    }
}

/// What a script sends until the connection ends, and whether that was a reset.
async fn outcome(script: Script) -> (String, bool) {
    let provider = provider().await;
    provider.script(script);
    let mut client = Client::connect(&provider).await;
    client.send(&get("/")).await;
    let (bytes, reset) = match client.end().await {
        Ok(bytes) => (bytes, false),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            (client.rest().await, true)
        }
    };
    let received = provider.wait_for(|r| r[0].answered_at.is_some(), SOON).await.unwrap();
    assert!(!received[0].cancelled);
    (String::from_utf8(bytes).unwrap(), reset)
}

#[tokio::test]
async fn resets_and_closes_before_the_head() {
    assert_eq!(outcome(Script::cut(CutAt::Head, HowCut::Reset)).await, (String::new(), true));
    assert_eq!(outcome(Script::cut(CutAt::Head, HowCut::Close)).await, (String::new(), false));
}

#[tokio::test]
async fn cuts_a_body_where_told() {
    let cut = |framing, at| Script { cut: Script::cut(at, HowCut::Close).cut, ..text(framing) };
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let cases = [
        (cut(Framing::Length, CutAt::Body(0)), length.to_string()),
        (cut(Framing::Length, CutAt::Body(2)), format!("{length}he")),
        (cut(Framing::Chunked, CutAt::Body(2)), format!("{chunked}5\r\nhe")),
        (cut(Framing::Chunked, CutAt::Body(5)), format!("{chunked}5\r\nhello\r\n")),
        (cut(Framing::Chunked, CutAt::Pieces(0)), chunked.to_string()),
        (
            Script { pieces: vec![2], ..cut(Framing::Chunked, CutAt::Pieces(2)) },
            format!("{chunked}2\r\nhe\r\n2\r\nll\r\n"),
        ),
    ];
    for (script, expected) in cases {
        assert_eq!(outcome(script).await, (expected, false));
    }
}

#[tokio::test]
async fn resets_in_the_middle_of_a_stream() {
    let provider = provider().await;
    provider.script(Script::cut(CutAt::Pieces(2), HowCut::Reset));
    let mut client = Client::connect(&provider).await;
    client.send(&post("/v1/chat/completions", &chat(json!({ "stream": true })))).await;
    assert_eq!(client.end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn stalls_until_the_client_leaves() {
    let provider = provider().await;
    for (index, at) in [CutAt::Head, CutAt::Body(0), CutAt::Pieces(3)].into_iter().enumerate() {
        provider.script(Script::cut(at, HowCut::Stall));
        let mut client = Client::connect(&provider).await;
        client.send(&post("/v1/chat/completions", &chat(json!({ "stream": true })))).await;
        if at == CutAt::Pieces(3) {
            let mut events = 0;
            while events < 3 {
                events += client.rest_of(b"\n\n").await.matches("data: ").count();
            }
        }
        provider.wait_for(|r| r.len() == index + 1 && r[index].body_complete, SOON).await.unwrap();
        assert!(provider.received()[index].answered_at.is_none());
        drop(client);
        let received = provider.wait_for(|r| r[index].cancelled, SOON).await.unwrap();
        assert!(received[index].aborted_at.is_some());
    }
}

#[tokio::test]
async fn sees_a_client_leave_a_running_stream() {
    let provider = provider().await;
    let gap = Some(std::time::Duration::from_millis(2));
    provider.script(Script { words: Some(5_000), gap, ..Script::default() });
    let mut client = Client::connect(&provider).await;
    client.send(&post("/v1/chat/completions", &chat(json!({ "stream": true })))).await;
    client.rest_of(b"\n\n").await;
    drop(client);
    provider.wait_for(|r| r[0].cancelled, SOON).await.unwrap();
    assert!(provider.wait_until(|p| p.open_connections() == 0, SOON).await);
}

#[tokio::test]
async fn sends_raw_bytes_as_they_are() {
    let raw = "HTTP/1.1 200 OK\ncontent-length: 99\n\nnot so much";
    let close = Script { after: super::super::After::SilentClose, ..Script::raw(raw) };
    assert_eq!(outcome(close).await, (raw.to_string(), false));
    let cut = Script { cut: Script::cut(CutAt::Body(7), HowCut::Reset).cut, ..Script::raw(raw) };
    assert!(outcome(cut).await.1);
}

#[tokio::test]
async fn breaks_an_answer_in_each_way() {
    let ok = "HTTP/1.1 200 OK\r\n";
    let cases = [
        (Fault::BadStatusLine, "HTTP/one point one OK\r\ncontent-length: 5\r\n\r\nhello".to_string()),
        (Fault::BadHeaderLine, format!("{ok}content-length: 5\r\nthis is no header\r\n\r\nhello")),
        (Fault::NulInHeader, format!("{ok}content-length: 5\r\nx-nul: a\0b\r\n\r\nhello")),
        (Fault::BadChunkSize, format!("{ok}transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n")),
        (Fault::LongChunk, format!("{ok}transfer-encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n")),
        (Fault::ShortBody, format!("{ok}content-length: 15\r\n\r\nhello")),
        (Fault::LongBody, format!("{ok}content-length: 2\r\n\r\nhello")),
        (
            Fault::LengthAndChunked,
            format!("{ok}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        ),
        (Fault::TwoLengths, format!("{ok}content-length: 5\r\ncontent-length: 6\r\n\r\nhello")),
    ];
    for (fault, expected) in cases {
        let after = super::super::After::SilentClose;
        let script = Script { fault: Some(fault), after, ..text(Framing::Natural) };
        assert_eq!(outcome(script).await, (expected, false), "{fault:?}");
    }
}
