//! Listeners that are bound before anything else happens, and the proxy service on them.
//!
//! Invariant: a busy port is told at once, by the address and the field that names it (Pingora would try for 30 s and
//! then panic).
//! Never does: speak HTTP/2 in clear text, which Pingora would wait for without an end; bind with SO_REUSEPORT, which would let two gateways share a port unnoticed.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use pingora_proxy::http_proxy;

use super::StartError;
use super::connections::Door;
use super::lifecycle::Lifecycle;
use super::parts::Bound;
use super::tls::Certificates;
use crate::config::{Listener, Live, ServerSettings, Startup};
use crate::proxy::{Gateway, Hooks, Watched};
use crate::telemetry::Telemetry;

/// No room for reads of its own: who reads, a head, a body or TLS, has enough.
const READ_BUFFER: usize = 0;
/// Nor for writes: what is written to a client waits in its guard, for no longer than it holds something.
const WRITE_BUFFER: usize = 0;

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
            std::io::ErrorKind::AddrInUse => {
                format!("the port is in use (hint: stop what listens there, `ss -ltnp` names it, or change {field})")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("no permission (hint: ports below 1024 need CAP_NET_BIND_SERVICE; or change {field})")
            }
            std::io::ErrorKind::AddrNotAvailable => {
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

/// Pingora's proxy service on listeners of ours.
pub(super) struct ProxyService {
    service: Service<Door>,
    /// By the names under which Pingora looks for them.
    listeners: Vec<(String, TcpListener)>,
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
        let before_tls = door.before_tls();
        let mut service = Service::new("proxy".to_owned(), door);
        service.endpoints().set_pre_tls_callback(before_tls);
        Self { service, listeners: Vec::new(), lifecycle: Arc::clone(lifecycle) }
    }

    /// Adds the listeners, in the order of the configuration.
    ///
    /// # Errors
    /// `System`, where Pingora does not take the settings of one with TLS.
    pub(super) fn on(
        mut self,
        listeners: Vec<Bound>,
        startup: &Startup,
        certificates: &Certificates,
    ) -> Result<Self, StartError> {
        for (index, (listener, address)) in listeners.into_iter().enumerate() {
            let name = address.to_string();
            let buffers = L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER);
            let mut config = ListenerConfig::tcp(name.clone()).l4_buffer(buffers);
            let tls = startup.listen.get(index).and_then(|listener| listener.tls.as_ref());
            if let Some(tls) = certificates.settings(index, tls).map_err(std::io::Error::other)? {
                config = config.tls(tls);
            }
            self.service.add_listener(config);
            self.listeners.push((name, listener));
        }
        Ok(self)
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
        fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready_notifier: ServiceReadyNotifier,
    ) {
        if let Some(fds) = &fds {
            let mut table = fds.lock();
            for (name, listener) in self.listeners.drain(..) {
                table.add(name, listener.into_raw_fd());
            }
        }
        self.lifecycle.ready();
        let closing = self.lifecycle.closing();
        ServiceWithDependents::start_service(&mut self.service, fds, closing, listeners_per_fd, ready_notifier).await;
    }

    fn name(&self) -> &str {
        "proxy"
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        ServiceWithDependents::listen_addresses(&self.service)
    }
}
