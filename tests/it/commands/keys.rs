//! `ai-gateway keys` beside a gateway that runs.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;

/// The key that a command has printed.
fn key_of(created: &Ended) -> String {
    assert_eq!(created.code, Some(0), "{created:?}");
    let key = created.stdout.strip_suffix('\n').expect("a line");
    assert!(key.starts_with("sk-aigw-") && key.len() == 57, "the key alone, as a shell takes it: {key}");
    key.to_owned()
}

fn key_file(service: &Service) -> PathBuf {
    service.folder.path().join("keys.json")
}

#[tokio::test]
async fn a_created_key_works_at_the_running_gateway_within_two_seconds() {
    let service = Service::start().await;
    // The arguments of the original's generator.
    let all = key_of(&service.keys(&["create", "john.doe", "all"]).await);
    let created = Instant::now();
    eventually("the key works", async || service.status(&all, "/openai/v1/models").await == 200).await;
    assert!(created.elapsed() < Duration::from_secs(2), "{:?}", created.elapsed());
    let scopes = "get:/openai/v1/models,post:/openai/v1/embeddings";
    let some = key_of(&service.keys(&["create", "john.doe", scopes]).await);
    eventually("the other one too", async || service.status(&some, "/openai/v1/models").await == 200).await;

    let json = ("content-type", "application/json".to_owned());
    let post = async |key: &str, path: &str, body: &str| {
        service.connect().await.request("POST", path, &[bearer(key), json.clone()], body.as_bytes()).await
    };
    let embeddings = r#"{"model":"text-embedding-3-small","input":"x"}"#;
    assert_eq!(post(&all, "/openai/v1/embeddings", embeddings).await.status, 200);
    assert_eq!(post(&some, "/openai/v1/embeddings", embeddings).await.status, 200);
    assert_eq!(post(&all, "/openai/v1/chat/completions", &chat("x")).await.status, 200);
    let refused = post(&some, "/openai/v1/chat/completions", &chat("x")).await;
    refused.error(403, "invalid_request_error", "insufficient_permissions");
    assert_eq!(service.get("/openai/v1/models").await.status, 200, "keys that were there stay");
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_stays_in_the_list() {
    let service = Service::start().await;
    let created = service.keys(&["create", "jane.doe", "all", "--json"]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let created: serde_json::Value = serde_json::from_str(&created.stdout).expect("JSON");
    let (id, key) = (created["id"].as_str().expect("an id"), created["key"].as_str().expect("a key"));
    eventually("the key works", async || service.status(key, "/openai/v1/models").await == 200).await;
    let revoked = service.keys(&["revoke", id]).await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    eventually("it is refused", async || service.status(key, "/openai/v1/models").await == 401).await;
    let list = service.keys(&["list", "--json"]).await;
    let list: serde_json::Value = serde_json::from_str(&list.stdout).expect("JSON");
    let of = list.as_array().expect("a list").iter().find(|entry| entry["id"] == id).expect("it is there");
    assert_eq!((of["state"].as_str(), of["username"].as_str()), (Some("revoked"), Some("jane.doe")));
    let unknown = service.keys(&["revoke", "nobody"]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
}

#[tokio::test]
async fn the_list_shows_neither_keys_nor_hashes_nor_salts() {
    let service = Service::start().await;
    let key = key_of(&service.keys(&["create", "jane.doe", "all"]).await);
    let file = std::fs::read_to_string(key_file(&service)).expect("read");
    assert!(!file.contains(&key), "the key itself is nowhere");
    let file: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    for args in [&["list"][..], &["list", "--json"]] {
        let list = service.keys(args).await;
        assert_eq!(list.code, Some(0));
        assert!(list.stdout.contains("jane.doe") && list.stdout.contains("test"), "{}", list.stdout);
        for (digest, entry) in file.as_object().expect("an object") {
            // The id of an old entry is the beginning of its digest.
            for secret in [&digest[..16], &digest[16..], entry["salt"].as_str().expect("a salt"), &key] {
                assert!(!list.stdout.contains(secret), "{secret} in {}", list.stdout);
            }
        }
    }
}

#[tokio::test]
async fn a_broken_key_file_is_left_as_it_is() {
    let service = Service::start().await;
    for broken in ["", "{\"abc\": {", "[]", "{\"abc\": {\"username\": \"x\"}}"] {
        std::fs::write(key_file(&service), broken).expect("written");
        for args in [&["create", "john.doe", "all"][..], &["list"], &["revoke", "abc"]] {
            let ended = service.keys(args).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?} {ended:?}");
            assert!(ended.stderr.contains("keys.json"), "{ended:?}");
        }
        assert_eq!(std::fs::read_to_string(key_file(&service)).expect("read"), broken);
    }
    assert_eq!(service.get("/openai/v1/models").await.status, 200, "the gateway keeps the keys that it had");
}

#[tokio::test]
async fn keys_that_are_made_at_the_same_time_are_all_there() {
    let service = Service::start().await;
    let args = ["keys", "create", "john.doe", "all", "--config", "gateway.yaml"];
    let mut makers: Vec<Process> = (0..5).map(|_| Process::start(service.folder.path(), &args, NO_VARIABLES)).collect();
    let mut keys = Vec::new();
    for maker in &mut makers {
        keys.push(key_of(&maker.end().await));
    }
    for key in keys {
        eventually("each key works", async || service.status(&key, "/openai/v1/models").await == 200).await;
    }
    let file = std::fs::read(key_file(&service)).expect("read");
    let file: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
    assert_eq!(file.as_object().expect("an object").len(), 6);
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
}

#[tokio::test]
async fn keys_need_no_provider_key_and_no_file() {
    let yaml = "providers: { openai: { base_url: 'https://api.example.com', api_key: '${NOT_SET}' } }";
    let folder = folder_with(yaml);
    let create = ["keys", "create", "john.doe", "all", "--config", "gateway.yaml"];
    key_of(&run(folder.path(), &create).await);
    let made = folder.path().join("provision/secrets/hashed-api-keys.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(made).expect("made").permissions());
    assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
    let empty = tempfile::tempdir().expect("a folder");
    key_of(&run(empty.path(), &["keys", "create", "john.doe", "all"]).await);
    let list = run(empty.path(), &["keys", "list"]).await;
    assert!(list.code == Some(0) && list.stdout.contains("john.doe"), "{list:?}");
}

#[tokio::test]
async fn a_scope_without_a_route_is_warned_of() {
    let service = Service::start().await;
    let created = service.keys(&["create", "john.doe", "get:/openai/v1/moddels"]).await;
    key_of(&created);
    assert!(created.stderr.contains("no route is configured for the scope get:/openai/v1/moddels"), "{created:?}");
}

#[tokio::test]
async fn a_named_key_file_needs_no_configuration() {
    let folder = folder_with("server: { thread: canary");
    let command = async |args: &[&str]| {
        let args = [&["keys"], args, &["--config", "gateway.yaml"]].concat();
        run(folder.path(), &args).await
    };
    let made = command(&["create", "john.doe", "get:/openai/v1/models", "--file", "new/k.json"]).await;
    key_of(&made);
    assert!(made.stderr.contains("warning: the scopes are not compared with the configured routes"), "{made:?}");
    let path = std::path::absolute(folder.path()).expect("a path").join("new/k.json").display().to_string();
    assert!(made.stderr.contains(&format!("  file     {path}\n")), "{made:?}");
    assert!(made.stderr.contains("/new was not there and was made"), "{made:?}");

    let list = command(&["list", "--json", "--file", "new/k.json"]).await;
    assert_eq!((list.code, list.stderr.as_str()), (Some(0), ""));
    let list: serde_json::Value = serde_json::from_str(&list.stdout).expect("JSON");
    let revoked = command(&["revoke", list[0]["id"].as_str().expect("an id"), "--file", "new/k.json"]).await;
    assert_eq!((revoked.code, revoked.stderr.as_str()), (Some(0), ""));

    let hint = "\n(hint: `--file FILE` works without the configuration)\n";
    for args in [&["list"][..], &["revoke", "key_1"], &["create", "john.doe", "get:/openai/v1/models"]] {
        let ended = command(args).await;
        assert!(ended.code == Some(2) && ended.stderr.ends_with(hint), "{args:?} {ended:?}");
    }
    let all = command(&["create", "john.doe", "all", "--file", "new/k.json"]).await;
    assert!(all.code == Some(2) && all.stderr.contains("`all` needs the configured routes"), "{all:?}");
    assert!(!format!("{all:?} {made:?}").contains("canary"));
    let missing = command(&["list", "--file", "none.json"]).await;
    assert!(missing.stderr.contains(&path.replace("new/k.json", "none.json")), "{missing:?}");
}
