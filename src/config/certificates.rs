//! Certificates for the TLS to one provider: read from their files and found good, or refused at their field.
//!
//! Invariant: what leaves here can be used: Pingora panics on certificates that it cannot parse.
//! Never does: tell anything of a file but what is wrong with it.

use std::path::Path;

use rustls::RootCertStore;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::compile::Check;
use super::environment::{MAX_FILE, read_bytes};
use super::file;
use super::interpolate::reason;
use super::report::FieldPath;
use crate::route::{Certificates, ClientCertificate};

/// The certificates of a provider, where it has any of its own.
pub(super) fn certificates(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: &file::Provider,
    tls: bool,
) -> Option<Certificates> {
    let (ca_file, client_cert) = (path.key("ca_file"), path.key("client_cert"));
    let has = |file: &Path| !file.as_os_str().is_empty();
    let (has_cert, has_key) = (has(&written.client_cert.cert), has(&written.client_cert.key));
    for (field, named) in [(&ca_file, has(&written.ca_file)), (&client_cert, has_cert || has_key)] {
        if named && !tls {
            check.refuse(field, "base_url is http, where there are no certificates");
        }
    }
    if !tls {
        return None;
    }
    if has_cert != has_key {
        check.refuse(&client_cert, "expected both cert and key, or neither");
    }
    let authorities = has(&written.ca_file).then(|| authorities(check, &ca_file, &written.ca_file));
    let client = (has_cert && has_key).then(|| client(check, &client_cert, &written.client_cert)).flatten();
    if authorities.is_none() && client.is_none() {
        return None;
    }
    let fingerprint = fingerprint(authorities.as_deref(), client.as_ref());
    Some(Certificates { authorities, client, fingerprint })
}

fn authorities(check: &mut Check<'_>, path: &FieldPath, file: &Path) -> Vec<Vec<u8>> {
    let mut store = RootCertStore::empty();
    let read = chain(check, file).and_then(|all| match all.iter().all(|one| store.add(one.clone()).is_ok()) {
        true => Ok(all),
        false => Err("holds a certificate that cannot be an authority's".to_owned()),
    });
    let all = read.unwrap_or_else(|message| {
        check.refuse(path, message);
        Vec::new()
    });
    all.iter().map(|one| one.to_vec()).collect()
}

fn client(check: &mut Check<'_>, path: &FieldPath, written: &file::ClientCert) -> Option<ClientCertificate> {
    let chain = chain(check, &written.cert).map_err(|message| check.refuse(&path.key("cert"), message));
    let key = key(check, &written.key).map_err(|message| check.refuse(&path.key("key"), message));
    let (Ok(chain), Ok(key)) = (chain, key) else {
        return None;
    };
    // Pingora finds out the kind of key by itself, and panics where it cannot.
    let bytes = Zeroizing::new(key.secret_der().to_vec());
    let pair = PrivateKeyDer::try_from(bytes.to_vec())
        .map_err(|_| "a private key of a kind that is not supported")
        .and_then(|key| {
            CertifiedKey::from_der(chain.clone(), key, &default_provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => "the private key does not belong to the certificate",
                _ => "a private key of a kind that is not supported",
            })
        });
    if let Err(message) = pair {
        check.refuse(&path.key("key"), message);
        return None;
    }
    Some(ClientCertificate { chain: chain.iter().map(|one| one.to_vec()).collect(), key: bytes })
}

/// The certificates of a PEM file; at least one.
fn chain(check: &Check<'_>, file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = read(check, file)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "expected a file with certificates in PEM form".to_owned())?;
    if all.is_empty() {
        return Err("expected a file with at least one certificate in PEM form".to_owned());
    }
    let readable = |one: &CertificateDer<'_>| X509Certificate::from_der(one).is_ok_and(|(rest, _)| rest.is_empty());
    if !all.iter().all(readable) {
        return Err("holds a certificate that cannot be read".to_owned());
    }
    Ok(all)
}

fn key(check: &Check<'_>, file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = Zeroizing::new(read(check, file)?);
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| "expected a file with a private key in PEM form that is not encrypted".to_owned())
}

fn read(check: &Check<'_>, file: &Path) -> Result<Vec<u8>, String> {
    read_bytes(&check.directory.join(file), MAX_FILE)
        .map_err(|error| format!("the file cannot be read: {}", reason(error.kind())))
}

fn fingerprint(authorities: Option<&[Vec<u8>]>, client: Option<&ClientCertificate>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut section = |parts: Option<&[Vec<u8>]>| {
        hash.update(parts.map_or(u64::MAX, |parts| parts.len() as u64).to_be_bytes());
        for part in parts.unwrap_or_default() {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    };
    section(authorities);
    section(client.map(|client| &*client.chain));
    if let Some(client) = client {
        hash.update(&*client.key);
    }
    hash.finalize().into()
}
