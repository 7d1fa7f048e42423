//! What is true after a failover: who is asked next, what is told, and what it cost.

use super::*;

#[tokio::test]
async fn one_that_was_down_is_asked_again_once_it_may_have_recovered() {
    let two = Two::start().await;
    two.world.provider.script(Script { times: 0, ..Script::json(503, "{}") });
    for _ in 0..20 {
        let answer = two.ask(10, false).await;
        assert!(is_whole(&answer, false), "{}", answer.text());
    }
    let [primary, backup] = two.asked();
    assert!(primary <= 8, "it was left in peace: {primary}");
    assert_eq!(backup, 20);
    two.world.provider.clear_scripts();
    tokio::time::sleep(REST + Duration::from_millis(100)).await;
    let first = two.ask(10, false).await;
    assert_eq!(first.header("provider-name"), Some("openai"), "the first call behind the rest tries it");
    for _ in 0..5 {
        let answer = two.ask(10, true).await;
        assert!(is_whole(&answer, true));
        assert_eq!(answer.header("provider-name"), Some("openai"));
    }
}

#[tokio::test]
async fn a_client_is_told_when_nobody_is_left_to_ask() {
    let two = Two::with(Duration::from_secs(30), PATIENT).await;
    for provider in [&*two.world.provider, &two.backup] {
        provider.script(Script { times: 0, ..Script::json(500, r#"{"error":{"message":"theirs"}}"#) });
    }
    let answer = two.ask(10, false).await;
    assert_eq!((answer.status, answer.text().as_str()), (500, r#"{"error":{"message":"theirs"}}"#));
    assert!(two.asked().iter().sum::<usize>() <= 4);
    let mut last = two.ask(10, false).await;
    for _ in 0..4 {
        last = two.ask(10, false).await;
    }
    last.error(503, "server_error", "no_healthy_upstream");
    assert_eq!(last.header("retry-after"), Some("30"));
}

#[tokio::test]
async fn the_ledger_tells_each_attempt() {
    let two = Two::start().await;
    two.world.provider.script(Script { times: 0, ..Script::json(503, "{}") });
    let answer = two.ask(1000, false).await;
    assert!(is_whole(&answer, false), "{}", answer.text());
    let admin = two.world.gateway.admin_address();
    let mut record = serde_json::Value::Null;
    eventually("it is settled", async || {
        let asked = Connection::open(admin).await.request("GET", "/api/usage", &[bearer("admin-canary")], b"").await;
        record = asked.json()["data"][0].clone();
        record["state"] == "settled"
    })
    .await;
    let durations: Vec<u64> = record["tried"]
        .as_array_mut()
        .expect("a list")
        .iter_mut()
        .map(|one| one["duration_us"].take().as_u64().expect("a duration"))
        .collect();
    let failed = serde_json::json!({ "provider": "openai", "model": null, "outcome": "server_error", "status": 503,
        "duration_us": null });
    let answered = serde_json::json!({ "provider": "backup", "model": BACKUP_MODEL, "outcome": "success", "status": 200,
        "duration_us": null });
    assert_eq!(record["tried"], serde_json::json!([failed, failed, answered]));
    assert_eq!((&record["attempts"], &record["provider"]), (&3.into(), &"backup".into()));
    assert_eq!((&record["model"], &record["answered_model"]), (&"gpt-4o-mini".into(), &BACKUP_MODEL.into()));
    let all = record["duration_us"].as_u64().expect("a duration");
    assert!(durations.iter().all(|one| *one > 0) && durations.iter().sum::<u64>() <= all, "{durations:?} of {all}");
    assert!(record["upstream_us"].as_u64() <= Some(durations[2]), "{durations:?} {record}");
}

#[tokio::test]
async fn what_is_told_and_charged_is_the_answer_of_the_one_that_answered() {
    let two = Two::start().await;
    two.world.provider.script(Script { times: 0, ..Script::json(503, "{}") });
    let answer = two.ask(1000, true).await;
    assert!(is_whole(&answer, true), "{}", answer.text());
    assert!(answer.text().contains(BACKUP_MODEL), "the model that answered: {}", answer.text());
    let sent = &two.backup.received()[0];
    assert!(String::from_utf8_lossy(&sent.body).contains(r#""model":"backup-model""#));
    let line = &two.world.log.calls(1).await[0];
    assert_eq!(line["providerName"], "backup");
    assert_eq!((&line["model"], &line["answeredModel"]), (&"gpt-4o-mini".into(), &BACKUP_MODEL.into()));
    assert_eq!(line["attempts"], 3);
    let tried: Vec<_> = line["tried"].as_array().expect("a list").iter().collect();
    let told: Vec<_> = tried.iter().map(|one| (one["providerName"].as_str(), one["outcome"].as_str())).collect();
    let failed = (Some("openai"), Some("server_error"));
    assert_eq!(told, [failed, failed, (Some("backup"), Some("success"))]);
    assert_eq!((&tried[2]["model"], &tried[2]["statusCode"]), (&BACKUP_MODEL.into(), &"200".into()));
    let metrics = two.world.metrics().await;
    let attempts = |provider: &str, outcome: &str| {
        metric(&metrics, &format!(r#"gateway_upstream_attempts_total{{outcome="{outcome}",provider="{provider}"}}"#))
    };
    assert_eq!((attempts("openai", "server_error"), attempts("backup", "success")), (2.0, 1.0));
    let output = r#"gateway_tokens_total{model="gpt-4o-mini",provider="openai""#;
    assert!(!metrics.contains(output), "the one that failed has used nothing: {metrics}");
}

#[tokio::test]
async fn the_admin_service_tells_who_rests() {
    let two = Two::with(Duration::from_secs(30), PATIENT).await;
    let targets = async || {
        let headers = [("authorization", "Bearer admin-canary".to_owned())];
        let mut admin = Connection::open(two.world.gateway.admin_address()).await;
        let answer = admin.request("GET", "/api/targets", &headers, b"").await;
        assert!(!answer.text().contains("canary"), "{}", answer.text());
        let told: serde_json::Value = serde_json::from_str(&answer.text()).expect("JSON");
        let data = told["data"].as_array().expect("a list").clone();
        let named = |one: &&serde_json::Value| one["provider"] == "openai" && one["model"] == "gpt-4o-mini";
        data.iter().find(named).expect("the primary").clone()
    };
    assert_eq!(targets().await["state"], "closed");
    two.world.provider.script(Script { times: 0, ..Script::json(503, "{}") });
    for _ in 0..3 {
        assert!(is_whole(&two.ask(10, false).await, false));
    }
    let told = targets().await;
    assert_eq!((&told["state"], &told["cause"]), (&"open".into(), &"failures".into()), "{told}");
    assert!(told["rests_for_ms"].as_u64().is_some_and(|rest| rest > 20_000), "{told}");
    let metrics = two.world.metrics().await;
    let state = |labels: &str| metric(&metrics, &format!("gateway_target_state{{{labels}}}"));
    let (primary, backup) = (r#"model="gpt-4o-mini",provider="openai""#, r#"model="backup-model",provider="backup""#);
    assert_eq!((state(primary), state(backup)), (3.0, 0.0), "{metrics}");
    assert!(metrics.contains("gateway_target_state{model=\"\",provider=\"openai\"} 0\n"), "{metrics}");
    two.world.gateway.reload().expect("reloaded");
    assert_eq!(targets().await["state"], "open", "a reload forgets nothing");
}
