//! What a reload puts in force, and what it refuses.

use std::process::Command;
use std::time::Instant;

use super::*;

#[tokio::test]
async fn sighup_puts_configuration_and_keys_in_force_as_one() {
    let service = Service::start().await;
    let files = "/openai/v1/files";
    service.provider.script(Script::json(200, "{}").on("/v1/files").always());
    assert_eq!(service.status(KEY, files).await, 404);
    assert_eq!(service.status(OTHER_KEY, "/openai/v1/models").await, 401);
    write(service.folder.path(), "other.json", OTHER_KEY_FILE);
    service.change("file: keys.json", "file: other.json");
    service.change("providers:\n  openai: {", "providers:\n  openai: { routes: [get /v1/models, get /v1/files],");
    let mut connection = service.connect().await;
    let mut seen = vec![connection.request("GET", files, &[bearer(KEY)], b"").await.status];
    service.process.signal("HUP");
    eventually("the reload is in force", async || {
        seen.push(connection.request("GET", files, &[bearer(KEY)], b"").await.status);
        seen.last() == Some(&401)
    })
    .await;
    seen.dedup();
    assert_eq!(seen, [404, 401], "new routes with old keys, or the other way round, would be 403");
    assert_eq!(service.status(OTHER_KEY, files).await, 200);
    assert_eq!(service.status(OTHER_KEY, "/openai/v1/embeddings").await, 404, "a route that was left out is gone");
    service.process.says("INFO configuration reloaded from gateway.yaml: 2 routes, 1 key").await;
    assert_eq!(service.metric(APPLIED).await, 1.0);
    assert_eq!(service.metric(REFUSED).await, 0.0);
    assert_eq!(service.metric("gateway_restart_required").await, 0.0);
}

#[tokio::test]
async fn an_invalid_configuration_is_refused_whole() {
    let service = Service::start().await;
    write(service.folder.path(), "other.json", OTHER_KEY_FILE);
    service.change("file: keys.json", "file: other.json");
    let threads = threads();
    service.change(&format!("threads: {threads} }}"), &format!("threads: {threads}, thread: 3 }}"));
    service.process.signal("HUP");
    let message = service.process.says("ERROR the configuration was not reloaded").await;
    let yaml = std::fs::read_to_string(service.folder.path().join("gateway.yaml")).expect("read");
    let column = yaml.lines().next().and_then(|line| line.find("thread: 3")).expect("there") + 1;
    assert!(message.contains(&format!("\ngateway.yaml:1:{column} server.thread: ")), "{message}");
    assert_eq!(service.metric(REFUSED).await, 1.0);
    assert_eq!(service.metric(APPLIED).await, 0.0);
    assert_eq!(service.get("/openai/v1/models").await.status, 200, "the old keys and routes serve");
    assert_eq!(service.status(OTHER_KEY, "/openai/v1/models").await, 401);
    assert_eq!(service.metric("gateway_config_stale").await, 1.0);
    service.change(", thread: 3 }", " }");
    service.process.signal("HUP");
    service.process.says("INFO configuration reloaded").await;
    assert_eq!(service.metric("gateway_config_stale").await, 0.0);
    assert_eq!(service.status(OTHER_KEY, "/openai/v1/models").await, 200);
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let service = Service::start().await;
    service.change("listen: [\"127.0.0.1:0\"]", "listen: [\"127.0.0.2:0\"]");
    service.process.signal("HUP");
    service.process.says("WARN server.listen has changed, which takes a restart").await;
    service.process.says("INFO configuration reloaded").await;
    assert_eq!(service.metric("gateway_restart_required").await, 1.0);
    assert_eq!(service.get("/openai/v1/models").await.status, 200, "the old address serves");
    service.change("listen: [\"127.0.0.2:0\"]", "listen: [\"127.0.0.1:0\"]");
    service.process.signal("HUP");
    eventually("no restart is needed", async || service.metric("gateway_restart_required").await == 0.0).await;
}

#[tokio::test]
async fn streams_that_run_outlive_reloads() {
    let service = Service::start().await;
    service.provider.script(slow(60, 20).on("/v1/chat/completions").always());
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(begin_stream(service.connect().await, &chat_stream("hello")).await);
    }
    write(service.folder.path(), "other.json", OTHER_KEY_FILE);
    let files = [("file: keys.json", "file: other.json"), ("file: other.json", "file: keys.json")];
    for (round, (from, to)) in files.into_iter().cycle().take(5).enumerate() {
        service.change(from, to);
        service.process.signal("HUP");
        eventually("it is reloaded", async || service.metric(APPLIED).await > round as f64).await;
    }
    assert_eq!(service.get("/openai/v1/models").await.status, 401, "their key is gone by now");
    assert!(service.metric("gateway_inflight_requests").await >= 20.0, "all of them run");
    for stream in streams {
        assert!(is_whole(stream).await);
    }
}

#[tokio::test]
async fn a_reload_that_does_not_end_holds_up_neither_calls_nor_the_end() {
    let mut service = Service::start().await;
    let pipe = service.folder.path().join("keys.json");
    std::fs::remove_file(&pipe).expect("removed");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    service.process.signal("HUP");
    // Opening it to write returns when the gateway has opened it to read, where it waits for what never comes.
    let opened = tokio::fs::OpenOptions::new().write(true).open(&pipe).await.expect("opened");
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    service.process.signal("HUP");
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    drop(opened);
}

#[tokio::test]
async fn a_changed_key_file_is_in_force_within_two_seconds_even_while_the_yaml_is_broken() {
    let service = Service::start().await;
    write(service.folder.path(), "gateway.yaml", "server: {{{");
    write(service.folder.path(), "keys.json", OTHER_KEY_FILE);
    let changed = Instant::now();
    eventually("the new key works", async || service.status(OTHER_KEY, "/openai/v1/models").await == 200).await;
    assert!(changed.elapsed() < Duration::from_secs(2), "{:?}", changed.elapsed());
    assert_eq!(service.get("/openai/v1/models").await.status, 401);
    service.process.says("INFO key file reloaded: 1 key").await;
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_a_connection_that_it_has_used() {
    let service = Service::start().await;
    let mut connection = service.connect().await;
    let mut ask = async || connection.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
    assert_eq!(ask().await.status, 200);
    let revoked = service.keys(&["revoke", "ebc5f4226c40"]).await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    service.process.says("INFO key file reloaded").await;
    ask().await.error(401, "invalid_request_error", "revoked_api_key");
}

#[tokio::test]
async fn a_half_written_key_file_keeps_the_old_keys() {
    let service = Service::start().await;
    for length in [0, 100, OTHER_KEY_FILE.len() - 1] {
        let refused = service.metric(REFUSED).await;
        write(service.folder.path(), "keys.json", &OTHER_KEY_FILE[..length]);
        eventually("it is refused", async || service.metric(REFUSED).await > refused).await;
        assert_eq!(service.get("/openai/v1/models").await.status, 200, "after {length} bytes");
    }
    service.process.says("ERROR the key file was not reloaded, the old keys stay in force:\n").await;
    write(service.folder.path(), "keys.json", OTHER_KEY_FILE);
    eventually("the whole one is taken", async || service.get("/openai/v1/models").await.status == 401).await;
    assert_eq!(service.status(OTHER_KEY, "/openai/v1/models").await, 200);
}

#[tokio::test]
async fn a_key_file_that_is_gone_keeps_the_old_keys() {
    let service = Service::start().await;
    std::fs::remove_file(service.folder.path().join("keys.json")).expect("removed");
    service.process.says("ERROR the key file was not reloaded, the old keys stay in force:\n").await;
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    service.process.signal("HUP");
    let refused = service.process.says("ERROR the configuration was not reloaded").await;
    let path = std::path::absolute(service.folder.path()).expect("a path").join("keys.json");
    let expected = format!(
        "\nkeys.file {}: there is no such file; the old keys stay (hint: write {{}} into it for a gateway without keys)",
        path.display()
    );
    assert!(refused.ends_with(&expected), "{refused}");
    assert_eq!(service.get("/openai/v1/models").await.status, 200, "a reload does not take it for no keys");
    assert_eq!(service.metric("gateway_config_stale").await, 1.0);
    assert_eq!(service.metric("gateway_keys_stale").await, 1.0);
    write(service.folder.path(), "keys.json", "{}");
    eventually("told to, it serves without", async || service.get("/openai/v1/models").await.status == 401).await;
    eventually("the keys are fresh", async || service.metric("gateway_keys_stale").await == 0.0).await;
    write(service.folder.path(), "keys.json", KEY_FILE);
    eventually("a new one is taken", async || service.get("/openai/v1/models").await.status == 200).await;
}

#[tokio::test]
async fn a_change_of_keys_that_failed_for_another_reason_is_tried_again() {
    let service = Service::start().await;
    write(service.folder.path(), ".env", "no line of a .env file\n");
    write(service.folder.path(), "keys.json", OTHER_KEY_FILE);
    service.process.says("ERROR the key file was not reloaded").await;
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    std::fs::remove_file(service.folder.path().join(".env")).expect("removed");
    eventually("the new key works", async || service.status(OTHER_KEY, "/openai/v1/models").await == 200).await;
    assert_eq!(service.get("/openai/v1/models").await.status, 401);
    assert_eq!(service.metric(REFUSED).await, 1.0, "told once, not every second");
}

#[tokio::test]
async fn a_key_file_that_changes_while_it_is_reloaded_is_read_again() {
    let service = Service::start().await;
    for round in 0..8 {
        service.process.signal("HUP");
        // Both files differ in their size, so that none looks like the one before.
        let (file, key) = if round % 2 == 0 { (OTHER_KEY_FILE, OTHER_KEY) } else { (KEY_FILE, KEY) };
        write(service.folder.path(), "keys.json.new", file);
        std::fs::rename(service.folder.path().join("keys.json.new"), service.folder.path().join("keys.json"))
            .expect("renamed");
        eventually("the last file counts", async || service.status(key, "/openai/v1/models").await == 200).await;
    }
}

#[tokio::test]
async fn an_embedded_gateway_reloads_when_it_is_told() {
    let world = World::start().await;
    let yaml = std::fs::read_to_string(world.config_file()).expect("read");
    std::fs::write(world.config_file(), format!("{yaml}sever: {{}}\n")).expect("written");
    std::fs::write(world.key_file(), OTHER_KEY_FILE).expect("written");
    let report = world.gateway.reload().expect_err("refused").to_string();
    let line = yaml.lines().count() + 1;
    assert!(report.contains(&format!("gateway.yaml:{line}:1 sever: ")), "{report}");
    std::fs::write(world.config_file(), yaml).expect("written");
    world.gateway.reload().expect("applied");
    assert_eq!(world.get("/openai/v1/models").await.status, 401);
    let metrics = world.metrics().await;
    assert!(metric(&metrics, REFUSED) >= 1.0 && metric(&metrics, APPLIED) >= 1.0, "{metrics}");
}
