//! Listeners that are bound before anything else happens, and the proxy service on them.
//!
//! Invariant: a busy port is told at once, by the address and the field that names it (Pingora would try for 30 s and
//! then panic).
//! Never does: bind with SO_REUSEPORT, which would let two gateways share a port unnoticed.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use pingora_core::listeners::{L4BufferSettings, ListenerConfig};
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_core::services::{ServiceReadyNotifier, ServiceWithDependents};
use pingora_proxy::{HttpProxy, http_proxy_service};

use super::StartError;
use super::lifecycle::Lifecycle;
use crate::proxy::Gateway;

/// Room for reads from a client, at rest.
const READ_BUFFER: usize = 4 * 1024;
/// Room for writes to a client, so that an answer's head and a small body leave together.
const WRITE_BUFFER: usize = 16 * 1024;

/// Binds an address; gives the listener and the address as bound.
pub(super) fn bind(field: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
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

/// Pingora's proxy service on listeners of ours.
pub(super) struct ProxyService {
    service: Service<HttpProxy<Gateway>>,
    /// By the names under which Pingora looks for them.
    listeners: Vec<(String, TcpListener)>,
    lifecycle: Arc<Lifecycle>,
}

impl ProxyService {
    pub(super) fn new(
        conf: &Arc<ServerConf>,
        gateway: Gateway,
        listeners: Vec<(TcpListener, SocketAddr)>,
        lifecycle: &Arc<Lifecycle>,
    ) -> Self {
        let mut service = http_proxy_service(conf, gateway);
        let mut named = Vec::new();
        for (listener, address) in listeners {
            let name = address.to_string();
            let buffers = L4BufferSettings::new(READ_BUFFER, WRITE_BUFFER);
            service.add_listener(ListenerConfig::tcp(name.clone()).l4_buffer(buffers));
            named.push((name, listener));
        }
        Self { service, listeners: named, lifecycle: Arc::clone(lifecycle) }
    }
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
