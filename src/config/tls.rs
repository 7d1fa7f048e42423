//! Certificates of listeners: read, checked, and ready to be shown to clients.
//!
//! Invariant: what is handed out works: the key fits the certificate, and each authority can be verified against.
//! Never does: name a file or show a byte of one; a clock decides elsewhere what has expired.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::compile::Check;
use super::environment::{MAX_FILE, read_bytes};
use super::file;
use super::interpolate::reason;
use super::keys_in::warn_of_readers;
use super::report::FieldPath;

/// What makes a listener one with TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// What is shown to clients.
    pub certificate: Certificate,
    /// What clients have to show, where they have to.
    pub client_ca: Option<ClientCa>,
}

/// A certificate with its chain and key.
#[derive(Clone)]
pub struct Certificate {
    /// As rustls wants it.
    pub key: Arc<CertifiedKey>,
    /// The field that names it: `server.listen[0].tls.cert`.
    field: String,
    valid_from: SystemTime,
    valid_until: SystemTime,
}

/// The authorities that vouch for clients.
#[derive(Clone)]
pub struct ClientCa {
    /// Demands a certificate of a client and verifies it.
    pub verifier: Arc<dyn ClientCertVerifier>,
    authorities: Vec<CertificateDer<'static>>,
}

impl Certificate {
    /// Tells what is odd about the certificate at this time.
    pub(super) fn warning(&self, now: SystemTime) -> Option<String> {
        let what = if now > self.valid_until {
            "has expired: clients refuse it"
        } else if now < self.valid_from {
            "is not valid yet: clients refuse it"
        } else if now + SOON > self.valid_until {
            "expires within a week"
        } else {
            return None;
        };
        Some(format!("{} {what}", self.field))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.field)
    }
}

impl fmt::Debug for ClientCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCa({} authorities)", self.authorities.len())
    }
}

impl PartialEq for ClientCa {
    fn eq(&self, other: &Self) -> bool {
        self.authorities == other.authorities
    }
}

/// How long before its end a certificate is told to be near it.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Reads what the `tls` of a listener names. `None` where something is wrong, which is told.
pub(super) fn read(check: &mut Check<'_>, listener: &FieldPath, tls: &file::Tls, directory: &Path) -> Option<Tls> {
    let path = listener.key("tls");
    let (cert, key) = (path.key("cert"), path.key("key"));
    let chain = certificates(check, &cert, &tls.cert, directory);
    let secret = private_key(check, &key, &tls.key, directory);
    let client_ca = match &tls.client_ca {
        Some(file) => Some(client_ca(check, &path.key("client_ca"), file, directory)?),
        None => None,
    };
    let (chain, secret) = (chain?, secret?);
    let validity = chain.first().and_then(|first| validity(first));
    let Some((valid_from, valid_until)) = validity else {
        check.refuse(&cert, "its first certificate cannot be read");
        return None;
    };
    match CertifiedKey::from_der(chain, secret, &ring::default_provider()) {
        Ok(certified) => Some(Tls {
            certificate: Certificate { key: Arc::new(certified), field: cert.to_string(), valid_from, valid_until },
            client_ca,
        }),
        Err(rustls::Error::InconsistentKeys(_)) => {
            check.refuse(&key, "the key does not fit the certificate");
            None
        }
        Err(_) => {
            check.refuse_with(&key, "this kind of key is not supported", "RSA, ECDSA P-256 or P-384, or Ed25519");
            None
        }
    }
}

fn bytes(check: &mut Check<'_>, path: &FieldPath, file: &PathBuf, directory: &Path) -> Option<Vec<u8>> {
    if file.as_os_str().is_empty() {
        check.refuse(path, "expected the name of a file in PEM format");
        return None;
    }
    match read_bytes(&directory.join(file), MAX_FILE) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            check.refuse(path, format!("the file cannot be read: {}", reason(error.kind())));
            None
        }
    }
}

fn certificates(
    check: &mut Check<'_>,
    path: &FieldPath,
    file: &PathBuf,
    directory: &Path,
) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = bytes(check, path, file, directory)?;
    match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => {
            check.refuse(path, "the file holds no certificate in PEM format");
            None
        }
        Err(_) => {
            check.refuse(path, "the file is not whole PEM");
            None
        }
    }
}

fn private_key(
    check: &mut Check<'_>,
    path: &FieldPath,
    file: &PathBuf,
    directory: &Path,
) -> Option<PrivateKeyDer<'static>> {
    let bytes = bytes(check, path, file, directory)?;
    // A group may read it, which is how a gateway with a user of its own comes to a key of root's.
    if let Some(warning) = warn_of_readers(&directory.join(file), &path.to_string(), (0o007, "o=")) {
        check.warn(warning);
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes);
    if key.is_err() {
        check.refuse_with(
            path,
            "the file holds no private key in PEM format",
            "a key with a password is none: `openssl pkey -in FILE` takes it off",
        );
    }
    key.ok()
}

fn client_ca(check: &mut Check<'_>, path: &FieldPath, file: &PathBuf, directory: &Path) -> Option<ClientCa> {
    let authorities = certificates(check, path, file, directory)?;
    let mut roots = RootCertStore::empty();
    let added = authorities.iter().try_for_each(|authority| roots.add(authority.clone()));
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    match (added, verifier) {
        (Ok(()), Ok(verifier)) => Some(ClientCa { verifier, authorities }),
        _ => {
            check.refuse(path, "a certificate in the file cannot be an authority");
            None
        }
    }
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let time = |seconds: i64| {
        let since = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(since) } else { SystemTime::UNIX_EPOCH.checked_add(since) }
    };
    let validity = parsed.validity();
    Some((time(validity.not_before.timestamp())?, time(validity.not_after.timestamp())?))
}

#[cfg(test)]
mod tests;
