//! The same over HTTP/2, in frames that no library would send. Source of all numbers: RFC 9113 sections 6 and 8, RFC 7541.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::support::abuse::frame;

type Tls = TlsStream<tokio::net::TcpStream>;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn world_of_http2() -> World {
    World::with(Setup { pair: Pair { client: Http::Two, provider: Http::One }, ..each_kind(ALL, "") }).await
}

/// A head, each field as a literal without an index and without compression (RFC 7541 section 6.2.2).
fn compressed(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        let mut bytes = vec![u8::try_from(text.len()).expect("short")];
        assert!(text.len() < 127);
        bytes.extend(text.as_bytes());
        bytes
    };
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The fields of a good request, some of them replaced or added to.
fn fields<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let good = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("authorization", "Bearer fake"),
    ];
    good.into_iter().chain(more.iter().copied()).collect()
}

/// How a stream ended: a status, or no answer at all.
async fn outcome(world: &World, fields: &[(&str, &str)], data: Option<&[u8]>) -> Option<u16> {
    world.provider.clear_received();
    let mut tls = world.tls(&["h2"]).await;
    let end = if data.is_none() { frames::END_STREAM } else { 0 };
    let mut bytes = [PREFACE, &frame(frames::SETTINGS, 0, 0, &[])].concat();
    bytes.extend(frame(frames::HEADERS, frames::END_HEADERS | end, 1, &compressed(fields)));
    if let Some(data) = data {
        bytes.extend(frame(frames::DATA, frames::END_STREAM, 1, data));
    }
    sent(&mut tls, &bytes).await
}

async fn sent(tls: &mut Tls, bytes: &[u8]) -> Option<u16> {
    tls.write_all(bytes).await.expect("sent");
    answered(tls).await
}

/// Reads until stream 1 or the connection is over; the status is the first octet of the answer's head, which our own
/// compressor takes from the static table or spells out.
async fn answered(tls: &mut Tls) -> Option<u16> {
    loop {
        let mut head = [0; 9];
        timeout(SOON, tls.read_exact(&mut head)).await.expect("in time").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        timeout(SOON, tls.read_exact(&mut payload)).await.expect("in time").ok()?;
        match head[3] {
            frames::HEADERS => return Some(status(&payload)),
            frames::RST_STREAM | frames::GO_AWAY => return None,
            _ => {}
        }
    }
}

/// RFC 7541 appendix A, and section 6.2.1 with the name `:status` (index 8).
fn status(payload: &[u8]) -> u16 {
    let table = [200, 204, 206, 304, 400, 404, 500];
    // A change of the table's size may come first (section 6.3).
    let start = payload.iter().position(|byte| byte & 0xe0 != 0x20).expect("a field");
    match payload[start] {
        indexed @ 0x88..=0x8e => table[usize::from(indexed - 0x88)],
        _ => 999,
    }
}

#[tokio::test]
async fn a_plain_request_in_these_frames_is_served() {
    let world = world_of_http2().await;
    assert_eq!(outcome(&world, &fields("GET", MODELS, &[]), None).await, Some(200));
    let length = BODY.len().to_string();
    let post = fields("POST", CHAT, &[("content-length", &length)]);
    assert_eq!(outcome(&world, &post, Some(BODY.as_bytes())).await, Some(200));
    assert_eq!(world.provider.received().len(), 1);
}

#[tokio::test]
async fn heads_that_rfc_9113_calls_malformed_reach_nobody() {
    let world = world_of_http2().await;
    let get = |more: &[(&'static str, &'static str)]| fields("GET", MODELS, more);
    let without = |name: &str| get(&[]).into_iter().filter(|(own, _)| *own != name).collect::<Vec<_>>();
    let mut late = get(&[("x", "y")]);
    late.rotate_left(1);
    let cases = [
        get(&[("connection", "keep-alive")]),
        get(&[("connection", "x-other")]),
        get(&[("keep-alive", "timeout=5")]),
        get(&[("proxy-connection", "keep-alive")]),
        get(&[("transfer-encoding", "chunked")]),
        get(&[("upgrade", "websocket")]),
        get(&[("te", "gzip")]),
        get(&[(":path", "/openai/v1/models/hidden")]),
        get(&[(":method", "POST")]),
        get(&[(":authority", "other")]),
        get(&[(":unknown", "x")]),
        get(&[(":status", "200")]),
        get(&[("Upper", "x")]),
        get(&[("x y", "z")]),
        get(&[("x:y", "z")]),
        get(&[("x", "a\r\nb: c")]),
        get(&[("x", "a\nb")]),
        get(&[("x", "a\0b")]),
        get(&[("host", "other")]),
        without(":method"),
        without(":path"),
        without(":scheme"),
        late,
        fields("GET", "", &[]),
        fields("GET", "openai/v1/models", &[]),
        fields("GET", "/openai/v1/models /hidden", &[]),
        fields("GET", "/openai/v1/models\r\nx: y", &[]),
        fields("G T", MODELS, &[]),
    ];
    for case in cases {
        let outcome = outcome(&world, &case, None).await;
        assert!(matches!(outcome, None | Some(400 | 404)), "{outcome:?}: {case:?}");
        assert_eq!(world.provider.received().len(), 0, "{case:?}");
    }
}

#[tokio::test]
async fn a_length_that_is_not_the_bodys_reaches_nobody() {
    let world = world_of_http2().await;
    let own = BODY.len();
    for length in [
        "0".to_owned(),
        "5".to_owned(),
        (own - 1).to_string(),
        (own + 1).to_string(),
        "-1".to_owned(),
        format!("+{own}"),
        format!("{own}, {own}"),
        format!("0x{own:x}"),
    ] {
        let outcome =
            outcome(&world, &fields("POST", CHAT, &[("content-length", &length)]), Some(BODY.as_bytes())).await;
        assert!(matches!(outcome, None | Some(400)), "{outcome:?}: {length}");
        for call in world.provider.received() {
            assert!(!call.body_complete, "{length}");
        }
    }
}

#[tokio::test]
async fn trailers_go_nowhere_and_are_no_second_head() {
    let world = world_of_http2().await;
    let good = [("x-trailer", "y"), ("authorization", "Bearer other"), ("host", "b"), ("x-api-key", "other")];
    // RFC 9113 section 8.1 calls it malformed; nobody reads it here.
    let odd = [(":path", "/openai/v1/models/hidden"), ("x-trailer", "y")];
    for (path, trailers) in WAYS.iter().flat_map(|path| [(path, &good[..]), (path, &odd[..])]) {
        world.provider.clear_received();
        let mut tls = world.tls(&["h2"]).await;
        let bytes = [
            PREFACE,
            &frame(frames::SETTINGS, 0, 0, &[]),
            &frame(frames::HEADERS, frames::END_HEADERS, 1, &compressed(&fields("POST", path, &[]))),
            &frame(frames::DATA, 0, 1, BODY.as_bytes()),
            &frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, 1, &compressed(trailers)),
        ];
        let outcome = sent(&mut tls, &bytes.concat()).await;
        let received = world.provider.received();
        let whole: Vec<&Received> = received.iter().filter(|call| call.body_complete).collect();
        assert_eq!((whole.len(), received.len()), (1, 1), "{outcome:?}: {path} {trailers:?}");
        for call in whole {
            is_plain(call, path);
            assert!(!call.target.contains("hidden"));
            assert_eq!((call.header("x-trailer"), call.header("x-api-key")), (None, None));
            assert_eq!(&call.body[..], BODY.as_bytes());
        }
    }
}
