//! The way to a provider over TLS: the binary with a CA of its own, and certificates that must not be believed.

use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::*;

/// A provider behind TLS, and a gateway as a process that is to call it.
struct Tls {
    tls: TlsProvider,
    folder: TempDir,
}

impl Tls {
    async fn start(certificate: &Certificate) -> Self {
        let tls = TlsProvider::start(certificate, None).await;
        let folder = tempfile::tempdir().expect("a folder");
        tls.authority.write(&folder.path().join("ca.pem"));
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("keys.json", KEY_FILE);
        let port = tls.address.port();
        let yaml = format!(
            "server: {{ listen: [\"127.0.0.1:0\"], threads: 2 }}\nadmin: {{ listen: \"127.0.0.1:0\" }}\n\
             keys: {{ file: keys.json }}\nproviders: {{ openai: {{ base_url: \"https://localhost:{port}\", api_key: \
             \"{PROVIDER_KEY}\" }} }}\n"
        );
        write("gateway.yaml", &yaml);
        Self { tls, folder }
    }

    /// One call through a gateway that trusts the CA in this file.
    async fn call(&self, authorities: Option<&str>) -> (Response, Process) {
        let path = authorities.map(|name| self.folder.path().join(name).display().to_string());
        let variables: Vec<(&str, &str)> = path.iter().map(|path| ("SSL_CERT_FILE", path.as_str())).collect();
        let process = Process::start(self.folder.path(), SERVE, &variables);
        let (address, _) = process.serves().await;
        (Connection::open(address).await.post("/openai/v1/chat/completions", &chat("hello")).await, process)
    }

    /// A call that must fail before anything is said.
    async fn is_not_believed(&self, authorities: Option<&str>) {
        let (answer, process) = self.call(authorities).await;
        let message = answer.error(502, "server_error", "upstream_error");
        assert!(!message.contains("localhost") && !message.to_lowercase().contains("certificate"), "{message}");
        eventually("the handshake has failed", async || self.tls.door().refused > 0).await;
        assert!(self.tls.door().opened.is_empty(), "no handshake, so that no key can have left");
        assert_eq!(self.tls.provider.received().len() + self.tls.provider.connections_accepted(), 0);
        assert!(!process.stdout().contains(PROVIDER_KEY));
        process.says("certificate").await;
    }
}

#[tokio::test]
async fn a_provider_whose_certificate_is_good_is_called() {
    let tls = Tls::start(&GOOD).await;
    let (answer, _process) = tls.call(Some("ca.pem")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let received = tls.tls.provider.received();
    assert_eq!(received[0].header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
    assert!(received[0].header("host").is_some_and(|host| host.starts_with("localhost:")));
    assert_eq!(tls.tls.door().opened, [Some("localhost".to_owned())], "the name is sent as SNI");
}

#[tokio::test]
async fn connections_with_tls_are_used_again() {
    let tls = Tls::start(&GOOD).await;
    let (_, process) = tls.call(Some("ca.pem")).await;
    let (address, _) = process.serves().await;
    for _ in 0..5 {
        let stream = Connection::open(address).await.post("/openai/v1/chat/completions", &chat_stream("hello")).await;
        assert!(stream.complete && stream.text().ends_with("data: [DONE]\n\n"));
    }
    assert_eq!(tls.tls.provider.received().len(), 6);
    assert_eq!(tls.tls.door().opened.len(), 1);
}

#[tokio::test]
async fn a_provider_that_nobody_vouches_for_gets_nothing() {
    Tls::start(&GOOD).await.is_not_believed(None).await;
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_not_believed() {
    let (tls, other) = (Tls::start(&GOOD).await, Tls::start(&GOOD).await);
    std::fs::copy(other.folder.path().join("ca.pem"), tls.folder.path().join("other.pem")).expect("copied");
    tls.is_not_believed(Some("other.pem")).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not_believed() {
    let other = Certificate { name: "api.example.com", ..GOOD };
    Tls::start(&other).await.is_not_believed(Some("ca.pem")).await;
}

#[tokio::test]
async fn an_expired_certificate_is_not_believed() {
    let expired = Certificate { until: 2021, ..GOOD };
    Tls::start(&expired).await.is_not_believed(Some("ca.pem")).await;
}

#[tokio::test]
async fn a_provider_that_speaks_no_tls_gets_no_key() {
    let tls = Tls::start(&GOOD).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = plain.local_addr().expect("an address").port();
    let heard = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = plain.accept().await.expect("accepted");
        let mut first = vec![0; 16 * 1024];
        let count = stream.read(&mut first).await.expect("read");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        [&first[..count], &rest].concat()
    });
    let path = tls.folder.path().join("gateway.yaml");
    let yaml = std::fs::read_to_string(&path).expect("read");
    let (before, rest) = yaml.split_once("https://localhost:").expect("an address");
    let (_, after) = rest.split_once('"').expect("its end");
    std::fs::write(path, format!("{before}https://localhost:{port}\"{after}")).expect("written");
    let (answer, _process) = tls.call(Some("ca.pem")).await;
    answer.error(502, "server_error", "upstream_error");
    let heard = heard.await.expect("no panic");
    assert!(!String::from_utf8_lossy(&heard).contains(PROVIDER_KEY));
}
