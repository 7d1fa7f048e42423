//! Providers behind an HTTP proxy, and providers with certificates of their own: the binary, a proxy, TLS.
//!
//! Invariant: the provider's name cannot be resolved here, so that a call which arrives went through the proxy.
//! Never does: wait for a timeout of more than a second.

mod certificates;
mod faults;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use ai_gateway::demo::{Cut, CutAt, HowCut, Provider, ProviderOptions, Script};
use tempfile::TempDir;

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
/// The provider's certificate.
const FAR: Certificate = Certificate { name: "api.provider.test", ..GOOD };
/// Credentials as they stand in a URL.
const WRITTEN: &str = "us%65r:p%40ss-canary";
/// The same as they are sent.
const SENT: &str = "Basic dXNlcjpwQHNzLWNhbmFyeQ==";

/// A provider behind TLS and a proxy before it.
struct Inner {
    far: TlsProvider,
    proxy: ConnectProxy,
    folder: TempDir,
}

/// A gateway as a process.
struct Gateway {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Inner {
    async fn start(credentials: Option<&'static str>) -> Self {
        Self::before(TlsProvider::start(&FAR, None).await, credentials).await
    }

    async fn before(far: TlsProvider, credentials: Option<&'static str>) -> Self {
        let proxy = ConnectProxy::start(far.address, credentials).await;
        let folder = tempfile::tempdir().expect("a folder");
        far.authority.write(&folder.path().join("ca.pem"));
        std::fs::write(folder.path().join("keys.json"), KEY_FILE).expect("written");
        Self { far, proxy, folder }
    }

    /// Writes the YAML: the provider's URL, and what else is said of it, in flow style.
    fn write(&self, base_url: &str, fields: &str) {
        let yaml = format!(
            "server: {{ listen: [\"127.0.0.1:0\"], threads: 2, shutdown: {{ readiness_delay: 10ms }} }}\n\
             admin: {{ listen: \"127.0.0.1:0\" }}\nkeys: {{ file: keys.json }}\nproviders: {{ openai: {{ base_url: \
             \"{base_url}\", api_key: \"{PROVIDER_KEY}\"{fields} }} }}\nattempts: {ONE_ATTEMPT}\n"
        );
        std::fs::write(self.folder.path().join("gateway.yaml"), yaml).expect("written");
    }

    /// A gateway for the provider by its name, which believes its authority.
    async fn gateway(&self, fields: &str, variables: &[(&str, &str)]) -> Gateway {
        self.write(&self.url("api.provider.test"), &format!(", ca_file: ca.pem{fields}"));
        self.run(variables).await
    }

    async fn run(&self, variables: &[(&str, &str)]) -> Gateway {
        let process = Process::start(self.folder.path(), SERVE, variables);
        let (address, admin) = process.serves().await;
        Gateway { process, address, admin }
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}", self.far.address.port())
    }

    /// The URL of the proxy, with credentials in it.
    fn proxy_url(&self, credentials: &str) -> String {
        let at = if credentials.is_empty() { "" } else { "@" };
        format!("http://{credentials}{at}{}", self.proxy.address)
    }
}

impl Gateway {
    async fn post(&self, body: &str) -> Response {
        Connection::open(self.address).await.post(CHAT, body).await
    }

    /// Everything that it has told so far.
    async fn told(&self) -> String {
        let metrics = Connection::open(self.admin).await.request("GET", "/metrics", &[], b"").await.text();
        format!("{}{}{metrics}", self.process.stdout(), self.process.stderr())
    }
}

fn has_secret(text: &str) -> bool {
    ["canary", "p@ss", "us%65r", "dXNlcjpw", PROVIDER_KEY].iter().any(|secret| text.contains(secret))
}

#[tokio::test]
async fn a_call_goes_through_the_proxy_of_the_environment() {
    let inner = Inner::start(Some(SENT)).await;
    let url = inner.proxy_url(WRITTEN);
    let variables = [("HTTPS_PROXY", &*url)];
    let gateway = inner.gateway("", &variables).await;
    let answer = gateway.post(&chat("hello")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let target = format!("api.provider.test:{}", inner.far.address.port());
    assert_eq!(
        inner.proxy.heads(),
        [format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {SENT}\r\n\r\n")]
    );
    assert_eq!(inner.far.door().opened, [Some("api.provider.test".to_owned())], "TLS is with the provider");
    let received = inner.far.provider.received();
    assert_eq!(received[0].header("proxy-authorization"), None);
    assert_eq!(received[0].header("host"), Some(&*target));
    assert_eq!(received[0].header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
    let told = gateway.told().await;
    assert!(told.contains(&format!("provider openai is reached through proxy {}", inner.proxy.address)), "{told}");
    assert!(!has_secret(&told), "{told}");

    for args in [&["check", "--config", "gateway.yaml"][..], &["check", "--json", "--config", "gateway.yaml"]] {
        let check = Process::run(inner.folder.path(), args, &variables).await;
        assert_eq!(check.code, Some(0), "{}", check.stderr);
        assert!(check.stdout.contains(&inner.proxy.address.to_string()), "{}", check.stdout);
        assert!(!has_secret(&check.stdout) && !has_secret(&check.stderr));
    }
}

#[tokio::test]
async fn one_tunnel_carries_many_calls() {
    let inner = Inner::start(None).await;
    let url = inner.proxy_url("");
    let gateway = inner.gateway("", &[("https_proxy", &url)]).await;
    let mut client = Connection::open(gateway.address).await;
    for _ in 0..8 {
        assert_eq!(client.post(CHAT, &chat("x")).await.status, 200);
        assert!(client.post(CHAT, &chat_stream("x")).await.complete);
    }
    assert_eq!(inner.far.provider.received().len(), 16);
    // Not always 1: see `World::connections_were_shared`.
    let tunnels = inner.proxy.heads().len();
    assert!((1..=2).contains(&tunnels), "{tunnels} tunnels");
}

#[tokio::test]
async fn http_2_goes_through_a_tunnel() {
    let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), ..Default::default() };
    let provider = Arc::new(Provider::start(options).await.expect("the provider starts"));
    let inner = Inner::before(TlsProvider::before(provider, &FAR, None, &["h2", "http/1.1"]).await, Some(SENT)).await;
    let url = inner.proxy_url(WRITTEN);
    let gateway = inner.gateway("", &[("HTTPS_PROXY", &*url)]).await;
    let stall = Some(Cut { at: CutAt::Pieces(1), how: HowCut::Stall });
    inner.far.provider.script(Script { cut: stall, ..Script::events(["data: {}\n\n", "data: [DONE]\n\n"]) });
    let mut left = Connection::open(gateway.address).await;
    let body = chat_stream("x");
    left.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
    assert_eq!(left.head().await.status, 200);
    for _ in 0..5 {
        assert_eq!(gateway.post(&chat("hello")).await.status, 200);
    }
    drop(left);
    eventually("the stream is cancelled", async || inner.far.provider.received()[0].cancelled).await;
    assert_eq!(gateway.post(&chat("hello")).await.status, 200);
    assert!(inner.far.provider.received().iter().all(|call| call.http2));
    assert_eq!((inner.proxy.heads().len(), inner.proxy.open()), (1, 1));
}

#[tokio::test]
async fn hosts_of_no_proxy_and_providers_that_say_so_are_called_directly() {
    let inner = Inner::before(TlsProvider::start(&GOOD, None).await, None).await;
    let url = inner.proxy_url("");
    let env = ("HTTPS_PROXY", &*url);
    for (fields, no_proxy) in [
        ("", "example.com, localhost"),
        (", proxy: off", ""),
        (", proxy: ''", ""),
        (", proxy: 'http://127.0.0.1:1'", "*"),
    ] {
        inner.write(&inner.url("localhost"), &format!(", ca_file: ca.pem{fields}"));
        let gateway = inner.run(&[env, ("NO_PROXY", no_proxy)]).await;
        assert_eq!(gateway.post(&chat("x")).await.status, 200, "{fields} {no_proxy}");
    }
    assert_eq!(inner.proxy.heads().len(), 0);
    inner.write(&inner.url("localhost"), ", ca_file: ca.pem");
    let gateway = inner.run(&[env, ("NO_PROXY", "example.com, local, localhost:1, 127.0.0.0/8")]).await;
    assert_eq!(gateway.post(&chat("x")).await.status, 200);
    assert_eq!(inner.proxy.heads().len(), 1, "a range does not meet a name");
}

#[tokio::test]
async fn an_address_in_a_range_of_no_proxy_is_called_directly() {
    let by_address = Certificate { name: "127.0.0.1", ..GOOD };
    let inner = Inner::before(TlsProvider::start(&by_address, None).await, None).await;
    let url = inner.proxy_url("");
    inner.write(&inner.url("127.0.0.1"), ", ca_file: ca.pem");
    for (no_proxy, tunnels) in [("10.0.0.0/8, 127.0.0.0/8", 0), ("127.0.0.1", 0), ("10.0.0.0/8, 127.1.0.0/16", 1)] {
        let gateway = inner.run(&[("HTTPS_PROXY", &*url), ("NO_PROXY", no_proxy)]).await;
        let answer = gateway.post(&chat("x")).await;
        assert_eq!((answer.status, inner.proxy.heads().len()), (200, tunnels), "{no_proxy}: {}", answer.text());
    }
    assert_eq!(inner.far.provider.received().len(), 3);
}

#[tokio::test]
async fn a_provider_may_have_a_proxy_of_its_own() {
    let inner = Inner::start(None).await;
    let other = ConnectProxy::start(inner.far.address, None).await;
    let env = format!("http://{}", other.address);
    let gateway = inner.gateway(&format!(", proxy: '{}'", inner.proxy_url("")), &[("HTTPS_PROXY", &env)]).await;
    assert_eq!(gateway.post(&chat("x")).await.status, 200);
    assert_eq!((inner.proxy.heads().len(), other.heads().len()), (1, 0));
    inner.write(&inner.url("api.provider.test"), ", ca_file: ca.pem");
    gateway.process.signal("HUP");
    gateway.process.says("configuration reloaded").await;
    assert_eq!(gateway.post(&chat("x")).await.status, 200);
    assert_eq!((inner.proxy.heads().len(), other.heads().len()), (1, 1), "an old tunnel is not used for a new way");
}

#[tokio::test]
async fn a_plain_provider_is_tunnelled_where_it_names_a_proxy_and_only_there() {
    let service = Service::start().await;
    let inner = Inner::start(None).await;
    let plain = ConnectProxy::start(service.provider.addr(), Some(SENT)).await;
    let url = format!("http://{WRITTEN}@{}", plain.address);
    inner.write("http://api.provider.test:8000", &format!(", proxy: '{url}'"));
    let gateway = inner.run(&[]).await;
    assert_eq!(gateway.post(&chat("x")).await.status, 200);
    assert!(plain.heads()[0].starts_with("CONNECT api.provider.test:8000 HTTP/1.1\r\n"));
    assert_eq!(service.provider.received()[0].header("proxy-authorization"), None);

    inner.write(&format!("http://{}", service.provider.addr()), "");
    let gateway = inner.run(&[("HTTPS_PROXY", &url)]).await;
    assert_eq!(gateway.post(&chat("x")).await.status, 200);
    assert_eq!((plain.heads().len(), service.provider.received().len()), (1, 2));
}

#[tokio::test]
async fn a_stream_passes_event_by_event_and_a_client_that_leaves_closes_the_tunnel() {
    let inner = Inner::start(None).await;
    let url = inner.proxy_url("");
    let gateway = inner.gateway("", &[("HTTPS_PROXY", &url)]).await;
    let events = ["data: {\"n\":1}\n\n", "data: {\"n\":2}\n\n", "data: [DONE]\n\n"];
    for count in 1..=2 {
        // The provider stalls behind these, so that they can only arrive where nothing holds them back.
        let stall = Some(Cut { at: CutAt::Pieces(count), how: HowCut::Stall });
        inner.far.provider.script(Script { cut: stall, ..Script::events(events) });
        let mut client = Connection::open(gateway.address).await;
        let body = chat_stream("x");
        client.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
        assert_eq!(client.head().await.status, 200);
        let mut seen = String::new();
        while seen.len() < events[..count].concat().len() {
            seen += &String::from_utf8(client.chunk().await.expect("an event")).expect("text");
        }
        assert_eq!((seen, inner.proxy.open()), (events[..count].concat(), 1));
        drop(client);
        eventually("the tunnel is closed", async || inner.proxy.open() == 0).await;
    }
}

#[tokio::test]
async fn a_call_that_passes_unread_goes_through_the_proxy_too() {
    let inner = Inner::start(Some(SENT)).await;
    let url = inner.proxy_url(WRITTEN);
    let gateway = inner.gateway(", routes: [post /v1/chat/completions stream]", &[("HTTPS_PROXY", &*url)]).await;
    // One is kept a moment after its answer, so that a quick call may come before.
    for _ in 0..20 {
        let answer = gateway.post(&chat("hello")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert!(inner.proxy.heads().len() < 20, "tunnels are kept");
    assert!(!has_secret(&gateway.told().await));
}
