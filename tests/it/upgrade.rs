//! A change of the binary under live traffic: two real processes, real signals, one port.
//!
//! Ports are the system's choice: the old process binds port 0, and the new one is configured with what came of it.
//! Never does: signal a process that is not its own.

mod failures;
mod hand_over;
mod recorded;
mod systemd;
mod traffic;

use crate::support::*;

/// How a new process is started.
const UPGRADE: &[&str] = &["serve", "--config", "gateway.yaml", "--upgrade"];
/// The same, without a need for a SIGQUIT.
const AT_ONCE: &[&str] = &["serve", "--config", "gateway.yaml", "--upgrade", "--at-once"];

const TAKEN_OVER: &str = r#"gateway_upgrades_total{result="taken_over"}"#;
const FAILED: &str = r#"gateway_upgrades_total{result="failed"}"#;
const IGNORED: &str = r#"gateway_upgrades_total{result="ignored"}"#;

/// A gateway that can be upgraded; its file names the addresses that it has.
pub async fn old_with(mut setup: Setup) -> Service {
    if !setup.server.is_empty() {
        setup.server.push_str(", ");
    }
    setup.server.push_str("upgrade_socket: up.sock");
    let service = Service::with(setup).await;
    service.change("listen: [\"127.0.0.1:0\"", &format!("listen: [\"{}\"", service.address));
    service.change("admin: { listen: \"127.0.0.1:0\"", &format!("admin: {{ listen: \"{}\"", service.admin));
    service
}

async fn old() -> Service {
    old_with(Setup::default()).await
}

/// Starts a new process beside one that serves.
fn new_process(old: &Service) -> Process {
    Process::start(old.folder.path(), UPGRADE, &[])
}

/// Starts one, and waits until it is ready.
async fn ready(old: &Service) -> Process {
    let new = new_process(old);
    new.says("INFO ready to take over: SIGQUIT to process").await;
    old.process.says(&format!("INFO process {} is ready to take over: SIGQUIT to this process", new.id())).await;
    new
}

/// Upgrades; the old process of the service is given, and the new one is the service's.
pub async fn upgrade(service: &mut Service) -> Process {
    let new = ready(service).await;
    service.process.signal("QUIT");
    new.says("INFO took over from process").await;
    std::mem::replace(&mut service.process, new)
}

/// Waits until the log holds this message so many times.
async fn says_times(process: &Process, what: &str, times: usize) {
    eventually(&format!("the log says {what:?} {times} times"), async || {
        process.messages().iter().filter(|message| message.contains(what)).count() >= times
    })
    .await;
}

/// The text of a stream that came to its end.
async fn rest((mut connection, head): (Connection, Response)) -> String {
    let answer = connection.body(head, false).await;
    assert!(answer.complete, "cut after {} bytes", answer.body.len());
    answer.text()
}
