//! The commands as people run them: the binary, its exit code, and what it prints where.

mod demo;
mod keys;
mod migrate;
mod rotate;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::*;

const NO_VARIABLES: &[(&str, &str)] = &[];

async fn run(folder: &Path, args: &[&str]) -> Ended {
    Process::run(folder, args, NO_VARIABLES).await
}

fn folder_with(yaml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("gateway.yaml"), yaml).expect("written");
    folder
}

#[tokio::test]
async fn help_and_version_are_on_standard_output() {
    let folder = folder_with("");
    let version = run(folder.path(), &["--version"]).await;
    let expected = format!("ai-gateway {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout, version.stderr), (Some(0), expected, String::new()));
    let help = run(folder.path(), &["--help"]).await;
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for command in ["serve", "demo", "check", "keys", "migrate"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{}", help.stdout);
    }
    let create = run(folder.path(), &["keys", "create", "--help"]).await;
    assert_eq!(create.code, Some(0));
    assert!(create.stdout.contains("get:/openai/v1/models,post:/openai/v1/embeddings"), "{}", create.stdout);
    let demo = run(folder.path(), &["demo", "--help"]).await;
    for option in ["--provider-only", "--listen <ADDRESS>", "--api-key <KEY>"] {
        assert!(demo.stdout.contains(option), "{}", demo.stdout);
    }
}

#[test]
fn a_reader_that_has_enough_is_told_nothing() {
    let folder = folder_with("ledger: off\n");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ai-gateway"));
    command.args(["check", "--config", "gateway.yaml"]).current_dir(folder.path()).env_clear();
    let ended = command.env("OPENAI_API_KEY", "sk-x").stdout(writer).output().expect("it runs");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(1), ""));
}

#[tokio::test]
async fn wrong_usage_ends_with_2() {
    let folder = folder_with("");
    let wrong: [&[&str]; 7] = [
        &[],
        &["server"],
        &["serve", "--confg", "gateway.yaml"],
        &["keys"],
        &["keys", "create"],
        &["keys", "create", "jane.doe", "models"],
        &["check", "gateway.yaml"],
    ];
    for args in wrong {
        let ended = run(folder.path(), args).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?} {ended:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }
}

#[tokio::test]
async fn a_route_that_is_a_mapping_is_shown_with_its_model_and_opened_by_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = "providers: { x: { base_url: 'http://127.0.0.1:1', api_key: '', routes: [ post /v1/chat/completions, \
        { route: get /v1/realtime websocket, model: query }, { route: post /v1/listen stream, model: nova-3 } ] } }";
    std::fs::write(folder.path().join("g.yaml"), yaml).expect("written");
    let shown = run(folder.path(), &["check", "--config", "g.yaml"]).await.stdout;
    for line in [
        "  POST   /x/v1/chat/completions -> http://127.0.0.1:1/v1/chat/completions\n",
        "  GET    /x/v1/realtime -> http://127.0.0.1:1/v1/realtime (websocket, model from the query)\n",
        "  POST   /x/v1/listen -> http://127.0.0.1:1/v1/listen (stream, model nova-3)\n",
    ] {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    let json = run(folder.path(), &["check", "--config", "g.yaml", "--json"]).await.stdout;
    let told: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let models: Vec<_> = (0..3).map(|route| told["routes"][route]["model"].clone()).collect();
    assert_eq!(models, [serde_json::Value::Null, "query".into(), "nova-3".into()]);
    let made = run(folder.path(), &["keys", "create", "u", "all", "--config", "g.yaml", "--file", "k.json"]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let keys = std::fs::read_to_string(folder.path().join("k.json")).expect("the key file");
    assert!(keys.contains("/x/v1/realtime") && keys.contains("/x/v1/listen"), "{keys}");
}

#[tokio::test]
async fn check_tells_what_a_configuration_comes_to() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let fine = run(folder.path(), &["check", "--config", "gateway.yaml"]).await;
    assert_eq!((fine.code, fine.stderr.as_str()), (Some(0), ""));
    assert!(fine.stdout.starts_with("configuration  gateway.yaml\nlisten         127.0.0.1:0\n"), "{}", fine.stdout);
    assert!(fine.stdout.contains("\nkeys           1 key from /"), "{}", fine.stdout);
    assert!(fine.stdout.contains("\n  POST   /openai/v1/chat/completions -> http://127.0.0.1:"), "{}", fine.stdout);
    assert!(!fine.stdout.contains(PROVIDER_KEY), "{}", fine.stdout);
    let json = run(folder.path(), &["check", "--config", "gateway.yaml", "--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((json.code, &told["ok"], &told["keys"]["count"]), (Some(0), &true.into(), &1.into()));
    assert!(!json.stdout.contains(PROVIDER_KEY));
}

#[tokio::test]
async fn an_unknown_field_is_refused_by_every_command_without_a_value() {
    let folder = folder_with(
        "providers:\n  openai: { base_url: 'http://127.0.0.1:9', api_key: sk-canary }\nserver:\n  tread: sk-canary\n",
    );
    let commands: [&[&str]; 3] = [&["check"], &["serve"], &["keys", "list"]];
    for command in commands {
        let args = [command, &["--config", "gateway.yaml"]].concat();
        let ended = run(folder.path(), &args).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{command:?}");
        assert!(ended.stderr.contains("gateway.yaml:4:3 server.tread: "), "{command:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("threads"), "a hint names what was meant: {}", ended.stderr);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
    let missing = run(folder.path(), &["check", "--config", "none.yaml"]).await;
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.starts_with("none.yaml: cannot be read: "), "{}", missing.stderr);
}

/// The original's environment: its shipped key file, its salt, its provider.
fn originals_environment() -> Vec<(String, String)> {
    let variables = [
        ("HASHED_API_KEYS", STANDARD.encode(KEY_FILE)),
        ("HASH_AUTH_SALT", "fake".to_owned()),
        ("OPENAI_API_KEY", PROVIDER_KEY.to_owned()),
    ];
    variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

#[tokio::test]
async fn the_originals_environment_works_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = originals_environment();
    let variables: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
    let check = Process::run(folder.path(), &["check"], &variables).await;
    assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""));
    assert!(check.stdout.contains("\nkeys           1 key from HASHED_API_KEYS\n"), "{}", check.stdout);
    let all = |line: &str| {
        let address = line.strip_prefix("admin ").map(str::trim_start);
        address.is_some_and(|address| address.starts_with("[::]:8081") || address.starts_with("0.0.0.0:8081"))
    };
    assert!(check.stdout.lines().any(all), "the admin service listens on all addresses: {}", check.stdout);

    let provider = ai_gateway::demo::Provider::start(ai_gateway::demo::ProviderOptions {
        api_key: Some(PROVIDER_KEY.to_owned()),
        ..Default::default()
    });
    let provider = provider.await.expect("the provider starts");
    let yaml = format!(
        "server: {{ listen: [\"[::]:0\"] }}\nadmin: {{ listen: \"0.0.0.0:0\" }}\nproviders: {{ openai: {{ base_url: \
         \"http://{}\" }} }}\n",
        provider.addr()
    );
    std::fs::write(folder.path().join("gateway.yaml"), yaml).expect("written");
    let process = Process::start(folder.path(), SERVE, &variables);
    let (address, admin) = process.serves().await;
    let local = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let answer = Connection::open(local(address.port())).await.post("/openai/v1/chat/completions", &chat("hi")).await;
    assert_eq!(answer.status, 200);
    // A call is told when it is over, a moment after its answer.
    eventually("the original's summaries are on", async || {
        let mut admin = Connection::open(local(admin.port())).await;
        let metrics = admin.request("GET", "/metrics", &[], b"").await.text();
        metrics.contains("\ngateway_request_duration_ms_count{")
    })
    .await;
    process.says("WARN admin.listen: other machines can reach the admin service").await;
}

#[tokio::test]
async fn a_broken_key_variable_is_refused_without_its_text() {
    let folder = tempfile::tempdir().expect("a folder");
    for text in ["canary?", "Y2FuYXJ5", "eyJhIjoiY2FuYXJ5In0="] {
        let variables = [("HASHED_API_KEYS", text), ("OPENAI_API_KEY", "sk-canary")];
        let ended = Process::run(folder.path(), &["serve"], &variables).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.stderr.contains("HASHED_API_KEYS"), "{ended:?}");
        assert!(!ended.stderr.contains("canary") && !ended.stderr.contains(text), "{ended:?}");
    }
}
