//! What listeners with TLS show to clients, replaced by a reload while they run.
//!
//! Invariant: a handshake sees one certificate with its key, the old or the new; connections that are open go on.
//! Never does: read a file or judge a certificate; that is `config`.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use pingora_core::Result;
use pingora_core::listeners::tls::TlsSettings;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::{Listener, Tls};

/// The certificates of all listeners, in the listeners' order.
pub(super) struct Certificates(Vec<Option<Shown>>);

/// The certificate of one listener.
struct Shown {
    /// As configured, by which a reload finds it.
    address: SocketAddr,
    current: Arc<Current>,
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read()))
    }
}

impl Certificates {
    pub(super) fn of(listeners: &[Listener]) -> Self {
        let shown = |listener: &Listener| {
            let tls = listener.tls.as_ref()?;
            let current = Arc::new(Current(RwLock::new(Arc::clone(&tls.certificate.key))));
            Some(Shown { address: listener.address, current })
        };
        Self(listeners.iter().map(shown).collect())
    }

    /// Shows new certificates from now on. A listener that is not among `next` keeps its own.
    pub(super) fn replace(&self, next: &[Listener]) {
        for (index, shown) in self.0.iter().enumerate() {
            let Some(shown) = shown else { continue };
            let same = |listener: &&Listener| listener.address == shown.address;
            // By its place first: two listeners may both have port 0.
            let listener = next.get(index).filter(same).or_else(|| next.iter().find(same));
            if let Some(tls) = listener.and_then(|listener| listener.tls.as_ref()) {
                *shown.current.0.write() = Arc::clone(&tls.certificate.key);
            }
        }
    }

    /// Pingora's settings of one listener; `None` for a plain one.
    ///
    /// # Errors
    /// Pingora's, which it has none of so far.
    pub(super) fn settings(&self, index: usize, tls: Option<&Tls>) -> Result<Option<TlsSettings>> {
        let (Some(Some(shown)), Some(tls)) = (self.0.get(index), tls) else {
            return Ok(None);
        };
        let mut settings = TlsSettings::intermediate("", "")?;
        settings.set_cert_resolver(Arc::clone(&shown.current) as Arc<dyn ResolvesServerCert>);
        settings.enable_h2();
        if let Some(client_ca) = &tls.client_ca {
            settings.set_client_cert_verifier(Arc::clone(&client_ca.verifier));
        }
        Ok(Some(settings))
    }
}
