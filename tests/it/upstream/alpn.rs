//! Which version a provider gets: what it chooses by ALPN, where its configuration and the kind of route allow it.
//!
//! Never does: ask how a version is spoken.

use std::sync::Arc;

use ai_gateway::demo::{Provider, ProviderOptions};

use super::*;

const PAIR: Pair = Pair { client: Http::One, provider: Http::Two };

/// Whether each request came over HTTP/2.
fn versions(provider: &Provider) -> Vec<bool> {
    provider.received().iter().map(|call| call.http2).collect()
}

#[tokio::test]
async fn a_provider_that_does_not_choose_http_2_gets_http_1() {
    for protocols in [&[][..], &["http/1.1"]] {
        let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), ..Default::default() };
        let provider = Arc::new(Provider::start(options).await.expect("the provider starts"));
        let far = TlsProvider::before(provider, &GOOD, None, protocols).await;
        let setup = Setup {
            base_url: Some(format!("https://localhost:{}", far.address.port())),
            provider: "ca_file: far.pem".to_owned(),
            files: vec![("far.pem".to_owned(), far.authority.pem())],
            ..Setup::default()
        };
        let world = World::with(setup).await;
        let mut client = world.connect().await;
        for _ in 0..5 {
            assert!(client.post(CHAT, &chat_stream("x")).await.complete);
        }
        assert_eq!(versions(&far.provider), [false; 5]);
        // Not always 1: see `World::connections_were_shared`.
        assert!(far.door().opened.len() <= 2, "connections are kept");
    }
}

#[tokio::test]
async fn http_2_may_be_switched_off_and_on_by_a_reload() {
    let world = World::with(Setup { pair: PAIR, provider: "http2: off".to_owned(), ..Setup::default() }).await;
    let yaml = std::fs::read_to_string(world.config_file()).expect("read");
    assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
    for value in ["auto", "off"] {
        std::fs::write(world.config_file(), yaml.replace("http2: off", &format!("http2: {value}"))).expect("written");
        world.gateway.reload().expect("reloaded");
        assert_eq!(world.post(CHAT, &chat("x")).await.status, 200);
    }
    assert_eq!(versions(&world.provider), [false, true, false]);
}

#[tokio::test]
async fn routes_whose_bodies_pass_unread_have_http_1() {
    let routes = "routes: [post /v1/chat/completions, post /v1/audio/speech stream, any /v1/* opaque]".to_owned();
    let key = KEY_FILE.replace("/openai/v1/models\" }", "/openai/*\" }").replace("\"get\"", "\"*\"");
    let world = World::with(Setup { pair: PAIR, provider: routes, key_file: Some(key), ..Setup::default() }).await;
    world.provider.script(Script::json(200, "{}").always());
    for path in ["/openai/v1/audio/speech", "/openai/v1/files", CHAT] {
        let answer = world.post(path, "{}").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    assert_eq!(versions(&world.provider), [false, false, true]);
}
