//! Requests that two servers could understand differently: refused, or passed on in one way, and what stands behind them is
//! never a request that nobody sent.
//!
//! Each case ends in a request of its own ([`HIDDEN`]) that some reading of the case would find. Behind it the test sends a
//! plain one: where the connection is still open, that one's answer is the next.

mod http2;

use std::sync::atomic::{AtomicU64, Ordering};

use ai_gateway::demo::Received;

use crate::support::*;

const MODELS: &str = "/openai/v1/models";
const CHAT: &str = "/openai/v1/chat/completions";
const BODY: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"x"}]}"#;
/// Never to be seen by the provider.
const HIDDEN: &str = "GET /openai/v1/models/hidden HTTP/1.1\r\nhost: a\r\nauthorization: Bearer fake\r\n\r\n";
/// The routes that a case is tried on: read by the exchange, streamed by Pingora's loop, and any other.
const WAYS: [&str; 3] = [CHAT, "/openai/v1/audio/transcriptions", "/openai/v1/anything"];

async fn world() -> World {
    World::with(each_kind(ALL, "")).await
}

/// The number of a case, by which the provider's journal tells it from others.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What became of a case.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It was refused with this status, or closed without an answer (0), and the provider heard nothing.
    Refused(u16),
    /// The provider got it, once.
    Passed,
}

/// Sends a case and looks at all that comes of it.
async fn fate(world: &World, case: &str) -> Fate {
    // What is refused in the middle may still be on its way to the provider when the next case begins.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
    let case = &case.replacen('\n', &format!("\nx-case: {number}\r\n"), 1);
    let mut client = world.connect().await;
    client.try_send(case).await;
    let Some(status) = client.status().await else { return judged(world, case, &number, 0) };
    // Only what was read as a request of its own could be answered between.
    let plain = head("GET", &format!("{MODELS}?plain"), &[bearer(KEY), ("connection", "close".to_owned())], b"");
    client.try_send(&plain).await;
    if let Some(next) = client.status().await {
        assert_eq!(next, 200, "an answer that is not the plain request's: {case:?}");
        assert!(client.is_closed().await, "a third answer: {case:?}");
    }
    judged(world, case, &number, status)
}

fn judged(world: &World, case: &str, number: &str, status: u16) -> Fate {
    let received = world.provider.received();
    assert!(!received.iter().any(|call| call.target.contains("hidden")), "{case:?}");
    let passed: Vec<&Received> = received.iter().filter(|call| call.header("x-case") == Some(number)).collect();
    assert!(passed.len() <= 1, "{case:?} was passed on as {}", passed.len());
    for call in &passed {
        is_plain(call, case);
    }
    if passed.is_empty() { Fate::Refused(status) } else { Fate::Passed }
}

/// One framing, one host, one key, and nothing of one hop or of the client's own.
fn is_plain(call: &Received, case: &str) {
    let count = |name: &str| call.header_count(name);
    assert!(count("content-length") + count("transfer-encoding") <= 1, "{case:?}: two framings");
    assert_eq!((count("host"), count("authorization")), (1, 1), "{case:?}");
    assert_eq!(call.header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
    let of_one_hop = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect", "cookie"];
    for name in of_one_hop.into_iter().chain(["x-of-one-hop", "http2-settings"]) {
        assert_eq!(count(name), 0, "{case:?}: {name}");
    }
    for (name, value) in &call.headers {
        let bytes = name.bytes().chain(value.iter().copied());
        assert!(bytes.into_iter().all(|byte| byte >= b' ' && byte != 0x7f), "{case:?}: {name}");
    }
}

fn post(path: &str, lines: &str, rest: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer fake\r\n{lines}\r\n{rest}")
}

/// A body in one chunk and its end.
fn chunks() -> String {
    format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len())
}

#[tokio::test]
async fn no_odd_length_or_coding_is_believed() {
    let world = world().await;
    let hidden = HIDDEN.len();
    let lines = [
        "content-length: +37\r\n".to_owned(),
        "content-length: 0x25\r\n".to_owned(),
        "content-length: 37, 0\r\n".to_owned(),
        "content-length: 3 7\r\n".to_owned(),
        "content-length: -1\r\n".to_owned(),
        "content-length:\r\n".to_owned(),
        "content-length: 18446744073709551653\r\n".to_owned(),
        "content-length: 99999999999999999999999\r\n".to_owned(),
        format!("content-length: 0\r\ncontent-length: {hidden}\r\n"),
        format!("content-length: {hidden}\r\ncontent-length: 0\r\n"),
        "transfer-encoding: xchunked\r\n".to_owned(),
        "transfer-encoding: chunked, identity\r\n".to_owned(),
        "transfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: gzip, chunked\r\n".to_owned(),
        "transfer-encoding: chunked;q=1\r\n".to_owned(),
        "transfer-encoding: \"chunked\"\r\n".to_owned(),
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".to_owned(),
        "transfer-encoding: \x0bchunked\r\n".to_owned(),
        "transfer-encoding:\r\n chunked\r\n".to_owned(),
        "transfer-encoding : chunked\r\n".to_owned(),
        "transfer-encoding\t: chunked\r\n".to_owned(),
        "content-length : 37\r\n".to_owned(),
        " transfer-encoding: chunked\r\n".to_owned(),
        "x: y\r\n transfer-encoding: chunked\r\n".to_owned(),
        "x: y\rtransfer-encoding: chunked\r\n".to_owned(),
        "x: y\0\r\n".to_owned(),
        "x\0: y\r\n".to_owned(),
        "x y: z\r\n".to_owned(),
        ": y\r\n".to_owned(),
        "no colon\r\n".to_owned(),
        "host: b\r\n".to_owned(),
    ];
    for path in WAYS {
        for line in &lines {
            let case = post(path, line, &(chunks() + HIDDEN));
            let fate = fate(&world, &case).await;
            assert!(matches!(fate, Fate::Refused(400 | 0)), "{fate:?}: {case:?}");
        }
    }
}

#[tokio::test]
async fn a_length_beside_a_coding_makes_no_second_request() {
    let world = world().await;
    for path in WAYS {
        for (length, rest) in [(5, chunks() + HIDDEN), (chunks().len(), chunks() + HIDDEN), (0, chunks() + HIDDEN)] {
            let both = [
                format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"),
                format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n"),
                format!("Transfer-Encoding: CHUNKED\r\ncontent-length: {length}\r\n"),
            ];
            for lines in both {
                // The coding decides (RFC 9112 section 6.3), and what is left is no request.
                assert_eq!(fate(&world, &post(path, &lines, &rest)).await, Fate::Passed, "{path} {lines:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_broken_chunk_is_passed_on_as_a_whole_body() {
    let world = world().await;
    let size = BODY.len();
    let bodies = [
        format!("{size}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("0x{size:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("+{size:x}\r\n{BODY}\r\n0\r\n\r\n"),
        format!("-1\r\n{BODY}\r\n0\r\n\r\n"),
        format!("g\r\n{BODY}\r\n0\r\n\r\n"),
        format!("10000000000000025\r\n{BODY}\r\n0\r\n\r\n"),
        format!("ffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n"),
        format!("{size:x}\r\n{BODY}0\r\n\r\n"),
        format!("{size:x}\r\n{BODY}xx0\r\n\r\n"),
    ];
    for path in WAYS {
        for body in &bodies {
            let case = post(path, "transfer-encoding: chunked\r\n", &(body.clone() + HIDDEN));
            let fate = fate(&world, &case).await;
            let whole = world.provider.received().iter().any(|call| call.body_complete && call.method == "POST");
            assert!(!whole, "{fate:?}: {case:?}");
        }
    }
}

/// Pingora takes a line without a size for the last chunk's; a server in front that read on would have sent what it holds to
/// be the rest of the body.
#[tokio::test]
async fn what_stands_behind_an_odd_end_of_chunks_is_no_request() {
    let world = world().await;
    let (size, chunk) = (BODY.len(), format!("{:x}\r\n{BODY}\r\n", BODY.len()));
    let ends = ["\r\n\r\n", ";x\r\n\r\n", " \r\n\r\n", "\r\nx: y\r\n\r\n", "0\r\nx: y\r\n\r\n", "0;\n\r\n\r\n"];
    // In an extension Pingora takes the end of a line without CR for a part of it.
    let extension = format!("{size:x};\nxx\r\n{BODY}\r\n0\r\n\r\n");
    for path in WAYS {
        for body in ends.iter().map(|end| format!("{chunk}{end}")).chain([extension.clone()]) {
            let case = post(path, "transfer-encoding: chunked\r\n", &body);
            fate(&world, &(case.clone() + HIDDEN)).await;
            // The same where it comes later, when the gateway has no reason to think that it belongs to the body.
            let mut client = world.connect().await;
            client.send(&case).await;
            let answer = client.response("POST").await;
            assert_ne!((answer.status, answer.header("connection")), (200, Some("keep-alive")), "{case:?}");
            client.try_send(HIDDEN).await;
            assert!(client.is_closed().await, "{}: {case:?}", answer.status);
        }
        let hidden = |call: &Received| call.target.contains("hidden");
        assert!(!world.provider.received().iter().any(hidden), "{path}");
    }
}

/// RFC 9112 section 2.2 lets a line of a head end without CR; a chunk's may not. Whoever does not see the end of a line there
/// would take [`HIDDEN`] for a request.
#[tokio::test]
async fn a_line_that_ends_without_cr_hides_no_request() {
    let world = world().await;
    let (size, key) = (HIDDEN.len(), "authorization: Bearer fake");
    for path in WAYS {
        let chunked = |body: String| post(path, "transfer-encoding: chunked\r\n", &body);
        let mut refused = vec![
            chunked(format!("{size:x}\n{HIDDEN}\r\n0\r\n\r\n")),
            chunked(format!("{size:x}\r\n{HIDDEN}\n0\r\n\r\n")),
            chunked(format!("2\r\n{{}}\r\n0\n\n{HIDDEN}")),
            chunked(format!("2\r\n{{}}\r\n0\r\nx: y\n\r\n\r\n{HIDDEN}")),
        ];
        let conflict = format!("content-length: 2\r\nx: y\ncontent-length: {size}\r\n");
        refused.push(post(path, &conflict, &format!("{{}}{HIDDEN}")));
        for case in refused {
            let fate = fate(&world, &case).await;
            let whole = world.provider.received().iter().any(|call| call.body_complete && call.method == "POST");
            assert!(!whole, "{fate:?}: {case:?}");
        }
        for case in [
            format!("POST {path} HTTP/1.1\nhost: a\n{key}\ncontent-length: {size}\n\n{HIDDEN}"),
            post(path, &format!("x: y\ncontent-length: {size}\r\n"), HIDDEN),
            post(path, "content-length: 5\r\nx: y\ntransfer-encoding: chunked\r\n", &(chunks() + HIDDEN)),
        ] {
            fate(&world, &case).await;
        }
        world.provider.clear_received();
    }
}

#[tokio::test]
async fn a_trailer_is_not_merged_into_the_head() {
    let world = world().await;
    let trailers = "authorization: Bearer other\r\nhost: b\r\ncontent-length: 3\r\nx-trailer: y\r\n";
    for path in WAYS {
        let body = format!("{:x};ext=\"1\"\r\n{BODY}\r\n0\r\n{trailers}\r\n", BODY.len());
        let case = post(path, "transfer-encoding: chunked\r\ntrailer: x-trailer\r\n", &body);
        assert_eq!(fate(&world, &case).await, Fate::Passed, "{path}");
        for call in world.provider.received() {
            assert_eq!(call.header("x-trailer"), None);
        }
    }
}

#[tokio::test]
async fn what_connection_names_stays_here_but_for_what_frames() {
    let world = world().await;
    let length = format!("content-length: {}\r\n", BODY.len());
    for path in WAYS {
        for named in
            ["x-of-one-hop", "content-length, x-of-one-hop", "host, authorization, x-of-one-hop", "close, x-of-one-hop"]
        {
            let hop = "keep-alive: timeout=9\r\nte: trailers\r\nproxy-connection: keep-alive\r\nx-of-one-hop: 1\r\n";
            let own = "cookie: a=b\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
            let case = post(path, &format!("{length}connection: {named}\r\n{hop}{own}"), BODY);
            assert_eq!(fate(&world, &case).await, Fate::Passed, "{case:?}");
            let received = world.provider.received();
            assert!(
                received.iter().filter(|call| call.method == "POST").all(|call| call.body_length == BODY.len() as u64)
            );
        }
    }
}

#[tokio::test]
async fn request_lines_that_are_odd_are_refused() {
    let world = world().await;
    let rest = "host: a\r\nauthorization: Bearer fake\r\n\r\n";
    let lines = [
        format!("GET {MODELS}/hidden\r\n"),
        format!("GET {MODELS}/hidden HTTP/0.9\r\n{rest}"),
        format!("GET {MODELS}/hidden HTTP/2.0\r\n{rest}"),
        format!("GET {MODELS}/hidden http/1.1\r\n{rest}"),
        format!("GET  {MODELS}/hidden HTTP/1.1\r\n{rest}"),
        format!("GET\r\n{MODELS}/hidden HTTP/1.1\r\n{rest}"),
        format!("CONNECT {MODELS}/hidden HTTP/1.1\r\n{rest}"),
        "CONNECT api.openai.com:443 HTTP/1.1\r\nhost: api.openai.com:443\r\nauthorization: Bearer fake\r\n\r\n"
            .to_owned(),
        format!("TRACE {MODELS}/hidden HTTP/1.1\r\n{rest}"),
        format!("OPTIONS * HTTP/1.1\r\n{rest}"),
        format!(
            "POST {CHAT} HTTP/1.0\r\nhost: a\r\nauthorization: Bearer fake\r\ntransfer-encoding: chunked\r\n\r\n{}",
            chunks()
        ),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{7f}\x03\x03".to_owned(),
    ];
    for case in lines {
        world.provider.clear_received();
        let mut client = world.connect().await;
        client.try_send(&case).await;
        // What lacks an end is not waited for.
        client.end().await;
        let status = client.status().await.unwrap_or(0);
        assert!(matches!(status, 0 | 204 | 400 | 404 | 405 | 501 | 505), "{status}: {case:?}");
        assert_eq!(world.provider.received().len(), 0, "{case:?}");
    }
    assert_eq!(world.get(MODELS).await.status, 200);
}

/// Pingora reads them as RFC 9112 section 3 allows, and passes on what is no URI percent-encoded: to the provider, which
/// knows no such model, unless Pingora or our routes refuse it.
#[tokio::test]
async fn what_is_odd_in_a_target_is_passed_on_encoded() {
    let world = world().await;
    let rest = "host: a\r\nauthorization: Bearer fake\r\nconnection: close\r\n\r\n";
    let cases = [
        (format!("GET {MODELS}/seen  HTTP/1.1"), 404, Some("/v1/models/seen%20")),
        (format!("GET {MODELS}/seen x HTTP/1.1"), 404, Some("/v1/models/seen%20x")),
        (format!("GET\t{MODELS}/seen HTTP/1.1"), 400, None),
        (format!("\r\nGET {MODELS}/seen HTTP/1.1"), 404, Some("/v1/models/seen")),
        (format!("GET {MODELS}/se\x01en HTTP/1.1"), 404, None),
        (format!("GET {MODELS}/se\x7fen HTTP/1.1"), 404, None),
        (format!("GET {MODELS}/se\"<>en HTTP/1.1"), 400, None),
    ];
    for (line, status, target) in cases {
        world.provider.clear_received();
        let mut client = world.connect().await;
        client.try_send(format!("{line}\r\n{rest}")).await;
        let answered = client.status().await;
        let received = world.provider.received();
        let targets: Vec<&str> = received.iter().map(|call| call.target.as_str()).collect();
        assert_eq!((answered, targets), (Some(status), Vec::from_iter(target)), "{line:?}");
    }
}
