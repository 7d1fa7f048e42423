//! Listeners that are bound before anything else happens, and the proxy service on them.
//!
//! Invariant: a busy port is told at once, by the address and the field that names it (Pingora would try for 30 s and
//! then panic); who has connected before a listener closes is let in.
//! Never does: speak HTTP/2 in clear text, which Pingora would wait for without an end; bind with SO_REUSEPORT, which would let two gateways share a port unnoticed.

use std::io::ErrorKind;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::error;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use pingora_proxy::http_proxy;
use rustix::io::Errno;
use rustix::net::listen;
use rustix::net::sockopt::set_tcp_nodelay;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::StartError;
use super::connections::Door;
use super::lifecycle::Lifecycle;
use super::parts::Bound;
use super::socket::Socket;
use super::tls::Certificates;
use crate::config::{Listener, Live, ServerSettings, Startup};
use crate::proxy::{Gateway, Hooks, Watched};
use crate::telemetry::Telemetry;

/// How long nothing is accepted behind a fault of the system.
const AFTER_FAULT: Duration = Duration::from_millis(100);
/// How many may have connected and not be accepted: as many as the system lets it be (`net.core.somaxconn`).
const QUEUE: i32 = u16::MAX as i32;
/// For how long nobody connects once all are taken who have connected before the listener closes.
const NOBODY: Duration = Duration::from_millis(10);
/// How long it is looked for them at most, where somebody always does.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// Calls at once on one HTTP/2 connection; more wait in the client.
const MAX_STREAMS: u32 = 250;
/// Streams that a client may make the gateway reset by breaking the protocol, in the life of a connection ("MadeYouReset",
/// CVE-2025-8671); one more ends it. The `h2` crate has limits of its own for the other floods: 20 streams that were reset
/// before they were looked at ("rapid reset", CVE-2023-44487), 50 at once that the gateway has reset itself, as many
/// CONTINUATION frames as `max_header_list_size` takes, 100 empty DATA frames in a row; and it reads on only once what
/// PING and SETTINGS ask for is written.
const MAX_ERRORS: usize = 256;
/// What a client may send of one body, and of all bodies of a connection, before the gateway has read it. The protocol's
/// 64 KiB would make 32 MiB over 100 ms of distance take 50 s.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// What is held of one answer for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// Room beyond `max_header_bytes`: HTTP/2 counts 32 bytes for each header, and its own refusal has no body that an SDK
/// could read, so that ours should come first.
const HEADER_ROOM: usize = 16 * 1024;

/// Binds an address; gives the listener and the address as bound.
pub(super) fn bind(field: &'static str, address: SocketAddr) -> Result<Bound, StartError> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    bound.map_err(|error| {
        let reason = match error.kind() {
            ErrorKind::AddrInUse => {
                format!("the port is in use (hint: stop what listens there, `ss -ltnp` names it, or change {field})")
            }
            ErrorKind::PermissionDenied => {
                format!("no permission (hint: ports below 1024 need CAP_NET_BIND_SERVICE; or change {field})")
            }
            ErrorKind::AddrNotAvailable => {
                format!("this host has no such address (hint: change {field})")
            }
            _ => format!("{error} (hint: change {field})"),
        };
        StartError::Listen { field, address, reason }
    })
}

/// Sets what holds for all connections of a listener, wherever it comes from.
fn prepare(listener: &TcpListener) -> std::io::Result<()> {
    // The standard library asks for room for 128, which a burst of clients fills.
    listen(listener, QUEUE)?;
    // What it accepts inherits this (tcp(7)), so that no connection takes a system call for it.
    set_tcp_nodelay(listener, true)?;
    Ok(())
}

/// The listeners of a configuration, in its order: of those that came from elsewhere what has the same address, and the
/// rest bound. The others of those that came are closed.
pub(super) fn bind_all(startup: &Startup, mut given: Vec<Bound>) -> Result<Vec<Bound>, StartError> {
    let listener = |listener: &Listener| match given.iter().position(|(_, address)| *address == listener.address) {
        Some(index) => Ok(given.swap_remove(index)),
        None => bind("server.listen", listener.address),
    };
    startup.listen.iter().map(listener).collect()
}

/// The proxy, and the listeners that it serves. Pingora's own service of listeners takes each connection through a handshake's
/// state of 9 KB, whether or not there is TLS, and hands nothing on that was counted before it.
pub(super) struct ProxyService {
    door: Arc<Door>,
    listeners: Vec<(TcpListener, Option<Arc<Acceptor>>)>,
    lifecycle: Arc<Lifecycle>,
}

impl ProxyService {
    pub(super) fn new(
        conf: &Arc<ServerConf>,
        gateway: Gateway,
        live: &Arc<Live>,
        telemetry: &Arc<Telemetry>,
        lifecycle: &Arc<Lifecycle>,
    ) -> Self {
        let snapshot = live.pin();
        let settings = &snapshot.server;
        let gateway = Arc::new(gateway);
        let mut proxy = http_proxy(conf, Hooks(Arc::clone(&gateway)));
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(settings.idle_timeout);
        proxy.server_options = Some(options);
        proxy.h2_options = Some(h2_options(settings));
        let open = Arc::clone(lifecycle.connections());
        let door = Door::new(Watched::new(gateway, proxy), Arc::clone(live), Arc::clone(telemetry), open);
        Self { door: Arc::new(door), listeners: Vec::new(), lifecycle: Arc::clone(lifecycle) }
    }

    /// Adds the listeners, in the order of the configuration.
    ///
    /// # Errors
    /// `System`, where the system or Pingora does not take the settings of one.
    pub(super) fn on(
        mut self,
        listeners: Vec<Bound>,
        startup: &Startup,
        certificates: &Certificates,
    ) -> Result<Self, StartError> {
        for (index, (listener, _)) in listeners.into_iter().enumerate() {
            prepare(&listener)?;
            let tls = startup.listen.get(index).and_then(|listener| listener.tls.as_ref());
            let tls = certificates.settings(index, tls).map_err(std::io::Error::other)?;
            self.listeners.push((listener, tls.map(|tls| Arc::new(tls.build()))));
        }
        Ok(self)
    }
}

/// Takes who connects until the listener is to close, and then those that have connected by then, though nobody has looked.
async fn accept(listener: tokio::net::TcpListener, mut closing: ShutdownWatch, mut enter: impl FnMut(Socket)) {
    // It fails where whoever would tell is gone, and with that the gateway.
    let mut closes = pin!(closing.wait_for(|is_closing| *is_closing));
    loop {
        tokio::select! {
            socket = next(&listener) => enter(socket),
            _ = &mut closes => break,
        }
    }
    let last = Instant::now() + LAST_LOOK;
    while Instant::now() < last
        && let Ok(socket) = timeout(NOBODY, next(&listener)).await
    {
        enter(socket);
    }
}

/// The next one that connects, however long that takes.
async fn next(listener: &tokio::net::TcpListener) -> Socket {
    let mut is_told = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Socket::new(stream, peer),
            Err(error) if is_of_its_connection(&error) => {}
            Err(error) => {
                if !mem::replace(&mut is_told, true) {
                    error!("no connection can be accepted: {error}");
                }
                // It waits still, as where no file can be opened: trying again at once would take all of a CPU.
                sleep(AFTER_FAULT).await;
            }
        }
    }
}

/// Whether it says that a connection was over before it was accepted. Source: accept(2), "Error handling".
fn is_of_its_connection(error: &std::io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH
        )
    )
}

fn h2_options(settings: &ServerSettings) -> H2Options {
    let mut options = H2Options::new();
    let headers = settings.max_header_bytes + HEADER_ROOM;
    options
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(headers).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(MAX_ERRORS));
    options
}

#[async_trait]
impl ServiceWithDependents for ProxyService {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        let mut accepting = JoinSet::new();
        for (listener, tls) in self.listeners.drain(..) {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let door = Arc::clone(&self.door);
                    let (closing, shutdown) = (self.lifecycle.closing(), self.lifecycle.closing());
                    let enter = move |socket| door.enter(socket, tls.as_ref(), &shutdown);
                    accepting.spawn(accept(listener, closing, enter));
                }
                Err(error) => {
                    error!("a listener cannot be waited on, which ends the gateway: {error}");
                    return self.lifecycle.stop();
                }
            }
        }
        self.lifecycle.ready();
        ready_notifier.notify_ready();
        while let Some(over) = accepting.join_next().await {
            if let Err(fault) = over {
                // A gateway that is up and does not listen is the worst there is.
                error!("a listener has ended: {fault}");
                self.lifecycle.stop();
            }
        }
        self.door.close().await;
    }

    fn name(&self) -> &str {
        "proxy"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::tcp_nodelay;
    use tokio::net::TcpStream;
    use tokio::sync::watch;

    fn listener() -> (tokio::net::TcpListener, SocketAddr) {
        let (listener, address) = bind("test", "127.0.0.1:0".parse().expect("an address")).expect("bound");
        prepare(&listener).expect("prepared");
        (tokio::net::TcpListener::from_std(listener).expect("a listener"), address)
    }

    #[tokio::test]
    async fn who_has_connected_before_a_listener_closes_is_taken() {
        let (listener, address) = listener();
        let mut clients = Vec::new();
        // More than Tokio lets a task take at a time, and than the standard library has room for.
        for _ in 0..250 {
            clients.push(TcpStream::connect(address).await.expect("there is room"));
        }
        let (_closes, closing) = watch::channel(true);
        let mut count = 0;
        accept(listener, closing, |_| count += 1).await;
        assert_eq!(count, clients.len());
        assert!(TcpStream::connect(address).await.is_err(), "it is closed then");
    }

    #[tokio::test]
    async fn what_is_accepted_sends_at_once() {
        let (listener, address) = listener();
        let _client = TcpStream::connect(address).await.expect("connected");
        let (accepted, _) = listener.accept().await.expect("accepted");
        assert!(tcp_nodelay(&accepted).expect("told"));
    }

    #[test]
    fn faults_of_one_connection_are_not_those_of_all() {
        let is_its = |errno: Errno| is_of_its_connection(&errno.into());
        assert!([Errno::CONNABORTED, Errno::HOSTUNREACH, Errno::PROTO].into_iter().all(is_its));
        assert!(![Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::INVAL].into_iter().any(is_its));
    }
}
