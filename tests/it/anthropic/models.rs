//! Models: renamed by splice, listed in Anthropic's shape, and never asked for across dialects.

use super::*;

#[tokio::test]
async fn a_model_is_renamed_by_splice_and_the_rest_stays() {
    let models = "{ house: { targets: [ { provider: backup, model: claude-backup } ] } }".to_owned();
    let claude = Claude::with(Setup { models, ..Setup::default() }, "").await;
    let body = r#"{ "max_tokens" : 9,"big":123456789012345678901, "messages":[{"role":"user","content":"x"}] , "model" : "house" }"#;
    let answer = claude.world.post(MESSAGES, body).await;
    assert_eq!((answer.status, answer.json()["model"].as_str()), (200, Some(BACKUP_MODEL)), "{}", answer.text());
    let sent = claude.backup.received().pop().expect("a request");
    assert_eq!(sent.body, body.replace("\"house\"", "\"claude-backup\"").as_bytes());
    assert_eq!(
        (sent.header("x-api-key"), sent.header("content-length")),
        (Some(BACKUP_KEY), Some(&*sent.body_length.to_string()))
    );
    let line = claude.line().await;
    assert_eq!((&line["model"], &line["answeredModel"]), (&"house".into(), &BACKUP_MODEL.into()));
}

#[tokio::test]
async fn a_model_of_another_dialect_is_not_available() {
    let models = "{ chat: { targets: [ { provider: openai, model: gpt-4o-mini } ] }, \
                  claude: { targets: [ { provider: anthropic, model: claude-sonnet-4-5 } ] } }";
    let key_file = KEYS.replace("/anthropic/*", "/*").replace("[{ \"method\"", "[{ \"method\": \"post\", \
         \"path\": \"/openai/v1/chat/completions\" }, { \"method\": \"post\", \"path\": \"/anthropic/v1/messages\" }, { \"method\"");
    let setup = Setup { models: models.to_owned(), key_file: Some(key_file), ..Setup::default() };
    let claude = Claude::with(setup, "").await;
    let mut asked = question("hello");
    asked["model"] = "chat".into();
    own_error(&claude.ask(&asked).await, 404, "not_found_error");
    asked["model"] = "claude".into();
    let answer = claude.world.post("/openai/v1/chat/completions", &asked.to_string()).await;
    answer.error(404, "invalid_request_error", "model_not_found");
    assert_eq!((claude.asked(), claude.world.provider.received().len()), ([0, 0], 0));
    assert_eq!(claude.ask(&asked).await.status, 200, "on its own route");
}

#[tokio::test]
async fn models_are_listed_as_the_provider_lists_them() {
    let claude = Claude::start().await;
    let headers = [("x-api-key", KEY.to_owned())];
    let list = claude.world.connect().await.request("GET", "/anthropic/v1/models?limit=5", &headers, b"").await;
    assert_eq!(
        (list.status, list.json()["data"][0]["id"].as_str()),
        (200, Some("claude-sonnet-4-5")),
        "{}",
        list.text()
    );
    assert_eq!(claude.provider.received()[0].target, "/v1/models?limit=5");
    let one =
        claude.world.connect().await.request("GET", "/anthropic/v1/models/claude-sonnet-4-5", &headers, b"").await;
    assert_eq!((one.status, one.json()["type"].as_str()), (200, Some("model")));
}
