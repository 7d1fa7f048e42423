//! The way to a provider, where it is not the plain one: through an HTTP proxy, or with certificates of the operator's.
//!
//! Invariant: neither a proxy's credentials nor a private key can be printed.
//! Never does: any IO; whether certificates are good is checked where they are read.

use std::fmt;

use http::HeaderValue;
use secrecy::zeroize::Zeroizing;

/// An HTTP proxy that opens tunnels by CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProxy {
    /// DNS name or IP address without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// `Proxy-Authorization` as its whole value, marked sensitive; absent where the proxy needs none.
    pub authorization: Option<HeaderValue>,
}

impl fmt::Display for HttpProxy {
    /// `HOST:PORT`, without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Authority(&self.host, self.port))
    }
}

/// A host and a port as in a URL, the port always there: `api.openai.com:443`, `[::1]:443`.
pub struct Authority<'a>(pub &'a str, pub u16);

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(host, port) = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Certificates for the TLS to one provider. They were found good when they were read.
#[derive(Debug, Default)]
pub struct Certificates {
    /// The authorities that are believed, in DER, and no others; absent: those of the system.
    pub authorities: Option<Vec<Vec<u8>>>,
    /// What we show of ourselves where the provider asks.
    pub client: Option<ClientCertificate>,
    /// Stands for all of them together: two that differ have different ones.
    pub fingerprint: [u8; 32],
}

/// A client certificate with its private key.
pub struct ClientCertificate {
    /// In DER, our own first. Never empty.
    pub chain: Vec<Vec<u8>>,
    /// In DER; belongs to the first of the chain.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} certificates, key: [secret])", self.chain.len())
    }
}
