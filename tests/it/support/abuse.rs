//! A client over HTTP/2 that is made of single frames, so that it can do what no library would.
//!
//! Invariant: it says nothing by itself, not even that it has seen settings. Source of all numbers: RFC 9113 sections 4.1
//! and 6.
//! Never does: look into a compressed head.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::frames::{DATA, END_HEADERS, END_STREAM, GO_AWAY, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE};
use super::{Client, KEY};

/// Frames in both directions.
pub struct Raw {
    write: WriteHalf<TlsStream<TcpStream>>,
    read: Option<ReadHalf<TlsStream<TcpStream>>>,
}

/// What became of a connection that was abused.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The gateway closed it, with the error code of its GOAWAY where that came through: a reset may overtake it.
    Closed(Option<u32>),
    /// The gateway reads no more of it.
    Blocked,
    /// Everything was taken.
    Open,
}

impl Raw {
    /// A connection on which this side has said how it begins, with these settings.
    pub async fn open(client: &Client, settings: &[u8]) -> Self {
        let (read, mut write) = split(client.connect(&["h2"]).await.expect("a handshake"));
        let begun = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(SETTINGS, 0, 0, settings)].concat();
        write.write_all(&begun).await.expect("sent");
        write.flush().await.expect("sent");
        Self { write, read: Some(read) }
    }

    /// Sends batch after batch until the gateway has had enough. Reads along where `reads` says so.
    pub async fn flood(&mut self, batches: usize, reads: bool, mut batch: impl FnMut(usize) -> Vec<u8>) -> End {
        let reader = self.read.take_if(|_| reads).map(|read| tokio::spawn(until_closed(read)));
        let is_closed = || reader.as_ref().is_some_and(JoinHandle::is_finished);
        let mut end = End::Open;
        for number in 0..batches {
            let bytes = batch(number);
            let sent = timeout(PATIENCE, async {
                self.write.write_all(&bytes).await?;
                self.write.flush().await
            });
            end = match sent.await {
                Ok(Ok(())) => End::Open,
                Ok(Err(_)) => End::Closed(None),
                Err(_) => End::Blocked,
            };
            if end != End::Open || is_closed() {
                break;
            }
        }
        match (reader, end) {
            (Some(reader), End::Open | End::Closed(_)) => match timeout(PATIENCE, reader).await {
                Ok(reason) => End::Closed(reason.expect("no panic")),
                Err(_) => End::Open,
            },
            (_, end) => end,
        }
    }
}

/// Reads to the end of a connection; gives the error code of its GOAWAY.
async fn until_closed(mut read: ReadHalf<TlsStream<TcpStream>>) -> Option<u32> {
    let mut reason = None;
    loop {
        let mut head = [0; 9];
        if read.read_exact(&mut head).await.is_err() {
            return reason;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if read.read_exact(&mut payload).await.is_err() {
            return reason;
        }
        if head[3] == GO_AWAY && payload.len() >= 8 {
            reason = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
        }
    }
}

/// How long the gateway may take to read or to say something.
const PATIENCE: Duration = Duration::from_secs(2);

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The compressed head of a request with the test key, without a reference to anything (RFC 7541 section 6.2.2 and
/// appendix A).
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut head = vec![0x87];
    let method = if method == "GET" { vec![0x82] } else { literal(2, method) };
    head.extend(method);
    head.extend(literal(4, path));
    head.extend(literal(1, "localhost"));
    let key = format!("Bearer {KEY}");
    for (name, value) in [("authorization", key.as_str())].iter().chain(more) {
        head.extend([0, u8::try_from(name.len()).expect("short")]);
        head.extend_from_slice(name.as_bytes());
        head.push(u8::try_from(value.len()).expect("short"));
        head.extend_from_slice(value.as_bytes());
    }
    head
}

/// The frame that opens a stream.
pub fn open(stream: u32, head: &[u8], ends: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | if ends { END_STREAM } else { 0 }, stream, head)
}

/// A frame of a body.
pub fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, payload)
}

/// The end of a stream, by its client.
pub fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// More room for what comes on a stream, or on all.
pub fn room(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

fn literal(index: u8, value: &str) -> Vec<u8> {
    [&[index, u8::try_from(value.len()).expect("short")], value.as_bytes()].concat()
}
