//! The hand-over itself: what goes over, what stays, and what both processes say.
//!
//! Never does: look at calls further than to see that they are served.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn both_ports_move_over_and_the_old_process_ends() {
    let mut service = old().await;
    let socket = service.folder.path().join("up.sock");
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else may connect");
    let new = ready(&service).await;
    assert_eq!(service.metric(TAKEN_OVER).await, 0.0, "it is the old one that answers so far");
    assert!(new.messages().iter().all(|message| !message.contains("listening on")), "{:?}", new.messages());
    let pid = service.process.id();
    new.says(&format!("SIGQUIT to process {pid} hands over (kill -QUIT {pid})")).await;
    service.process.signal("QUIT");
    new.says(&format!("INFO took over from process {pid}")).await;
    let mut old = std::mem::replace(&mut service.process, new);
    let (address, admin) = service.process.serves().await;
    assert_eq!((address, admin), (service.address, service.admin));
    old.says(&format!("INFO process {} serves, this one ends with its last call", service.process.id())).await;
    let ended = old.end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(service.metric(TAKEN_OVER).await, 1.0);
    assert_eq!(service.admin("/readyz").await.status, 200);
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    assert!(socket.exists(), "it is the new one's now");
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_second_upgrade_works_after_the_first_and_needs_no_signal_where_told_so() {
    let mut service = old().await;
    let mut first = upgrade(&mut service).await;
    let next = Process::start(service.folder.path(), AT_ONCE, &[]);
    next.says(&format!("INFO took over from process {}", service.process.id())).await;
    let mut second = std::mem::replace(&mut service.process, next);
    assert_eq!(first.end().await.code, Some(0));
    assert_eq!(second.end().await.code, Some(0));
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    assert_eq!(service.metric(TAKEN_OVER).await, 1.0);
    let mut third = upgrade(&mut service).await;
    assert_eq!(third.end().await.code, Some(0));
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
}

/// A process that another one has started, and that ends with the test.
struct Grandchild(u32);

impl Grandchild {
    fn signal(&self, name: &str) {
        let _ = std::process::Command::new("kill").args([format!("-{name}"), self.0.to_string()]).output();
    }
}

impl Drop for Grandchild {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

#[tokio::test]
async fn one_signal_upgrades_to_the_binary_on_disk() {
    let mut service = old().await;
    service.process.signal("USR2");
    let started = service.process.says("INFO started process ").await;
    let pid = started.trim_start_matches("INFO started process ").split(',').next().expect("a pid");
    let new = Grandchild(pid.parse().expect("a number"));
    // Both write to one pipe.
    let wrote = |what: &str| service.process.stdout().contains(what);
    let took_over = format!("took over from process {}", service.process.id());
    eventually("it took over", async || wrote(&took_over) && wrote("stopped")).await;
    eventually("the old one has ended", async || !service.process.runs()).await;
    assert_eq!(service.metric(TAKEN_OVER).await, 1.0);
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
    new.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0), "and its output ends, so the new one has ended too");
}

#[tokio::test]
async fn the_new_configuration_counts() {
    let mut service = old().await;
    let stays = service.address;
    // The old one's admin service moves, an address is added, and the admin service's old port is nobody's.
    let admin = service.admin;
    service.change(&format!("listen: [\"{stays}\""), &format!("listen: [\"{stays}\", \"127.0.0.1:0\""));
    service.change(&format!("admin: {{ listen: \"{admin}\""), "admin: { listen: \"127.0.0.1:0\"");
    let threads = threads();
    service.change(&format!("threads: {threads}"), &format!("threads: {}", 3 - threads));
    let mut old = upgrade(&mut service).await;
    let messages = service.process.messages();
    let listens: Vec<SocketAddr> = messages
        .iter()
        .filter_map(|message| message.strip_prefix("INFO listening on http://"))
        .map(|address| address.parse().expect("an address"))
        .collect();
    assert_eq!((listens.len(), listens[0]), (2, stays));
    let (_, new_admin) = service.process.serves().await;
    assert_ne!(new_admin, admin);
    for address in &listens {
        let answer = Connection::open(*address).await.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!(old.end().await.code, Some(0));
    assert!(TcpStream::connect(admin).await.is_err());
    // And now one that goes away.
    service.admin = new_admin;
    let added = listens[1];
    service.change(&format!("[\"{stays}\", \"127.0.0.1:0\""), &format!("[\"{added}\""));
    let mut old = upgrade(&mut service).await;
    assert_eq!(old.end().await.code, Some(0));
    assert!(TcpStream::connect(stays).await.is_err(), "an address that is no longer configured is closed");
    let answer = Connection::open(added).await.request("GET", "/openai/v1/models", &[bearer(KEY)], b"").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_hangup_while_the_new_process_waits_is_obeyed_when_it_serves() {
    let service = old().await;
    let new = ready(&service).await;
    new.signal("HUP");
    service.process.signal("QUIT");
    new.says("INFO configuration reloaded from gateway.yaml").await;
    new.says("INFO took over from process").await;
}

#[tokio::test]
async fn a_signal_after_the_hand_over_ends_the_old_process_as_it_should() {
    let mut service = old().await;
    service.provider.script(slow(10_000, 100).on("/v1/chat/completions").always());
    let _stream = begin_stream(service.connect().await, &chat_stream("x")).await;
    let mut old = upgrade(&mut service).await;
    old.says("INFO listeners are closed, 1 calls run on").await;
    old.signal("QUIT");
    old.says("WARN SIGQUIT is ignored: there is nothing to hand over").await;
    old.signal("TERM");
    old.signal("HUP");
    old.says("INFO configuration reloaded").await;
    assert!(old.runs(), "its call runs on");
    old.signal("INT");
    assert_eq!(old.end().await.code, Some(0));
    assert_eq!(service.get("/openai/v1/models").await.status, 200);
}

#[tokio::test]
async fn the_streams_of_the_old_process_have_the_grace_period() {
    let setup = Setup { server: "shutdown: { readiness_delay: 10ms, grace: 3s }".to_owned(), ..Setup::default() };
    let mut service = old_with(setup).await;
    service.provider.script(slow(10_000, 50).on("/v1/chat/completions").always());
    let (mut connection, head) = begin_stream(service.connect().await, &chat_stream("x")).await;
    let mut old = upgrade(&mut service).await;
    let answer = connection.body(head, false).await;
    assert!(!answer.complete);
    old.says("WARN the grace period is over, 1 calls are cut").await;
    assert_eq!(old.end().await.code, Some(0));
}

#[tokio::test]
async fn a_gateway_that_was_killed_leaves_no_obstacle() {
    let mut service = old().await;
    let second = Process::run(service.folder.path(), SERVE, &[]).await;
    assert_eq!(second.code, Some(2), "one that serves is no obstacle that could be removed: {second:?}");
    service.process.signal("KILL");
    service.process.end().await;
    assert!(service.folder.path().join("up.sock").exists(), "what it has left");
    service.process = Process::start(service.folder.path(), SERVE, &[]);
    service.process.serves().await;
    let mut old = upgrade(&mut service).await;
    assert_eq!(old.end().await.code, Some(0));
}

#[tokio::test]
async fn a_place_of_the_systems_is_used_where_none_is_named() {
    let service = Service::start().await;
    service.process.signal("QUIT");
    service.process.says("WARN SIGQUIT is ignored: there is nothing to hand over, or no upgrade socket").await;
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("UTF-8").to_owned();
    let variables = [("RUNTIME_DIRECTORY", format!("{place}:/nonexistent"))];
    let variables: Vec<_> = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let service = Service::with(Setup { variables, ..Setup::default() }).await;
    assert!(folder.path().join("ai-gateway.sock").exists());
    let second = Process::start(service.folder.path(), SERVE, &[("RUNTIME_DIRECTORY", &place)]);
    second.says("WARN no process can take over from this one, the upgrade socket").await;
    second.serves().await;
    let xdg = Process::start(service.folder.path(), SERVE, &[("XDG_RUNTIME_DIR", "none")]);
    xdg.says("ai-gateway.sock: its folder does not exist").await;
    xdg.serves().await;
}
