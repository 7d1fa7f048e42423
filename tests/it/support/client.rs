//! A raw HTTP/1.1 client: it sends what a test says and reads what comes, to the byte.
//!
//! Invariant: every answer is looked through for the provider's key and for headers of one hop.
//! Never does: mend, retry or hide anything.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{KEY, PROVIDER_KEY, SOON, bearer};

/// A connection to the gateway.
pub struct Connection {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub version: String,
    pub status: u16,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its framing.
    pub body: Vec<u8>,
    /// Whether the body came to its end as its framing says.
    pub complete: bool,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks that this is OpenAI's error object with this status, type and code, and gives its message.
    pub fn error(&self, status: u16, kind: &str, code: &str) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert!(self.header("x-request-id").is_some_and(|id| id.starts_with("req_")), "no x-request-id");
        let body = self.json();
        let error = body["error"].as_object().expect("an error object");
        let names: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(names, ["message", "type", "param", "code"]);
        assert_eq!((error["type"].as_str(), error["code"].as_str()), (Some(kind), Some(code)));
        error["message"].as_str().expect("a message").to_owned()
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = timeout(SOON, TcpStream::connect(address)).await.expect("in time").expect("connected");
        stream.set_nodelay(true).expect("set");
        Self::of(stream)
    }

    /// One that was accepted, or made elsewhere.
    pub fn of(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Reads the head of a request, as a provider does; what follows it stays where it is.
    pub async fn request_head(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await > 0, "the connection ended before a head");
        };
        String::from_utf8(self.buffer.drain(..end).collect()).expect("UTF-8")
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(SOON, self.stream.write_all(bytes.as_ref())).await.expect("in time").expect("sent");
    }

    /// Sends bytes and tells whether the gateway took them all: it may close in the middle.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        timeout(SOON, self.stream.write_all(bytes.as_ref())).await.expect("in time").is_ok()
    }

    /// A JSON request with the test key.
    pub async fn post(&mut self, path: &str, body: &str) -> Response {
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        self.request("POST", path, &headers, body.as_bytes()).await
    }

    /// A request and its answer. `content-length` is set where there is a body.
    pub async fn request(&mut self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Response {
        self.send(head(method, path, headers, body)).await;
        self.send(body).await;
        self.response(method).await
    }

    /// Reads one answer, to its end or to the end of the connection.
    pub async fn response(&mut self, method: &str) -> Response {
        loop {
            let head = self.head().await;
            if head.status / 100 != 1 {
                return self.body(head, method == "HEAD").await;
            }
        }
    }

    /// Reads the head of an answer; its body stays where it is.
    pub async fn head(&mut self) -> Response {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(
                self.fill().await > 0,
                "the connection ended before a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let text = String::from_utf8(head).expect("UTF-8");
        assert!(!text.contains(PROVIDER_KEY), "the provider's key is in an answer:\n{text}");
        let mut lines = text.trim_end().split("\r\n");
        let mut first = lines.next().expect("a status line").splitn(3, ' ');
        let version = first.next().expect("a version").to_owned();
        let status = first.next().and_then(|status| status.parse().ok()).expect("a status");
        let headers = lines
            .map(|line| line.split_once(':').expect("a header"))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let head = Response { version, status, headers, body: Vec::new(), complete: false };
        for gone in ["set-cookie", "keep-alive", "alt-svc", "trailer"] {
            assert_eq!(head.header(gone), None, "{text}");
        }
        assert_eq!(head.header("upgrade").is_some(), status == 101, "{text}");
        head
    }

    /// Reads the body behind a head.
    pub async fn body(&mut self, mut head: Response, bodiless: bool) -> Response {
        if bodiless || matches!(head.status, 204 | 304) {
            head.complete = true;
        } else if let Some(length) = head.header("content-length") {
            let length: usize = length.parse().expect("a number");
            while self.buffer.len() < length && self.fill().await > 0 {}
            head.complete = self.buffer.len() >= length;
            head.body = self.buffer.drain(..length.min(self.buffer.len())).collect();
        } else if head.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                if chunk.is_empty() {
                    head.complete = true;
                    break;
                }
                head.body.extend(chunk);
            }
        } else {
            while self.fill().await > 0 {}
            head.body = std::mem::take(&mut self.buffer);
            head.complete = true;
        }
        assert!(!String::from_utf8_lossy(&head.body).contains(PROVIDER_KEY), "the provider's key is in a body");
        head
    }

    /// The next chunk of a chunked body; empty for the last one, `None` where the connection ended before it.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            if self.fill().await == 0 {
                return None;
            }
        };
        let size = std::str::from_utf8(&self.buffer[..line]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let size = size.expect("a chunk size");
        while self.buffer.len() < line + size + 4 {
            if self.fill().await == 0 {
                return None;
            }
        }
        let chunk = self.buffer[line + 2..line + 2 + size].to_vec();
        assert_eq!(&self.buffer[line + 2 + size..line + 4 + size], b"\r\n");
        self.buffer.drain(..line + 4 + size);
        Some(chunk)
    }

    /// Reads exactly this many bytes, as they are.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill().await > 0, "the connection ended after {} of {count} bytes", self.buffer.len());
        }
        self.buffer.drain(..count).collect()
    }

    /// The status of the next answer, which is read whole; absent where the connection ended before one.
    pub async fn status(&mut self) -> Option<u16> {
        while self.buffer.is_empty() {
            if self.fill().await == 0 {
                return None;
            }
        }
        Some(self.response("GET").await.status)
    }

    /// Ends what this side sends.
    pub async fn end(&mut self) {
        // It may be closed already.
        let _ = self.stream.shutdown().await;
    }

    /// Tells whether the gateway closes the connection, without a further byte, in [`SOON`].
    pub async fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().await == 0
    }

    async fn fill(&mut self) -> usize {
        let mut room = vec![0; 64 * 1024];
        // A reset is an end too.
        let count = timeout(SOON, self.stream.read(&mut room)).await.expect("in time").unwrap_or(0);
        self.buffer.extend_from_slice(&room[..count]);
        count
    }
}

/// The head of a request as bytes.
pub fn head(method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: gateway.test\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head + "\r\n"
}
