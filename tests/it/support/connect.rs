//! An HTTP proxy that opens tunnels by CONNECT, or fails at it in every way.
//!
//! Invariant: all its tunnels lead to one place, whatever name was asked for; it keeps every head that it was sent.
//! Never does: look into a tunnel further than to count its bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// How it answers CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Opens a tunnel; 407 where it wants credentials and they are missing.
    Tunnel,
    /// This status, with a body.
    Status(u16),
    /// Not at all.
    Hang,
    /// Bytes of another protocol.
    Rubbish,
    /// Closes in the middle of its head.
    Cut,
    /// A head that never ends, byte by byte.
    Drip,
    /// A head that never ends, as fast as it can.
    Flood,
}

/// The proxy.
pub struct ConnectProxy {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    credentials: Option<&'static str>,
    manner: Mutex<Manner>,
    heads: Mutex<Vec<String>>,
    open: AtomicUsize,
}

impl ConnectProxy {
    /// One whose tunnels lead to `target`, and that wants these credentials (`Basic ...`), if any.
    pub async fn start(target: SocketAddr, credentials: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (manner, heads, open) = (Mutex::new(Manner::Tunnel), Mutex::default(), AtomicUsize::new(0));
        let shared = Arc::new(Shared { target, credentials, manner, heads, open });
        let own = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&own)));
            }
        });
        Self { address, shared }
    }

    /// Changes how it answers.
    pub fn is(&self, manner: Manner) {
        *self.shared.manner.lock().expect("no panic") = manner;
    }

    /// The heads of all requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("no panic").clone()
    }

    /// Tunnels that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let known = shared.credentials.is_none_or(|own| head.contains(&format!("\r\nProxy-Authorization: {own}\r\n")));
    shared.heads.lock().expect("no panic").push(head);
    let manner = *shared.manner.lock().expect("no panic");
    let manner = if known || manner != Manner::Tunnel { manner } else { Manner::Status(407) };
    let _ = answer(&mut stream, manner, &shared).await;
}

async fn answer(stream: &mut TcpStream, manner: Manner, shared: &Shared) -> std::io::Result<()> {
    match manner {
        Manner::Tunnel => {
            let mut target = TcpStream::connect(shared.target).await?;
            shared.open.fetch_add(1, Ordering::SeqCst);
            stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n").await?;
            let _ = copy_bidirectional(stream, &mut target).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        }
        Manner::Status(status) => {
            let head = format!("HTTP/1.1 {status} Inner-Words\r\nContent-Length: 11\r\n\r\ninner words");
            stream.write_all(head.as_bytes()).await?;
        }
        Manner::Hang => drop(stream.read_to_end(&mut Vec::new()).await?),
        Manner::Rubbish => stream.write_all(b"220 inner.example.com ESMTP\r\n").await?,
        Manner::Cut => stream.write_all(b"HTTP/1.1 200 OK\r\nVia: ").await?,
        Manner::Drip | Manner::Flood => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nVia: ").await?;
            loop {
                stream.write_all(b"a").await?;
                if manner == Manner::Drip {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
    Ok(())
}
