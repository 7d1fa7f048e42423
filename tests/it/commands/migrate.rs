//! `ai-gateway migrate`: the NodeJS gateway's configuration, and what clients meet at a gateway on its result.
//!
//! Invariant: the files are those that the NodeJS gateway shipped (`shared/original.md`, `shared/keyfile.md`).
//! Never does: change more of the result than its ports and the provider's address.

use ai_gateway::demo::{Provider, ProviderOptions};

use super::*;

const TOML: &str = include_str!("../../fixtures/original/config.toml");

/// The shipped test key, `fake`, with two scopes of four.
const KEYS: &str = r#"{
  "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "username": "test",
    "salt": "ZmFrZQ==",
    "scopes": [
      { "method": "get", "path": "/openai/v1/models" },
      { "method": "post", "path": "/openai/v1/chat/completions" }
    ]
  }
}"#;

const YAML: &str = "conf/gateway.yaml";

struct Old {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Old {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.toml"), TOML).expect("written");
        let variables = vec![
            ("SERVER_CONFIG_FILE_PATH", "config.toml".to_owned()),
            ("HASHED_API_KEYS", STANDARD.encode(KEYS)),
            ("HASH_AUTH_SALT", "fake".to_owned()),
            ("OPENAI_API_KEY", PROVIDER_KEY.to_owned()),
            ("NODE_ENV", "production".to_owned()),
        ];
        Self { folder, variables }
    }

    fn without(&self, names: &[&str]) -> Vec<(&str, &str)> {
        let rest = self.variables.iter().filter(|(name, _)| !names.contains(name));
        rest.map(|(name, value)| (*name, value.as_str())).collect()
    }

    async fn run(&self, args: &[&str], without: &[&str]) -> Ended {
        let ended = Process::run(self.folder.path(), args, &self.without(without)).await;
        for secret in [PROVIDER_KEY, "ZmFrZQ", "c4010adbfc33", &STANDARD.encode(KEYS)] {
            assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{secret} in {ended:?}");
        }
        ended
    }

    fn yaml(&self) -> String {
        std::fs::read_to_string(self.folder.path().join(YAML)).expect("read")
    }

    /// Starts a gateway on the result, but for its ports and the provider's address, and asks it as old clients do.
    async fn serves_as_before(&self, without: &[&str]) {
        let check = self.run(&["check"], without).await;
        assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""), "{check:?}");
        assert!(check.stdout.contains("\nkeys           1 key from "), "{check:?}");
        let options = ProviderOptions { api_key: Some(PROVIDER_KEY.to_owned()), ..Default::default() };
        let provider = Provider::start(options).await.expect("the provider starts");
        let yaml = self
            .yaml()
            .replace("[::]:8080", "127.0.0.1:0")
            .replace("[::]:8081", "127.0.0.1:0")
            .replace("https://api.openai.com", &format!("http://{}", provider.addr()));
        std::fs::write(self.folder.path().join(YAML), yaml).expect("written");
        let process = Process::start(self.folder.path(), &["serve"], &self.without(without));
        let (address, admin) = process.serves().await;
        let json = ("content-type", "application/json".to_owned());
        let calls = [
            ("GET", "/openai/v1/files", None, 404, "Route not found"),
            ("GET", "/openai/v1/models", None, 401, "Invalid AI Gateway API key"),
            ("GET", "/openai/v1/models", Some("wrong"), 401, "Invalid AI Gateway API key"),
            ("POST", "/openai/v1/embeddings", Some(KEY), 403, "Invalid AI Gateway API scope"),
            ("POST", "/openai/v1/images/generations", Some(KEY), 403, "Invalid AI Gateway API scope"),
            ("GET", "/openai/v1/models", Some(KEY), 200, ""),
            ("POST", "/openai/v1/chat/completions", Some(KEY), 200, ""),
        ];
        for (method, path, key, status, message) in calls {
            let headers: Vec<_> = key.map(bearer).into_iter().chain([json.clone()]).collect();
            let body = if method == "POST" { chat("hi") } else { String::new() };
            let answer = Connection::open(address).await.request(method, path, &headers, body.as_bytes()).await;
            assert_eq!(answer.status, status, "{method} {path} {key:?}");
            if !message.is_empty() {
                assert_eq!(answer.json()["error"]["message"], message);
            }
        }
        let received = provider.received();
        assert!(received.iter().all(|one| one.header("authorization") == Some(&format!("Bearer {PROVIDER_KEY}"))));
        assert_eq!(received.len(), 2);
        let ping = Connection::open(admin).await.request("GET", "/ping", &[], b"").await;
        assert_eq!((ping.status, ping.text().as_str()), (200, "pong"));
        eventually("the summaries are there", async || {
            let metrics = Connection::open(admin).await.request("GET", "/metrics", &[], b"").await.text();
            metrics.contains("\nprovider_request_duration_ms_count{")
        })
        .await;
    }
}

#[tokio::test]
async fn the_shipped_configuration_serves_as_before_with_its_environment() {
    let old = Old::new();
    let refused = old.run(&["serve"], &[]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("`ai-gateway migrate` writes its settings into conf/gateway.yaml"), "{refused:?}");
    let migrated = old.run(&["migrate"], &[]).await;
    assert_eq!((migrated.code, migrated.stderr.as_str()), (Some(0), ""), "{migrated:?}");
    let lines = [
        "exact        config.toml:2:11 server.appPort -> server.listen: [\"[::]:8080\"]: all addresses, as before\n",
        "\napproximate  config.toml:3:13 server.adminPort -> admin.listen: \"[::]:8081\": open to other machines",
        "\nexact        environment OPENAI_API_KEY -> providers.openai.api_key: ${OPENAI_API_KEY}: a reference",
        "\nmanual       environment SERVER_CONFIG_FILE_PATH: unset it before `serve`",
        "\n11 exact, 1 approximate, 1 manual\nwrote conf/gateway.yaml; ",
    ];
    for line in lines {
        assert!(migrated.stdout.contains(line), "{line}\n{}", migrated.stdout);
    }
    old.serves_as_before(&["SERVER_CONFIG_FILE_PATH"]).await;
}

#[tokio::test]
async fn the_shipped_configuration_serves_as_before_with_a_key_file() {
    let old = Old::new();
    let args = ["migrate", "--config-toml", "config.toml", "--keys", "secrets/keys.json", "--json"];
    let migrated = old.run(&args, &["SERVER_CONFIG_FILE_PATH"]).await;
    assert_eq!((migrated.code, migrated.stderr.as_str()), (Some(0), ""), "{migrated:?}");
    let told: serde_json::Value = serde_json::from_str(&migrated.stdout).expect("JSON");
    assert_eq!((&told["written"], &told["keys"]["added"]), (&true.into(), &1.into()));
    assert_eq!((&told["counts"]["exact"], &told["counts"]["manual"]), (&11.into(), &0.into()));
    assert_eq!((&told["settings"][0]["line"], &told["yaml"]), (&2.into(), &old.yaml().into()));
    // The entry's own salt says what the variable said.
    old.serves_as_before(&["SERVER_CONFIG_FILE_PATH", "HASHED_API_KEYS", "HASH_AUTH_SALT"]).await;
}

#[tokio::test]
async fn the_original_key_file_is_read_in_place_of_its_variable() {
    let old = Old::new();
    std::fs::write(old.folder.path().join("old.json"), KEYS).expect("written");
    let without = ["SERVER_CONFIG_FILE_PATH", "HASHED_API_KEYS", "HASH_AUTH_SALT"];
    let alone = old.run(&["migrate", "--config-toml", "config.toml", "--hashed-api-keys", "old.json"], &without).await;
    assert_eq!((alone.code, alone.stdout.as_str()), (Some(2), ""), "{alone:?}");
    assert!(alone.stderr.contains("--keys <FILE>"), "{alone:?}");
    let from = |file| ["migrate", "--config-toml", "config.toml", "--keys", "keys.json", "--hashed-api-keys", file];
    let none = old.run(&from("none.json"), &without).await;
    assert_eq!(none.code, Some(1), "{none:?}");
    assert!(none.stderr.contains("none.json") && none.stderr.ends_with("no YAML was written\n"), "{none:?}");
    let broken = old.run(&from("config.toml"), &without).await;
    assert_eq!(broken.code, Some(2), "{broken:?}");
    assert!(!old.folder.path().join("keys.json").exists() && !old.folder.path().join(YAML).exists());
    let migrated = old.run(&from("old.json"), &without).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    // Without the salt of the original nothing can say whether the entries' own is the same.
    assert!(migrated.stderr.starts_with("warning: ") && migrated.stderr.contains("HASH_AUTH_SALT"), "{migrated:?}");
    let line = "exact        old.json keys -> keys.file: keys.json: its entries are written there\n";
    assert!(migrated.stdout.contains(line), "{}", migrated.stdout);
    old.serves_as_before(&without).await;
}

#[tokio::test]
async fn nothing_is_written_where_it_cannot_all_be() {
    let old = Old::new();
    let list = || std::fs::read_dir(old.folder.path()).expect("read").count();
    let dry = old.run(&["migrate", "--dry-run", "--keys", "secrets/keys.json"], &[]).await;
    assert_eq!((dry.code, list()), (Some(0), 1), "{dry:?}");
    assert!(
        dry.stdout.contains("\nkeys: 1 would be added to secrets/keys.json") && dry.stdout.contains("\nproviders:\n")
    );
    let without = old.run(&["migrate", "--keys", "secrets/keys.json"], &["HASHED_API_KEYS"]).await;
    assert_eq!((without.code, without.stdout.as_str(), list()), (Some(2), "", 1), "{without:?}");

    let other = KEYS.replace("\"test\"", "\"somebody\"");
    std::fs::write(old.folder.path().join("keys.json"), &other).expect("written");
    let conflict = old.run(&["migrate", "--keys", "keys.json"], &[]).await;
    assert_eq!((conflict.code, conflict.stdout.as_str(), list()), (Some(2), "", 2), "{conflict:?}");
    assert!(conflict.stderr.contains("another content (username)\nno YAML was written"), "{conflict:?}");

    assert_eq!(old.run(&["migrate"], &[]).await.code, Some(0));
    std::fs::write(old.folder.path().join(YAML), "mine").expect("written");
    let there = old.run(&["migrate", "--keys", "new.json"], &[]).await;
    assert_eq!((there.code, old.yaml().as_str(), list()), (Some(2), "mine", 3), "{there:?}");
    assert!(there.stderr.starts_with("conf/gateway.yaml: is there already, and was left as it is"), "{there:?}");
    assert_eq!(old.run(&["migrate", "--force"], &[]).await.code, Some(0));
    assert!(old.yaml().contains("\nproviders:\n"));

    std::fs::write(old.folder.path().join("config.toml"), TOML.replace("8080", "\"canary\"")).expect("written");
    let broken = old.run(&["migrate", "--force", "--json"], &[]).await;
    assert_eq!(broken.code, Some(2));
    assert!(broken.stderr.starts_with("config.toml:2:11 server.appPort: expected a port"), "{broken:?}");
    let told: serde_json::Value = serde_json::from_str(&broken.stdout).expect("JSON");
    assert_eq!((&told["ok"], &told["problems"][0]["line"]), (&false.into(), &2.into()));
    assert!(!broken.stderr.contains("canary"));
}
