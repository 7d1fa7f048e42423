//! A tunnel through an HTTP proxy: CONNECT, and then the connection is as if it led to the provider itself.
//!
//! Invariant: the proxy's credentials go to the proxy alone, and nothing of the provider's is sent before it has answered
//! with success; not a byte behind its answer's head is taken.
//! Never does: resolve a name: the provider's is for the proxy to resolve, the proxy's own is `peer`'s matter.

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderValue, StatusCode};
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::{Error, ErrorType, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::route::{Authority, HttpProxy, Provider};

use super::upstream::{PROXY_FAILED, PROXY_TIMED_OUT};

/// Bytes of the head of a proxy's answer, informational ones included.
const MAX_HEAD: usize = 16 * 1024;
/// Header fields of it.
const MAX_HEADERS: usize = 64;
/// So many bytes tell HTTP from anything else.
const FIRST: usize = 16;

/// How to open tunnels to one provider.
#[derive(Debug)]
pub(super) struct Tunnel {
    proxy: HttpProxy,
    /// `HOST:PORT` of the provider.
    target: String,
    within: Duration,
}

impl Tunnel {
    /// The tunnels of a provider that is reached through this proxy.
    pub(super) fn new(provider: &Provider, proxy: &HttpProxy) -> Self {
        let target = Authority(&provider.host, provider.port).to_string();
        Self { proxy: proxy.clone(), target, within: provider.timeouts.connect }
    }

    async fn open(&self, address: std::net::SocketAddr) -> Result<TcpStream, String> {
        let mut stream = TcpStream::connect(address).await.map_err(|error| format!("cannot be reached: {error}"))?;
        stream.write_all(&self.request()).await.map_err(|error| broke(&error))?;
        match answer(&mut stream).await? {
            status if status.is_success() => Ok(stream),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err("refused CONNECT with status 407: it wants credentials, or others".to_owned())
            }
            status => Err(format!("refused CONNECT with status {}", status.as_u16())),
        }
    }

    fn request(&self) -> Vec<u8> {
        let target = &self.target;
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(authorization) = &self.proxy.authorization {
            push(&mut request, authorization);
        }
        request.extend_from_slice(b"\r\n");
        request
    }
}

fn push(request: &mut Vec<u8>, authorization: &HeaderValue) {
    request.extend_from_slice(b"Proxy-Authorization: ");
    request.extend_from_slice(authorization.as_bytes());
    request.extend_from_slice(b"\r\n");
}

#[async_trait]
impl L4Connect for Tunnel {
    /// `address` is the proxy's: Pingora compares it with the socket's before it uses a connection again.
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let Self { proxy, within, .. } = self;
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::InternalError, "a proxy has an IP address");
        };
        match tokio::time::timeout(*within, self.open(*address)).await {
            Ok(Ok(stream)) => Ok(stream.into()),
            Ok(Err(cause)) => Error::e_explain(PROXY_FAILED, format!("the proxy {proxy} {cause}")),
            Err(_) => {
                Error::e_explain(PROXY_TIMED_OUT, format!("the proxy {proxy} did not open a tunnel within {within:?}"))
            }
        }
    }
}

/// Reads the head of the proxy's answer to its last byte and no further, and gives its status. What an answer with
/// success says of a body does not count (RFC 9110, 9.3.6). One byte at a time, because what is behind it is TLS's.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Result<StatusCode, String> {
    let mut head = Vec::with_capacity(256);
    let mut passed = 0;
    loop {
        head.push(stream.read_u8().await.map_err(|error| broke(&error))?);
        if passed + head.len() > MAX_HEAD {
            return Err("answered CONNECT with a head of more than 16 KiB".to_owned());
        }
        if head.len() > FIRST && !head.ends_with(b"\n") {
            continue;
        }
        match status(&head)? {
            Some(status) if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS => {
                passed += head.len();
                head.clear();
            }
            Some(status) => return Ok(status),
            None => {}
        }
    }
}

/// The status of a head; `None` where it is not whole.
fn status(head: &[u8]) -> Result<Option<StatusCode>, String> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let rubbish = || "answered CONNECT with something that is no HTTP".to_owned();
    if !head.starts_with(b"H") {
        return Err(rubbish());
    }
    match parsed.parse(head) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(_)) => {
            let code = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
            code.map(Some).ok_or_else(rubbish)
        }
        Err(_) => Err(rubbish()),
    }
}

fn broke(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "closed the connection before it had answered CONNECT".to_owned(),
        _ => format!("broke the connection before it had answered CONNECT: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tests::provider;

    /// The status that an answer is read as, and what is left of it.
    async fn read(mut bytes: &[u8]) -> (Result<u16, String>, &[u8]) {
        let status = answer(&mut bytes).await.map(|status| status.as_u16());
        (status, bytes)
    }

    #[tokio::test]
    async fn nothing_behind_the_head_is_taken() {
        for head in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200 OK\r\nVia: 1.0 proxy\r\n\r\n",
            "HTTP/1.1 200\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
        ] {
            let bytes = format!("{head}\x16\x03rest\r\n\r\n");
            let (status, rest) = read(bytes.as_bytes()).await;
            assert_eq!((status, rest), (Ok(200), &b"\x16\x03rest\r\n\r\n"[..]), "{head}");
        }
        assert_eq!(read(b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\nbody").await, (Ok(407), &b"body"[..]));
        assert_eq!(read(b"HTTP/1.1 101 Switching\r\n\r\n").await.0, Ok(101), "no success");
    }

    #[tokio::test]
    async fn what_is_no_head_is_refused_soon_and_within_bounds() {
        for (rubbish, taken) in [(&b"SSH-2.0-OpenSSH_9.6"[..], 1), (b"\r\n\r\n\r\n", 1), (b"HTTP/2 200 OK\r\n\r\n", 6)]
        {
            let (status, rest) = read(rubbish).await;
            assert!(status.is_err_and(|cause| cause.contains("no HTTP")));
            assert_eq!(rubbish.len() - rest.len(), taken);
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(MAX_HEAD));
        assert!(read(endless.as_bytes()).await.0.is_err_and(|cause| cause.contains("16 KiB")));
        let informed = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        assert!(read(informed.as_bytes()).await.0.is_err_and(|cause| cause.contains("16 KiB")));
        let headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
        assert!(read(headers.as_bytes()).await.0.is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\n").await.0.is_err_and(|cause| cause.contains("closed")));
    }

    #[test]
    fn the_credentials_are_in_the_request_and_nowhere_else() {
        let mut authorization = HeaderValue::from_static("Basic Y2FuYXJ5");
        authorization.set_sensitive(true);
        let proxy = HttpProxy { host: "proxy".to_owned(), port: 3128, authorization: Some(authorization) };
        let tunnel = Tunnel::new(&provider("openai"), &proxy);
        let request = String::from_utf8(tunnel.request()).expect("text");
        assert_eq!(
            request,
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nProxy-Authorization: Basic \
             Y2FuYXJ5\r\n\r\n"
        );
        assert!(!format!("{tunnel:?}").contains("Y2Fu"));
    }
}
