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
use h2::Reason;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";

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
