//! Tests of the move from the NodeJS gateway, from its files to ours.
//!
//! Invariant: each works in a folder of its own, without the process's variables.
//! Never does: open a port.

use super::*;

/// The file that the NodeJS gateway shipped (`shared/original.md`, 1.1 and 1.2).
pub(super) const SHIPPED: &str = include_str!("../../../tests/fixtures/original/config.toml");

struct Old {
    folder: tempfile::TempDir,
    sources: OldSources,
}

impl Old {
    fn new(toml: &str, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("config.toml"), toml).expect("written");
        let sources = OldSources {
            file: Some(PathBuf::from("config.toml")),
            directory: folder.path().to_owned(),
            environment: variables.iter().copied().collect(),
            key_file: None,
            old_keys: None,
        };
        Self { folder, sources }
    }
}

fn fine(toml: &str, variables: &[(&str, &str)]) -> Migration {
    migrate(&Old::new(toml, variables).sources).unwrap_or_else(|report| panic!("{report}"))
}

fn refused(toml: &str) -> String {
    migrate(&Old::new(toml, &[]).sources).expect_err("a problem").to_string()
}

fn graded(migration: &Migration, setting: &str) -> (Grade, Option<String>, String) {
    let found = migration.findings.iter().find(|finding| finding.setting == setting);
    let found = found.unwrap_or_else(|| panic!("{setting} is not among {:#?}", migration.findings));
    (found.grade, found.becomes.clone(), found.reason.to_string())
}

#[test]
fn the_shipped_file_becomes_the_yaml_that_we_would_write() {
    let migration =
        fine(SHIPPED, &[("OPENAI_API_KEY", "sk-canary"), ("HASHED_API_KEYS", "e30="), ("HASH_AUTH_SALT", "canary")]);
    let body = migration.yaml.split_once("server:").expect("a body").1;
    assert_eq!(
        body,
        r#"
  listen: ["[::]:8080"]

# Other machines reach /ping, /livez, /readyz and /metrics, as they did; "127.0.0.1:8081" keeps them out.
admin:
  listen: "[::]:8081"

providers:
  openai:
    base_url: "https://api.openai.com"
    api_key: ${OPENAI_API_KEY}
    routes:
      - get /v1/models
      - post /v1/chat/completions
      - post /v1/embeddings
      - post /v1/images/generations

# The NodeJS gateway's two summaries stay on /metrics.
telemetry:
  compat_metrics: on
"#
    );
    let grades: Vec<_> = migration.findings.iter().map(|one| (one.line, one.setting.as_str(), one.grade)).collect();
    assert_eq!(
        grades,
        [
            (2, "server.appPort", Grade::Exact),
            (3, "server.adminPort", Grade::Approximate),
            (6, "providers.openai.name", Grade::Exact),
            (7, "providers.openai.baseUrl", Grade::Exact),
            (10, "providers.openai.routes[0]", Grade::Exact),
            (14, "providers.openai.routes[1]", Grade::Exact),
            (18, "providers.openai.routes[2]", Grade::Exact),
            (22, "providers.openai.routes[3]", Grade::Exact),
            (0, "OPENAI_API_KEY", Grade::Exact),
            (0, "HASHED_API_KEYS", Grade::Exact),
            (0, "HASH_AUTH_SALT", Grade::Exact),
        ]
    );
    assert_eq!(migration.findings[0].column, 11);
    assert!(!format!("{migration:?}").contains("canary"));
}

#[test]
fn settings_that_had_no_effect_are_said_to_have_had_none() {
    let toml = SHIPPED.replace(
        "baseUrl =",
        "tokenCountEnabled = true\nheaders = { x = \"canary\" }\nauth.type = \"ldap\"\ncolour = \"canary\"\nbaseUrl =",
    );
    let migration = fine(&toml, &[]);
    for ignored in ["tokenCountEnabled", "headers", "auth"] {
        let (grade, becomes, reason) = graded(&migration, &format!("providers.openai.{ignored}"));
        assert!(grade == Grade::Exact && becomes.is_none() && reason.contains("took it and ignored it"), "{reason}");
    }
    assert_eq!(graded(&migration, "providers.openai.colour").0, Grade::Manual);
    let odd = fine(&SHIPPED.replace("baseUrl =", "\"sk-canary\\u001b[31m\" = 1\nbaseUrl ="), &[]);
    assert_eq!(graded(&odd, "providers.openai.?").0, Grade::Manual, "what is no name may be a secret");
    assert!(!format!("{migration:?}").contains("canary"));
}

#[test]
fn problems_have_their_place_and_are_told_at_once() {
    assert_eq!(
        refused("[server]\nappPort = \"x\"\n\n[providers.a]\nname = \"a\"\nbaseUrl = \"ftp://x\"\nroutes = 1\n"),
        "config.toml:1:1 server.adminPort: is missing; the NodeJS gateway needed it too\n\
         config.toml:2:11 server.appPort: expected a port from 1 to 65535\n\
         config.toml:7:10 providers.a.routes: expected tables [[...routes]]"
    );
    let told = refused(&SHIPPED.replace("https://api", "https://user:canary@api"));
    assert!(told.starts_with("config.toml:7:11 providers.openai.baseUrl: expected a URL without user"), "{told}");
    assert!(!told.contains("canary"), "{told}");
    let told = refused("[server\nappPort = 1\n");
    assert!(told.starts_with("config.toml:1:8: is not valid TOML: "), "{told}");
    assert!(refused("").contains("server: is missing"));
    let twice = format!(
        "{SHIPPED}\n[providers.b]\nname = \"openai\"\nbaseUrl = \"https://b\"\nroutes = [{{ path = \"v1/x\", method = \"get\" }}]\n"
    );
    let told = refused(&twice);
    assert!(
        told.starts_with("config.toml:26:8 providers.b.name: two providers have this name, the other one in line 6"),
        "{told}"
    );
    assert!(refused(&SHIPPED.replace("8081", "8080")).starts_with("(the new YAML):"), "what `check` would say");
}

#[test]
fn the_provider_is_asked_for_the_same_urls() {
    let of = |base: &str, path: &str| {
        let toml = format!(
            "[server]\nappPort = 8080\nadminPort = 8081\n[providers.x]\nname = \"azure\"\nbaseUrl = \"{base}\"\n\
             routes = [{{ path = \"{path}\", method = \"post\" }}]\n"
        );
        let old = Old::new(&toml, &[("AZURE_API_KEY", "k")]);
        let migration = migrate(&old.sources).unwrap_or_else(|report| panic!("{report}"));
        let new = Sources {
            file: None,
            yaml: Some(migration.yaml.clone()),
            directory: old.folder.path().to_owned(),
            environment: old.sources.environment.clone(),
        };
        let loaded = load(&new).expect("it was proved");
        let url = loaded.snapshot.routes.iter().next().expect("a route").upstream_url();
        (url, graded(&migration, "providers.x.routes[0]").0)
    };
    for (base, path) in [
        ("https://h", "v1/chat"),
        ("https://h/", "v1/chat"),
        ("https://h/openai", "v1/chat"),
        ("https://h/v1", "chat/completions"),
        ("https://h/v3", "v1/chat"),
        ("https://h/v1beta", "chat"),
        ("https://h", "chat"),
    ] {
        let expected = format!("{}/{path}", base.trim_end_matches('/'));
        assert_eq!(of(base, path), (expected, Grade::Exact), "{base} {path}");
    }
    assert_eq!(of("https://h/v1", "v1/chat"), ("https://h/v1/chat".to_owned(), Grade::Approximate));
}

#[test]
fn what_somebody_must_look_at_is_manual() {
    let toml = SHIPPED
        .replace("name = \"openai\"", "name = \"My-OpenAI\"")
        .replace("v1/embeddings", "v1/a b")
        .replace("v1/images/generations", "v1/models")
        .replacen("method = \"post\"", "method = \"delete\"", 1);
    let migration = fine(&toml, &[("MY-OPENAI_API_KEY", "k")]);
    let (grade, becomes, _) = graded(&migration, "providers.openai.name");
    assert_eq!((grade, becomes.as_deref()), (Grade::Manual, Some("providers.my-openai")));
    assert_eq!(graded(&migration, "MY-OPENAI_API_KEY").0, Grade::Manual);
    assert!(migration.yaml.contains("  my-openai:\n") && migration.yaml.contains("${MY_OPENAI_API_KEY}"));
    assert_eq!(graded(&migration, "providers.openai.routes[1]").0, Grade::Manual);
    let (grade, becomes, _) = graded(&migration, "providers.openai.routes[2]");
    assert_eq!((grade, becomes), (Grade::Manual, None));
    assert_eq!(graded(&migration, "HASHED_API_KEYS").0, Grade::Manual);
    let lower = fine(SHIPPED, &[("https_proxy", "http://proxy:1"), ("OPENAI_API_KEY", "k")]);
    assert_eq!(graded(&lower, "https_proxy").0, Grade::Approximate);
    let missing = fine(SHIPPED, &[]);
    assert!(graded(&missing, "OPENAI_API_KEY").2.starts_with("is not set here"));
}

#[test]
fn variables_are_graded_by_their_place() {
    let variables = [
        ("SERVER_CONFIG_FILE_PATH", "config.toml"),
        ("HTTPS_PROXY", "http://user:canary@proxy"),
        ("https_proxy", "http://canary:1"),
        ("NO_PROXY", "canary.example.com"),
        ("LOG_LEVEL", "debug"),
        ("LOG_PRETTY", "true"),
        ("NODE_ENV", "production"),
    ];
    let mut old = Old::new(SHIPPED, &variables);
    old.sources.file = None;
    let dotenv = "NODE_OPTIONS=--canary\nOPENAI_API_KEY=sk-canary\nHASHED_API_KEYS=e30=\n";
    std::fs::write(old.folder.path().join(".env"), dotenv).expect("written");
    let migration = migrate(&old.sources).unwrap_or_else(|report| panic!("{report}"));
    for (setting, grade, file) in [
        ("SERVER_CONFIG_FILE_PATH", Grade::Manual, "environment"),
        ("HTTPS_PROXY", Grade::Exact, "environment"),
        ("https_proxy", Grade::Exact, "environment"),
        ("NO_PROXY", Grade::Approximate, "environment"),
        ("LOG_LEVEL", Grade::Exact, "environment"),
        ("LOG_PRETTY", Grade::Approximate, "environment"),
        ("NODE_ENV", Grade::Exact, "environment"),
        ("NODE_OPTIONS", Grade::Exact, ".env"),
        ("OPENAI_API_KEY", Grade::Exact, ".env"),
        ("HASHED_API_KEYS", Grade::Exact, ".env"),
        ("HASH_AUTH_SALT", Grade::Approximate, "environment"),
    ] {
        let found = migration.findings.iter().find(|finding| finding.setting == setting).expect(setting);
        assert_eq!((found.grade, found.file.as_str()), (grade, file), "{setting}");
    }
    assert!(!format!("{migration:?}").contains("canary"));
}

#[test]
fn keys_that_cannot_be_read_are_told_and_odd_names_are_graded() {
    use base64::Engine as _;
    let of = |keys: &str| {
        let keys = base64::engine::general_purpose::STANDARD.encode(keys);
        migrate(&Old::new(SHIPPED, &[("HASHED_API_KEYS", &keys), ("OPENAI_API_KEY", "k")]).sources)
    };
    let entry = |name: &str| {
        format!(r#"{{ "{}": {{ "username": "{name}", "salt": "ZmFrZQ==", "scopes": [] }} }}"#, "a".repeat(64))
    };
    for (name, grade) in [("zo\\u00eb", Grade::Exact), ("zo\u{eb}", Grade::Approximate)] {
        let migration = of(&entry(name)).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(graded(&migration, "HASHED_API_KEYS").0, grade, "{name}");
    }
    let told = of("canary").expect_err("no JSON").to_string();
    assert!(told.starts_with("HASHED_API_KEYS: is not the base64 of a key file") && !told.contains("canary"), "{told}");
}

#[test]
fn a_key_file_is_named_and_needs_keys() {
    let mut old = Old::new(SHIPPED, &[("HASHED_API_KEYS", "e30="), ("OPENAI_API_KEY", "k")]);
    old.sources.key_file = Some(PathBuf::from("secrets/$keys.json"));
    let migration = migrate(&old.sources).unwrap_or_else(|report| panic!("{report}"));
    assert!(migration.yaml.contains("\nkeys:\n  file: \"secrets/$$keys.json\"\n"), "{}", migration.yaml);
    old.sources.environment = Environment::default();
    let told = migrate(&old.sources).expect_err("no keys").to_string();
    assert!(told.starts_with("environment HASHED_API_KEYS: is not set"), "{told}");
}

#[test]
fn a_file_that_is_there_stays_unless_it_may_go() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("conf/gateway.yaml");
    write(&path, "a", false).expect("written");
    let told = write(&path, "b", false).expect_err("it is there").to_string();
    assert!(told.contains("is there already") && told.contains("--force"), "{told}");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "a");
    write(&path, "b", true).expect("written");
    assert_eq!(std::fs::read_to_string(&path).expect("read"), "b");
    assert_eq!(std::fs::read_dir(folder.path().join("conf")).expect("read").count(), 1, "nothing is left over");
    assert!(write(folder.path(), "b", true).is_err(), "a folder is no file");
}

#[test]
fn any_cut_or_change_of_the_file_is_read_or_told() {
    let text = SHIPPED.replace("get", "g\u{e9}t");
    for (at, character) in text.char_indices() {
        for odd in ["", "\"", "[", "\u{1f600}\n"] {
            let changed = format!("{}{odd}{}", &text[..at], &text[at + character.len_utf8()..]);
            for toml in [&text[..at], &changed] {
                if let Err(problems) = original::read("config.toml", toml) {
                    assert!(problems.iter().all(|problem| problem.line > 0 && problem.column > 0), "{toml}");
                }
            }
        }
    }
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(original::read("config.toml", &deep).is_err());
}

#[test]
fn a_key_file_of_the_original_goes_before_its_variable() {
    let mut old = Old::new(SHIPPED, &[("OPENAI_API_KEY", "k"), ("HASHED_API_KEYS", "e30=")]);
    old.sources.key_file = Some(PathBuf::from("keys.json"));
    old.sources.old_keys = Some(PathBuf::from("old.json"));
    for (text, grade) in [("{}", Grade::Exact), ("{\"é\": {}}", Grade::Approximate)] {
        std::fs::write(old.folder.path().join("old.json"), text).expect("written");
        let migration = migrate(&old.sources).unwrap_or_else(|report| panic!("{report}"));
        let (found, becomes, _) = graded(&migration, "keys");
        assert_eq!((found, becomes.as_deref()), (grade, Some("keys.file: keys.json")));
        let (found, becomes, reason) = graded(&migration, "HASHED_API_KEYS");
        assert_eq!((found, becomes), (Grade::Manual, None));
        assert!(reason.contains("--hashed-api-keys goes before it"), "{reason}");
    }
}
