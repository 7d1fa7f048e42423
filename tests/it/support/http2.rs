//! A client over TLS, and one that speaks HTTP/2.
//!
//! Invariant: it verifies the gateway's certificate, and every answer over HTTP/2 is looked through for headers of one hop.
//! Never does: mend, retry or hide anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use rcgen::{CertifiedIssuer, KeyPair};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{KEY, PROVIDER_KEY, Response, SOON, bearer};

/// As the original's helmet sent it.
pub const HSTS: &str = "max-age=15552000; includeSubDomains";

/// A client: whom it believes and what it shows.
#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub believes: CertificateDer<'static>,
    pub shows: Option<(String, String)>,
}

impl Client {
    /// A client that believes this authority.
    pub fn new(address: SocketAddr, authority: &CertifiedIssuer<'static, KeyPair>) -> Self {
        Self { address, believes: authority.der().clone(), shows: None }
    }

    /// A connection with TLS that offers these protocols.
    pub async fn connect(&self, protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.shake_hands(stream, protocols).await
    }

    /// The same, over a connection that is open.
    pub async fn shake_hands(&self, stream: TcpStream, protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
        use tokio_rustls::rustls::pki_types::pem::PemObject as _;
        let mut roots = RootCertStore::empty();
        roots.add(self.believes.clone()).expect("an authority");
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match &self.shows {
            None => config.with_no_client_auth(),
            Some((cert, key)) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                config.with_client_auth_cert(vec![cert], key).expect("they fit")
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        timeout(SOON, handshake).await.expect("in time")
    }

    /// A connection that speaks HTTP/2.
    pub async fn h2(&self) -> H2 {
        H2::over(self.connect(&["h2", "http/1.1"]).await.expect("a handshake")).await
    }
}

/// An HTTP/2 connection.
pub struct H2 {
    send: SendRequest<Bytes>,
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call whose head has arrived.
pub struct Begun {
    pub send: SendStream<Bytes>,
    pub head: Response,
    body: RecvStream,
}

impl H2 {
    /// Over a connection with TLS on which both sides agreed on `h2`.
    pub async fn over(stream: TlsStream<TcpStream>) -> Self {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        Self { send, connection: tokio::spawn(connection) }
    }

    /// Sends the head of a request; `end` says that no body follows.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        end: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut request = http::Request::builder().method(method).uri(format!("https://localhost{path}"));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let send = timeout(SOON, self.send.clone().ready()).await.expect("in time");
        send.expect("open").send_request(request.body(()).expect("a request"), end).expect("sent")
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn begin(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Begun {
        let (answer, mut send) = self.send(method, path, headers, body.is_empty()).await;
        if !body.is_empty() {
            send_all(&mut send, body, true).await;
        }
        begun(answer, send).await
    }

    /// A request and its answer.
    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Response {
        self.begin(method, path, headers, body).await.rest().await.0
    }

    /// A JSON request with the test key.
    pub async fn post(&self, path: &str, body: &str) -> Response {
        self.request("POST", path, &json(), body.as_bytes()).await
    }
}

/// The headers of a JSON request with the test key. Without `content-length`, which HTTP/2 does not need.
pub fn json() -> [(&'static str, String); 2] {
    [bearer(KEY), ("content-type", "application/json".to_owned())]
}

/// Sends as the flow control allows it; stops where the gateway has given the stream up.
pub async fn send_all(send: &mut SendStream<Bytes>, body: &[u8], end: bool) {
    let mut rest = Bytes::copy_from_slice(body);
    while !rest.is_empty() {
        send.reserve_capacity(rest.len());
        let capacity = timeout(SOON, std::future::poll_fn(|context| send.poll_capacity(context))).await;
        let Some(Ok(capacity)) = capacity.expect("in time") else { return };
        let piece = rest.split_to(capacity.min(rest.len()));
        if send.send_data(piece, end && rest.is_empty()).is_err() {
            return;
        }
    }
}

/// Waits for the head of an answer.
pub async fn begun(answer: h2::client::ResponseFuture, send: SendStream<Bytes>) -> Begun {
    let (head, body) = timeout(SOON, answer).await.expect("in time").expect("an answer").into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8(value.as_bytes().to_vec()).expect("UTF-8");
    let headers: Vec<_> = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let head = Response {
        version: format!("{:?}", head.version),
        status: head.status.as_u16(),
        headers,
        body: Vec::new(),
        complete: false,
    };
    for gone in ["connection", "transfer-encoding", "keep-alive", "set-cookie", "alt-svc", "trailer", "upgrade"] {
        assert_eq!(head.header(gone), None, "{:?}", head.headers);
    }
    assert!(!format!("{:?}", head.headers).contains(PROVIDER_KEY));
    assert_eq!((head.version.as_str(), head.header("strict-transport-security")), ("HTTP/2.0", Some(HSTS)));
    Begun { send, head, body }
}

impl Begun {
    /// The next piece of the body; `None` at its end, or where it was cut, which `Err` tells.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let piece = timeout(SOON, self.body.data()).await.expect("in time").transpose()?;
        if let Some(piece) = &piece {
            let _ = self.body.flow_control().release_capacity(piece.len());
        }
        Ok(piece)
    }

    /// The rest of the answer, and why its stream was reset, where it was.
    pub async fn rest(mut self) -> (Response, Option<Reason>) {
        loop {
            match self.piece().await {
                Ok(Some(piece)) => self.head.body.extend(piece),
                Ok(None) => break self.head.complete = true,
                Err(error) => {
                    assert!(!String::from_utf8_lossy(&self.head.body).contains(PROVIDER_KEY));
                    return (self.head, Some(error.reason().unwrap_or(Reason::CANCEL)));
                }
            }
        }
        assert!(!String::from_utf8_lossy(&self.head.body).contains(PROVIDER_KEY));
        (self.head, None)
    }
}
