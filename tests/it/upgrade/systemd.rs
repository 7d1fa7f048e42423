//! What a supervisor is told: the test is the supervisor.
//!
//! Never does: need systemd.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::*;

/// Waits for a message.
async fn told(socket: &UnixDatagram) -> String {
    let mut room = [0; 512];
    let mut message = None;
    eventually("the supervisor is told", async || {
        message = socket.recv(&mut room).ok();
        message.is_some()
    })
    .await;
    String::from_utf8_lossy(&room[..message.expect("it was there")]).into_owned()
}

#[tokio::test]
async fn a_supervisor_is_told_of_each_change_and_follows_the_new_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(1))).expect("set");
    let path = path.to_str().expect("UTF-8");
    let variables = vec![("NOTIFY_SOCKET".to_owned(), path.to_owned())];
    let mut service = old_with(Setup { variables, ..Setup::default() }).await;
    assert_eq!(told(&socket).await, "READY=1");
    service.process.signal("HUP");
    let reloading = told(&socket).await;
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the protocol");
    assert!(micros.parse::<u64>().is_ok(), "{reloading}");
    assert_eq!(told(&socket).await, "READY=1");
    // The new one without the socket: whoever watches the old one is told by that.
    let mut old = upgrade(&mut service).await;
    assert_eq!(told(&socket).await, format!("MAINPID={}\nREADY=1", service.process.id()));
    assert_eq!(old.end().await.code, Some(0));
    assert!(socket.recv(&mut [0; 8]).is_err(), "the unit is not stopping");
    let new = Process::start(service.folder.path(), AT_ONCE, &[("NOTIFY_SOCKET", path)]);
    assert_eq!(told(&socket).await, "READY=1");
    new.says("INFO took over from process").await;
    let _old = std::mem::replace(&mut service.process, new);
    service.process.signal("TERM");
    assert_eq!(told(&socket).await, "STOPPING=1");
    assert_eq!(service.process.end().await.code, Some(0));
}
