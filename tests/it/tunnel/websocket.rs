//! WebSockets to a provider behind TLS, directly and through a proxy.
//!
//! Never does: ask what a plain provider has answered already.

use super::*;

/// A gateway with a route for WebSockets, whose provider agrees to one and speaks HTTP/2, too.
async fn gateway(certificate: &Certificate, host: &str, proxied: bool) -> (Inner, Gateway) {
    let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), ..Default::default() };
    let provider = Arc::new(Provider::start(options).await.expect("the provider starts"));
    let far = TlsProvider::before(provider, certificate, None, &["h2", "http/1.1"]).await;
    let inner = Inner::before(far, Some(SENT)).await;
    std::fs::write(inner.folder.path().join("keys.json"), key_file(ALL, "")).expect("written");
    inner.write(&inner.url(host), ", ca_file: ca.pem, routes: [get /v1/realtime websocket, get /v1/models]");
    let url = inner.proxy_url(WRITTEN);
    let variables = [("HTTPS_PROXY", &*url)];
    let gateway = inner.run(if proxied { &variables } else { &[] }).await;
    (inner, gateway)
}

async fn echoes((inner, gateway): &(Inner, Gateway)) {
    inner.far.provider.script(agrees().on("/v1/realtime"));
    let mut client = Connection::open(gateway.address).await;
    client.send(handshake(&[("authorization", &bearer(KEY).1)])).await;
    assert_eq!(client.head().await.status, 101);
    let message: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    client.send(&message).await;
    client.end().await;
    assert!(client.bytes(message.len()).await == message);
    assert!(client.is_closed().await);
    let received = inner.far.provider.received().pop().expect("a call");
    assert_eq!((received.http2, received.header("proxy-authorization")), (false, None));
    eventually("the provider's end is closed", async || inner.far.provider.open_connections() == 0).await;
}

#[tokio::test]
async fn one_opens_over_tls_and_never_over_http_2() {
    let world = gateway(&GOOD, "localhost", false).await;
    echoes(&world).await;
    echoes(&world).await;
    assert_eq!(world.0.proxy.heads().len(), 0);
}

#[tokio::test]
async fn one_opens_through_a_tunnel_and_closes_it() {
    let world = gateway(&FAR, "api.provider.test", true).await;
    echoes(&world).await;
    let (inner, gateway) = world;
    assert_eq!(inner.proxy.heads().len(), 1);
    eventually("the tunnel is closed", async || inner.proxy.open() == 0).await;
    assert!(!has_secret(&gateway.told().await));
}
