//! Where secrets must never be: keys of clients at a provider, the provider's key anywhere but there, and neither of them,
//! nor what was asked, in any output.

mod echo;
mod upstream;

use ai_gateway::demo::{CutAt, Fault, HowCut, Script};

use crate::support::*;

/// A key that the original's generator made (`shared/keyfile.md`), which no other text looks like.
const CLIENT_KEY: &str = "R6XiLWeArUl0UH15y0zynOkUWScYvLDYgD_AOk4JMwc";
const KEY_FILE_OF_CLIENT: &str = r#"{
  "2c2e5b7201c906daceb0899c9dd2fe0e3ad7e8b051bf600589e247ee08e07a2d": {
    "username": "test",
    "salt": "QlFkdWtiZmRDMG91R3VDeUNFS3JZQT09",
    "scopes": [{ "method": "*", "path": "/openai/*" }]
  }
}"#;
const WRONG_KEY: &str = "sk-wrong-canary-key";
const ADMIN_TOKEN: &str = "admin-token-canary-0123456789";

/// Whole requests, good and bad, each with a key in it.
fn requests() -> Vec<String> {
    let body = chat("prompt-canary");
    let good = |key: &str, more: &str| {
        let length = body.len();
        let path = "/openai/v1/chat/completions";
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
             {more}content-length: {length}\r\n\r\n{body}"
        )
    };
    let mut requests = vec![
        good(CLIENT_KEY, ""),
        good(WRONG_KEY, ""),
        good(CLIENT_KEY, &format!("x-api-key: {WRONG_KEY}\r\n")),
        good(CLIENT_KEY, "transfer-encoding: chunked\r\n"),
        good(CLIENT_KEY, "content-length: 7\r\n"),
        good(CLIENT_KEY, "bad header line\r\n"),
        good(CLIENT_KEY, "bad\0name: x\r\n"),
        good(CLIENT_KEY, "content-encoding: br\r\n"),
        good(CLIENT_KEY, "expect: 100-continue\r\n"),
        good(CLIENT_KEY, "").replace("HTTP/1.1", "HTTP/9.9"),
        good(CLIENT_KEY, "").replace("POST /", "POST \x01/"),
        good(CLIENT_KEY, "").replace("POST /openai", "CONNECT /openai"),
        good(CLIENT_KEY, "").replace("{\"model\"", "{{\"model\""),
        good(CLIENT_KEY, "").replace("authorization: Bearer ", "authorization:Bearer\t"),
        good(CLIENT_KEY, "").replace("authorization: Bearer ", "authorization : Bearer "),
        good(CLIENT_KEY, "").replace("authorization: Bearer ", "api-key: "),
        format!("GET /openai/v1/models?api_key={CLIENT_KEY} HTTP/1.1\r\nhost: a\r\n\r\n"),
        format!("GET /openai/v1/models HTTP/1.1\r\nauthorization: Bearer {CLIENT_KEY}\r\nno end"),
        format!("authorization: Bearer {CLIENT_KEY}\r\n\r\n"),
    ];
    let large = format!("x-pad: {}\r\n", "y".repeat(100_000));
    requests.push(good(CLIENT_KEY, &large));
    requests
}

/// All that may go wrong at a provider.
fn faults() -> Vec<Script> {
    let mut faults = vec![
        Script::json(401, r#"{"error":{"message":"Incorrect API key provided"}}"#),
        Script::json(403, "{}"),
        Script::json(500, "oops"),
        Script::raw("nonsense\r\n\r\n"),
        Script::raw(format!("HTTP/1.1 200 OK\r\nx-echo: {PROVIDER_KEY}\r\nbad line\r\n\r\n")),
        Script::cut(CutAt::Head, HowCut::Reset),
        Script::cut(CutAt::Head, HowCut::Close),
        Script::cut(CutAt::Body(10), HowCut::Reset),
        Script::cut(CutAt::Body(10), HowCut::Close),
    ];
    faults.extend(
        [
            Fault::BadStatusLine,
            Fault::BadHeaderLine,
            Fault::NulInHeader,
            Fault::BadChunkSize,
            Fault::LongChunk,
            Fault::ShortBody,
            Fault::LongBody,
            Fault::LengthAndChunked,
            Fault::TwoLengths,
        ]
        .map(Script::fault),
    );
    faults
}

/// Sends bytes and reads what comes until the gateway has no more to say.
async fn exchange(address: std::net::SocketAddr, bytes: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connected");
    // It may be closed in the middle of what it does not like.
    let _ = stream.write_all(bytes.as_bytes()).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("in time");
    assert!(!String::from_utf8_lossy(&answer).contains(PROVIDER_KEY));
}

#[tokio::test]
async fn no_key_is_ever_in_the_output_at_the_finest_level() {
    let setup = Setup {
        key_file: Some(KEY_FILE_OF_CLIENT.to_owned()),
        admin: format!("token: {ADMIN_TOKEN}"),
        variables: vec![
            ("LOG_LEVEL".to_owned(), "trace".to_owned()),
            ("RUST_LOG".to_owned(), "trace".to_owned()),
            ("RUST_BACKTRACE".to_owned(), "full".to_owned()),
        ],
        ..Setup::default()
    };
    let mut service = Service::with(setup).await;
    for request in requests() {
        exchange(service.address, &request).await;
    }
    for fault in faults() {
        service.provider.script(fault);
        exchange(service.address, &requests()[0]).await;
        service.provider.clear_scripts();
    }
    service.provider.stop().await;
    exchange(service.address, &requests()[0]).await;
    let mut admin = Vec::new();
    for path in ["/api/keys", "/api/usage", "/api/targets", "/api/limits", "/readyz", "/livez", "/nowhere"] {
        let headers = [bearer(ADMIN_TOKEN)];
        let answer = Connection::open(service.admin).await.request("GET", path, &headers, b"").await;
        assert_eq!(answer.status, if path == "/nowhere" { 404 } else { 200 }, "{path}");
        admin.push(answer.text());
    }
    service.change(&format!("threads: {}", threads()), "threads: [sk-canary-of-yaml]");
    service.process.signal("HUP");
    service.process.says("was not reloaded").await;
    let metrics = service.admin("/metrics").await.text();
    service.process.signal("TERM");
    let ended = service.process.end().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.matches("\"gateway request\"").count() > 25, "{}", ended.stdout);
    let all = [ended.stdout, ended.stderr, metrics, admin.join("\n")].concat();
    for secret in [CLIENT_KEY, PROVIDER_KEY, WRONG_KEY, ADMIN_TOKEN, "canary", "Bearer", "authorization"] {
        let line = all.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is told");
    }
    assert!(!all.contains("panic at"), "{all}");
}
