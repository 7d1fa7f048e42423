//! A proxy that opens no tunnel: the client is told soon that it is the proxy, and nothing of where or what that is.
//!
//! Never does: let a call reach the provider.

use std::time::{Duration, Instant};

use super::*;

/// Checks that this is the gateway's own answer about the proxy, and tells nothing of what is inside.
fn told(answer: &Response) {
    let message = answer.error(502, "server_error", "upstream_error");
    assert!(message.contains("the proxy on the way"), "{message}");
    for inside in ["127.0.0.1", "provider.test", "407", "403", "os error", "inner", "canary"] {
        assert!(!message.to_lowercase().contains(inside), "{message}");
    }
}

#[tokio::test]
async fn each_fault_of_a_proxy_is_told_and_the_next_call_tries_again() {
    let inner = Inner::start(None).await;
    let url = inner.proxy_url(WRITTEN);
    let gateway = inner.gateway(", timeouts: { connect: 400ms }", &[("HTTPS_PROXY", &url)]).await;
    for (manner, log) in [
        (Manner::Status(407), "refused CONNECT with status 407"),
        (Manner::Status(403), "refused CONNECT with status 403"),
        (Manner::Status(502), "refused CONNECT with status 502"),
        (Manner::Status(301), "refused CONNECT with status 301"),
        (Manner::Hang, "did not open a tunnel within 400ms"),
        (Manner::Drip, "did not open a tunnel within 400ms"),
        (Manner::Rubbish, "something that is no HTTP"),
        (Manner::Cut, "before it had answered CONNECT"),
        (Manner::Flood, "a head of more than 16 KiB"),
    ] {
        inner.proxy.is(manner);
        let started = Instant::now();
        let answer = gateway.post(&chat("x")).await;
        told(&answer);
        let is_silent = matches!(manner, Manner::Hang | Manner::Drip);
        assert_eq!(answer.text().contains("did not open a connection in time"), is_silent, "{manner:?}");
        assert!(started.elapsed() < Duration::from_secs(3), "{manner:?}");
        gateway.process.says(log).await;
    }
    let lines = gateway.told().await;
    assert!(lines.contains("outcome=\"proxy_failed\"") && lines.contains("outcome=\"proxy_timeout\""), "{lines}");
    assert!(!has_secret(&lines) && !lines.to_lowercase().contains("inner"), "{lines}");
    assert_eq!((inner.far.door().opened.len(), inner.far.provider.received().len()), (0, 0));
    inner.proxy.is(Manner::Tunnel);
    assert_eq!(gateway.post(&chat("x")).await.status, 200);
}

#[tokio::test]
async fn a_proxy_that_wants_credentials_gets_no_others() {
    let inner = Inner::start(Some(SENT)).await;
    for credentials in ["", "user:wrong-canary"] {
        let url = inner.proxy_url(credentials);
        let gateway = inner.gateway("", &[("HTTPS_PROXY", &url)]).await;
        told(&gateway.post(&chat("x")).await);
        gateway.process.says("status 407: it wants credentials, or others").await;
        assert!(!has_secret(&gateway.told().await));
    }
    let sent: Vec<_> = inner.proxy.heads().iter().map(|head| head.contains("Proxy-Authorization")).collect();
    assert_eq!(sent, [false, true]);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told() {
    let inner = Inner::start(None).await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("an address");
    for (url, log) in [
        (format!("http://{closed}"), "cannot be reached"),
        ("http://proxy.invalid:3128".to_owned(), "proxy.invalid:3128 could not be resolved"),
    ] {
        let gateway = inner.gateway(", timeouts: { connect: 1s }", &[("HTTPS_PROXY", &url)]).await;
        told(&gateway.post(&chat("x")).await);
        gateway.process.says(log).await;
    }
}

#[tokio::test]
async fn a_tunnel_to_somebody_else_is_not_believed() {
    let other = TlsProvider::start(&Certificate { name: "evil.test", ..GOOD }, None).await;
    let inner = Inner::before(other, None).await;
    let url = inner.proxy_url("");
    let gateway = inner.gateway("", &[("HTTPS_PROXY", &url)]).await;
    let message = gateway.post(&chat("x")).await.error(502, "server_error", "upstream_error");
    assert!(!message.contains("proxy"), "it is not the proxy that is at fault: {message}");
    assert_eq!((inner.proxy.heads().len(), inner.far.provider.received().len()), (1, 0));
    gateway.process.says("certificate").await;
}
