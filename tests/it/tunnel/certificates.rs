//! Authorities of a provider's own, and providers that want to see a certificate.
//!
//! Never does: trust anything of the machine's.

use super::*;

/// A certificate for the gateway.
const OURS: Certificate = Certificate { name: "gateway.test", ..GOOD };

#[tokio::test]
async fn a_provider_that_wants_a_certificate_gets_ours() {
    let clients = Authority::new();
    let inner = Inner::before(TlsProvider::start(&FAR, Some(&clients)).await, None).await;
    let file = |name: &str| inner.folder.path().join(name);
    clients.write_pair(&OURS, &file("cert.pem"), &file("key.pem"));
    Authority::new().write_pair(&OURS, &file("other.pem"), &file("other-key.pem"));
    let url = inner.proxy_url("");
    let env = [("HTTPS_PROXY", &*url)];

    let gateway = inner.gateway(", client_cert: { cert: cert.pem, key: key.pem }", &env).await;
    for _ in 0..2 {
        assert_eq!(gateway.post(&chat("x")).await.status, 200);
    }
    assert_eq!(inner.far.provider.received().len(), 2);
    for fields in ["", ", client_cert: { cert: other.pem, key: other-key.pem }"] {
        let gateway = inner.gateway(fields, &env).await;
        gateway.post(&chat("x")).await.error(502, "server_error", "upstream_error");
    }
    assert_eq!(inner.far.provider.received().len(), 2, "nobody else was served");

    // A reload takes the certificate away; connections that were made with it are not used any more.
    inner.write(&inner.url("api.provider.test"), ", ca_file: ca.pem");
    gateway.process.signal("HUP");
    gateway.process.says("configuration reloaded").await;
    gateway.post(&chat("x")).await.error(502, "server_error", "upstream_error");
    assert_eq!(inner.far.provider.received().len(), 2);
}

#[tokio::test]
async fn a_pair_that_does_not_match_is_refused_before_anything_serves() {
    let inner = Inner::start(None).await;
    let file = |name: &str| inner.folder.path().join(name);
    Authority::new().write_pair(&OURS, &file("cert.pem"), &file("key.pem"));
    Authority::new().write_pair(&OURS, &file("other.pem"), &file("other-key.pem"));
    inner.write(&inner.url("localhost"), ", client_cert: { cert: cert.pem, key: other-key.pem }");
    let ended = Process::run(inner.folder.path(), SERVE, &[]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("client_cert.key: the private key does not belong to the certificate"), "{ended:?}");
    assert!(ended.stderr.contains("\ngateway.yaml:4:"), "{ended:?}");
}

#[tokio::test]
async fn the_authorities_of_a_provider_stand_in_place_of_the_systems_and_are_read_again() {
    let inner = Inner::before(TlsProvider::start(&GOOD, None).await, None).await;
    let file = |name: &str| inner.folder.path().join(name);
    std::fs::copy(file("ca.pem"), file("good.pem")).expect("copied");
    Authority::new().write(&file("ca.pem"));
    inner.write(&inner.url("localhost"), ", ca_file: ca.pem");
    let system = file("good.pem").display().to_string();
    let gateway = inner.run(&[("SSL_CERT_FILE", &system)]).await;
    gateway.post(&chat("x")).await.error(502, "server_error", "upstream_error");
    for (times, good) in [(1, true), (2, false)] {
        match good {
            true => drop(std::fs::copy(file("good.pem"), file("ca.pem")).expect("copied")),
            false => Authority::new().write(&file("ca.pem")),
        }
        gateway.process.signal("HUP");
        let reloads = || gateway.process.messages().iter().filter(|line| line.contains("reloaded from")).count();
        eventually("it is reloaded", async || reloads() == times).await;
        let status = gateway.post(&chat("x")).await.status;
        assert_eq!(status, if good { 200 } else { 502 });
    }
    assert_eq!(inner.far.provider.received().len(), 1);

    std::fs::write(file("ca.pem"), "no certificate").expect("written");
    gateway.process.signal("HUP");
    gateway.process.says("providers.openai.ca_file: expected a file with at least one certificate").await;
}
