//! Facts about lists of models.
//!
//! Never does: open a socket.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::{Environment, Sources, load};
use crate::keys::{Key, KeyRecord};

const PROVIDERS: &str = "
providers:
  openai: { base_url: https://api.openai.com, api_key: none }
  azure: { base_url: https://azure.example.com, api_key: none }
  claude: { base_url: https://api.anthropic.com, api_key: none, dialect: anthropic }
  media: { base_url: https://media.example.com, api_key: none, routes: [ get /v1/models, post /v1/speech stream ] }
";
const MODELS: &str = "
models:
  gpt-4o: { targets: [ { provider: azure, model: mine }, { provider: openai } ], fallbacks: [ fast ] }
  fast: { targets: [ { provider: openai, model: gpt-4o-mini } ] }
  sound: { targets: [ { provider: media } ] }
  ft-*: { targets: [ { provider: azure } ] }
  tts-*: { targets: [ { provider: media } ] }
";
/// As OpenAI answers, with a member that nobody knows, and numbers and blanks that would not survive being written anew.
const THEIRS: &str = r#"{ "object": "list",
 "data": [{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"system", "x": 1.0},
  {"id": "dall-e-3", "big": 12345678901234567890123, "owned_by": "system"}, {"id":"ft-x"}, {"no":"id"}, 7],
 "more" : [1.0] }"#;

/// A call for the list of models of a provider, with the models that its key may use.
struct Case {
    snapshot: Arc<Snapshot>,
    underway: Underway,
}

fn case(models: &str, provider: &str, may_use: Option<&[&str]>) -> Case {
    let sources = Sources {
        file: None,
        yaml: Some(format!("{PROVIDERS}{models}")),
        directory: "/nonexistent".into(),
        environment: Environment::default(),
    };
    let snapshot = load(&sources).unwrap_or_else(|report| panic!("{report:?}")).snapshot;
    let path = format!("/{provider}/v1/models");
    let route = Arc::clone(snapshot.routes.find(&Method::GET, &path).expect("a route").route);
    let record = KeyRecord {
        id: crate::units::KeyId::new("key_1"),
        username: "ann".into(),
        scopes: Vec::new().into(),
        created_at: None,
        expires_at: None,
        revoked_at: None,
        disabled: false,
        team: None,
        models: may_use.map(|models| models.iter().map(ToString::to_string).collect()),
        allowance: Default::default(),
    };
    let key = Arc::new(Key { record, routes: Default::default() });
    let underway = Underway { target: route.target(), route, key, model: None, headers: Vec::new() };
    Case { snapshot, underway }
}

impl Case {
    fn listing(&self) -> Option<Listing<'_>> {
        Listing::of(&self.snapshot, &self.underway)
    }

    fn merged(&self, theirs: &str) -> String {
        self.listing().expect("one of its own").merged(theirs.as_bytes()).expect("a list")
    }
}

/// Ids with who owns them.
fn told(list: &str) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(list).expect("JSON");
    assert_eq!(list["object"], "list");
    let entries = list["data"].as_array().expect("entries").iter();
    entries
        .map(|entry| match (entry["id"].as_str(), entry["owned_by"].as_str()) {
            (Some(id), owner) => format!("{id} by {}", owner.unwrap_or("?")),
            _ => entry.to_string(),
        })
        .collect()
}

#[test]
fn without_names_and_without_a_list_of_the_keys_nothing_is_changed() {
    assert!(case("", "openai", None).listing().is_none());
    assert!(case("", "openai", Some(&["gpt-*"])).listing().is_some());
    assert!(case("only_listed_models: true\n", "openai", None).listing().is_some());
    assert!(case(MODELS, "openai", None).listing().is_some());
}

/// llama.cpp tells its models a second time; Anthropic names the first and the last one.
#[test]
fn what_is_hidden_is_named_nowhere_around_the_entries() {
    let theirs =
        r#"{"models":[{"name":"secret"}],"object":"list","data":[{"id":"secret"},{"id":"gpt-x"}],"x":"secret"}"#;
    let listed = case("", "openai", Some(&["gpt-*"])).merged(theirs);
    assert_eq!(listed, r#"{"object":"list","data":[{"id":"gpt-x"}]}"#);
    let only_listed = case("only_listed_models: true\n", "openai", None).merged(theirs);
    assert_eq!(only_listed, r#"{"object":"list","data":[]}"#);
    let theirs = |more| {
        format!(
            r#"{{"data":[{{"type":"model","id":"secret-1"}},{{"id":"claude-a"}},{{"id":"claude-b","n":1.0}},
            {{"id":"secret-2"}}],"has_more":{more},"first_id":"secret-1","last_id":"secret-2"}}"#
        )
    };
    let seen = case("", "claude", Some(&["claude-*"]));
    for more in [true, false] {
        let expected = format!(
            r#"{{"data":[{{"id":"claude-a"}},{{"id":"claude-b","n":1.0}}],"has_more":{more},"first_id":"claude-a","last_id":"claude-b"}}"#
        );
        assert_eq!(seen.merged(&theirs(more)), expected);
    }
    let none = case("", "claude", Some(&["other"])).merged(&theirs(true));
    assert_eq!(none, r#"{"data":[],"has_more":true,"first_id":null,"last_id":null}"#);
}

#[test]
fn what_a_pattern_fits_is_listed_where_it_is_served() {
    let merged =
        case(MODELS, "openai", None).merged(r#"{"object":"list","data":[{"id":"tts-1"},{"id":"ft-x"},{"id":"ft-y"}]}"#);
    assert_eq!(told(&merged)[..2], ["ft-x by azure", "ft-y by azure"], "and media has no such route");
}

#[test]
fn names_stand_beside_the_providers_own_with_who_serves_them() {
    let merged = case(MODELS, "openai", None).merged(THEIRS);
    let expected =
        ["gpt-4o by azure, openai", "dall-e-3 by system", "ft-x by azure", r#"{"no":"id"}"#, "7", "fast by openai"];
    assert_eq!(told(&merged), expected);
    for kept in [
        r#"{"id":"gpt-4o","object":"model","created":1715367049,"owned_by":"azure, openai", "x": 1.0}"#,
        r#"{"id": "dall-e-3", "big": 12345678901234567890123, "owned_by": "system"}"#,
        r#"{"id":"ft-x","owned_by":"azure"}"#,
        r#""more" : [1.0] }"#,
    ] {
        assert!(merged.contains(kept), "{kept}: {merged}");
    }
    let alone = case(MODELS, "openai", None).listing().expect("one").alone();
    assert_eq!(
        told(&alone),
        ["fast by openai", "gpt-4o by azure, openai"],
        "no pattern, and nothing that has no route"
    );
    let first: serde_json::Value = serde_json::from_str(&alone).expect("JSON");
    assert_eq!(first["data"][0].to_string(), r#"{"id":"fast","object":"model","created":0,"owned_by":"openai"}"#);
}

#[test]
fn a_key_sees_what_it_may_use() {
    let of = |may_use: &[&str]| told(&case(MODELS, "openai", Some(may_use)).merged(THEIRS));
    assert_eq!(of(&["gpt-4o"]), ["gpt-4o by azure, openai"]);
    assert_eq!(of(&["f*", "dall-e-2"]), ["ft-x by azure", "fast by openai"]);
    assert_eq!(of(&[]), [""; 0]);
    let only = format!("{MODELS}only_listed_models: true\n");
    let of = |may_use: Option<&[&str]>| told(&case(&only, "openai", may_use).merged(THEIRS));
    assert_eq!(of(None), ["gpt-4o by azure, openai", "ft-x by azure", "fast by openai"]);
    assert_eq!(of(Some(&["dall-e-3", "fast"])), ["fast by openai"]);
}

#[test]
fn names_are_listed_where_they_can_be_asked_for() {
    let of = |provider: &str| {
        let case = case(MODELS, provider, None);
        told(&case.listing().expect("one").alone())
    };
    assert_eq!(of("azure"), ["fast by openai", "gpt-4o by azure, openai"]);
    assert_eq!(of("media"), [""; 0], "nothing of it is read");
    let mut chosen = case(MODELS, "openai", None);
    chosen.underway.target.is_chosen = true;
    assert!(chosen.listing().is_none(), "a policy asks this very provider");
}

#[test]
fn what_is_no_list_is_not_taken_for_one() {
    let case = case(MODELS, "openai", None);
    let listing = case.listing().expect("one");
    for odd in [
        "",
        "{}",
        "null",
        r#"{"data":{}}"#,
        r#"{"data":[]"#,
        r#"{"data":[]} x"#,
        r#"{"data":[],"data":[]}"#,
        "\u{feff}{\"data\":[]}",
        "<html>",
        "\u{1f}\u{8b}",
    ] {
        assert_eq!(listing.merged(odd.as_bytes()), None, "{odd}");
    }
    assert_eq!(listing.merged(b"{\"data\":[\"\xff\"]}"), None);
    let array = r#" [{"id":"x/y","organization":"Together"}] "#;
    assert_eq!(told(&listing.merged(array.as_bytes()).expect("a list"))[0], "x/y by ?");
    let twice = r#"{"object":"list","data":[{"id":"fast"},{"id":"fast","owned_by":"a","owned_by":"b"}]}"#;
    assert_eq!(told(&listing.merged(twice.as_bytes()).expect("a list")), ["fast by openai", "gpt-4o by azure, openai"]);
}

#[test]
fn one_name_is_told_where_it_is_spelt_out() {
    let of = |model: &str| {
        let mut case = case(MODELS, "openai", None);
        let found = case.snapshot.routes.find(&Method::GET, "/openai/v1/models/x").expect("a route");
        case.underway.route = Arc::clone(found.route);
        case.underway.model = Some(model.to_owned());
        listed_model(&case.snapshot, &case.underway)
    };
    assert_eq!(of("fast").as_deref(), Some(r#"{"id":"fast","object":"model","created":0,"owned_by":"openai"}"#));
    for other in ["ft-*", "ft-x", "dall-e-3", "sound", ""] {
        assert_eq!(of(other), None, "{other}");
    }
}

proptest! {
    #![proptest_config(crate::units::tests::cases(40))]

    #[test]
    fn a_key_never_sees_more_than_it_may_use(ids in prop::collection::vec("[a-z*\"\\\\é-]{0,6}", 0..9), may in "[a-z]{0,2}[*]?") {
        let theirs: Vec<_> = ids.iter().map(|id| serde_json::json!({ "id": id, "owned_by": id })).collect();
        let theirs = serde_json::json!({ "data": theirs, "object": "list" }).to_string();
        let case = case(MODELS, "openai", Some(&[&may]));
        let merged = case.merged(&theirs);
        let list: serde_json::Value = serde_json::from_str(&merged).expect("JSON");
        for entry in list["data"].as_array().expect("entries") {
            let id = entry["id"].as_str().expect("an id");
            prop_assert!(case.underway.key.permits_model(Some(id)).is_ok(), "{may}: {id}");
        }
        for id in ids.iter().filter(|id| case.underway.key.permits_model(Some(id)).is_ok()) {
            prop_assert!(list["data"].as_array().expect("entries").iter().any(|entry| entry["id"] == id.as_str()));
        }
    }
}
