//! Tests of the key file on disk.
//!
//! Invariant: each works in a folder of its own.
//! Never does: wait for a clock.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::time::Duration;

use super::*;
use crate::error::Refusal;
use crate::keys::KeyRing;
use crate::units::{OwnLimits, RouteSet};

const OLD: &str = r#"{
  "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "username": "\u00c5sa",
    "salt":   "d3Jvbmc=",
    "scopes": [ { "method": "get", "path": "/openai/v1/models" } ]
  }
}"#;

fn at() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn new(username: &str) -> NewKey {
    NewKey {
        username: username.to_owned(),
        scopes: vec!["get:/openai/v1/models".parse().unwrap()],
        expires_at: None,
        models: None,
        team: None,
        allowance: Allowance::default(),
        now: at(),
    }
}

fn limits() -> OwnLimits {
    let mut limits = OwnLimits::default();
    for text in ["requests_per_minute=60", "usd/month=12.5", "usd/total=100", "tokens/day=9", "shadow", "m:usd/day=1"] {
        limits.set(text).unwrap();
    }
    limits
}

fn env_salt() -> Secret {
    Secret::new("fake".to_owned())
}

fn ring(path: &Path) -> KeyRing {
    KeyRing::build(load(path, Some(&env_salt())).unwrap(), |_| RouteSet::default())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_created_key_is_found_and_the_missing_folder_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/b/keys.json");
    let key = NewKey {
        expires_at: Some(at() + Duration::from_secs(60)),
        models: Some(vec!["gpt-*".to_owned()]),
        team: Some("blue".to_owned()),
        allowance: Allowance { limits: limits(), default_max_output_tokens: Some(500) },
        ..new("Åsa \"x\"")
    };
    let created = create(&path, None, key).unwrap();
    let ring = ring(&path);
    let found = ring.find(created.token.expose().as_bytes()).unwrap();
    assert_eq!(found.record.id, created.id);
    assert_eq!(&*found.record.username, "Åsa \"x\"");
    assert_eq!((found.record.created_at, found.record.team.as_deref()), (Some(at()), Some("blue")));
    assert_eq!(*found.record.allowance, Allowance { limits: limits(), default_max_output_tokens: Some(500) });
    assert_eq!(found.usable(at() + Duration::from_secs(60)), Err(Refusal::ExpiredKey));
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.is_ascii() && !text.contains(created.token.expose()));
    assert!(text.starts_with("{\n  \"") && text.ends_with("\n  }\n}\n") && text.contains("\n    \"id\": \"key_"));
}

#[test]
fn a_created_key_leaves_every_other_byte_and_shares_the_salt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    fs::write(&path, OLD).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let first = create(&path, Some(&env_salt()), new("a")).unwrap();
    let second = create(&path, None, new("a")).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(OLD.strip_suffix("\n}").unwrap()));
    assert_eq!(mode(&path), 0o640);
    let file = load(&path, None).unwrap();
    assert_eq!((file.len(), file.salts.len()), (3, 2));
    for key in [b"fake", first.token.expose().as_bytes(), second.token.expose().as_bytes()] {
        assert!(ring(&path).find(key).is_ok());
    }
}

#[test]
fn a_revoked_key_stays_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    fs::write(&path, OLD).unwrap();
    let salt = env_salt();
    let created = create(&path, Some(&salt), new("a")).unwrap();
    let before = Stamp::of(&path).unwrap();

    let revoked = revoke(&path, Some(&salt), created.id.as_str(), at()).unwrap();
    assert!(!revoked.already && revoked.record.disabled);
    assert_ne!(Stamp::of(&path).unwrap(), before);
    // The old entry, by a part of its id: it keeps the environment's salt.
    revoke(&path, Some(&salt), "ebc5", at()).unwrap();
    for key in ["fake", created.token.expose()] {
        let ring = ring(&path);
        let found = ring.find(key.as_bytes()).unwrap();
        assert_eq!(found.usable(at()), Err(Refusal::RevokedKey));
        assert_eq!(found.record.revoked_at, Some(at()));
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.contains("\"username\": \"\\u00c5sa\",\n    \"salt\": \"d3Jvbmc=\"")
            && text.matches("\"id\"").count() == 1
    );

    let again = revoke(&path, Some(&salt), "ebc5", at() + Duration::from_secs(9)).unwrap();
    assert!(again.already && again.record.revoked_at == Some(at()));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn an_id_must_name_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    assert!(matches!(revoke(&path, None, "x", at()), Err(StoreError::Io { .. })));
    assert!(!path.exists());
    for user in ["a", "b"] {
        create(&path, None, new(user)).unwrap();
    }
    assert!(matches!(revoke(&path, None, "key_", at()), Err(StoreError::Ambiguous { count: 2, .. })));
    for id in ["", "nobody"] {
        assert!(matches!(revoke(&path, None, id, at()), Err(StoreError::UnknownId { .. })));
    }
    assert!(list(&path, None).unwrap().iter().all(|record| !record.disabled));
}

#[test]
fn a_broken_file_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    for broken in ["", "{", "[]", "{\"a\": 1}", OLD.strip_suffix('}').unwrap(), "\u{feff}{}"] {
        fs::write(&path, broken).unwrap();
        let error = create(&path, None, new("a")).unwrap_err();
        assert!(matches!(error, StoreError::Invalid { .. }), "{error}");
        assert!(revoke(&path, None, "ebc5", at()).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
    }
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "the file and its lock: {names:?}");
}

#[test]
fn a_key_that_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    fs::write(&path, OLD).unwrap();
    let error = create(&path, None, new("")).unwrap_err();
    assert!(matches!(error, StoreError::Unwritable { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), OLD);
}

#[test]
fn a_link_keeps_leading_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let real = folder.path().join("real.json");
    let link = folder.path().join("link.json");
    fs::write(&real, "{}").unwrap();
    symlink("real.json", &link).unwrap();
    create(&link, None, new("a")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(list(&real, None).unwrap().len(), 1);

    fs::remove_file(&real).unwrap();
    assert!(create(&link, None, new("a")).is_err());
    assert_eq!(Stamp::of(&link).unwrap(), None);
}

#[test]
fn keys_created_at_once_are_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let tokens: Vec<PlainToken> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..8).map(|_| scope.spawn(|| [(); 5].map(|()| create(&path, None, new("a")).unwrap().token))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let ring = ring(&path);
    assert_eq!((ring.len(), load(&path, None).unwrap().salts.len()), (40, 1));
    assert!(tokens.iter().all(|token| ring.find(token.expose().as_bytes()).is_ok()));
}

#[test]
fn errors_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = load(&folder.path().join("no.json"), None).unwrap_err().to_string();
    assert!(missing.starts_with("cannot read ") && missing.contains("keys create USER all"), "{missing}");
    let path = folder.path().join("keys.json");
    fs::write(&path, OLD.replace("\"username\"", "\"user\"")).unwrap();
    let told = load(&path, None).unwrap_err().to_string();
    assert!(told.contains("cannot be used:\n  3:13 ebc5f4226c40.user: unknown field"), "{told}");
}

#[test]
fn what_root_writes_belongs_to_the_folders_or_the_files_owner() {
    let folder = tempfile::tempdir().unwrap();
    if chown(folder.path(), Some(4321), Some(4322)).is_err() {
        return; // Only root can give files away.
    }
    let path = folder.path().join("keys.json");
    let owner = |name: &str| fs::metadata(folder.path().join(name)).unwrap().uid();
    create(&path, None, new("a")).unwrap();
    assert_eq!((owner("keys.json"), owner(".keys.json.lock")), (4321, 4321));
    let precious = folder.path().join("precious");
    fs::write(&precious, "x").unwrap();
    fs::remove_file(folder.path().join(".keys.json.lock")).unwrap();
    symlink("precious", folder.path().join(".keys.json.lock")).unwrap();
    chown(&path, Some(1234), Some(1234)).unwrap();
    create(&path, None, new("a")).unwrap();
    assert_eq!(owner("keys.json"), 1234);
    assert_ne!(owner("precious"), 4321);
    assert_eq!(fs::read_to_string(&precious).unwrap(), "x");
}
