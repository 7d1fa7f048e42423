//! Tests of imports.
//!
//! Invariant: each works in a folder of its own.
//! Never does: wait for a clock.

use std::fs;

use super::*;
use crate::keys::KeyRing;
use crate::units::RouteSet;

/// Under the salt `fake`: the keys `fake` and `My API Key` (keyfile.md).
const FAKE: &str = "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69";
const MINE: &str = "bceb75909fca623fcbcf1a2130035e3171dd200c7b4e6aaf5af15a622046011e";

fn entry(digest: &str, more: &str) -> String {
    format!(r#""{digest}": {{ "username": "\u00c5sa", "salt": "ZmFrZQ==", "scopes": []{more} }}"#)
}

fn incoming(entries: &[String]) -> Incoming {
    Incoming::of(Path::new("other.json"), format!("{{ {} }}", entries.join(",\n")).into_bytes(), false).unwrap()
}

fn finds(path: &Path, env_salt: Option<&Secret>, key: &str) -> bool {
    let ring = KeyRing::build(super::super::load(path, env_salt).unwrap(), |_| RouteSet::default());
    ring.find(key.as_bytes()).is_ok()
}

fn ids(records: &[KeyRecord]) -> Vec<&str> {
    records.iter().map(|record| record.id.as_str()).collect()
}

#[test]
fn entries_are_added_once_and_every_other_byte_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/keys.json");
    let first = import(&path, None, &incoming(&[entry(FAKE, "")]), false).unwrap();
    assert_eq!((ids(&first.added), &first.by_own_salt[..]), (vec!["ebc5f4226c40"], &[KeyId::new("ebc5f4226c40")][..]));
    let before = fs::read_to_string(&path).unwrap();
    assert!(before.is_ascii(), "{before}");

    let both = incoming(&[entry(MINE, r#", "id": "mine", "team": null"#), entry(FAKE, r#", "models": null"#)]);
    let told = import(&path, None, &both, true).unwrap();
    assert_eq!((ids(&told.added), ids(&told.skipped)), (vec!["mine"], vec!["ebc5f4226c40"]));
    assert_eq!(fs::read_to_string(&path).unwrap(), before, "a dry run writes nothing");
    let done = import(&path, None, &both, false).unwrap();
    assert_eq!((ids(&done.added), done.by_own_salt.len()), (vec!["mine"], 0));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with(before.strip_suffix("\n}\n").unwrap()), "{text}");
    assert!(finds(&path, None, "fake") && finds(&path, None, "My API Key"));
    let again = import(&path, None, &both, false).unwrap();
    assert_eq!((again.added.len(), again.skipped.len()), (0, 2));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_dry_run_makes_neither_file_nor_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a/keys.json");
    assert_eq!(import(&path, None, &incoming(&[entry(FAKE, "")]), true).unwrap().added.len(), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn all_contradictions_are_told_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let there = [entry(FAKE, r#", "expires_at": "2027-01-01T00:00:00Z""#), entry(&"1".repeat(64), r#", "id": "one""#)];
    import(&path, None, &incoming(&there), false).unwrap();
    let before = fs::read_to_string(&path).unwrap();
    let entries = [entry(&"2".repeat(64), ""), entry(FAKE, r#", "disabled": true"#), entry(MINE, r#", "id": "one""#)];
    for dry_run in [true, false] {
        let error = import(&path, None, &incoming(&entries), dry_run).unwrap_err();
        let told = error.to_string();
        let lines: Vec<&str> = told.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "ebc5f4226c40: the same key stands there with another content (disabled, expires_at)",
                "one: another key has this id"
            ],
            "{told}"
        );
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), before);
}

#[test]
fn more_salts_than_a_file_may_have_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let of = |digits: std::ops::Range<usize>| {
        let entries: Vec<String> = digits
            .map(|digit| entry(&digit.to_string().repeat(64), "").replace("ZmFrZQ==", &format!("YWF{digit}")))
            .collect();
        incoming(&entries)
    };
    import(&path, None, &of(0..5), false).unwrap();
    let told = import(&path, None, &of(5..9), false).unwrap_err().to_string();
    assert!(told.ends_with("\n  there would be 9 different salts, and a file may have 8"), "{told}");
    import(&path, None, &of(5..8), false).unwrap();
}

#[test]
fn the_salt_of_the_environment_is_compared_with_that_of_the_entry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let (same, other) = (Secret::new("fake".to_owned()), Secret::new("other".to_owned()));
    let old = incoming(&[entry(FAKE, "")]);
    let fine = import(&path, Some(&same), &old, true).unwrap();
    assert_eq!((fine.by_own_salt.len(), fine.by_other_salt.len()), (0, 0));
    let odd = import(&path, Some(&other), &old, false).unwrap();
    assert_eq!((odd.by_own_salt.len(), ids(&odd.added)), (0, vec!["ebc5f4226c40"]));
    assert_eq!(odd.by_other_salt, [KeyId::new("ebc5f4226c40")]);
    assert!(finds(&path, Some(&same), "fake") && !finds(&path, Some(&other), "fake"), "the warning tells the truth");
    let ours = incoming(&[entry(MINE, r#", "id": "mine""#)]);
    assert_eq!(import(&path, Some(&other), &ours, false).unwrap().by_other_salt, []);
    assert!(finds(&path, Some(&other), "My API Key"), "an entry with an id has its own");
}

#[test]
fn base64_and_what_is_none() {
    use base64::Engine as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{{ {} }}", entry(FAKE, "")));
    let from = folder.path().join("variable");
    fs::write(&from, format!("{text}\n")).unwrap();
    import(&path, None, &Incoming::read(&from, true).unwrap(), false).unwrap();
    assert!(finds(&path, None, "fake"));
    let told = Incoming::of(Path::new("x.json"), b"{}".to_vec(), true).unwrap_err().to_string();
    assert!(told.contains("x.json") && told.contains("the JSON itself"), "{told}");
    let broken = Incoming::of(Path::new("x.json"), b"{\"a\": 1}".to_vec(), false).unwrap();
    let told = import(&path, None, &broken, false).unwrap_err().to_string();
    assert!(told.starts_with("the key file x.json cannot be used:\n  1:3 entry 1: "), "{told}");
    let missing = Incoming::read(&folder.path().join("none"), false).unwrap_err().to_string();
    assert!(missing.starts_with("cannot import ") && !missing.contains("hint"), "{missing}");
}
