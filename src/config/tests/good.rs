//! Files and variables that are accepted, and what they come to.
//!
//! Never does: look at how a value is written; the snapshot is what counts.

use super::*;

const KEY: [(&str, &str); 1] = [("OPENAI_API_KEY", "sk-canary")];

#[test]
fn runs_without_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let loaded = load(&sources(directory.path(), None, &KEY)).expect("the defaults");
    assert_eq!(loaded.describes, "built-in defaults");
    let snapshot = &loaded.snapshot;
    assert_eq!(snapshot.startup.listen[0].address.port(), 8080);
    assert!(snapshot.startup.listen[0].address.ip().is_unspecified());
    assert_eq!(snapshot.startup.admin_listen.to_string(), "127.0.0.1:8081");
    assert!(snapshot.startup.admin_token.is_none() && !snapshot.startup.compat_metrics && snapshot.access_log);
    assert!(snapshot.startup.threads >= 1);
    assert_eq!(snapshot.server.max_body, 32 << 20);
    assert!(snapshot.server.max_buffered >= 64 << 20);
    assert_eq!(snapshot.server.cors, Cors::Any);
    let routes: Vec<String> =
        snapshot.routes.iter().map(|route| format!("{} {}", route.method_name(), route.pattern)).collect();
    assert_eq!(
        routes,
        [
            "GET /openai/v1/models",
            "GET /openai/v1/models/{model}",
            "POST /openai/v1/chat/completions",
            "POST /openai/v1/embeddings",
            "POST /openai/v1/images/generations",
        ]
    );
    let provider = &snapshot.providers[0];
    assert_eq!((provider.host.as_str(), provider.port, provider.tls), ("api.openai.com", 443, true));
    let credential = provider.keys.keys()[0].credential.as_ref().expect("a key");
    assert_eq!(credential.as_bytes(), b"Bearer sk-canary");
    assert!(credential.is_sensitive());
    let key_file = directory.path().join("provision/secrets/hashed-api-keys.json");
    let warning = format!("no key file at {}: `ai-gateway keys create` makes it", key_file.display());
    assert_eq!(loaded.warnings, [warning]);
}

#[test]
fn the_file_is_found_in_conf_and_sections_it_leaves_out_keep_their_defaults() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("conf")).expect("made");
    std::fs::write(directory.path().join("conf/gateway.yaml"), "\u{feff}server: { threads: 3 }\nadmin:\n")
        .expect("written");
    let loaded = load(&sources(directory.path(), None, &KEY)).expect("fine");
    assert_eq!(loaded.describes, "conf/gateway.yaml");
    assert_eq!((loaded.snapshot.startup.threads, loaded.snapshot.providers.len()), (3, 1));
}

#[test]
fn the_process_wins_over_dotenv_and_files_are_read() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join(".env"), "OPENAI_API_KEY=from-file\nA_API_KEY=from-file\n").expect("written");
    std::fs::write(directory.path().join("secret"), "from-secret\r\n").expect("written");
    let yaml = "providers:\n  openai: { base_url: 'https://o' }\n  a: { base_url: 'https://a', auth: { header: API-Key } }\n  \
                b: { base_url: 'https://b', api_key: '${file:secret}' }\n  c-d.e: { base_url: 'https://c', api_key: '' }\n";
    std::fs::write(directory.path().join("g.yaml"), yaml).expect("written");
    let process = [("OPENAI_API_KEY", "from-process"), ("C_D_E_API_KEY", "unused")];
    let loaded = load(&sources(directory.path(), Some("g.yaml"), &process)).expect("fine");
    let key = |id: &str| {
        let provider = loaded.snapshot.providers.iter().find(|provider| provider.id.as_str() == id).expect("it");
        let credential = provider.keys.keys()[0].credential.as_ref()?.to_str().ok()?;
        Some(format!("{}: {credential}", provider.auth_header))
    };
    assert_eq!(key("openai").as_deref(), Some("authorization: Bearer from-process"));
    assert_eq!(key("a").as_deref(), Some("api-key: from-file"));
    assert_eq!(key("b").as_deref(), Some("authorization: Bearer from-secret"));
    assert_eq!(key("c-d.e"), None);
    assert!(std::env::var_os("A_API_KEY").is_none());
}

#[test]
fn nothing_secret_can_be_printed() {
    let yaml = "admin: { token: '${CANARY}' }\nproviders:\n  a:\n    base_url: https://a.example.com\n    \
                api_key: ${CANARY}\n    headers: { x-key: '${CANARY}' }\n";
    let variables = [
        ("CANARY", "canary-canary-canary"),
        ("HASH_AUTH_SALT", "canary"),
        ("HASHED_API_KEYS", "e30="),
        ("HTTPS_PROXY", "http://canary:canary@proxy:3128"),
    ];
    let loaded = load_text(yaml, &variables).expect("fine");
    assert!(!format!("{loaded:?} {loaded:#?}").contains("canary"));
    let directory = tempfile::tempdir().expect("a directory");
    let sources = sources(directory.path(), None, &variables);
    assert!(!format!("{sources:?} {:?}", key_settings(&sources)).contains("canary"));
}

#[test]
fn the_base_urls_version_is_not_doubled() {
    let prefixes = |base: &str, version: Option<&str>| {
        let version = version.map_or_else(String::new, |version| format!(", version_path: '{version}'"));
        let yaml = format!("providers: {{ p: {{ base_url: '{base}', api_key: k{version} }} }}");
        let loaded = load_text(&yaml, &[]).expect(base);
        let p = &loaded.snapshot.providers[0];
        let authority = p.authority.to_str().expect("text").to_owned();
        (authority, p.port, p.base_prefix.clone(), p.version_prefix.clone())
    };
    let is = |authority: &str, port, base: &str, version: &str| {
        (authority.to_owned(), port, base.to_owned(), version.to_owned())
    };
    assert_eq!(prefixes("https://api.openai.com", None), is("api.openai.com", 443, "", "/v1"));
    assert_eq!(prefixes("https://api.openai.com/", None), is("api.openai.com", 443, "", "/v1"));
    assert_eq!(prefixes("https://API.openai.com:443/v1/", None), is("api.openai.com", 443, "", "/v1"));
    assert_eq!(prefixes("https://groq.com/openai/v1", None), is("groq.com", 443, "/openai", "/openai/v1"));
    assert_eq!(prefixes("https://azure.com/openai", None), is("azure.com", 443, "/openai", "/openai/v1"));
    assert_eq!(prefixes("https://ark.com/api/v3", None), is("ark.com", 443, "/api", "/api/v3"));
    assert_eq!(prefixes("https://ark.com", Some("/api/v3")), is("ark.com", 443, "", "/api/v3"));
    assert_eq!(prefixes("https://ark.com/api/v3", Some("/api/v3")), is("ark.com", 443, "", "/api/v3"));
    assert_eq!(prefixes("https://g.com/v1beta/openai", Some("")), is("g.com", 443, "/v1beta/openai", "/v1beta/openai"));
    assert_eq!(prefixes("http://[::1]:8080", None), is("[::1]:8080", 8080, "", "/v1"));
    assert_eq!(prefixes("http://127.0.0.1:80/v1", None), is("127.0.0.1", 80, "", "/v1"));
}

#[test]
fn query_and_headers_go_with_each_request() {
    let yaml = "providers: { p: { base_url: 'https://a', api_key: k, query: { api-version: 2024-10-21, 'a b': 'x&y' }, \
                headers: { OpenAI-Organization: org-1 } } }";
    let loaded = load_text(yaml, &[]).expect("fine");
    let provider = &loaded.snapshot.providers[0];
    let query: Vec<_> = provider.query.iter().map(|(name, pair)| (name.as_str(), pair.expose())).collect();
    assert_eq!(query, [("a b", "a%20b=x%26y"), ("api-version", "api-version=2024-10-21")]);
    assert_eq!(provider.headers[0].0, "openai-organization");
    assert_eq!(provider.headers[0].1, "org-1");
}

#[test]
fn the_originals_environment_works() {
    let variables =
        [("OPENAI_API_KEY", "k"), ("HASHED_API_KEYS", "e30="), ("LOG_LEVEL", "fatal"), ("HTTPS_PROXY", "http://p")];
    let loaded = load_text("server: { threads: 1 }", &variables).expect("fine");
    let startup = &loaded.snapshot.startup;
    assert!(startup.admin_listen.ip().is_unspecified() && startup.admin_listen.port() == 8081);
    assert!(startup.compat_metrics && loaded.snapshot.key_file.is_none());
    assert_eq!(startup.log_level, log::LevelFilter::Error);
    assert!(loaded.snapshot.providers[0].proxy.is_some());
    assert!(loaded.warnings.iter().any(|warning| warning.starts_with("admin.listen")));
    let named = "keys: { file: k.json }\nadmin: { listen: '127.0.0.1:9' }";
    let loaded = load_text(named, &variables).expect("fine");
    assert!(!loaded.snapshot.startup.compat_metrics && loaded.snapshot.key_file.is_some());
    assert!(loaded.warnings.iter().any(|warning| warning.starts_with("HASHED_API_KEYS is not used")));
}

#[test]
fn odd_things_are_told_and_do_not_stop() {
    let yaml = "server: { shutdown: { grace: 10s }, cors: { allow_origins: ['*', 'https://a'] } }\nadmin: { listen: '0.0.0.0:8081', \
                token: short }\nproviders: { p: { base_url: 'http://10.0.0.1', api_key: k }, q: { base_url: 'http://localhost' } }";
    let loaded = load_text(yaml, &[("LOG_LEVEL", "loud")]).expect("fine");
    for begin in [
        "server.shutdown.grace is less than timeouts.total of p, q: long answers",
        "server.cors",
        "admin.listen",
        "admin.token",
        "providers.p.base_url is plain http",
        "providers.q has no api_key and Q_API_KEY is not set",
        "no key file at /",
        "LOG_LEVEL",
    ] {
        let told = loaded.warnings.iter().any(|warning| warning.starts_with(begin));
        assert!(told, "{begin}: {:?}", loaded.warnings);
    }
}

#[test]
fn a_file_of_comments_has_everything_as_by_default() {
    let loaded = load_text("# server:\n#   threads: 1\n", &KEY).expect("fine");
    assert_eq!(loaded.describes, "g.yaml");
    assert_eq!(loaded.snapshot.routes.iter().count(), 5);
    assert!(load_text("{}", &KEY).is_ok());
    assert!(load_text(" \n", &KEY).is_err(), "it may be half written");
}

/// The warnings of a provider `p` with these fields, those about the key file and prices left out.
fn warned(fields: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let loaded = load_text(&format!("providers: {{ p: {{ {fields} }} }}"), variables).expect(fields);
    let warnings = loaded
        .warnings
        .into_iter()
        .filter(|warning| !warning.starts_with("no key file") && !warning.contains("has no prices"));
    warnings.inspect(|warning| assert!(!warning.contains("canary"), "{warning}")).collect()
}

#[test]
fn a_provider_key_that_cannot_be_one_is_told_without_its_text() {
    let variable = "looks like a variable: write ${...}, or $$ for a literal $";
    let quotes = "has quotes around it, which are sent to the provider: leave them out";
    let of = |key: &str| warned(&format!("base_url: 'https://a', api_key: {key}"), &[("CANARY", "'canary'")]);
    assert_eq!(of("$CANARY"), [format!("providers.p.api_key {variable}")]);
    assert_eq!(of("'$$CANARY'"), Vec::<String>::new());
    assert_eq!(of("sk-$canary"), Vec::<String>::new());
    assert_eq!(of("'${CANARY}'"), [format!("providers.p.api_key {quotes}")]);
    assert_eq!(of("'\"canary\"'"), [format!("providers.p.api_key {quotes}")]);
    assert_eq!(of("'sk canary'"), ["providers.p.api_key has blanks in it"]);
    let default = warned("base_url: 'https://a'", &[("P_API_KEY", "\"canary\"")]);
    assert_eq!(default, [format!("P_API_KEY {quotes}")]);
    let header = warned("base_url: 'https://a', api_key: k, headers: { x-a: $CANARY }", &[]);
    assert_eq!(header, [format!("providers.p.headers.x-a {variable}")]);
}

#[test]
fn a_base_url_that_goes_beyond_the_api_is_told() {
    for (base, more, told) in [
        ("https://api.openai.com/v1/chat/completions", "", true),
        ("https://api.openai.com/v1/models", "", true),
        ("https://api.openai.com/v1/embeddings/", "", true),
        ("https://a.com/completions", ", version_path: /v1", true),
        ("https://g.com/v1beta/openai", "", true),
        ("https://g.com/v1beta/openai", ", version_path: ''", false),
        ("https://a.com/models", ", version_path: ''", false),
        ("https://api.openai.com/v1", "", false),
        ("https://api.openai.com", "", false),
        ("https://azure.com/openai/v1/", "", false),
        ("https://ark.com/api/v3", "", false),
    ] {
        let warnings = warned(&format!("base_url: '{base}', api_key: k{more}"), &[]);
        let expected = "providers.p.base_url: expected where the API begins, such as https://api.openai.com/v1";
        assert_eq!(warnings == [expected], told, "{base} {warnings:?}");
        assert_eq!(warnings.is_empty(), !told, "{base} {warnings:?}");
    }
}

#[test]
fn a_key_file_that_others_can_read_is_told() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let keys = directory.path().join("k.json");
    std::fs::write(&keys, "{}").expect("written");
    std::fs::write(directory.path().join("g.yaml"), "keys: { file: k.json }").expect("written");
    let told = |mode| {
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(mode)).expect("set");
        let loaded = load(&sources(directory.path(), Some("g.yaml"), &KEY)).expect("fine");
        loaded.warnings.iter().any(|warning| warning.contains("/k.json can be read by other users"))
    };
    assert!(told(0o640));
    assert!(!told(0o600));
}

#[test]
fn the_keys_commands_need_no_provider_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let yaml = "admin: { token: '${NOT_SET}' }\nproviders:\n  p: { base_url: '${NOT_SET}', api_key: '${file:/nothing}', \
                timeouts: { idle: '${NOT_SET}' } }\nkeys: { file: some/k.json }";
    std::fs::write(directory.path().join("g.yaml"), yaml).expect("written");
    let settings = key_settings(&sources(directory.path(), Some("g.yaml"), &[("HASH_AUTH_SALT", "s")])).expect("fine");
    assert_eq!(settings.file, directory.path().join("some/k.json"));
    assert_eq!(settings.env_salt.as_ref().map(Secret::expose), Some("s"));
    assert_eq!(settings.routes.len(), 5);
    assert_eq!(settings.routes[2], ("post".to_owned(), "/p/v1/chat/completions".to_owned()));
    let settings = key_settings(&sources(directory.path(), None, &[("HASHED_API_KEYS", "e30=")])).expect("fine");
    assert!(settings.in_variable && settings.file.ends_with("provision/secrets/hashed-api-keys.json"));
}

#[test]
fn a_reload_names_what_needs_a_restart() {
    let startup = |yaml: &str| load_text(yaml, &KEY).expect("fine").snapshot.startup.clone();
    let before = startup("server: { threads: 1 }\nledger: { path: /data/a.db, retention: 1d }");
    assert_eq!(before.differences(&before.clone()), Vec::<&str>::new());
    let after = startup(
        "server: { threads: 2, listen: ['127.0.0.1:1'], limits: { max_body: 1MiB } }\nadmin: { token: 0123456789abcdef }\n\
         ledger: { path: /data/a.db, retention: 2d, max_size: 1GiB }",
    );
    assert_eq!(before.differences(&after), ["server.listen", "server.threads", "admin.token"]);
    let other = startup("server: { threads: 1 }\nledger: off");
    assert_eq!(before.differences(&other), ["ledger.path"]);
}

#[test]
fn the_ledger_has_its_place_or_is_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = |yaml: &str| {
        std::fs::write(directory.path().join("g.yaml"), yaml).expect("written");
        // What is missing elsewhere does not matter to who only wants to look.
        ledger_path(&sources(directory.path(), Some("g.yaml"), &[])).map_err(|report| report.to_string())
    };
    assert_eq!(place("telemetry: {}"), Ok(Some(directory.path().join("data/gateway.db"))));
    assert_eq!(place("ledger: { retention: 1d }"), Ok(Some(directory.path().join("data/gateway.db"))));
    assert_eq!(place("ledger: { path: /var/lib/x.db }"), Ok(Some("/var/lib/x.db".into())));
    assert_eq!(place("ledger: off"), Ok(None));
    assert!(place("ledger: canary").is_err());
}

#[test]
fn ranges_hold_their_addresses() {
    let yaml = "server: { trusted_proxies: [10.1.2.3/8, 192.0.2.7, 'fd00::/8', 0.0.0.0/0] }";
    let loaded = load_text(yaml, &KEY).expect("fine");
    let ranges = &loaded.snapshot.server.trusted_proxies;
    let holds = |range: usize, address: &str| ranges[range].contains(address.parse().expect("an address"));
    assert_eq!(ranges[0].address.to_string(), "10.0.0.0");
    assert!(holds(0, "10.255.0.1") && holds(0, "::ffff:10.0.0.1") && !holds(0, "11.0.0.1") && !holds(0, "::1"));
    assert!(holds(1, "192.0.2.7") && !holds(1, "192.0.2.6"));
    assert!(holds(2, "fdff::1") && !holds(2, "fe00::1"));
    assert!(holds(3, "255.1.1.1") && !holds(3, "::1"));
}

#[test]
fn all_leaves_opaque_routes_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let routes = "[post /v1/a, post /v1/b stream, get /v1/c websocket, any /v1/* opaque, get /v1/d opaque]";
    let yaml = format!("providers: {{ p: {{ base_url: 'http://127.0.0.1', api_key: '', routes: {routes} }} }}");
    std::fs::write(directory.path().join("g.yaml"), yaml).expect("written");
    let settings = key_settings(&sources(directory.path(), Some("g.yaml"), &[])).expect("settings");
    let named: Vec<String> = settings.routes.iter().map(|(method, path)| format!("{method} {path}")).collect();
    assert_eq!(named, ["post /p/v1/a", "post /p/v1/b", "get /p/v1/c"]);
    assert_eq!(settings.opaque[0], ("any".to_owned(), "/p/v1/*".to_owned()));
}
