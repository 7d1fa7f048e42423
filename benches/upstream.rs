//! Two ways to a provider, side by side: Pingora's `connectors::http` session and the lean exchange of
//! `src/proxy/upstream/`, over the same kept connection to the same answering thread.
//!
//! `cargo bench --bench upstream`. Only ratios within one run mean anything; both include the answering thread's work.

#![expect(unreachable_pub, missing_docs, clippy::expect_used, reason = "a bench is no library and may panic")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use pingora::http::RequestHeader;
use pingora_core::connectors::http::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::runtime::{Builder, Runtime};

/// What `upstream.rs` imports from the crate that it is built into.
mod error {
    pub use ai_gateway::error::*;
}

/// The same.
mod units {
    pub use ai_gateway::units::*;
}

/// The file as the gateway has it: it is private there.
#[path = "../src/proxy"]
mod proxy {
    #[path = "upstream/mod.rs"]
    #[expect(
        dead_code,
        unused_imports,
        reason = "the gateway uses more of it than the bench, whose tests are not built"
    )]
    pub mod upstream;

    use super::{Bytes, HttpPeer};
    use upstream::Upstream;

    pub struct Lean(Upstream);

    impl Lean {
        pub fn new() -> Self {
            Self(Upstream::new())
        }

        pub async fn exchange(&self, peer: &HttpPeer, headers: &[(&str, &str)], body: &Bytes) -> usize {
            let mut connection = self.0.connect(peer, false).await.expect("connected");
            let mut head = b"POST /v1/chat/completions HTTP/1.1\r\n".to_vec();
            for (name, value) in headers {
                for part in [*name, ": ", *value, "\r\n"] {
                    head.extend_from_slice(part.as_bytes());
                }
            }
            head.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
            connection.send(&head, body).await;
            let answer = connection.head(false).await.expect("a head");
            let mut size = answer.headers.map().len();
            while let Some(piece) = connection.chunk().await.expect("a piece") {
                size += piece.len();
            }
            self.0.release(connection);
            size
        }
    }
}

async fn pingoras(connector: &Connector, peer: &HttpPeer, headers: &[(&'static str, &str)], body: &Bytes) -> usize {
    let (mut session, _) = connector.get_http_session(peer).await.expect("connected");
    let mut head = RequestHeader::build("POST", b"/v1/chat/completions", Some(headers.len() + 1)).expect("a head");
    for (name, value) in headers {
        head.append_header(*name, *value).expect("a header");
    }
    head.append_header("content-length", body.len().to_string()).expect("a header");
    session.write_request_header(Box::new(head)).await.expect("sent");
    session.write_request_body(body.clone(), true).await.expect("sent");
    session.finish_request_body().await.expect("sent");
    session.read_response_header().await.expect("a head");
    let mut size = session.response_header().expect("a head").headers.len();
    while let Some(piece) = session.read_response_body().await.expect("a piece") {
        size += piece.len();
    }
    connector.release_http_session(session, peer, None).await;
    size
}

/// The headers that the OpenAI Python client sends.
const HEADERS: [(&str, &str); 13] = [
    ("host", "api.openai.com"),
    ("authorization", "Bearer sk-managed-upstream-key"),
    ("accept", "application/json"),
    ("accept-encoding", "identity"),
    ("content-type", "application/json"),
    ("user-agent", "OpenAI/Python 2.8.0"),
    ("x-stainless-arch", "x64"),
    ("x-stainless-async", "false"),
    ("x-stainless-lang", "python"),
    ("x-stainless-os", "Linux"),
    ("x-stainless-package-version", "2.8.0"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-runtime", "CPython"),
];

/// An answer with as many headers as OpenAI's.
fn answer(framing: &str, body: &str) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{framing}\r\n");
    for index in 0..18 {
        answer.push_str(&format!("x-header-of-the-provider-{index}: a value of some length {index}\r\n"));
    }
    (answer + "\r\n" + body).into_bytes()
}

/// Answers every request on every connection with the same bytes.
fn answering(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || answer_all(stream, &answer));
        }
    });
    address
}

fn answer_all(mut stream: TcpStream, answer: &[u8]) {
    let mut seen = Vec::new();
    let mut room = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut room) {
        seen.extend_from_slice(&room[..count]);
        // The benches' bodies end with this, and it stands nowhere else.
        if seen.ends_with(b"the end\"}") {
            seen.clear();
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    }
}

fn compare(criterion: &mut Criterion, runtime: &Runtime, name: &str, answer: Vec<u8>) {
    let address = answering(answer);
    let peer = HttpPeer::new(address, false, "api.openai.com".to_owned());
    let body = Bytes::from(format!("{{\"model\":\"gpt-4o\",\"x\":\"{}the end\"}}", "a".repeat(500)));
    let (lean, connector) = (proxy::Lean::new(), Connector::new(None));
    let mut group = criterion.benchmark_group(name);
    group.bench_function("lean", |bencher| {
        bencher.iter(|| runtime.block_on(lean.exchange(&peer, &HEADERS, &body)));
    });
    group.bench_function("connectors::http", |bencher| {
        bencher.iter(|| runtime.block_on(pingoras(&connector, &peer, &HEADERS, &body)));
    });
    group.finish();
}

fn both_ways(criterion: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let body = "x".repeat(973);
    compare(criterion, &runtime, "chat", answer(&format!("content-length: {}", body.len()), &body));
    let event = format!("{:x}\r\n{}\r\n", 216, "e".repeat(216));
    compare(
        criterion,
        &runtime,
        "20 events at once",
        answer("transfer-encoding: chunked", &(event.repeat(20) + "0\r\n\r\n")),
    );
}

criterion_group!(benches, both_ways);
criterion_main!(benches);
