//! A provider over HTTP/2 that is made of single frames, so that it can do what no library would.
//!
//! Invariant: it answers pings and settings, and nothing else by itself. Source of all numbers: RFC 9113 sections 4.1 and 6.
//! Never does: look into a compressed head.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Authority, GOOD, SOON, Setup, World};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GO_AWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// The whole head of an answer with status 200, compressed (RFC 7541 appendix A).
pub const OK: [u8; 1] = [0x88];

/// A frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The provider.
pub struct Frames {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

/// A connection to it.
pub struct Wire(TlsStream<TcpStream>);

impl Frames {
    /// One with a gateway before it.
    pub async fn start(setup: Setup) -> (World, Self) {
        let authority = Authority::new();
        let acceptor = authority.acceptor(&GOOD, None, &["h2"]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let more = if setup.provider.is_empty() { String::new() } else { format!(", {}", setup.provider) };
        let world = World::with(Setup {
            base_url: Some(format!("https://localhost:{port}")),
            provider: format!("ca_file: frames.pem{more}"),
            files: vec![("frames.pem".to_owned(), authority.pem())],
            ..setup
        });
        (world.await, Self { listener, acceptor })
    }

    /// The next connection, on which both sides have said how they begin.
    pub async fn accept(&self) -> Wire {
        let accepted = async {
            let (stream, _) = self.listener.accept().await.expect("accepted");
            let mut stream = self.acceptor.accept(stream).await.expect("TLS");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.expect("read");
            assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            Wire(stream)
        };
        let mut wire = timeout(SOON, accepted).await.expect("in time");
        wire.send(SETTINGS, 0, 0, &[]).await;
        wire
    }
}

impl Wire {
    /// Writes a frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat();
        let sent = async { (self.0.write_all(&frame).await, self.0.flush().await) };
        // The gateway may have gone; what it then does is what a test asks.
        let _ = timeout(SOON, sent).await.expect("in time");
    }

    /// The next frame that is about a stream or the end; `None` where the connection ended.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            timeout(SOON, self.0.read_exact(&mut head)).await.expect("in time").ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            timeout(SOON, self.0.read_exact(&mut payload)).await.expect("in time").ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK != 0 => {}
                SETTINGS => self.send(SETTINGS, ACK, 0, &[]).await,
                PING => self.send(PING, ACK, 0, &frame.payload).await,
                WINDOW_UPDATE => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads a request to its end, and gives its stream.
    pub async fn request(&mut self) -> u32 {
        loop {
            let frame = self.next().await.expect("a request");
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return frame.stream;
            }
        }
    }

    /// Answers a request with status 200 and this body.
    pub async fn answer(&mut self, stream: u32, body: &str) {
        self.send(HEADERS, END_HEADERS, stream, &OK).await;
        self.send(DATA, END_STREAM, stream, body.as_bytes()).await;
    }

    /// Ends the connection, and waits until the gateway has too.
    pub async fn close(&mut self) {
        let _ = timeout(SOON, self.0.shutdown()).await.expect("in time");
        while self.next().await.is_some() {}
    }

    /// A head of status 200 with further headers, each of less than 127 bytes.
    pub fn head(headers: &[(&str, &str)]) -> Vec<u8> {
        let mut head = OK.to_vec();
        for (name, value) in headers {
            head.push(0);
            for text in [name, value] {
                head.push(u8::try_from(text.len()).expect("short"));
                head.extend_from_slice(text.as_bytes());
            }
        }
        head
    }
}
