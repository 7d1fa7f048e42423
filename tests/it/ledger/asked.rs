//! What was called is what is told, by the command and by the admin API, while the gateway serves.

use super::*;

const TOKEN: &str = "0123456789abcdef";

#[tokio::test]
async fn usage_is_what_was_called() {
    // Images are the one route that this key has no scope for.
    let key_file = KEY_FILE.replace("images/generations", "audio/speech");
    let service = Service::with(Setup { key_file: Some(key_file), ..Setup::default() }).await;
    for _ in 0..3 {
        call(&service).await;
    }
    let stream = service.connect().await.post("/openai/v1/chat/completions", &chat_stream("hello")).await;
    assert_eq!(stream.status, 200);
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    let image = service.connect().await.post("/openai/v1/images/generations", r#"{"model":"dall-e-3"}"#).await;
    assert_eq!(image.status, 403, "its scope is missing");
    assert_eq!(service.status("wrong", "/openai/v1/models").await, 401);
    assert_eq!(service.get("/nowhere").await.status, 404);
    let folder = service.folder.path();
    eventually("all is there", async || usage_json(folder, &["--by", ""]).await["total"]["requests"] == 6).await;
    let told = usage_json(folder, &["--by", "route,status,user"]).await;
    let groups = told["data"].as_array().expect("groups");
    let mut lines: Vec<String> = groups
        .iter()
        .map(|group| {
            let text = |name: &str| group[name].as_str().expect("a text").to_owned();
            format!("{} {} {} {}", text("route"), text("status"), text("user"), group["requests"])
        })
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "GET /openai/v1/models 200 test 1",
            "POST /openai/v1/chat/completions 200 test 4",
            "POST /openai/v1/images/generations 403 test 1"
        ]
    );
    assert_eq!((&told["total"]["failed"], &told["total"]["open"]), (&1.into(), &0.into()));
    let filtered = usage_json(folder, &["--model", "gpt-4o-mini", "--since", "1h", "--by", "model"]).await;
    assert_eq!((&filtered["data"][0]["model"], &filtered["total"]["requests"]), (&"gpt-4o-mini".into(), &4.into()));
    let table = usage(folder, &["--config", "gateway.yaml"]).await;
    assert!(table.code == Some(0) && table.stdout.contains("\nTOTAL "), "{}", table.stdout);
    let csv = usage(folder, &["--ledger", "data/gateway.db", "--csv", "--by", "day"]).await;
    assert!(csv.stdout.starts_with("day,requests,failed,") && csv.stdout.lines().count() == 2, "{}", csv.stdout);
}

#[tokio::test]
async fn what_cannot_be_asked_ends_with_its_code() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let missing = usage(folder.path(), &["--config", "gateway.yaml"]).await;
    let place = database(folder.path()).canonicalize().unwrap_or_else(|_| database(folder.path()));
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains(&format!("there is no ledger at {}", place.display())), "{}", missing.stderr);
    assert!(!database(folder.path()).exists(), "asking makes nothing");
    let wrong = usage(folder.path(), &["--config", "gateway.yaml", "--since", "soon"]).await;
    assert_eq!((wrong.code, wrong.stderr.starts_with("ai-gateway: --since: expected")), (Some(2), true));
    let (_provider, folder) = prepare(&Setup { ledger: "off".to_owned(), ..Setup::default() }).await;
    let off = usage(folder.path(), &["--config", "gateway.yaml"]).await;
    assert_eq!((off.code, off.stderr.contains("`ledger: off`")), (Some(2), true), "{}", off.stderr);
}

#[tokio::test]
async fn a_ledger_that_is_off_leaves_no_file() {
    let setup = Setup { ledger: "off".to_owned(), admin: format!("token: {TOKEN}"), ..Setup::default() };
    let service = Service::with(setup).await;
    call(&service).await;
    assert!(!service.folder.path().join("data").exists());
    let answer = Connection::open(service.admin).await.request("GET", "/api/usage", &[bearer(TOKEN)], b"").await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &"ledger_off".into()));
    assert_eq!(service.metric("gateway_ledger_up").await, 1.0, "nothing is wrong");
}

#[tokio::test]
async fn the_admin_api_pages_and_groups() {
    let service = Service::with(Setup { admin: format!("token: {TOKEN}"), ..Setup::default() }).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, call(&service).await);
    }
    let get = async |query: &str| {
        let path = format!("/api/usage{query}");
        Connection::open(service.admin).await.request("GET", &path, &[bearer(TOKEN)], b"").await
    };
    assert_eq!(service.admin("/api/usage").await.status, 401);
    eventually("all is there", async || get("?by=user").await.json()["total"]["requests"] == 5).await;
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = get(&query).await.json();
        let data = page["data"].as_array().expect("calls");
        seen.extend(data.iter().map(|call| call["id"].as_str().expect("an id").to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        query = format!("?limit=2&cursor={next}");
    }
    assert_eq!(seen, ids, "newest first");
    let wrong = get("?by=planet").await;
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &"by".into()));
}
