//! `ai-gateway keys rotate` and `keys import`, beside a gateway that runs.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::*;

fn json_of(ended: &Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).expect("JSON")
}

fn text_of<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().expect("a text")
}

const GENERATED: &str = "R6XiLWeArUl0UH15y0zynOkUWScYvLDYgD_AOk4JMwc";
const MODELS: &str = "/openai/v1/models";

#[tokio::test]
async fn both_keys_work_during_the_overlap_and_the_old_one_expires_after_it() {
    let service = Service::start().await;
    let works = async |key: &str| service.status(key, MODELS).await == 200;
    let first = json_of(&service.keys(&["create", "jane.doe", "all", "--team", "blue", "--json"]).await);
    let second = json_of(&service.keys(&["rotate", text_of(&first, "id"), "--json"]).await);
    assert_eq!(
        (&second["username"], &second["scopes"], &second["team"]),
        (&"jane.doe".into(), &first["scopes"], &"blue".into())
    );
    assert_eq!((&second["expires_at"], &second["replaces"]["id"]), (&Value::Null, &first["id"]));
    assert_eq!(second["replaces"]["state"], "active");
    let (old, new) = (text_of(&first, "key"), text_of(&second, "key"));
    eventually("the new key works", async || works(new).await).await;
    assert!(works(old).await, "the old one too");

    let rotated = service.keys(&["rotate", text_of(&second, "id"), "--overlap", "1s"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    assert!(rotated.stderr.contains(&format!("\nThe old key {} works until ", text_of(&second, "id"))), "{rotated:?}");
    let newest = rotated.stdout.strip_suffix('\n').expect("a line");
    eventually("the newest key works", async || works(newest).await).await;
    eventually("the old one has expired", async || !works(new).await).await;
    let refused = service.connect().await.request("GET", MODELS, &[bearer(new)], b"").await;
    refused.error(401, "invalid_request_error", "expired_api_key");
    assert!(works(old).await && works(newest).await, "the others are as they were");
    let ended = service.keys(&["rotate", text_of(&second, "id")]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("has expired, so there is nothing to replace"), "{ended:?}");
}

#[tokio::test]
async fn a_key_of_the_original_is_replaced_at_once() {
    let service = Service::start().await;
    let rotated = service.keys(&["rotate", "ebc5f4226c40", "--overlap", "0s"]).await;
    assert_eq!(rotated.code, Some(0), "{rotated:?}");
    let new = rotated.stdout.lines().next().expect("a key").to_owned();
    eventually("the new key works", async || service.status(&new, MODELS).await == 200).await;
    let refused = service.get(MODELS).await;
    refused.error(401, "invalid_request_error", "revoked_api_key");
    for (overlap, why) in [("soon", "is no span of time"), ("99999y", "is too long")] {
        let wrong = service.keys(&["rotate", "key_", "--overlap", overlap]).await;
        assert!(wrong.code == Some(2) && wrong.stderr.contains(why), "{wrong:?}");
    }
}

/// The original's test file, and the key that its generator made (`shared/keyfile.md`), under the generator's salt.
fn old_keys() -> String {
    let second = "2c2e5b7201c906daceb0899c9dd2fe0e3ad7e8b051bf600589e247ee08e07a2d";
    let entry = r#"{ "username": "old", "salt": "QlFkdWtiZmRDMG91R3VDeUNFS3JZQT09", "scopes": [{ "method": "get", "path": "/openai/v1/models" }] }"#;
    format!("{},\n  \"{second}\": {entry}\n}}", KEY_FILE.strip_suffix("\n}").expect("the end"))
}

#[tokio::test]
async fn keys_of_the_original_are_imported_and_work() {
    let service = Service::start().await;
    let folder = service.folder.path();
    let before = std::fs::read_to_string(folder.join("keys.json")).expect("read");
    std::fs::write(folder.join("variable"), STANDARD.encode(old_keys())).expect("written");
    let tried = json_of(&service.keys(&["import", "variable", "--base64", "--dry-run", "--json"]).await);
    assert_eq!((&tried["added"][0]["username"], &tried["skipped"][0]["id"]), (&"old".into(), &"ebc5f4226c40".into()));
    assert_eq!(std::fs::read_to_string(folder.join("keys.json")).expect("read"), before);

    let done = service.keys(&["import", "variable", "--base64"]).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.ends_with("/keys.json, 1 there already\n"), "{}", done.stdout);
    assert!(done.stderr.contains("have no id and count under the salt that they name"), "{}", done.stderr);
    eventually("the key works", async || service.status(GENERATED, MODELS).await == 200).await;
    assert_eq!(service.get(MODELS).await.status, 200);

    let other = old_keys().replace("\"old\"", "\"other\"");
    std::fs::write(folder.join("other.json"), other).expect("written");
    let before = std::fs::read_to_string(folder.join("keys.json")).expect("read");
    let refused = service.keys(&["import", "other.json"]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    assert!(refused.stderr.contains("\n  2c2e5b7201c9: the same key stands there with another content (username)"));
    assert_eq!(std::fs::read_to_string(folder.join("keys.json")).expect("read"), before);
}

#[test]
fn keys_are_imported_from_standard_input_and_the_salt_is_compared() {
    let folder = folder_with("server: {}");
    let mut import = Command::new(env!("CARGO_BIN_EXE_ai-gateway"))
        .current_dir(folder.path())
        .args(["keys", "import", "-", "--config", "gateway.yaml", "--file", "keys.json"])
        .env_clear()
        .env("HASH_AUTH_SALT", "another")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    import.stdin.take().expect("a pipe").write_all(old_keys().as_bytes()).expect("written");
    let ended = import.wait_with_output().expect("ended");
    let (stdout, stderr) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && stdout.contains("\n2 added to /"), "{stdout}{stderr}");
    let warning = "work only where they were made under HASH_AUTH_SALT: ebc5f4226c40, 2c2e5b7201c9\n";
    assert!(stderr.contains(warning) && !stderr.contains("another\n"), "{stderr}");
}
