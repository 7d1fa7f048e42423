//! Whatever way bytes are cut into chunks, frames and writes, on either side, what arrives is the same.
//!
//! Invariant: few cases and small bodies, so that this stays a matter of seconds; `PROPTEST_CASES` beyond 256 makes them more.
//! Never does: know where a boundary could be special; that is for the generator to find.

use std::time::Duration;

use ai_gateway::demo::{Framing, Reply, Script};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

use crate::support::*;

over_all_pairs! { any_cut_of_a_request_arrives_as_it_was, any_cut_of_an_answer_arrives_as_it_was }

const CHAT: &str = "/openai/v1/chat/completions";

/// One world for all cases of a property: a case is a call, not a gateway.
fn world(pair: Pair) -> (Runtime, World) {
    let runtime = Runtime::new().expect("a runtime");
    let world = runtime.block_on(World::of(pair));
    (runtime, world)
}

/// For each pair of versions.
fn few() -> TestRunner {
    let usual = ProptestConfig::default();
    TestRunner::new(ProptestConfig { cases: (usual.cases * 6 / 256).max(1), failure_persistence: None, ..usual })
}

/// Pieces of a text at the given sizes; the last takes the rest.
fn pieces<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes {
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a body in these chunks (none: by its length), cut into these writes, and gives what arrived. Over HTTP/2 the
/// chunks are DATA frames, and where TLS cuts them is not the test's to say.
async fn forwarded(
    world: &World,
    name: &str,
    body: &[u8],
    chunks: Option<&[usize]>,
    writes: &[usize],
) -> Option<String> {
    let mut headers = vec![bearer(KEY), ("x-case", name.to_owned())];
    if chunks.is_none() {
        headers.push(("content-length", body.len().to_string()));
    }
    match world.client().await {
        AnyClient::Http1(client) => over_http1(client, headers, body, chunks, writes).await,
        AnyClient::Http2(client) => {
            let (answer, mut send) = client.send("POST", CHAT, &headers, false).await;
            let frames = pieces(body, chunks.unwrap_or_default());
            for (at, frame) in frames.iter().enumerate() {
                send_all(&mut send, frame, at + 1 == frames.len()).await;
            }
            begun(answer, send).await.rest().await;
        }
    }
    let received = world.provider.received();
    received.into_iter().find(|call| call.header("x-case") == Some(name)).and_then(|call| call.body_sha256)
}

async fn over_http1(
    mut client: Connection,
    mut headers: Vec<(&str, String)>,
    body: &[u8],
    chunks: Option<&[usize]>,
    writes: &[usize],
) {
    let mut wire = Vec::new();
    if chunks.is_some() {
        headers.push(("transfer-encoding", "chunked".to_owned()));
    }
    wire.extend_from_slice(head("POST", CHAT, &headers, b"").as_bytes());
    match chunks {
        None => wire.extend_from_slice(body),
        Some(sizes) => {
            for piece in pieces(body, sizes) {
                wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                wire.extend_from_slice(piece);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
        }
    }
    for write in pieces(&wire, writes) {
        client.send(write).await;
        tokio::task::yield_now().await;
    }
    client.response("POST").await;
}

/// Has the provider answer with this body, framed and cut like this, and gives what the client got.
async fn answered(world: &World, name: &str, body: &[u8], script: Script) -> Response {
    let content_type = ("content-type".to_owned(), "application/json".to_owned());
    let reply = Reply::Fixed { status: 200, headers: vec![content_type], body: body.to_vec().into() };
    let path = format!("/v1/models/{name}");
    world.provider.script(Script { path: Some(path), gap: Some(Duration::from_micros(200)), reply, ..script });
    world.client().await.request("GET", &format!("/openai/v1/models/{name}"), &[bearer(KEY)], b"").await
}

async fn any_cut_of_a_request_arrives_as_it_was(pair: Pair) {
    spawn_blocking(move || requests_arrive(pair)).await.expect("no panic");
}

fn requests_arrive(pair: Pair) {
    let (runtime, world) = world(pair);
    let cases = (
        "[ -~\u{e9}\u{1f3ee}]{0,400}",
        0..200_000usize,
        prop::option::of(prop::collection::vec(1..5000usize, 0..12)),
        prop::collection::vec(1..700usize, 0..12),
        any::<u128>(),
    );
    let holds = |(text, long, chunks, writes, case): (String, usize, Option<Vec<usize>>, Vec<usize>, u128)| {
        let content = format!("{text}{}", "y".repeat(long));
        let body = serde_json::json!({ "messages": content, "model": "gpt-4o" }).to_string();
        let name = case.to_string();
        let call = forwarded(&world, &name, body.as_bytes(), chunks.as_deref(), &writes);
        prop_assert_eq!(runtime.block_on(call), Some(hex(body.as_bytes())));
        Ok(())
    };
    few().run(&cases, holds).unwrap_or_else(|failure| panic!("{failure}"));
}

async fn any_cut_of_an_answer_arrives_as_it_was(pair: Pair) {
    spawn_blocking(move || answers_arrive(pair)).await.expect("no panic");
}

fn answers_arrive(pair: Pair) {
    let (runtime, world) = world(pair);
    // The last size repeats: a large one keeps the number of pieces and writes small.
    let sizes = |count| {
        prop::collection::vec(1..4000usize, 0..count).prop_map(|mut sizes| {
            sizes.push(20_000);
            sizes
        })
    };
    let cases = (
        prop::collection::vec(any::<u8>(), 0..3000),
        1..20usize,
        prop::sample::select(vec![Framing::Length, Framing::Chunked, Framing::UntilClose]),
        sizes(6),
        sizes(12),
        any::<u128>(),
    );
    let holds =
        |(body, repeat, framing, pieces, writes, case): (Vec<u8>, usize, Framing, Vec<usize>, Vec<usize>, u128)| {
            let body = body.repeat(repeat);
            let script = Script { framing, pieces, writes, ..Script::default() };
            let answer = runtime.block_on(answered(&world, &case.to_string(), &body, script));
            prop_assert!(answer.complete && answer.status == 200);
            prop_assert_eq!((answer.body.len(), hex(&answer.body)), (body.len(), hex(&body)));
            Ok(())
        };
    few().run(&cases, holds).unwrap_or_else(|failure| panic!("{failure}"));
}
