//! Metrics: the original's summaries, counts that are right, and labels that no client can multiply.

use std::collections::BTreeMap;

use super::*;

#[tokio::test]
async fn the_originals_two_summaries_have_its_names_and_labels() {
    let world = World::start().await;
    assert_eq!(world.post("/openai/v1/chat/completions", &chat("hello")).await.status, 200);
    assert_eq!(world.get("/openai/v1/models").await.status, 200);
    world.log.calls(2).await;
    let metrics = world.metrics().await;
    let chat = r#"method="POST",path="/openai/v1/chat/completions",status_code="200",model="gpt-4o-mini""#;
    let models = r#"method="GET",path="/openai/v1/models",status_code="200",model="unknown""#;
    for of_call in [chat, models] {
        let gateway = format!(r#"{of_call},username="test",provider_name="openai""#);
        let provider = format!(r#"{of_call},provider_name="openai""#);
        for (name, labels) in [("gateway_request_duration_ms", gateway), ("provider_request_duration_ms", provider)] {
            assert_eq!(metric(&metrics, &format!("{name}_count{{{labels}}}")), 1.0, "{metrics}");
            assert!(metrics.contains(&format!("\n{name}_sum{{{labels}}} ")), "{metrics}");
            for quantile in ["0.5", "0.75", "0.9", "0.95", "0.99"] {
                let series = format!("\n{name}{{{labels},quantile=\"{quantile}\"}} ");
                assert!(metrics.contains(&series), "no {series} in {metrics}");
            }
        }
    }
    assert!(metrics.contains("# TYPE gateway_request_duration_ms summary\n"));
    assert!(metrics.contains("# TYPE provider_request_duration_ms summary\n"));
}

#[tokio::test]
async fn counts_equal_the_calls_that_were_made() {
    let world = World::start().await;
    let mut made: BTreeMap<u16, u32> = BTreeMap::new();
    let mut connection = world.connect().await;
    for status in [200, 201, 400, 404, 422, 429, 500, 503].into_iter().cycle().take(40) {
        world.provider.script(Script::json(status, r#"{"error":{"message":"scripted"}}"#));
        let answer = connection.post("/openai/v1/chat/completions", &chat("x")).await;
        assert_eq!(answer.status, status);
        *made.entry(answer.status).or_default() += 1;
    }
    for (key, path) in [("wrong", "/openai/v1/models"), (KEY, "/openai/v1/nothing"), ("wrong", "/nothing")] {
        let answer = connection.request("GET", path, &[bearer(key)], b"").await;
        *made.entry(answer.status).or_default() += 1;
    }
    let all: u32 = made.values().sum();
    world.log.calls(all as usize).await;
    let metrics = world.metrics().await;
    let mut told: BTreeMap<u16, u32> = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("gateway_requests_total{")) {
        let (_, rest) = line.split_once("status=\"").expect("a status");
        let status = rest.split('"').next().and_then(|status| status.parse().ok()).expect("a number");
        let count: f64 = line.rsplit_once(' ').and_then(|(_, value)| value.parse().ok()).expect("a number");
        *told.entry(status).or_default() += count as u32;
    }
    assert_eq!(told, made);
    assert_eq!(metric(&metrics, "gateway_overhead_seconds_count"), f64::from(all));
    let durations = metrics.lines().filter(|line| line.starts_with("gateway_request_duration_seconds_count{"));
    let durations = durations.map(|line| line.rsplit_once(' ').expect("a value").1.parse::<f64>().expect("a number"));
    assert_eq!(durations.sum::<f64>(), f64::from(all));
    let sent = |outcome: &str| {
        metric(&metrics, &format!(r#"gateway_upstream_attempts_total{{outcome="{outcome}",provider="openai"}}"#))
    };
    let told = [sent("success"), sent("client_error"), sent("rate_limited"), sent("server_error")];
    assert_eq!(told, [10.0, 15.0, 5.0, 10.0], "{metrics}");
}

/// Sends this many requests over a few connections at once.
async fn flood(world: &World, count: usize, request: impl Fn(usize) -> (String, String, String, String)) {
    let mut lanes = Vec::new();
    for lane in 0..4 {
        let requests: Vec<_> = (0..count).filter(|number| number % 4 == lane).map(&request).collect();
        let mut connection = world.connect().await;
        lanes.push(tokio::spawn(async move {
            for (method, path, key, body) in requests {
                let headers = [
                    bearer(&key),
                    ("username", format!("invented-{path}")),
                    ("on-behalf-of", format!("invented-{path}")),
                    ("content-type", "application/json".to_owned()),
                ];
                connection.request(&method, &path, &headers, body.as_bytes()).await;
            }
        }));
    }
    for lane in lanes {
        lane.await.expect("no panic");
    }
}

#[tokio::test]
async fn what_clients_invent_adds_no_series() {
    let world = World::start().await;
    let kinds = |number: usize| {
        let invented = format!("invented-{number}");
        let body = serde_json::json!({ "model": invented, "messages": [] }).to_string();
        let text = str::to_owned;
        match number % 5 {
            0 => (text("GET"), format!("/{invented}"), text("wrong"), String::new()),
            1 => (format!("BREW{number}"), text("/openai/v1/models"), text(KEY), String::new()),
            2 => (text("GET"), text("/openai/v1/models"), invented, String::new()),
            3 => (text("POST"), text("/openai/v1/chat/completions"), text("wrong"), body),
            // A valid key, and a model that the provider does not know.
            _ => (text("POST"), text("/openai/v1/chat/completions"), text(KEY), body),
        }
    };
    flood(&world, 10, kinds).await;
    world.log.calls(10).await;
    let before = series(&world.metrics().await);
    flood(&world, 2_000, kinds).await;
    world.log.calls(2_010).await;
    let metrics = world.metrics().await;
    let after = series(&metrics);
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(!metrics.contains("invented"));
}

#[tokio::test]
async fn models_are_capped_where_a_provider_answers_for_any() {
    let world = World::start().await;
    world.provider.script(Script::json(200, r#"{"object":"chat.completion"}"#).on("/v1/chat/completions").always());
    let invent = |number: usize| {
        let body = serde_json::json!({ "model": format!("invented-{number}"), "messages": [] }).to_string();
        ("POST".to_owned(), "/openai/v1/chat/completions".to_owned(), KEY.to_owned(), body)
    };
    flood(&world, 1_000, invent).await;
    world.log.calls(1_000).await;
    let before = series(&world.metrics().await);
    flood(&world, 2_000, |number| invent(10_000 + number)).await;
    world.log.calls(3_000).await;
    let metrics = world.metrics().await;
    let after = series(&metrics);
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    let own = |line: &&str| line.starts_with("gateway_requests_total{") && line.contains("invented");
    let own = metrics.lines().filter(own).count();
    assert!((1..=200).contains(&own), "{own} models have series of their own");
    assert!(metrics.contains(r#"model="other""#));
    let compat = after.iter().filter(|series| series.contains("_duration_ms")).count();
    assert!(compat <= 2_000, "{compat} series of the original's");
    let total: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("gateway_requests_total{"))
        .map(|line| line.rsplit_once(' ').expect("a value").1.parse::<f64>().expect("a number"))
        .sum();
    assert_eq!(total, 3_000.0, "what has no series of its own is counted still");
}

#[tokio::test]
async fn the_ceiling_of_all_series_holds() {
    let world = World::with(Setup { telemetry: "max_series: 300".to_owned(), ..Setup::default() }).await;
    world.provider.script(Script::json(200, "{}").on("/v1/chat/completions").always());
    let invent = |number: usize| {
        let body = serde_json::json!({ "model": format!("invented-{number}"), "messages": [] }).to_string();
        ("POST".to_owned(), "/openai/v1/chat/completions".to_owned(), KEY.to_owned(), body)
    };
    flood(&world, 400, invent).await;
    world.log.calls(400).await;
    let count = series(&world.metrics().await).len();
    assert!(count <= 300, "{count} series");
}

#[tokio::test]
async fn calls_in_flight_are_none_when_clients_have_gone() {
    let world = World::start().await;
    let script = Script {
        words: Some(2_000),
        gap: Some(std::time::Duration::from_millis(10)),
        ..Script::default().on("/v1/chat/completions").always()
    };
    world.provider.script(script);
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = world.connect().await;
        let body = chat_stream("x");
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        connection.send(head("POST", "/openai/v1/chat/completions", &headers, body.as_bytes())).await;
        connection.send(body).await;
        assert_eq!(connection.head().await.status, 200);
        connections.push(connection);
    }
    let gauge = "gateway_inflight_requests";
    assert_eq!(metric(&world.metrics().await, gauge), 20.0);
    drop(connections);
    eventually("none is in flight", async || metric(&world.metrics().await, gauge) == 0.0).await;
    let gone = r#"gateway_upstream_attempts_total{outcome="client_gone",provider="openai"}"#;
    assert_eq!(metric(&world.metrics().await, gone), 20.0);
    for call in world.log.calls(20).await {
        assert_eq!(call["statusCode"], "499");
    }
}
