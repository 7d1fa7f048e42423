//! Tests of keys and of the ring, from a key file's text to the answer for a call.
//!
//! Invariant: the vectors are those of the original gateway, measured (`keyfile.md`).
//! Never does: touch the file system.

use std::time::Duration;

use super::token::KeyedHash;
use super::*;
use crate::error::KeyFault;
use crate::units::Secret;

/// Routes as a gateway has them by default, by their ids.
const ROUTES: [(&str, &str); 5] = [
    ("get", "/openai/v1/models"),
    ("get", "/openai/v1/models/{model}"),
    ("post", "/openai/v1/chat/completions"),
    ("post", "/openai/v1/embeddings"),
    ("post", "/openai/v1/images/generations"),
];

fn routes_of(scopes: &[Scope]) -> RouteSet {
    let mut routes = RouteSet::default();
    for (id, (method, pattern)) in (0..).zip(ROUTES) {
        if scopes.iter().any(|scope| scope.permits_route(method, pattern)) {
            routes.insert(RouteId(id));
        }
    }
    routes
}

#[test]
fn keys_are_counted_by_whether_they_work() {
    let tally = |active, expired, revoked| Tally { active, expired, revoked }.to_string();
    assert_eq!(tally(0, 0, 0), "0 keys");
    assert_eq!(tally(1, 0, 0), "1 key");
    assert_eq!(tally(2, 0, 0), "2 keys");
    assert_eq!(tally(0, 0, 1), "1 key (1 revoked)");
    assert_eq!(tally(1, 1, 1), "3 keys (1 active, 1 expired, 1 revoked)");
    let (one, other) = ("a".repeat(64), "b".repeat(64));
    let one = with(&one, "ZmFrZQ==", r#","expires_at":"2026-01-01T00:00:00Z""#);
    let other = with(&other, "ZmFrZQ==", r#","disabled":true"#);
    let ring = ring(&format!("{},{}", one.trim_end_matches('}').to_owned() + "}", &other[1..]), None);
    let at = |text| humantime::parse_rfc3339(text).unwrap();
    assert_eq!(ring.tally(at("2025-12-31T00:00:00Z")), Tally { active: 1, expired: 0, revoked: 1 });
    assert_eq!(ring.tally(at("2026-01-01T00:00:00Z")), Tally { active: 0, expired: 1, revoked: 1 });
}

fn ring(json: &str, env_salt: Option<&str>) -> KeyRing {
    let env_salt = env_salt.map(|salt| Secret::new(salt.to_owned()));
    KeyRing::build(KeyFile::parse(json.as_bytes(), env_salt.as_ref()).unwrap(), routes_of)
}

/// An entry of the original's kind, with a scope on the list of models.
fn old(digest: &str, salt: &str) -> String {
    with(digest, salt, "")
}

fn with(digest: &str, salt: &str, more: &str) -> String {
    format!(
        r#"{{"{digest}": {{"username": "test", "salt": "{salt}", "scopes": [{{"method": "get", "path": "/openai/v1/models"}}]{more}}}}}"#
    )
}

const FAKE: &str = "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69";

/// Salt, key and digest, as the original gateway and its generator make them.
const VECTORS: [(&str, &str, &str); 9] = [
    ("fake", "fake", FAKE),
    (GENERATOR, "fake", "d4fb9a4025632d4f954c73ba7d01c8c28c1d7d093ed4609f88f65f332aa81f03"),
    (GENERATOR, "My API Key", "b70c82d99d2198f22573e913b072c34807bcf259b0a98e6409122d6563e8bac0"),
    ("fake", "My API Key", "bceb75909fca623fcbcf1a2130035e3171dd200c7b4e6aaf5af15a622046011e"),
    ("fake", "My Admin API Key", "719ec18fec1136745b126a1d8eb1f8c686e44480cdb102198e3713063412ba41"),
    ("fake", "", "a77d07ee84453a2293d0d10998d4a727f67301c89e98fe4af41d2e660b4b6078"),
    ("fake", "clé-ключ-鍵", "6d74c3a4b8ac3b9766c32e9e15ec7f1afa6374ef24d793e80594f316c716af62"),
    ("sält?>~", "fake", "1eb4385ef2e5f3bf6c586edfd8ea18abaa3d0f8e3336481073b50f394c494ae5"),
    (
        GENERATOR,
        "R6XiLWeArUl0UH15y0zynOkUWScYvLDYgD_AOk4JMwc",
        "2c2e5b7201c906daceb0899c9dd2fe0e3ad7e8b051bf600589e247ee08e07a2d",
    ),
];
const GENERATOR: &str = "BQdukbfdC0ouGuCyCEKrYA==";

/// The `salt` fields as the original's files spell them.
fn field(salt: &str) -> String {
    match salt {
        "fake" => "ZmFrZQ==".to_owned(),
        GENERATOR => "QlFkdWtiZmRDMG91R3VDeUNFS3JZQT09".to_owned(),
        "sält?>~" => "c8OkbHQ_Pn4=".to_owned(),
        long => "c3Nz".repeat(21) + if long.len() == 64 { "cw==" } else { "c3M=" },
    }
}

#[test]
fn the_originals_vectors_are_found_with_and_without_the_environments_salt() {
    let (s64, s65) = ("s".repeat(64), "s".repeat(65));
    let block = [
        (&*s64, "k", "a75a238a5e4197a3c98b6b924887ba2e82da1b866a88f930b374aabf7a1094db"),
        (&*s65, "k", "5caa9a05c0cac569deefa64b0245422484aa477fbada218d2df33dfb0ded9089"),
    ];
    for (salt, key, digest) in VECTORS.into_iter().chain(block) {
        let hash = KeyedHash::new(salt.as_bytes());
        assert_eq!(hash.digest(key.as_bytes()).to_hex(), digest, "{salt} {key}");
        for env_salt in [None, Some(salt), Some("")] {
            let ring = ring(&old(digest, &field(salt)), env_salt);
            let found = ring.find(key.as_bytes()).unwrap();
            assert_eq!(found.record.id.as_str(), &digest[..12], "{salt} {key}");
        }
    }
}

#[test]
fn the_three_usual_misreadings_are_not_accepted() {
    let misread = [
        ("80c4e632a728882aabdcb218a384d87d372af5846f5f1bc5ccd562e89a113426", "ZmFrZQ==", "fake"),
        (
            "cc668ce655aa0cbe8943d1862efbfd6673b253b9e7ab4ec8b6ef022f25a32cd2",
            "QlFkdWtiZmRDMG91R3VDeUNFS3JZQT09",
            "BQdukbfdC0ouGuCyCEKrYA==",
        ),
        ("f35891bd78162e55ca4146774e76b873463e613c73c93dd048068a344d8ae5cb", "ZmFrZQ==", "fake"),
    ];
    for (digest, field, salt) in misread {
        for env_salt in [None, Some(salt)] {
            let ring = ring(&old(digest, field), env_salt);
            assert_eq!(ring.find(b"fake").unwrap_err(), Refusal::InvalidKey(KeyFault::Unknown), "{digest}");
        }
    }
}

#[test]
fn the_environments_salt_counts_for_entries_without_an_id_only() {
    // The field says "wrong"; where the variable is set, the original goes by the variable.
    let json = old(FAKE, "d3Jvbmc=");
    assert!(ring(&json, Some("fake")).find(b"fake").is_ok());
    assert!(ring(&json, None).find(b"fake").is_err());
    let unsalted = json.replace(r#""salt": "d3Jvbmc=", "#, "");
    assert!(ring(&unsalted, Some("fake")).find(b"fake").is_ok());

    let ours = with(FAKE, "ZmFrZQ==", r#", "id": "key_1""#);
    assert!(ring(&ours, Some("other")).find(b"fake").is_ok());
    let ours = with(FAKE, "d3Jvbmc=", r#", "id": "key_1""#);
    assert!(ring(&ours, Some("fake")).find(b"fake").is_err());
}

#[test]
fn a_digest_counts_under_its_own_salt_only() {
    let other = KeyedHash::new(b"other").digest(b"x").to_hex();
    let json = format!("{},{}", old(FAKE, "b3RoZXI=").trim_end_matches('}'), &old(&other, "ZmFrZQ==")[1..]);
    let json = json.replace("}],", "}]},");
    let ring = ring(&json, None);
    assert_eq!(ring.len(), 2);
    assert!(ring.find(b"fake").is_err());
    assert!(ring.find(b"x").is_err());
}

#[test]
fn a_mistyped_key_of_ours_is_told() {
    let ring = KeyRing::default();
    assert!(ring.is_empty());
    let refusal = |key: &str| ring.find(key.as_bytes()).unwrap_err();
    assert_eq!(refusal("sk-aigw-mistyped"), Refusal::InvalidKey(KeyFault::Mistyped));
    assert_eq!(refusal("sk-other"), Refusal::InvalidKey(KeyFault::Unknown));
    assert_eq!(refusal(PlainToken::make().unwrap().expose()), Refusal::InvalidKey(KeyFault::Unknown));
}

#[test]
fn scopes_open_their_routes_and_single_paths() {
    let json = with(FAKE, "ZmFrZQ==", "").replace("/openai/v1/models", "/openai/v1/models/gpt-4o");
    let ring = ring(&json, None);
    let narrow = ring.find(b"fake").unwrap();
    let one = "/openai/v1/models/gpt-4o";
    assert_eq!(narrow.permits(RouteId(1), "GET", one), Ok(()));
    assert_eq!(narrow.permits(RouteId(1), "GET", "/openai/v1/models/gpt-4o/"), Ok(()));
    for (route, method, path) in [
        (1, "GET", "/openai/v1/models/o3"),
        (1, "DELETE", one),
        (0, "GET", "/openai/v1/models"),
        (2, "POST", "/openai/v1/chat/completions"),
    ] {
        assert_eq!(narrow.permits(RouteId(route), method, path), Err(Refusal::ScopeMissing), "{path}");
    }

    let wide = self::ring(&old(FAKE, "ZmFrZQ=="), None);
    let wide = wide.find(b"fake").unwrap();
    assert_eq!(wide.permits(RouteId(0), "GET", "/openai/v1/models/"), Ok(()));
    assert_eq!(wide.permits(RouteId(1), "GET", one), Ok(()));
    assert!(wide.permits(RouteId(3), "POST", "/openai/v1/embeddings").is_err());
}

#[test]
fn revoked_and_expired_keys_are_found_but_not_usable() {
    let end = humantime::parse_rfc3339("2026-06-01T00:00:00Z").unwrap();
    let before = end - Duration::from_millis(1);
    let expires = r#", "expires_at": "2026-06-01T00:00:00Z""#;
    let table = [
        (String::new(), Ok(()), Ok(())),
        (expires.to_owned(), Ok(()), Err(Refusal::ExpiredKey)),
        (r#", "disabled": true"#.to_owned(), Err(Refusal::RevokedKey), Err(Refusal::RevokedKey)),
        (r#", "disabled": false, "expires_at": null"#.to_owned(), Ok(()), Ok(())),
        (
            r#", "revoked_at": "2040-01-01T00:00:00Z""#.to_owned() + expires,
            Err(Refusal::RevokedKey),
            Err(Refusal::RevokedKey),
        ),
    ];
    for (more, earlier, then) in table {
        let ring = ring(&with(FAKE, "ZmFrZQ==", &more), None);
        let key = ring.find(b"fake").unwrap();
        assert_eq!((key.usable(before), key.usable(end)), (earlier, then), "{more}");
    }
}

#[test]
fn a_list_of_models_is_exact_or_a_beginning() {
    let models = |list: &str| {
        let ring = ring(&with(FAKE, "ZmFrZQ==", &format!(r#", "models": {list}"#)), None);
        Arc::clone(ring.find(b"fake").unwrap())
    };
    let key = models(r#"["gpt-4o", "text-*"]"#);
    for (model, allowed) in [
        (Some("gpt-4o"), true),
        (Some("gpt-4o-mini"), false),
        (Some("GPT-4o"), false),
        (Some("text-embedding-3-small"), true),
        (Some("text-"), true),
        (Some("tex"), false),
        (None, false),
    ] {
        assert_eq!(key.permits_model(model).is_ok(), allowed, "{model:?}");
    }
    assert_eq!(models("[]").permits_model(Some("x")), Err(Refusal::ModelNotAllowed));
    assert!(models(r#"["*"]"#).permits_model(Some("x")).is_ok());
    assert!(models("null").permits_model(None).is_ok());
}

#[test]
fn nothing_secret_prints() {
    let json = with(FAKE, "ZmFrZQ==", r#", "id": "key_1""#);
    let file = KeyFile::parse(json.as_bytes(), None).unwrap();
    let text = format!("{file:?}");
    let text = text + &format!("{:?}", KeyRing::build(file, routes_of));
    assert!(text.contains("key_1"));
    for secret in [FAKE, "ebc5f4226c401", "ZmFrZQ", "235, 197", "102, 97"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
