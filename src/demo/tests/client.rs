//! A raw HTTP/1.1 client for the tests.
//!
//! Invariant: it takes no more bytes than belong to what was asked for.
//! Never does: wait longer than [`SOON`]; correct anything.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::Provider;
use super::SOON;

/// A connection to the provider.
pub(crate) struct Client {
    stream: Box<dyn Duplex>,
    inbox: Vec<u8>,
}

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// An answer, or an informational one.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) chunks: Vec<usize>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The data of each event of a stream.
    pub(crate) fn events(&self) -> Vec<Value> {
        let text = String::from_utf8(self.body.clone()).unwrap();
        let data = text.split("\n\n").filter_map(|event| event.lines().find_map(|line| line.strip_prefix("data: ")));
        data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

impl Client {
    pub(crate) async fn connect(provider: &Provider) -> Self {
        Self::over(TcpStream::connect(provider.addr()).await.unwrap())
    }

    pub(crate) fn over(stream: impl Duplex + 'static) -> Self {
        Self { stream: Box::new(stream), inbox: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        timeout(SOON, self.stream.read_buf(&mut self.inbox)).await.expect("the provider is silent")
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.inbox.len() < length {
            assert!(self.more().await.unwrap() > 0, "cut at {:?}", String::from_utf8_lossy(&self.inbox));
        }
        self.inbox.drain(..length).collect()
    }

    pub(crate) async fn rest_of(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.inbox.windows(end.len()).position(|window| window == end) {
                return String::from_utf8(self.take(at + end.len()).await).unwrap();
            }
            assert!(self.more().await.unwrap() > 0, "cut at {:?}", String::from_utf8_lossy(&self.inbox));
        }
    }

    /// The next head.
    pub(crate) async fn head(&mut self) -> Answer {
        let head = self.rest_of(b"\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: Vec::new(), chunks: Vec::new() }
    }

    /// The next answer, informational ones left out.
    pub(crate) async fn answer(&mut self) -> Answer {
        let mut answer = self.head().await;
        while answer.status < 200 {
            answer = self.head().await;
        }
        if answer.header("transfer-encoding").is_some() {
            loop {
                let size = self.rest_of(b"\r\n").await;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let chunk = self.take(size + 2).await;
                if size == 0 {
                    break;
                }
                answer.chunks.push(size);
                answer.body.extend(&chunk[..size]);
            }
        } else if let Some(length) = answer.header("content-length") {
            answer.body = self.take(length.parse().unwrap()).await;
        } else if answer.status != 204 && answer.status != 304 {
            answer.body = self.rest().await;
        }
        answer
    }

    /// What comes until the connection ends, by a close or a reset.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        self.end().await.unwrap_or_else(|_| std::mem::take(&mut self.inbox))
    }

    /// What comes until a close.
    pub(crate) async fn end(&mut self) -> std::io::Result<Vec<u8>> {
        while self.more().await? > 0 {}
        Ok(std::mem::take(&mut self.inbox))
    }

    /// What came so far.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.inbox
    }
}

pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: provider\r\n\r\n")
}

pub(crate) fn post(target: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {target} HTTP/1.1\r\nhost: provider\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}
