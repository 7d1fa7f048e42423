//! Several keys of one provider: whose turn it is, who rests and for how long, and what is told when all do.

use std::time::Instant;

use super::*;

const KEYS: [&str; 2] = ["sk-pool-canary-a", "sk-pool-canary-b"];
const LIMITED: &str = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;

/// A gateway whose models are served by one provider with two keys, three calls in four by the first.
struct Pooled {
    world: World,
    pool: Provider,
}

impl Pooled {
    async fn start() -> Self {
        let pool = Provider::start(ProviderOptions::default()).await.expect("the provider starts");
        let providers = format!(
            "  pool: {{ base_url: 'http://{}', api_keys: [ {{ key: {}, weight: 3 }}, {{ key: {} }} ] }}",
            pool.addr(),
            KEYS[0],
            KEYS[1]
        );
        let models =
            "{ gpt-4o-mini: { targets: [ { provider: pool } ] }, gpt-4o: { targets: [ { provider: pool } ] } }";
        let setup = Setup {
            providers,
            models: models.to_owned(),
            attempts: "{ max_attempts: 3 }".to_owned(),
            admin: "token: admin-canary".to_owned(),
            ..Setup::default()
        };
        Self { world: World::with(setup).await, pool }
    }

    async fn ask(&self, model: &str) -> Response {
        let answer = self.world.post(CHAT, &chat("hello").replace("gpt-4o-mini", model)).await;
        assert!(!answer.text().contains("canary"), "{}", answer.text());
        answer
    }

    /// The key of each request so far, by its place.
    fn keys(&self) -> Vec<usize> {
        let received = self.pool.received();
        let key = |sent: &ai_gateway::demo::Received| sent.header("authorization").map(str::to_owned);
        let place = |sent: &ai_gateway::demo::Received| {
            KEYS.iter().position(|own| key(sent) == Some(format!("Bearer {own}"))).expect("one of the two")
        };
        received.iter().map(place).collect()
    }

    /// How the keys stand for a model, by their places.
    async fn standing(&self, model: &str) -> Vec<serde_json::Value> {
        let headers = [("authorization", "Bearer admin-canary".to_owned())];
        let mut admin = Connection::open(self.world.gateway.admin_address()).await;
        let answer = admin.request("GET", "/api/targets", &headers, b"").await;
        assert!(!answer.text().contains("canary"), "{}", answer.text());
        let told = answer.json();
        let named = |one: &&serde_json::Value| one["provider"] == "pool" && one["model"] == model;
        let target = told["data"].as_array().expect("a list").iter().find(named).expect("the target").clone();
        target["keys"].as_array().expect("keys").clone()
    }
}

fn limited(header: &str, value: &str) -> Script {
    Script::json(429, LIMITED).header(header, value)
}

#[tokio::test]
async fn keys_take_turns_as_their_weights_say() {
    let pooled = Pooled::start().await;
    for _ in 0..300 {
        assert_eq!(pooled.ask("gpt-4o-mini").await.status, 200);
    }
    let first = pooled.keys().iter().filter(|key| **key == 0).count();
    // Five standard deviations around 225.
    assert!((187..=263).contains(&first), "{first} of 300");
}

#[tokio::test]
async fn a_429_rests_its_key_for_that_model_and_for_the_providers_own_time() {
    for (header, value, millis) in
        [("retry-after", "2", 2000), ("retry-after-ms", "1500", 1500), ("x-ratelimit-reset-requests", "1.5s", 1500)]
    {
        let pooled = Pooled::start().await;
        pooled.pool.script(limited(header, value));
        let began = Instant::now();
        assert_eq!(pooled.ask("gpt-4o-mini").await.status, 200, "the other key goes on at once");
        let keys = pooled.keys();
        let (bad, good) = (keys[0], 1 - keys[0]);
        assert_eq!(keys, [bad, good]);
        let standing = pooled.standing("gpt-4o-mini").await;
        assert_eq!((&standing[bad]["state"], &standing[bad]["cause"]), (&"open".into(), &"rate_limit".into()));
        let rests = standing[bad]["rests_for_ms"].as_u64().expect("a time");
        assert!(rests <= millis && Duration::from_millis(millis - rests) <= began.elapsed(), "{header}: {rests}");
        assert_eq!(
            (&standing[good]["state"], &pooled.standing("gpt-4o").await[bad]["state"]),
            (&"closed".into(), &"closed".into())
        );
        // Until its time is over nobody takes it; afterwards somebody does again.
        let back = loop {
            let asked = Instant::now();
            assert_eq!(pooled.ask("gpt-4o-mini").await.status, 200);
            assert!(began.elapsed() < SOON, "it never came back");
            if pooled.keys().last() == Some(&bad) {
                break asked;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(
            back.duration_since(began) + Duration::from_millis(50) >= Duration::from_millis(millis),
            "{header}: too soon"
        );
    }
}

#[tokio::test]
async fn a_401_rests_its_key_for_all_models() {
    let pooled = Pooled::start().await;
    pooled.pool.script(Script::json(401, r#"{"error":{"message":"Incorrect API key: sk-pool-canary-a"}}"#));
    assert_eq!(pooled.ask("gpt-4o-mini").await.status, 200);
    let good = 1 - pooled.keys()[0];
    for _ in 0..10 {
        assert_eq!(pooled.ask("gpt-4o").await.status, 200);
    }
    assert!(pooled.keys()[1..].iter().all(|key| *key == good), "{:?}", pooled.keys());
    let line = &pooled.world.log.calls(1).await[0];
    let told: Vec<_> = line["tried"].as_array().expect("a list").iter().map(|one| one["outcome"].as_str()).collect();
    assert_eq!(told, [Some("auth_refused"), Some("success")]);
}

#[tokio::test]
async fn when_all_keys_are_at_their_limit_the_client_is_told_the_earliest_time() {
    for resets in [["40", "20"], ["20", "40"]] {
        let pooled = Pooled::start().await;
        resets.iter().for_each(|reset| pooled.pool.script(limited("retry-after", reset)));
        let answer = pooled.ask("gpt-4o-mini").await;
        assert_eq!((answer.status, answer.text().as_str()), (429, LIMITED), "the provider's own word");
        assert_eq!(answer.header("retry-after"), Some("20"), "{resets:?}");
        let mut keys = pooled.keys();
        keys.sort_unstable();
        assert_eq!(keys, [0, 1], "each was asked once");
        let answer = pooled.ask("gpt-4o-mini").await;
        answer.error(503, "server_error", "no_healthy_upstream");
        let wait: u64 = answer.header("retry-after").and_then(|wait| wait.parse().ok()).expect("a time");
        assert!((1..=20).contains(&wait), "{wait}");
        assert_eq!(pooled.keys().len(), 2, "nobody is asked again before");
        assert_eq!(pooled.ask("gpt-4o").await.status, 200, "another model has limits of its own");
    }
}

#[tokio::test]
async fn when_all_keys_are_refused_that_is_ours_to_mend() {
    let pooled = Pooled::start().await;
    pooled.pool.script(Script::json(401, "{}").times(2));
    for _ in 0..2 {
        pooled.ask("gpt-4o-mini").await.error(502, "server_error", "upstream_auth_error");
    }
    assert_eq!(pooled.keys().len(), 2, "nobody is asked again before the rest is over");
}
