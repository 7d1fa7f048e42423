//! The gateway's keys as part of a configuration.
//!
//! Never does: check what a key file may hold; that is tested with `keys`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Method;

use super::*;

/// The original's test entry: the key `fake` under the salt `fake` (`shared/keyfile.md`).
const ENTRY: &str = r#"{"ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69":{"username":"test","salt":"ZmFrZQ==",
"scopes":[{"method":"get","path":"/openai/v1/models"},{"method":"post","path":"/openai/v1/files"}]}}"#;

const OPENAI: (&str, &str) = ("OPENAI_API_KEY", "k");

fn may_call(loaded: &Loaded, method: &Method, path: &str) -> bool {
    let key = loaded.snapshot.keys.find(b"fake").expect("the key");
    let found = loaded.snapshot.routes.find(method, path).expect("a route");
    key.routes.contains(found.route.id)
}

#[test]
fn the_originals_variable_opens_the_routes_of_its_scopes() {
    let variables = [OPENAI, ("HASHED_API_KEYS", &BASE64_STANDARD.encode(ENTRY))];
    let loaded = load_text("server: { threads: 1 }", &variables).expect("fine");
    assert_eq!(loaded.snapshot.keys.len(), 1);
    assert!(may_call(&loaded, &Method::GET, "/openai/v1/models"));
    assert!(may_call(&loaded, &Method::GET, "/openai/v1/models/gpt-4o"));
    assert!(!may_call(&loaded, &Method::POST, "/openai/v1/embeddings"));
    let idle = "1 scope of a key has no configured route: post:/openai/v1/files";
    assert!(loaded.warnings.iter().any(|warning| warning == idle), "{:?}", loaded.warnings);
}

#[test]
fn a_broken_variable_is_a_problem_that_names_it() {
    let variables = [OPENAI, ("HASHED_API_KEYS", "{canary")];
    let told = load_text("server: { threads: 1 }", &variables).expect_err("broken").to_string();
    assert!(told.starts_with("HASHED_API_KEYS") && !told.contains("canary"), "{told}");
}

#[test]
fn a_key_file_is_read_and_a_broken_one_is_told_with_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("k.json", ENTRY);
    write("g.yaml", "keys: { file: k.json }");
    let load = || load(&sources(directory.path(), Some("g.yaml"), &[OPENAI]));
    assert_eq!(load().expect("fine").snapshot.keys.len(), 1);
    write("k.json", &ENTRY.replace("\"test\"", "7"));
    write("g.yaml", "keys: { file: k.json }\nadmin: { listen: canary }");
    let told = load().expect_err("broken").to_string();
    assert!(
        told.contains("g.yaml:2:18 admin.listen: ")
            && told.contains(&format!("{}:1:", directory.path().join("k.json").display())),
        "{told}"
    );
    assert!(!told.contains("canary"), "{told}");
}

#[test]
fn a_missing_key_file_is_a_warning_at_start_and_a_problem_while_keys_are_in_force() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("g.yaml", "keys: { file: k.json }");
    let path = directory.path().join("k.json").display().to_string();
    let sources = sources(directory.path(), Some("g.yaml"), &[OPENAI]);
    let without = load(&sources).expect("fine");
    assert_eq!(without.warnings, [format!("no key file at {path}: `ai-gateway keys create` makes it")]);
    write("k.json", ENTRY);
    let with = load(&sources).expect("fine").snapshot;
    std::fs::remove_file(directory.path().join("k.json")).expect("removed");
    let told = format!(
        "keys.file {path}: there is no such file; the old keys stay (hint: write {{}} into it for a gateway without keys)"
    );
    assert_eq!(load_again(&sources, &with).expect_err("refused").to_string(), told);
    assert_eq!(with_keys_read_again(&sources, &with).expect_err("refused").to_string(), told);
    write("g.yaml", "keys: { file: '${NOT_SET}' }");
    let told_once = load_again(&sources, &with).expect_err("refused").to_string();
    assert!(
        told_once.lines().count() == 1 && told_once.starts_with("g.yaml:1:15 keys.file: the variable"),
        "{told_once}"
    );
    write("g.yaml", "keys: { file: k.json }");
    assert!(load_again(&sources, &without.snapshot).is_ok(), "nothing is lost where no key is in force");
    write("k.json", "{}");
    let empty = load_again(&sources, &with).expect("fine");
    assert!(empty.warnings.contains(&"no keys yet: create one with `ai-gateway keys create`".to_owned()));
}
