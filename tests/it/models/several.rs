//! A model whose targets are on providers with other base URLs, paths, keys and names for it.

use super::*;

/// Paths that a body with a model is posted to, with one, and what of the answer says that it is whole.
const ASKED: [(&str, &str, &str); 3] = [
    ("chat/completions", r#""messages":[{"role":"user","content":"hello"}]"#, "finish_reason"),
    ("embeddings", r#""input":"hello""#, "embedding"),
    ("responses", r#""input":"hello""#, "completed"),
];

fn setup() -> Setup {
    let routes = "routes: [ get /v1/models, post /v1/chat/completions, post /v1/embeddings, post /v1/responses ]";
    let key_file = KEY_FILE.replace(
        r#""scopes": ["#,
        r#""scopes": [
      { "method": "post", "path": "/openai/v1/responses" },"#,
    );
    let models = ", vectors: { targets: [ { provider: backup, model: backup-embedding } ] }, \
        far: { targets: [ { provider: backup, model: backup-model } ] }";
    Setup { provider: routes.to_owned(), key_file: Some(key_file), models: models.to_owned(), ..Setup::default() }
}

over_all_pairs! { each_route_reaches_the_provider_that_serves_the_model }

async fn each_route_reaches_the_provider_that_serves_the_model(pair: Pair) {
    let named = Named::with(Setup { pair, ..setup() }).await;
    let mut client = named.world.client().await;
    for (count, (path, content, whole)) in (1..).zip(ASKED) {
        let (model, theirs) =
            if path == "embeddings" { ("vectors", "backup-embedding") } else { ("far", "backup-model") };
        named.backup.script(answering(path, theirs));
        let body = format!(r#"{{ "model" : "{model}",{content} , "n_1": 1.0}}"#);
        let answer = client.post(&format!("/openai/v1/{path}"), &body).await;
        assert_eq!((answer.status, answer.header("provider-name")), (200, Some("backup")), "{}", answer.text());
        assert!(answer.text().contains(whole) && answer.json()["model"] == theirs, "the model that answered is told");
        let sent = &named.backup.received()[count - 1];
        assert_eq!(sent.target, format!("{BACKUP_PATH}/{path}"));
        assert_eq!(sent.body, body.replace(&format!("\"{model}\""), &format!("\"{theirs}\"")));
        assert_eq!(sent.header("authorization"), Some(&*format!("Bearer {BACKUP_KEY}")));
        let line = &named.world.log.calls(count).await[count - 1];
        assert_eq!(line["providerName"], "backup");
        assert_eq!((line["model"].as_str(), line["answeredModel"].as_str()), (Some(model), Some(theirs)));
        assert_eq!((&line["certainty"], &line["attempts"]), (&"settled".into(), &1.into()), "{line}");
    }
    assert_eq!(named.world.provider.received().len(), 0);
}

/// What the backup answers, whose path the scriptable provider does not know by itself.
fn answering(path: &str, model: &str) -> Script {
    let usage =
        r#""usage":{"prompt_tokens":3,"completion_tokens":2,"input_tokens":3,"output_tokens":2,"total_tokens":5}"#;
    let whole = match path {
        "chat/completions" => r#""choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]"#,
        "embeddings" => r#""data":[{"embedding":[0.5],"index":0}]"#,
        _ => r#""status":"completed","output":[]"#,
    };
    Script::json(200, format!(r#"{{"model":"{model}",{whole},{usage}}}"#)).on(&format!("{BACKUP_PATH}/{path}"))
}

#[tokio::test]
async fn a_fallback_on_another_provider_is_asked_by_its_own_path_and_name() {
    let named = Named::with(setup()).await;
    named.world.provider.script(Script::json(503, "busy"));
    named.backup.script(answering("chat/completions", "backup-model"));
    let answer = named.world.post("/openai/v1/chat/completions", &chat("x").replace("gpt-4o-mini", "wide")).await;
    assert_eq!((answer.status, answer.header("provider-name")), (200, Some("backup")), "{}", answer.text());
    let [first, second] = [named.world.provider.received().remove(0), named.backup.received().remove(0)];
    assert!(String::from_utf8_lossy(&first.body).contains(r#""model":"gpt-4o""#));
    assert!(String::from_utf8_lossy(&second.body).contains(r#""model":"backup-model""#));
    let line = &named.world.log.calls(1).await[0];
    let tried: Vec<_> = line["tried"].as_array().expect("a list").iter().map(|one| one["model"].as_str()).collect();
    assert_eq!(tried, [Some("gpt-4o"), Some("backup-model")]);
    assert_eq!((&line["model"], &line["answeredModel"]), (&"wide".into(), &"backup-model".into()));
}
