//! What systemd wants to know of the process, by the protocol of sd_notify(3).
//!
//! Invariant: nothing is sent where nobody has asked for it, and nothing is waited for.
//! Never does: fail; a supervisor that cannot be told is a line of the log.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use rustix::time::{ClockId, clock_gettime};

use super::lifecycle::Lifecycle;

/// The way to the supervisor; none where there is no `NOTIFY_SOCKET`.
#[derive(Clone, Debug)]
pub(super) struct Supervisor(Option<SocketAddr>);

impl Supervisor {
    /// By the value of `NOTIFY_SOCKET`: a path, or an abstract name behind `@`.
    pub(super) fn new(socket: Option<&str>) -> Self {
        let address = socket.map(|socket| match socket.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(socket),
        });
        Self(address.and_then(|address| address.inspect_err(tell).ok()))
    }

    /// Tells that the gateway serves, and at its end that it ends, unless another process serves in its place.
    pub(super) async fn follow(self, lifecycle: Arc<Lifecycle>) {
        lifecycle.started().await;
        self.ready();
        if !lifecycle.ending().await {
            self.send("STOPPING=1");
        }
    }

    /// Tells that a reload has begun; [`Self::ready`] tells that it is over.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Tells that the gateway serves what it was last told to.
    pub(super) fn ready(&self) {
        self.send("READY=1");
    }

    /// Tells that another process is to be watched from now on.
    pub(super) fn main_process_is(&self, pid: i32) {
        self.send(&format!("MAINPID={pid}\nREADY=1"));
    }

    fn send(&self, words: &str) {
        let Some(address) = &self.0 else { return };
        let sent = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(words.as_bytes(), address)
        });
        if let Err(error) = sent {
            tell(&error);
        }
    }
}

fn tell(error: &io::Error) {
    log::warn!("NOTIFY_SOCKET: the supervisor cannot be told: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(socket: &UnixDatagram) -> String {
        let mut room = [0; 256];
        let count = socket.recv(&mut room).expect("a datagram");
        String::from_utf8_lossy(&room[..count]).into_owned()
    }

    #[test]
    fn speaks_to_a_path_and_to_an_abstract_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let name = format!("ai-gateway-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let sockets = [
            (UnixDatagram::bind(&path).expect("bound"), path.display().to_string()),
            (UnixDatagram::bind_addr(&abstract_name).expect("bound"), format!("@{name}")),
        ];
        for (socket, variable) in sockets {
            let supervisor = Supervisor::new(Some(&variable));
            supervisor.ready();
            supervisor.main_process_is(7);
            supervisor.reloading();
            assert_eq!(next(&socket), "READY=1");
            assert_eq!(next(&socket), "MAINPID=7\nREADY=1");
            let reloading = next(&socket);
            let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("the protocol");
            assert!(micros.parse::<u64>().is_ok_and(|micros| micros > 0), "{reloading}");
        }
    }

    #[test]
    fn nobody_to_tell_is_no_harm() {
        Supervisor::new(None).ready();
        Supervisor::new(Some("/nonexistent/notify")).ready();
        Supervisor::new(Some(&"x".repeat(300))).ready();
    }
}
