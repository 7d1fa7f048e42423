//! Clients over TLS: HTTP/1.1 and HTTP/2 by ALPN, certificates of both sides, their change under way, and the end.
//!
//! Invariant: every client here verifies the gateway's certificate; every answer over HTTP/2 is looked through for headers
//! of one hop.
//! Never does: stand in for a part of the gateway.

mod certificates;
mod end;
mod http1;
mod http2;
mod native;
mod patience;
mod refusals;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";
const HSTS: &str = "max-age=15552000; includeSubDomains";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    // OpenSSL takes a certificate for its own issuer where both have the same name.
    params.distinguished_name.push(DnType::CommonName, "authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A certificate for `localhost` and its key, in PEM.
fn certificate(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    (params.signed_by(&key, authority).expect("signed").pem(), key.serialize_pem())
}

/// A world whose second listener has TLS, with these further fields.
fn with_tls(authority: &Authority, more: &str) -> Setup {
    let (cert, key) = certificate(authority);
    let files = [("cert.pem", cert), ("key.pem", key), ("ca.pem", authority.pem())];
    Setup {
        listen: vec![format!("{{ address: \"127.0.0.1:0\", tls: {{ cert: cert.pem, key: key.pem{more} }} }}")],
        files: files.map(|(name, text)| (name.to_owned(), text)).into(),
        ..Setup::default()
    }
}

/// A world with TLS and a client for it.
async fn world(server: &str) -> (World, Client) {
    let authority = authority();
    let world = World::with(Setup { server: server.to_owned(), ..with_tls(&authority, "") }).await;
    let client = Client::new(world.gateway.addresses()[1], &authority);
    (world, client)
}

/// A client: whom it believes and what it shows.
#[derive(Clone)]
struct Client {
    address: SocketAddr,
    believes: CertificateDer<'static>,
    shows: Option<(String, String)>,
}

impl Client {
    fn new(address: SocketAddr, authority: &Authority) -> Self {
        Self { address, believes: authority.der().clone(), shows: None }
    }

    /// A connection with TLS that offers these protocols.
    async fn connect(&self, protocols: &[&str]) -> io::Result<TlsStream<TcpStream>> {
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
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        timeout(SOON, handshake).await.expect("in time")
    }

    /// A connection that speaks HTTP/2.
    async fn h2(&self) -> H2 {
        H2::over(self.connect(&["h2", "http/1.1"]).await.expect("a handshake")).await
    }
}

/// An HTTP/2 connection.
struct H2 {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A call whose head has arrived.
struct Begun {
    send: SendStream<Bytes>,
    head: Response,
    body: RecvStream,
}

impl H2 {
    async fn over(stream: TlsStream<TcpStream>) -> Self {
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        Self { send, connection: tokio::spawn(connection) }
    }

    /// Sends the head of a request; `end` says that no body follows.
    async fn send(
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
    async fn begin(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Begun {
        let (answer, mut send) = self.send(method, path, headers, body.is_empty()).await;
        if !body.is_empty() {
            send_all(&mut send, body, true).await;
        }
        begun(answer, send).await
    }

    /// A request and its answer.
    async fn request(&self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Response {
        self.begin(method, path, headers, body).await.rest().await.0
    }

    /// A JSON request with the test key.
    async fn post(&self, path: &str, body: &str) -> Response {
        self.request("POST", path, &json(), body.as_bytes()).await
    }
}

/// The headers of a JSON request with the test key. Without `content-length`, which HTTP/2 does not need.
fn json() -> [(&'static str, String); 2] {
    [bearer(KEY), ("content-type", "application/json".to_owned())]
}

/// Sends as the flow control allows it; stops where the gateway has given the stream up.
async fn send_all(send: &mut SendStream<Bytes>, body: &[u8], end: bool) {
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

async fn begun(answer: h2::client::ResponseFuture, send: SendStream<Bytes>) -> Begun {
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
    async fn piece(&mut self) -> Result<Option<Bytes>, h2::Error> {
        let piece = timeout(SOON, self.body.data()).await.expect("in time").transpose()?;
        if let Some(piece) = &piece {
            let _ = self.body.flow_control().release_capacity(piece.len());
        }
        Ok(piece)
    }

    /// The rest of the answer, and why its stream was reset, where it was.
    async fn rest(mut self) -> (Response, Option<Reason>) {
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
