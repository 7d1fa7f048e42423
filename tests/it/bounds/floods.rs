//! Floods over HTTP/2: the connection is ended or stands still, what it may take is bounded, and nobody else notices.
//!
//! Invariant: beside each flood another client calls and is served, each time; when the flood is over the gateway rests and
//! has not grown by more than a few connections are allowed to hold.
//! Never does: speak HTTP/2 well.

use tokio::time::timeout;

use super::*;
use crate::support::abuse::{End, Raw, cancel, data, frame, open, request, room};
use crate::support::frames::{HEADERS, PING, SETTINGS};

const CONTINUATION: u8 = 9;
const PRIORITY: u8 = 2;
/// INITIAL_WINDOW_SIZE is 0: the client has no room for any body.
const NO_ROOM: [u8; 6] = [0, 4, 0, 0, 0, 0];
/// ENHANCE_YOUR_CALM. Source: RFC 9113 section 7.
const CALM: u32 = 11;
/// Batches, of a few hundred frames each.
const BATCHES: usize = 200;
const EACH: usize = 256;
/// What the gateway may grow by, in KiB: far more than one connection may hold, far less than what a flood would leave if it
/// were kept.
const GROWTH: u64 = 48 * 1024;

/// Odd numbers, from the first stream of a client on.
fn stream(number: usize) -> u32 {
    u32::try_from(2 * number + 1).expect("few")
}

/// Floods a gateway while somebody else uses it; tells what became of the connection.
async fn flooded(settings: &[u8], batches: usize, reads: bool, batch: impl FnMut(usize) -> Vec<u8>) -> End {
    let authority = Authority::new();
    let (listen, files) = authority.listener();
    let server = "limits: { idle_timeout: 2s, body_timeout: 10s }".to_owned();
    let service = Service::with(Setup { listen: vec![listen], files, server, ..Setup::default() }).await;
    let client = service.client(&authority).await;
    // Whatever is made once is made before.
    assert_eq!(client.h2().await.post(CHAT, &chat("x")).await.status, 200);
    let (before, address) = (service.process.memory("VmRSS"), service.address);
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let others = tokio::spawn(async move {
        let (mut served, mut stopped) = (0, stopped);
        while stopped.try_recv().is_err() {
            let answer = timeout(SOON, async { Connection::open(address).await.post(CHAT, &chat("x")).await });
            assert_eq!(answer.await.expect("in time").status, 200);
            served += 1;
        }
        served
    });
    let mut raw = Raw::open(&client, settings).await;
    let end = raw.flood(batches, reads, batch).await;
    stop.send(()).expect("they are still at it");
    assert!(others.await.expect("served each time") > 0);
    // The connection is still held, so what rests here rests with it.
    service.process.comes_to_rest().await;
    let after = service.process.memory("VmRSS");
    assert!(after < before + GROWTH, "{before} KiB before, {after} KiB after {end:?}");
    if end == End::Blocked {
        eventually("who does not read is given up", async || service.metric("gateway_connections").await == 0.0).await;
    }
    drop(raw);
    eventually("no connection is left", async || service.metric("gateway_connections").await == 0.0).await;
    assert_eq!(service.metric("gateway_panics_total").await, 0.0);
    assert!(service.get(MODELS).await.status == 200, "and all are served");
    end
}

#[tokio::test]
async fn rapid_reset() {
    let end = flooded(&[], BATCHES, true, |batch| {
        let call = |number| {
            let stream = stream(batch * EACH + number);
            [open(stream, &request("GET", MODELS, &[]), true), cancel(stream)].concat()
        };
        (0..EACH).flat_map(call).collect()
    });
    assert!(matches!(end.await, End::Closed(Some(CALM) | None)));
}

/// The client breaks the protocol on one stream after another, so that the gateway resets them (CVE-2025-8671).
#[tokio::test]
async fn made_you_reset() {
    let end = flooded(&[], BATCHES, true, |batch| {
        let call = |number| {
            let stream = stream(batch * 16 + number);
            let head = request("POST", CHAT, &[("content-type", "application/json"), ("content-length", "1")]);
            [open(stream, &head, false), data(stream, b"{}")].concat()
        };
        (0..16).flat_map(call).collect()
    });
    assert!(matches!(end.await, End::Closed(Some(CALM) | None)));
}

/// The same by a window that is too large.
#[tokio::test]
async fn made_you_reset_by_windows() {
    let end = flooded(&[], BATCHES, true, |batch| {
        let call = |number| {
            let stream = stream(batch * 16 + number);
            let head = request("POST", CHAT, &[("content-type", "application/json")]);
            [open(stream, &head, false), room(stream, 0x7fff_ffff)].concat()
        };
        (0..16).flat_map(call).collect()
    });
    assert!(matches!(end.await, End::Closed(Some(CALM) | None)));
}

/// A head that never ends (CVE-2024-24549 and others of 2024).
#[tokio::test]
async fn endless_continuation() {
    let end = flooded(&[], BATCHES, true, |batch| {
        let more = frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y']);
        let mut frames = if batch == 0 { frame(HEADERS, 0, 1, &request("GET", MODELS, &[])) } else { Vec::new() };
        (0..EACH).for_each(|_| frames.extend_from_slice(&more));
        frames
    });
    assert!(matches!(end.await, End::Closed(_)));
}

/// A head of a few hundred bytes that stands for forty megabytes.
#[tokio::test]
async fn a_head_that_unfolds() {
    let end = flooded(&[], 20, true, |batch| {
        // A header of 3,000 bytes goes into the table (index 62, the newest), and is then named by a byte each.
        let long = [&[0x40, 1, b'x', 0x7f, 0xb9, 0x16][..], &[b'y'; 3000]].concat();
        let head = [request("GET", MODELS, &[]), long, vec![0xbe; 13_000]].concat();
        open(stream(batch), &head, true)
    });
    // It is refused as often as it is sent, or the connection ends; it is never unfolded.
    assert_ne!(end.await, End::Blocked);
}

#[tokio::test]
async fn settings_and_pings() {
    for frames in [frame(SETTINGS, 0, 0, &[]), frame(PING, 0, 0, &[7; 8])] {
        let batch = frames.repeat(EACH);
        // Who reads the answers may go on; that costs him what it costs the gateway.
        assert_ne!(flooded(&[], BATCHES, true, |_| batch.clone()).await, End::Blocked);
        // Who does not is no longer read when the answers do not leave any more.
        let end = flooded(&[], 100 * BATCHES, false, |_| batch.clone()).await;
        assert_ne!(end, End::Open, "answers to 5 million frames are held");
    }
}

#[tokio::test]
async fn empty_pieces_of_a_body() {
    let end = flooded(&[], BATCHES, true, |batch| {
        let head = request("POST", CHAT, &[("content-type", "application/json")]);
        let mut frames = if batch == 0 { open(1, &head, false) } else { Vec::new() };
        (0..EACH).for_each(|_| frames.extend(data(1, b"")));
        frames
    });
    assert!(matches!(end.await, End::Closed(_)));
}

/// A body of which each frame holds one byte is a body; what a byte takes is bounded all the same.
#[tokio::test]
async fn tiny_pieces_of_a_body() {
    let end = flooded(&[], BATCHES, true, |batch| {
        let head = request("POST", CHAT, &[("content-type", "application/json")]);
        let mut frames = if batch == 0 { open(1, &head, false) } else { Vec::new() };
        (0..EACH).for_each(|_| frames.extend(data(1, b" ")));
        frames
    });
    assert_ne!(end.await, End::Blocked);
}

#[tokio::test]
async fn priorities_and_windows() {
    let end =
        flooded(&[], BATCHES, true, |_| [frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), room(0, 1)].concat().repeat(EACH));
    assert_ne!(end.await, End::Blocked);
}

/// As many calls as a connection may have, whose answers the client has no room for.
#[tokio::test]
async fn answers_without_a_window() {
    let end = flooded(&NO_ROOM, 1, true, |_| {
        let body = chat("x");
        let call = |number| {
            let head = request("POST", CHAT, &[("content-type", "application/json")]);
            [open(stream(number), &head, false), frame(0, 1, stream(number), body.as_bytes())].concat()
        };
        (0..250).flat_map(call).collect()
    });
    // They are given up when nothing of them leaves for `idle_timeout`, and the connection after that.
    assert_ne!(end.await, End::Blocked);
}
