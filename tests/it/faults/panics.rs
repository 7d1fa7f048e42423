//! Panics: they cost the call that has one, are counted, and give back what it had reserved, on each way.
//!
//! Never does: show a panic of the gateway's own code, of which none is known; policies stand for it.

use std::sync::Arc;

use ai_gateway::flow::Record;
use ai_gateway::policy::{Look, Policy, PolicyError, Verdict};

use super::*;

/// Panics where it is told to: when it is asked, or when the call has settled.
struct Fragile;

impl Policy for Fragile {
    fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
        assert!(!call.headers().contains_key("x-panic"), "a bug");
        Ok(Verdict::Allow)
    }

    fn settled(&self, record: &Record) {
        assert_ne!(record.status, 418, "another bug");
    }
}

over_all_pairs!(a_panic_is_counted_and_gives_back_what_was_reserved);
async fn a_panic_is_counted_and_gives_back_what_was_reserved(pair: Pair) {
    let key_file = KEY_FILE.replacen("/openai/v1/images/generations", "/openai/v1/audio/transcriptions", 1);
    let setup = Setup {
        policies: vec![Arc::new(Fragile)],
        provider: "routes: [get /v1/models, post /v1/chat/completions, post /v1/audio/transcriptions stream]"
            .to_owned(),
        sections: "limits: { key: { concurrent_requests: 1 } }\n".to_owned(),
        key_file: Some(key_file),
        server: "limits: { max_in_flight: 1 }".to_owned(),
        pair,
        ..Setup::default()
    };
    let world = World::with(setup).await;
    let mut client = world.client().await;
    let kind = |path: &str| {
        let kind = if path == UPLOAD { "multipart/form-data; boundary=b" } else { "application/json" };
        ("content-type", kind.to_owned())
    };
    let mut panics = 0.0;
    // The only place of its key, and of the whole gateway, is free.
    let has_settled = async || {
        let metrics = world.metrics().await;
        let names = ["gateway_inflight_requests", "gateway_reservations_outstanding"];
        names.iter().all(|name| metric(&metrics, name) == 0.0)
    };
    for path in [CHAT, UPLOAD, CHAT, UPLOAD] {
        let headers = [bearer(KEY), kind(path), ("x-panic", "yes".to_owned())];
        let answer = client.request("POST", path, &headers, chat("x").as_bytes()).await;
        answer.error(500, "server_error", "policy_failed");
        panics += 1.0;
        eventually("it is counted", async || metric(&world.metrics().await, "gateway_panics_total") == panics).await;
        eventually("it has settled", &has_settled).await;
        world.provider.script(Script::json(200, "{}"));
        let answer = client.request("POST", path, &[bearer(KEY), kind(path)], chat("x").as_bytes()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        eventually("this one, too", &has_settled).await;
    }
    assert_eq!(world.provider.received().len(), 4);
    // One behind the end of a call, which was answered before.
    world.provider.script(Script::json(418, "{}"));
    assert_eq!(client.post(CHAT, &chat("x")).await.status, 418);
    eventually("it is counted", async || metric(&world.metrics().await, "gateway_panics_total") == panics + 1.0).await;
    eventually("that one, too", &has_settled).await;
    eventually("the next one is served", async || client.post(CHAT, &chat("x")).await.status == 200).await;
}
