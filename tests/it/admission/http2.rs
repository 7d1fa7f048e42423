//! Heads over HTTP/2 that do not end: the connection is ended in the time of a quiet one, however it drips.
//!
//! Never does: read what comes but for its end.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::support::abuse::{frame, request};
use crate::support::frames::{HEADERS, SETTINGS};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CONTINUATION: u8 = 9;
/// Somewhat less than `idle_timeout` below.
const LEAST: Duration = Duration::from_millis(800);

/// Sends this, and then these pieces, one each 100 ms, until the gateway closes; how long that took.
async fn ended(client: &Client, first: &[u8], piece: impl FnMut(usize) -> Vec<u8>) -> Duration {
    let mut tls = client.connect(&["h2"]).await.expect("a handshake");
    let started = Instant::now();
    let _ = (tls.write_all(first).await, tls.flush().await);
    let mut pieces = (0..).map(piece);
    loop {
        assert!(started.elapsed() < SOON, "never closed");
        let mut room = [0; 1024];
        match timeout(Duration::from_millis(100), tls.read(&mut room)).await {
            Ok(Ok(0) | Err(_)) => break,
            Ok(Ok(_)) => {}
            Err(_) => {
                let piece = pieces.next().expect("no end");
                if tls.write_all(&piece).await.is_err() || tls.flush().await.is_err() {
                    break;
                }
            }
        }
    }
    started.elapsed()
}

/// What keeps to the rules otherwise lives for at least this long.
async fn ends_in_time(first: Vec<u8>, least: Duration, piece: impl FnMut(usize) -> Vec<u8>) {
    let authority = Authority::new();
    let (listen, files) = authority.listener();
    let server = "limits: { idle_timeout: 1s, head_timeout: 1s }".to_owned();
    let world = World::with(Setup { listen: vec![listen], files, server, ..Setup::default() }).await;
    let client = Client::new(world.gateway.addresses()[1], authority.issuer());
    let took = ended(&client, &first, piece).await;
    assert!(took >= least && took < 5 * WITHIN, "{took:?}");
    eventually("it is gone", async || open(&world).await == 0.0).await;
    assert!(world.log.calls(0).await.is_empty() && world.provider.received().is_empty(), "it was no call");
}

/// What a client says before its first request.
fn begun() -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()
}

#[tokio::test]
async fn a_preface_that_drips() {
    ends_in_time(PREFACE[..3].to_vec(), LEAST, |number| {
        PREFACE.get(3 + number).map(|byte| vec![*byte]).unwrap_or_default()
    })
    .await;
}

#[tokio::test]
async fn half_a_frame_of_a_head_that_drips() {
    let head = frame(HEADERS, 5, 1, &request("GET", "/openai/v1/models", &[("x-long", &"x".repeat(120))]));
    let (first, rest) = head.split_at(12);
    let rest = rest.to_vec();
    ends_in_time([begun(), first.to_vec()].concat(), LEAST, move |number| vec![rest[number]]).await;
}

#[tokio::test]
async fn a_continuation_that_drips() {
    let head = frame(HEADERS, 1, 1, &request("GET", "/openai/v1/models", &[]));
    let continuation = frame(CONTINUATION, 0, 1, &[0; 1000]);
    let first = [begun(), head, continuation[..9].to_vec()].concat();
    ends_in_time(first, LEAST, |_| vec![0]).await;
}

#[tokio::test]
async fn continuations_that_come_one_by_one() {
    let head = frame(HEADERS, 1, 1, &request("GET", "/openai/v1/models", &[]));
    // A header of one byte and a value of one, without a reference to anything. Their number has a bound of its own.
    let piece = |_| frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']);
    ends_in_time([begun(), head].concat(), Duration::ZERO, piece).await;
}
