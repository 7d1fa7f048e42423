//! Tests of the commands, from the words typed to what is printed and what is in the file.
//!
//! Invariant: each works in a folder of its own, at a fixed time.
//! Never does: start a process.

use std::path::Path;

use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: KeysCommand,
}

struct Desk {
    folder: tempfile::TempDir,
    context: KeysContext,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let routes = [
            ("get", "/openai/v1/models"),
            ("get", "/openai/v1/models/{model}"),
            ("post", "/openai/v1/chat/completions"),
            ("post", "/openai/v1/embeddings"),
            ("post", "/openai/v1/images/generations"),
        ];
        let context = KeysContext {
            file: folder.path().join("secrets/keys.json"),
            env_salt: None,
            routes: routes.map(|(method, path)| (method.to_owned(), path.to_owned())).to_vec(),
            opaque: Vec::new(),
            now: humantime::parse_rfc3339("2026-11-25T10:00:00Z").unwrap(),
        };
        Self { folder, context }
    }

    /// Runs a command line; gives what it printed, then what it warned of.
    fn run(&self, line: &str) -> Result<(String, String), KeysError> {
        let words = std::iter::once("keys").chain(line.split(' ').filter(|word| !word.is_empty()));
        let line = Line::try_parse_from(words).unwrap();
        let (mut out, mut warnings) = (Vec::new(), Vec::new());
        run(&line.command, &self.context, &mut out, &mut warnings)?;
        Ok((String::from_utf8(out).unwrap(), String::from_utf8(warnings).unwrap()))
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.run(line).unwrap().0).unwrap()
    }

    fn refused(&self, line: &str) -> String {
        let error = self.run(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }
}

fn opens(file: &Path, key: &str) -> Vec<String> {
    let ring = keys::KeyRing::build(keys::load(file, None).unwrap(), |_| Default::default());
    texts(&ring.find(key.as_bytes()).unwrap().record.scopes)
}

#[test]
fn all_is_every_configured_route_written_out() {
    let desk = Desk::new();
    let (out, warnings) = desk.run("create john.doe all").unwrap();
    let key = out.strip_suffix('\n').unwrap();
    assert!(key.starts_with("sk-aigw-") && key.len() == 57, "the key alone: {out}");
    assert!(warnings.contains("stored nowhere") && warnings.contains("expires  never"), "{warnings}");
    assert!(warnings.contains("note: `all` stands for the routes that are configured now"), "{warnings}");
    assert!(warnings.contains("note: the folder ") && !warnings.contains("warning:"), "{warnings}");
    assert!(!warnings.contains(key), "{warnings}");
    let (_, warnings) = desk.run("create john.doe get:/openai/v1/models").unwrap();
    assert!(!warnings.contains("note:"), "{warnings}");
    assert_eq!(
        opens(&desk.context.file, key),
        [
            "get:/openai/v1/models",
            "post:/openai/v1/chat/completions",
            "post:/openai/v1/embeddings",
            "post:/openai/v1/images/generations"
        ]
    );
}

#[test]
fn the_original_generators_arguments_work() {
    let desk = Desk::new();
    let made = desk.json("create john.doe get:/openai/v1/models,post:/openai/v1/embeddings --json");
    assert_eq!((&made["username"], &made["expires_at"]), (&json!("john.doe"), &Value::Null));
    let key = made["key"].as_str().unwrap();
    assert_eq!(opens(&desk.context.file, key), ["get:/openai/v1/models", "post:/openai/v1/embeddings"]);
}

#[test]
fn a_scope_on_no_route_is_a_warning() {
    let desk = Desk::new();
    let warned = |desk: &Desk, scopes: &str| {
        let (_, told) = desk.run(&format!("create a {scopes}")).unwrap();
        let lines = told.lines().filter(|line| line.starts_with("warning: "));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(
        warned(&desk, "post:/openai/v1/responses,get:/openai/v1/models/o3,*:/openai/*"),
        "warning: no route is configured for the scope post:/openai/v1/responses; until one is, it opens nothing\n"
    );
    assert_eq!(
        warned(&desk, "get:/openai/v1/moddels"),
        "warning: no route is configured for the scope get:/openai/v1/moddels; until one is, it opens nothing (did you \
         mean /openai/v1/models?)\n"
    );
    let star = warned(&desk, "get:/openai/*/models");
    let expected = "warning: a * in the scope get:/openai/*/models stands for itself: it counts as the last segment";
    assert!(star.starts_with(expected), "{star}");
    let mut unread = Desk::new();
    unread.context.routes.clear();
    assert_eq!(warned(&unread, "post:/openai/v1/responses"), "", "where the routes are not known nothing is said");
}

#[test]
fn options_go_into_the_file_and_the_list() {
    let desk = Desk::new();
    let file = desk.folder.path().join("other.json");
    let line = format!("--file {}", file.display());
    let made = desk.json(&format!("create a all --expires 90d --model gpt-4o --model o* --team blue --json {line}"));
    assert_eq!(made["expires_at"], "2027-02-23T10:00:00Z");
    assert!(!desk.context.file.exists());
    let listed = desk.json(&format!("list --json {line}"));
    assert_eq!(listed[0]["id"], made["id"]);
    assert_eq!(listed[0]["state"], "active");
    assert_eq!((&listed[0]["team"], &listed[0]["models"]), (&json!("blue"), &json!(["gpt-4o", "o*"])));
    assert!(listed[0].get("key").is_none());
}

#[test]
fn the_table_shows_states_and_no_secret() {
    let mut desk = Desk::new();
    assert!(desk.run("list").unwrap_err().to_string().contains("keys create USER all"));
    let ids: Vec<Value> = ["zoë all --expires 2027-01-31", "b all --team x", "c get:/openai/v1/models --expires 1h"]
        .map(|line| desk.json(&format!("create {line} --json"))["id"].clone())
        .to_vec();
    let id = ids[1].as_str().unwrap();
    let told = desk.run(&format!("revoke {}", &id[..14])).unwrap().0;
    assert!(told.starts_with(&format!("The key {id} of b is revoked")), "{told}");
    assert_eq!(desk.json(&format!("revoke {id} --json"))["already_revoked"], true);
    desk.context.now += Duration::from_secs(3600);

    let table = desk.run("list").unwrap().0;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "ID                USER  TEAM  STATE    EXPIRES               SCOPES");
    assert_eq!(
        lines[1],
        format!(
            "{}  zoë   -     active   2027-01-31T00:00:00Z  get:/openai/v1/models post:/openai/v1/chat/completions post:/openai/v1/embeddings post:/openai/v1/images/generations",
            ids[0].as_str().unwrap()
        )
    );
    assert!(lines[2].contains("revoked  never"), "{table}");
    assert!(lines[3].contains("expired  2026-11-25T11:00:00Z"), "{table}");
    let file: Value = serde_json::from_slice(&std::fs::read(&desk.context.file).unwrap()).unwrap();
    for (digest, entry) in file.as_object().unwrap() {
        for secret in [&digest[..12], entry["salt"].as_str().unwrap()] {
            assert!(!table.contains(secret) && !desk.run("list --json").unwrap().0.contains(secret));
        }
    }
}

#[test]
fn names_cannot_steer_the_terminal() {
    assert_eq!(printable("a\u{1b}[31m é\n"), "a\\u{1b}[31m é\\n");
}

#[test]
fn wrong_arguments_are_told_with_what_to_do() {
    let desk = Desk::new();
    for (line, expected) in [
        ("create a GET:/openai/v1/models", "did you mean get?"),
        ("create a models", "a scope is METHOD:PATH"),
        ("create a ,", "SCOPES is empty"),
        ("create a all --expires yesterday", "give a span such as 90d"),
        ("create a all --expires 2020-01-01", "is not in the future"),
        ("create a all --expires 0s", "is not in the future"),
        ("create a all --expires 9000y", "is too far away"),
        ("create a all --expires 999999999999y", "--expires"),
        ("create a all --model g*t", "with a * at its end"),
        ("create a\u{7} all", "USER must be a name"),
        ("create a all --team \u{7}", "--team must be a name"),
        ("create a all --limit usd/year=5", "--limit \"usd/year=5\" cannot be used: expected requests_per_minute=N"),
        ("create a all --limit usd/day=5 --limit usd/day=6", "cannot be used: this limit stands twice"),
        ("create a all --limit shadow", "there is no other limit"),
        ("create a all --limit m:shadow", "there is no other limit"),
        ("create a all --limit m*:usd/day=5", "expected MODEL:LIMIT"),
    ] {
        let told = desk.refused(line);
        assert!(told.contains(expected), "{line}: {told}");
    }
    assert!(!desk.context.file.exists());
    desk.run("create a all").unwrap();
    assert!(desk.refused("revoke nobody").contains("keys list"));
}

#[test]
fn a_key_that_ends_soon_hands_its_end_on_and_says_so() {
    let desk = Desk::new();
    let first = desk.json("create jane all --model gpt-4o --json");
    let (out, told) = desk.run(&format!("rotate {}", first["id"].as_str().unwrap())).unwrap();
    assert!(out.starts_with("sk-aigw-") && out.lines().count() == 1, "the key alone: {out}");
    assert!(told.contains("key of jane, shown this once") && told.contains("models   gpt-4o"), "{told}");
    assert!(told.ends_with("works until 2026-11-26T10:00:00Z.\n") && !told.contains("warning"), "{told}");
    let (_, warnings) = desk.run(&format!("rotate {} --overlap 48h", first["id"].as_str().unwrap())).unwrap();
    assert!(warnings.contains("expires  2026-11-26T10:00:00Z"), "{warnings}");
    assert!(warnings.contains("the new key expires at 2026-11-26T10:00:00Z, as the old one did"), "{warnings}");
    let (_, told) = desk.run(&format!("rotate {} --overlap 0s", first["id"].as_str().unwrap())).unwrap();
    assert!(told.contains("is revoked; a running gateway follows"), "{told}");
    assert!(desk.refused(&format!("rotate {}", first["id"].as_str().unwrap())).contains("nothing to replace"));
    assert!(desk.run("import /nowhere.json").unwrap_err().to_string().starts_with("cannot import"));
}

#[test]
fn opaque_routes_are_opened_by_name_only() {
    let mut desk = Desk::new();
    desk.context.opaque.push(("any".to_owned(), "/openai/v1/*".to_owned()));
    let made = desk.json("create a all --json");
    assert!(!made["scopes"].to_string().contains('*'), "{made}");
    let (_, warnings) = desk.run("create b delete:/openai/v1/files/*").unwrap();
    assert!(!warnings.contains("warning"), "{warnings}");
    let (_, warnings) = desk.run("create c delete:/other/v1/files/*").unwrap();
    assert!(warnings.contains("no route is configured"), "{warnings}");
}

#[test]
fn all_without_a_list_route_names_the_variable_route() {
    let mut desk = Desk::new();
    desk.context.routes.remove(0);
    let made = desk.json("create a all --json");
    assert_eq!(made["scopes"][0], "get:/openai/v1/models/{model}");
    desk.context.routes.clear();
    assert!(desk.refused("create a all").contains("there are none"));
}

#[test]
fn a_key_that_cannot_be_shown_is_named() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let desk = Desk::new();
    let line = Line::try_parse_from(["keys", "create", "a", "all"]).unwrap();
    let error = run(&line.command, &desk.context, &mut Full, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("is lost"), "{error}");
    let mut out = Vec::new();
    run(&line.command, &desk.context, &mut out, &mut Full)
        .expect("the key is out: that the rest is not read is nothing");
    assert_eq!(out.len(), 58);
    let id = desk.json("list --json")[0]["id"].as_str().unwrap().to_owned();
    assert!(error.to_string().contains(&format!("keys revoke {id}")), "{error}");
    assert_eq!(error.exit_code(), 1);
}

#[test]
fn limits_of_a_key_are_shown_as_they_are_given() {
    let desk = Desk::new();
    let line = "--limit requests_per_minute=60 --limit usd/month=12.5 --limit ft:m:tokens/day=9 \
                --default-max-output-tokens 500";
    let made = desk.json(&format!("create a all {line} --json"));
    let of_model = json!({ "budgets": [{ "tokens": 9, "per": "day" }] });
    let budgets = json!([{ "usd": "12.5", "per": "month" }]);
    let limits = json!({ "requests_per_minute": 60, "budgets": budgets, "models": { "ft:m": of_model } });
    assert_eq!((&made["limits"], &made["default_max_output_tokens"]), (&limits, &json!(500)));
    let listed = desk.json("list --json");
    assert_eq!((&listed[0]["limits"], &listed[0]["default_max_output_tokens"]), (&limits, &json!(500)));
    let shown = desk.run("list").unwrap().0;
    let text = "(limits: requests_per_minute=60, usd/month=12.5, ft:m:tokens/day=9, default_max_output_tokens=500)";
    assert!(shown.contains(text), "{shown}");
}
