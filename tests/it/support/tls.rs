//! The scriptable provider behind TLS, with an authority of its own, and what happened at its door.
//!
//! Invariant: the gateway as a process is told of the authority by each test itself, or it believes nothing.
//! Never does: know of the gateway.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use ai_gateway::demo::{Provider, ProviderOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::PROVIDER_KEY;

/// A certificate.
pub struct Certificate {
    /// Whom it is for.
    pub name: &'static str,
    /// The year after which it is not valid.
    pub until: i32,
}

/// The one that the provider should have.
pub const GOOD: Certificate = Certificate { name: "localhost", until: 4000 };

/// What happened before the provider.
#[derive(Default)]
pub struct Door {
    /// Names that clients asked for in handshakes that succeeded.
    pub opened: Vec<Option<String>>,
    /// Handshakes that failed.
    pub refused: usize,
}

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A new one, which nobody believes.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    /// Writes its own certificate into a file.
    pub fn write(&self, file: &Path) {
        std::fs::write(file, self.0.pem()).expect("written");
    }

    /// Writes a certificate that it has signed, and the key.
    pub fn write_pair(&self, certificate: &Certificate, cert: &Path, key: &Path) {
        let (signed, own) = self.sign(certificate);
        std::fs::write(cert, signed.pem()).expect("written");
        std::fs::write(key, own.serialize_pem()).expect("written");
    }

    /// A second listener with TLS, with a certificate that it has signed, for a gateway that is to be started.
    pub fn listener(&self) -> (String, Vec<(String, String)>) {
        let (signed, own) = self.sign(&GOOD);
        let files = [("own.pem", signed.pem()), ("own-key.pem", own.serialize_pem())];
        let listen = "{ address: \"127.0.0.1:0\", tls: { cert: own.pem, key: own-key.pem } }";
        (listen.to_owned(), files.map(|(name, text)| (name.to_owned(), text)).into())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// What signs.
    pub fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.0
    }

    fn sign(&self, certificate: &Certificate) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([certificate.name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(certificate.until, 1, 1);
        (params.signed_by(&key, &self.0).expect("signed"), key)
    }

    /// What a server with a certificate of this authority does; `demands` names the one that clients need one of.
    pub fn acceptor(&self, certificate: &Certificate, demands: Option<&Self>, protocols: &[&str]) -> TlsAcceptor {
        let (signed, key) = self.sign(certificate);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder();
        let config = match demands {
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("a verifier");
                config.with_client_cert_verifier(verifier)
            }
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(vec![signed.der().clone()], key).expect("a certificate");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A provider behind TLS.
pub struct TlsProvider {
    pub provider: Arc<Provider>,
    pub address: SocketAddr,
    pub authority: Authority,
    door: Arc<Mutex<Door>>,
}

impl TlsProvider {
    /// One with this certificate that speaks HTTP/1.1; `demands` names the authority that clients need a certificate of.
    pub async fn start(certificate: &Certificate, demands: Option<&Authority>) -> Self {
        let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), control: true, ..Default::default() };
        let provider = Arc::new(Provider::start(options).await.expect("the provider starts"));
        Self::before(provider, certificate, demands, &[]).await
    }

    /// A door before a provider, behind which these protocols are spoken.
    pub async fn before(
        provider: Arc<Provider>,
        certificate: &Certificate,
        demands: Option<&Authority>,
        protocols: &[&str],
    ) -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor(certificate, demands, protocols);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let door = Arc::new(Mutex::new(Door::default()));
        tokio::spawn(accept(listener, acceptor, Arc::clone(&provider), Arc::clone(&door)));
        Self { provider, address, authority, door }
    }

    /// What has happened at its door.
    pub fn door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().expect("no panic")
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, provider: Arc<Provider>, door: Arc<Mutex<Door>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(open(stream, acceptor.clone(), Arc::clone(&provider), Arc::clone(&door)));
    }
}

async fn open(stream: TcpStream, acceptor: TlsAcceptor, provider: Arc<Provider>, door: Arc<Mutex<Door>>) {
    let _ = stream.set_nodelay(true);
    match acceptor.accept(stream).await {
        Ok(stream) => {
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            door.lock().expect("no panic").opened.push(name);
            match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => provider.serve_http2_stream(stream),
                _ => provider.serve_stream(stream),
            }
        }
        Err(_) => door.lock().expect("no panic").refused += 1,
    }
}
