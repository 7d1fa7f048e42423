//! Files that are refused. `tests/fixtures/config/bad` holds each beside its exact report.
//!
//! To write the reports anew after a change of words: `BLESS=1 cargo test --lib config::`, then read the diff.
//! Never does: accept a report by its sense; it is compared to the letter.

use proptest::prelude::*;

use super::*;

#[test]
fn each_bad_file_has_its_exact_report() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/bad");
    let mut cases = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder") {
        let yaml = entry.expect("an entry").path();
        if yaml.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = yaml.file_name().and_then(|name| name.to_str()).expect("a name");
        let variables = [("EMPTY", ""), ("OPENAI_API_KEY", "sk-canary")];
        let report = load(&sources(&folder, Some(name), &variables)).expect_err(name);
        let told = format!("{report}\n");
        assert!(!told.contains("canary"), "{name} tells a value:\n{told}");
        let expected = yaml.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&expected, &told).expect("written");
        }
        let expected = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(told, expected, "{name}");
        cases += 1;
    }
    assert!(cases >= 20, "only {cases} cases");
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let told = |file| load(&sources(directory.path(), Some(file), &[])).expect_err("no file").to_string();
    assert!(told("none.yaml").starts_with("none.yaml: cannot be read: there is none of this name (hint: "));
    std::fs::write(directory.path().join("big.yaml"), vec![b'#'; 2 << 20]).expect("written");
    assert!(told("big.yaml").starts_with("big.yaml: cannot be read: it is too large"));
}

#[test]
fn without_a_file_a_missing_key_is_told_by_its_variable() {
    let directory = tempfile::tempdir().expect("a directory");
    let report = load(&sources(directory.path(), None, &[])).expect_err("no key");
    assert_eq!(
        report.to_string(),
        "built-in defaults providers.openai.api_key: the variable OPENAI_API_KEY is not set or empty (hint: set it in \
         the environment or in .env, or write ${OPENAI_API_KEY:-} where it may be empty)"
    );
}

#[test]
fn a_field_of_the_defaults_has_no_place_in_the_file() {
    let told = load_text("server: { threads: 1 }", &[]).expect_err("no key").to_string();
    let expected = "built-in defaults providers.openai.api_key: the variable OPENAI_API_KEY is not set";
    assert!(told.starts_with(expected), "{told}");
    let told = load_text("# only words", &[]).expect_err("no key").to_string();
    assert!(told.starts_with(expected), "{told}");
}

#[test]
fn what_the_defaults_lack_is_not_told_beside_a_wrong_field_at_the_top() {
    let told = load_text("provider: { openai: { base_url: 'https://a' } }", &[]).expect_err("misspelt").to_string();
    assert_eq!(told, "g.yaml:1:1 provider: unknown field provider (hint: did you mean providers?)");
    let told = load_text("server: { threads: x }", &[]).expect_err("two problems").to_string();
    assert_eq!(told.lines().count(), 2, "{told}");
}

#[test]
fn the_originals_file_is_refused_with_a_hint() {
    let variables = [("SERVER_CONFIG_FILE_PATH", "/canary.toml"), ("OPENAI_API_KEY", "k")];
    let told = load_text("server: { threads: 1 }", &variables).expect_err("refused").to_string();
    assert!(told.starts_with("environment SERVER_CONFIG_FILE_PATH: "), "{told}");
    assert!(told.contains("ai-gateway migrate") && !told.contains("canary"), "{told}");
}

#[test]
fn a_proxy_of_the_environment_is_told_by_its_variable_where_it_is_used() {
    let text =
        "providers: { a: { base_url: 'https://a.example.com', api_key: k }, b: { base_url: 'https://b', api_key: k } }";
    let told = |more: &[(&str, &str)]| {
        let variables: Vec<_> = [("https_proxy", "https://user:canary@proxy")].iter().chain(more).copied().collect();
        load_text(text, &variables).map(|_| ()).map_err(|report| report.to_string())
    };
    let report = told(&[]).expect_err("refused");
    assert!(report.starts_with("environment https_proxy: a proxy that is itself reached by https"), "{report}");
    assert!(report.lines().count() == 1 && !report.contains("canary"), "{report}");
    assert_eq!(told(&[("NO_PROXY", "example.com, b")]), Ok(()), "nobody uses it");
    assert!(told(&[("NO_PROXY", "example.com")]).is_err());
}

#[test]
fn no_value_reaches_a_report_wherever_it_stands() {
    let fields = [
        "server: { threads: V }",
        "server: { listen: [V] }",
        "server: V",
        "V: 1",
        "admin: { listen: V }",
        "server: { shutdown: { grace: V } }",
        "server: { limits: { max_body: V } }",
        "server: { trusted_proxies: [V] }",
        "server: { cors: { allow_origins: [V, 'bad'] } }",
        "telemetry: { compat_metrics: V }",
        "telemetry: { answer_headers: V }",
        "telemetry: { answer_headers: { cost: V } }",
        "server: [V",
        "providers: { openai: { base_url: V } }",
        "providers: { openai: V }",
        "providers: { openai: { routes: [V] } }",
        "providers: { openai: { base_url: 'https://a', api_key: V, auth: V } }",
        "providers: { openai: { dialect: V } }",
        "providers: { openai: { base_url: 'https://a', headers: { x: V }, timeouts: V } }",
        "admin: { token: [V] }",
        "providers: { openai: { base_url: 'https://a', api_key: k, proxy: V } }",
        "providers: { openai: { base_url: 'https://a', api_key: k, ca_file: V, client_cert: { cert: V, key: V } } }",
        "prices: V",
        "prices: { file: V, models: V }",
        "prices: { models: { V: { V: V } } }",
        "prices: { models: { openai: { m: { usd_per_million_tokens: { input: V, V: 1 }, mode: V, covers: [V] } } } }",
        "prices: { models: { openai: { m: { service_tiers: { V: { input: 1 } }, above_input_tokens: { V: V } } } } }",
        "prices: { models: { V: { V: { usd_per_million_tokens: { input: 1, output: 1 } } } } }",
        "providers: { openai: { base_url: 'https://a', api_key: k, priced_as: V, inject_usage: V } }",
        "models: V",
        "limits: { V: V, zone: V, store: V, gateway: V, users: { V: V } }",
        "limits: { key: { requests_per_minute: V, budgets: [V, { usd: V, tokens: V, per: V }], shadow: V, V: V } }",
        "limits: { teams: { V: { requests_per_minute: 1 } } }",
        "server: { V: 1 }",
    ];
    for field in fields {
        for value in ["\"sk-canary\\n, expected canary\"", "${CANARY}", "\"${CANARY}\"", "sk-canary", "\"$${canary}\""]
        {
            let yaml = field.replace('V', value);
            let told = match load_text(&yaml, &[("CANARY", "sk-canary\n, expected `canary`"), ("OPENAI_API_KEY", "k")])
            {
                Ok(loaded) => format!("{loaded:?}"),
                Err(report) => format!("{report} {report:?}"),
            };
            assert!(!told.to_lowercase().contains("canary"), "{yaml} tells a value: {told}");
        }
    }
}

proptest! {
    #![proptest_config(crate::units::tests::cases(400))]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        let _ = load_text(&text, &[("OPENAI_API_KEY", "k")]);
    }

    #[test]
    fn yaml_like_text_never_panics(text in yaml_like()) {
        let _ = load_text(&text, &[("A", "1"), ("OPENAI_API_KEY", "k")]);
    }
}

/// Pieces that mean something, so that more than the parser is reached.
const PIECES: &str = r#"server:|  listen:|  limits: |providers:|  openai: |    base_url: |    routes:|      - |- |get /v1/models|
post /v1/{model}|{|}|[|]|,|: |\n|\n  |\n    |"|'|#|&a |*a |!t |>|---|...|~|null|1|30s|32MiB|auto|off|on|https://a.b/v1|${A}|
${B:-2}|${|$$|\t|\u{feff}|é|?|tls: |admin: |[::]:8080|0s|models: |headers: |x-a: |\n%YAML 1.2\n|\0|\r|\r\n|\u{85}|\u{2028}|
<<: |-|:|    timeouts: |idle: "#;

fn yaml_like() -> impl Strategy<Value = String> {
    let pieces: Vec<String> = PIECES
        .replace('\n', "")
        .split('|')
        .map(|piece| {
            let escapes = [("\\n", "\n"), ("\\t", "\t"), ("\\r", "\r"), ("\\0", "\0")];
            let wide = [("\\u{feff}", "\u{feff}"), ("\\u{85}", "\u{85}"), ("\\u{2028}", "\u{2028}")];
            escapes.iter().chain(&wide).fold(piece.to_owned(), |text, (from, to)| text.replace(from, to))
        })
        .collect();
    proptest::collection::vec(proptest::sample::select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for opening in ["- ", "? ", "[", "{a: ", "- [", "[[", "{"] {
        let _ = load_text(&opening.repeat(20_000), &[]).expect_err("refused");
        let _ = load_text(&format!("a: {}", opening.repeat(20_000)), &[]).expect_err("refused");
    }
    let stairs: String = (0..900).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let _ = load_text(&stairs, &[]).expect_err("refused");
}
