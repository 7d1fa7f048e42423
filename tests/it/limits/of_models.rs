//! Limits of a key, a user or a team for one model, and how budgets stand by the command.
//!
//! Never does: read the database itself.

use super::*;

fn for_model(model: &str) -> String {
    capped(100).replace("gpt-4o-mini", model)
}

/// Both models cost a millionth of a dollar a token.
fn priced(limits: &str) -> Setup {
    let setup = limited(limits);
    let one = "usd_per_million_tokens: { input: 1, output: 1 }, max_input_tokens: 100000, max_output_tokens: 1000";
    let sections = setup.sections.replacen("openai: {", &format!("openai: {{ gpt-4o: {{ {one} }}, "), 1);
    Setup { sections, ..setup }
}

#[tokio::test]
async fn a_budget_for_one_model_leaves_the_others_alone() {
    let limits = "{ users: { test: { models: { gpt-4o: { budgets: [ { usd: 0.0003, per: day } ] } } } },
        key: { models: { gpt-4o-mini: { requests_per_minute: 2 } } } }";
    let world = World::with(priced(limits)).await;
    assert_eq!(world.post(CHAT, &for_model("gpt-4o")).await.status, 200);
    let settled = |all: Vec<Value>| all.iter().any(|one| one["kind"] == "user_model" && one["reserved"] == "0");
    let address = world.gateway.admin_address();
    eventually("it is settled", async || settled(standing(address).await)).await;
    let refused = world.post(CHAT, &for_model("gpt-4o")).await;
    let message = refused.error(429, "insufficient_quota", "insufficient_quota");
    assert!(message.starts_with("The budget of the user test for the model gpt-4o (usd/day)"), "{message}");
    for _ in 0..2 {
        assert_eq!(world.post(CHAT, &for_model("gpt-4o-mini")).await.status, 200);
    }
    let message = world.post(CHAT, &for_model("gpt-4o-mini")).await.error(429, "requests", "rate_limit_exceeded");
    assert!(message.contains("for this API key for the model gpt-4o-mini"), "{message}");
    assert_eq!(world.get("/openai/v1/models").await.status, 200);
    let all = standing(world.gateway.admin_address()).await;
    let one = all.iter().find(|one| one["kind"] == "user_model").expect("a limit");
    assert_eq!((&one["name"], &one["model"]), (&"test".into(), &"gpt-4o".into()));
    assert!(world.metrics().await.contains(r#"{kind="user_model",limit="usd/day",model="gpt-4o",name="test"}"#));
}

#[tokio::test]
async fn a_created_key_has_limits_for_one_model() {
    let service = Service::with(limited("{}")).await;
    let created = service.keys(&["create", "ann", "all", "--limit", "gpt-4o-mini:requests_per_minute=1"]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let key = created.stdout.trim();
    let headers = [bearer(key), ("content-type", "application/json".to_owned())];
    let ask = async |body: &str| service.connect().await.request("POST", CHAT, &headers, body.as_bytes()).await.status;
    eventually("it is known", async || service.status(key, "/openai/v1/models").await == 200).await;
    assert_eq!([ask(&capped(5)).await, ask(&capped(5)).await], [200, 429]);
    assert_eq!(ask(&for_model("gpt-4o")).await, 200);
    assert_eq!(service.status(key, "/openai/v1/models").await, 200);
}

/// What the command tells of budgets.
async fn budgets(service: &Service, more: &[&str]) -> String {
    let args: Vec<&str> = ["usage", "--config", "gateway.yaml", "--budgets"].iter().chain(more).copied().collect();
    let told = Process::run(service.folder.path(), &args, &[]).await;
    assert_eq!(told.code, Some(0), "{told:?}");
    told.stdout
}

#[tokio::test]
async fn the_command_tells_how_budgets_stand_while_the_gateway_runs_and_after_it() {
    let limits = "{ gateway: { budgets: [ { usd: 1, per: total } ] },
        users: { test: { budgets: [ { tokens: 5000, per: month } ], models: { gpt-4o: { budgets: [ { usd: 2, per: day } ] } } } } }";
    let mut service = Service::with(limited(limits)).await;
    let answer = service.connect().await.post(CHAT, &capped(100)).await;
    let usage = answer.json()["usage"]["total_tokens"].as_u64().expect("a number");
    service.provider.script(ai_gateway::demo::Script::delayed(SOON * 10));
    let mut running = service.connect().await;
    let (body, headers) = (capped(100), [bearer(KEY), ("content-type", "application/json".to_owned())]);
    running.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
    let held = body.len() as u64 + 64 + 100;
    let lines = async |service: &Service, more: &[&str]| -> Vec<Value> {
        let more: Vec<&str> = ["--json"].iter().chain(more).copied().collect();
        let told: Value = serde_json::from_str(&budgets(service, &more).await).expect("JSON");
        told["data"].as_array().expect("a list").clone()
    };
    let reserved = async || lines(&service, &["--user", "test"]).await[0]["reserved"] == held;
    eventually("both calls are told", async || reserved().await).await;
    let all = lines(&service, &[]).await;
    let told = |line: &Value| ["kind", "spent", "reserved", "remaining", "window_end"].map(|name| line[name].clone());
    let usd = |tokens: u64| Value::from(format!("{:.6}", tokens as f64 / 1e6).trim_end_matches('0'));
    assert_eq!(told(&all[0]), ["gateway".into(), usd(usage), usd(held), usd(1_000_000 - usage - held), Value::Null]);
    let tokens = [usage, held, 5000 - usage - held].map(Value::from);
    assert_eq!(told(&all[1])[1..4], tokens);
    assert_eq!(
        (&all[2]["kind"], &all[2]["model"], &all[2]["spent"]),
        (&"user_model".into(), &"gpt-4o".into(), &"0".into())
    );
    assert!(all[2]["window_end"].is_string() && all.len() == 3, "{all:?}");
    assert_eq!(lines(&service, &["--model", "gpt-4o"]).await.len(), 1);
    let table = budgets(&service, &[]).await;
    assert!(table.contains("\nuser test  gpt-4o  usd/day"), "{table}");
    let csv = budgets(&service, &["--csv", "--user", "test"]).await;
    assert!(
        csv.starts_with("kind,name,model,limit,") && csv.contains("\r\nuser,test,,tokens/month,false,5000,"),
        "{csv}"
    );
    drop(running);
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    let after = lines(&service, &[]).await;
    assert_eq!((&after[1]["reserved"], after[1]["spent"].as_u64() > Some(usage)), (&0.into(), true), "{after:?}");
}
