//! New processes that fail at each stage, and old ones that do: somebody serves throughout, and it is said what happened.
//!
//! Never does: take a refusal of the machine for one of the gateway.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::support::heavy;

/// Checks that the old one serves on, and that a SIGQUIT with nobody ready is ignored, told and counted.
async fn serves_on(service: &Service) {
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    let ignored = service.metric(IGNORED).await;
    service.process.signal("QUIT");
    says_times(&service.process, "WARN SIGQUIT is ignored: ", ignored as usize + 1).await;
    assert_eq!(service.metric(IGNORED).await, ignored + 1.0);
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    assert_eq!(service.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_sigquit_with_nobody_there_is_ignored() {
    let service = old().await;
    serves_on(&service).await;
    service.process.says("WARN SIGQUIT is ignored: no new process has come (hint: first `serve --upgrade`").await;
}

#[tokio::test]
async fn a_new_process_with_a_bad_configuration_changes_nothing() {
    let mut service = old().await;
    let threads = format!("threads: {}", threads());
    service.change(&threads, "threads: many");
    let ended = Process::run(service.folder.path(), UPGRADE, &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("server.threads"), "{ended:?}");
    serves_on(&service).await;
    assert_eq!(service.metric(FAILED).await, 0.0, "it has not come so far");
    service.change("threads: many", &threads);
    let mut old = upgrade(&mut service).await;
    assert_eq!(old.end().await.code, Some(0));
}

#[tokio::test]
async fn a_busy_port_of_the_new_configuration_changes_nothing() {
    let service = old().await;
    let holder = TcpListener::bind("127.0.0.1:0").expect("bound");
    let busy = holder.local_addr().expect("an address");
    let with = format!("listen: [\"{}\", \"{busy}\"", service.address);
    service.change(&format!("listen: [\"{}\"", service.address), &with);
    let ended = Process::run(service.folder.path(), UPGRADE, &[]).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let reason = format!("server.listen {busy}: the port is in use");
    assert!(ended.stderr.contains(&reason), "{ended:?}");
    let told = service.process.says("does not take over, this one serves on").await;
    assert!(told.starts_with("ERROR ") && told.contains(&reason), "{told}");
    serves_on(&service).await;
    assert_eq!(service.metric(FAILED).await, 1.0);
}

#[tokio::test]
async fn a_new_process_that_dies_when_it_was_ready_changes_nothing() {
    let mut service = old().await;
    let mut new = ready(&service).await;
    new.signal("KILL");
    new.end().await;
    service.process.says("does not take over, this one serves on: it has gone").await;
    serves_on(&service).await;
    assert_eq!(service.metric(FAILED).await, 1.0);
    let mut old = upgrade(&mut service).await;
    assert_eq!(old.end().await.code, Some(0), "another one can come");
}

#[tokio::test]
async fn a_new_process_can_be_sent_away_again() {
    for signal in ["TERM", "INT"] {
        let service = old().await;
        let mut new = ready(&service).await;
        new.signal("QUIT");
        new.says("WARN SIGQUIT is ignored: this is the new process").await;
        new.signal(signal);
        let ended = new.end().await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        serves_on(&service).await;
    }
}

#[tokio::test]
async fn a_new_process_that_hangs_when_told_to_serve_is_given_up() {
    let service = old().await;
    let mut new = ready(&service).await;
    new.signal("STOP");
    service.process.signal("QUIT");
    service.process.says("handing over to process").await;
    eventually("the admin service is closed", async || TcpStream::connect(service.admin).await.is_err()).await;
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    service.process.says("does not take over, this one serves on: it was told to serve and did not").await;
    service.process.says("INFO admin service again on http://").await;
    serves_on(&service).await;
    // It comes to itself and learns that it is too late.
    new.signal("CONT");
    let ended = new.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("the upgrade has failed, the gateway that served before serves on"), "{ended:?}");
    serves_on(&service).await;
}

/// A bug: it was believed at once, and the old one gave up its listeners.
#[tokio::test]
async fn a_new_process_that_dies_as_soon_as_it_serves_changes_nothing() {
    let service = old().await;
    let stream = UnixStream::connect(service.folder.path().join("up.sock")).await.expect("connected");
    let mut new = BufReader::new(stream);
    let mut heard = String::new();
    for (say, hear) in [
        (r#"{"hello":{"protocol":1,"version":"0"}}"#, "listeners"),
        (r#"{"ready":{"at_once":true}}"#, "go"),
        (r#""serving""#, ""),
    ] {
        new.write_all(format!("{say}\n").as_bytes()).await.expect("said");
        if !hear.is_empty() {
            new.read_line(&mut heard).await.expect("heard");
            assert!(heard.contains(hear), "{heard}");
        }
    }
    drop(new);
    service.process.says("does not take over, this one serves on: it has gone").await;
    service.process.says("INFO admin service again on http://").await;
    serves_on(&service).await;
    assert_eq!(service.metric(FAILED).await, 1.0);
}

#[tokio::test]
async fn an_admin_port_that_somebody_else_has_taken_ends_the_upgrade() {
    let service = old().await;
    let mut new = ready(&service).await;
    new.signal("STOP");
    service.process.signal("QUIT");
    let mut thief = None;
    eventually("the admin service's port is free", async || {
        thief = TcpListener::bind(service.admin).ok();
        thief.is_some()
    })
    .await;
    new.signal("CONT");
    let ended = new.end().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains(&format!("admin.listen {}: the port is in use", service.admin)), "{ended:?}");
    service.process.says("does not take over, this one serves on: admin.listen").await;
    service.process.says("ERROR the admin service is closed, its port is tried on: admin.listen").await;
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    drop(thief);
    service.process.says("INFO admin service again on http://").await;
    serves_on(&service).await;
    assert_eq!(service.metric(FAILED).await, 1.0);
}

#[tokio::test]
async fn a_second_new_process_is_turned_away() {
    let service = old().await;
    let mut first = ready(&service).await;
    let second = Process::run(service.folder.path(), AT_ONCE, &[]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    let reason = format!("another upgrade is under way, that of process {}", first.id());
    assert!(second.stderr.contains(&reason), "{second:?}");
    service.process.says("WARN a second new process is turned away").await;
    assert!(first.runs());
    service.process.signal("QUIT");
    first.says("INFO took over from process").await;
}

#[tokio::test]
async fn another_user_gets_nothing() {
    let service = old().await;
    if std::fs::metadata(service.folder.path()).expect("a folder").uid() != 0 {
        heavy::told("not tested: only root can be somebody else");
        return;
    }
    // Even with a socket that all may connect to: whoever they are is what counts.
    for (name, mode) in [("", 0o755), ("up.sock", 0o666), ("keys.json", 0o644), ("gateway.yaml", 0o644)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(service.folder.path().join(name), permissions).expect("changed");
    }
    let binary = service.folder.path().join("ai-gateway");
    let built = env!("CARGO_BIN_EXE_ai-gateway");
    std::fs::hard_link(built, &binary).or_else(|_| std::fs::copy(built, &binary).map(drop)).expect("copied");
    let mut command = std::process::Command::new(&binary);
    command.current_dir(service.folder.path()).args(UPGRADE).env_clear().uid(65534).gid(65534);
    let run = tokio::task::spawn_blocking(move || command.output().expect("ran"));
    let ended = tokio::time::timeout(SOON, run).await.expect("in time").expect("no panic");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(2), "{told}");
    assert!(told.contains("is of user 0, this one of 65534 (hint: be the user of the gateway that serves)"), "{told}");
    service.process.says("WARN the upgrade socket: somebody is turned away: process").await;
    serves_on(&service).await;
}

#[tokio::test]
async fn nobody_to_take_over_from_is_told() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let ended = Process::run(folder.path(), UPGRADE, &[]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no upgrade socket is configured (hint: set server.upgrade_socket"), "{ended:?}");
    let setup = Setup { server: "upgrade_socket: up.sock".to_owned(), ..Setup::default() };
    let (_provider, folder) = prepare(&setup).await;
    let told =
        "ai-gateway: there is no gateway to take over from: up.sock: no gateway answers (hint: without --upgrade";
    for _ in 0..2 {
        let ended = Process::run(folder.path(), UPGRADE, &[]).await;
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.starts_with(told), "{ended:?}");
        // And what a process that was killed has left.
        drop(std::os::unix::net::UnixListener::bind(folder.path().join("up.sock")));
    }
}

#[tokio::test]
async fn an_old_process_that_dies_is_replaced_by_one_that_was_ready() {
    let mut service = old().await;
    let new = ready(&service).await;
    service.process.signal("KILL");
    new.says("has gone without a word, this one serves in its place").await;
    new.serves().await;
    // Who connects in between waits in the queue of the listener, which was never closed.
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    service.process.end().await;
    service.process = new;
    service.process.says("INFO took over from process").await;
    assert_eq!(service.admin("/readyz").await.status, 200);
    let mut old = upgrade(&mut service).await;
    assert_eq!(old.end().await.code, Some(0));
}

#[tokio::test]
async fn an_old_process_that_is_stopped_takes_the_new_one_with_it() {
    let mut service = old().await;
    let mut new = ready(&service).await;
    service.process.signal("TERM");
    let ended = new.end().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("it was told to end"), "{ended:?}");
    assert_eq!(service.process.end().await.code, Some(0));
    eventually("nobody listens", async || TcpStream::connect(service.address).await.is_err()).await;
}
