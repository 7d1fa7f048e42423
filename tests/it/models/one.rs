//! One model by its name in the path.

use super::*;

over_all_pairs! {
    a_name_of_the_configuration_is_told_without_asking_anybody,
    what_a_key_may_not_use_is_not_found,
}

async fn a_name_of_the_configuration_is_told_without_asking_anybody(pair: Pair) {
    let named = Named::of(pair).await;
    let mut client = named.world.client().await;
    let answer = get(&mut client, "/openai/v1/models/wide").await;
    let expected = r#"{"id":"wide","object":"model","created":0,"owned_by":"openai, backup"}"#;
    assert_eq!((answer.status, answer.text().as_str()), (200, expected));
    let head = client.request("HEAD", "/openai/v1/models/wide", &[bearer(KEY)], b"").await;
    assert_eq!(
        (head.status, head.body.len(), head.header("content-length")),
        (200, 0, Some(&*expected.len().to_string()))
    );
    assert_eq!(named.world.provider.received().len() + named.backup.received().len(), 0);
    let theirs = get(&mut client, "/openai/v1/models/gpt-4o").await;
    assert_eq!((theirs.json()["owned_by"].as_str(), theirs.header("provider-name")), (Some("system"), Some("openai")));
    let none = get(&mut client, "/openai/v1/models/none").await;
    assert_eq!((none.status, none.json()["error"]["code"].as_str()), (404, Some("model_not_found")));
}

async fn what_a_key_may_not_use_is_not_found(pair: Pair) {
    let named = Named::with(Setup { pair, key_file: Some(MODEST.to_owned()), ..Setup::default() }).await;
    let mut client = named.world.client().await;
    for hidden in ["wide", "gpt-4o-mini", "none"] {
        let answer = get(&mut client, &format!("/openai/v1/models/{hidden}")).await;
        answer.error(404, "invalid_request_error", "model_not_found");
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    assert_eq!(named.world.provider.received().len() + named.backup.received().len(), 0);
    assert_eq!(get(&mut client, "/openai/v1/models/fast").await.status, 200);
    assert_eq!(get(&mut client, "/openai/v1/models/gpt-4o").await.status, 200);
}

#[tokio::test]
async fn a_name_that_a_pattern_fits_is_asked_of_the_provider_that_serves_it() {
    let named = Named::with(Setup::default()).await;
    named.backup.script(Script::json(200, "{}").on("/api/v3/models/ft-x").always());
    for asked in ["ft-x", "far-away"] {
        let answer = named.world.get(&format!("/openai/v1/models/{asked}?a=b")).await;
        assert_eq!((answer.status, answer.header("provider-name")), (200, Some("backup")));
        let sent = named.backup.received();
        let sent = sent.last().expect("asked");
        assert_eq!(sent.target, "/api/v3/models/ft-x?a=b", "{asked}");
        assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {BACKUP_KEY}")));
    }
    assert_eq!(named.world.provider.received().len(), 0);
}

#[tokio::test]
async fn where_only_listed_models_may_be_asked_for_no_other_is_found() {
    let sections = "only_listed_models: true\n".to_owned();
    let named = Named::with(Setup { sections, ..Setup::default() }).await;
    named.world.get("/openai/v1/models/gpt-4o").await.error(404, "invalid_request_error", "model_not_found");
    assert_eq!(named.world.get("/openai/v1/models/fast").await.status, 200);
    assert_eq!(named.world.provider.received().len(), 0);
}
