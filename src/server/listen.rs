//! Listeners that are bound before anything else happens, and the proxy service on them.
//!
//! Invariant: a busy port is told at once, by the address and the field that names it (Pingora would try for 30 s and
//! then panic).
//! Never does: speak HTTP/2 in clear text, which Pingora would wait for without an end; bind with SO_REUSEPORT, which would let two gateways share a port unnoticed.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::task::Poll;
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
use rustix::net::listen;
use rustix::net::sockopt::set_tcp_nodelay;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;

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
/// How many may have connected and not be accepted; Linux cuts it to `net.core.somaxconn`, which is 4,096 by default.
const QUEUE: i32 = 4096;
/// How often it is looked for who has connected before a listener closes. Up to 128 are found at a time, as Tokio has it.
const LAST_LOOKS: i32 = QUEUE / 128;

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
        // The standard library asks for room for 128, which a burst of clients fills.
        listen(&listener, QUEUE)?;
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
/// state of 9 KB, whether or not there is TLS, and has no place to count one before it begins.
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
            // What it accepts inherits it (Linux's tcp(7) keeps a copy of the listener's options), so that no connection
            // takes a system call for it.
            set_tcp_nodelay(&listener, true).map_err(std::io::Error::from)?;
            let tls = startup.listen.get(index).and_then(|listener| listener.tls.as_ref());
            let tls = certificates.settings(index, tls).map_err(std::io::Error::other)?;
            self.listeners.push((listener, tls.map(|tls| Arc::new(tls.build()))));
        }
        Ok(self)
    }
}

/// Takes who connects, until the listener is to close, and then those that have connected by then, unless another process has
/// them too.
async fn accept(
    listener: tokio::net::TcpListener,
    mut closing: ShutdownWatch,
    has_handed_over: impl Fn() -> bool,
    mut enter: impl FnMut(Socket),
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // It fails where whoever would tell is gone, and with that the gateway.
            _ = closing.wait_for(|is_closing| *is_closing) => break,
        };
        match accepted {
            Ok((stream, peer)) => enter(Socket::new(stream, peer)),
            // It has left again.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                error!("a connection cannot be accepted: {error}");
                // It waits still, as where no file can be opened: trying again at once would take all of a CPU.
                sleep(AFTER_FAULT).await;
            }
        }
    }
    if has_handed_over() {
        return;
    }
    for _ in 0..LAST_LOOKS {
        yield_now().await;
        let look = || poll_fn(|context| Poll::Ready(listener.poll_accept(context)));
        while let Poll::Ready(Ok((stream, peer))) = look().await {
            enter(Socket::new(stream, peer));
        }
    }
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
                    let (door, lifecycle) = (Arc::clone(&self.door), Arc::clone(&self.lifecycle));
                    let (closing, shutdown) = (lifecycle.closing(), lifecycle.closing());
                    let enter = move |socket| door.enter(socket, tls.as_ref(), &shutdown);
                    accepting.spawn(accept(listener, closing, move || lifecycle.has_handed_over(), enter));
                }
                Err(error) => {
                    error!("a listener cannot be waited on: {error}");
                    self.lifecycle.stop();
                }
            }
        }
        self.lifecycle.ready();
        ready_notifier.notify_ready();
        while accepting.join_next().await.is_some() {}
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

    /// Clients that have connected to a listener which is about to close, and how many of them are taken.
    async fn taken(has_handed_over: bool) -> usize {
        let (listener, address) = bind("test", "127.0.0.1:0".parse().expect("an address")).expect("bound");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(TcpStream::connect(address).await.expect("the system takes it"));
        }
        let (_closes, closing) = watch::channel(true);
        let mut count = 0;
        accept(listener, closing, || has_handed_over, |_| count += 1).await;
        count
    }

    /// More than are found at a time.
    const CLIENTS: usize = 250;

    #[tokio::test]
    async fn who_has_connected_before_a_listener_closes_is_taken() {
        assert_eq!(taken(false).await, CLIENTS);
    }

    #[tokio::test]
    async fn who_has_connected_is_left_to_the_process_that_takes_over() {
        // The loop may look once more before it sees that it ends.
        assert!(taken(true).await < CLIENTS);
    }

    #[test]
    fn what_is_accepted_sends_at_once() {
        let (listener, address) = bind("test", "127.0.0.1:0".parse().expect("an address")).expect("bound");
        listener.set_nonblocking(false).expect("set");
        set_tcp_nodelay(&listener, true).expect("set");
        let _client = std::net::TcpStream::connect(address).expect("connected");
        let (accepted, _) = listener.accept().expect("accepted");
        assert!(tcp_nodelay(&accepted).expect("told"));
    }
}
