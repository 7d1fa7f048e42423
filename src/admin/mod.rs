//! The admin service on its own port: health, metrics, and with a token what administers the gateway.
//!
//! Invariant: connections, request heads and the life of a connection are bounded, so that slow or many scrapers hold
//! only what they were given.
//! Never does: serve a client's call; answer anything under `/api/` without the token.

mod api;
mod health;
mod usage;

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::Live;
use crate::ledger::Ledger;
use crate::telemetry::{Readiness, Telemetry};
use crate::units::Secret;

/// What the service tells of.
#[derive(Debug)]
pub struct AdminState {
    /// Whose metrics `/metrics` shows.
    pub telemetry: Arc<Telemetry>,
    /// What `/readyz` answers.
    pub readiness: Arc<Readiness>,
    /// What `/api/usage` asks.
    pub ledger: Ledger,
    /// The configuration in force.
    pub live: Arc<Live>,
    /// What opens `/api/`; without it there is no `/api/`.
    pub token: Option<Secret>,
}

/// The admin service; runs once, until the shutdown watch turns, and then closes its listener.
#[derive(Debug)]
pub struct Admin {
    /// What is to be served, from the first listener on.
    orders: Mutex<Option<Orders>>,
    switch: AdminSwitch,
    state: Arc<AdminState>,
}

impl Admin {
    /// A service on a listener that is bound but not served so far.
    pub fn new(listener: TcpListener, state: AdminState) -> Self {
        let (switch, orders) = mpsc::unbounded_channel();
        let this = Self { orders: Mutex::new(Some(orders)), switch: AdminSwitch(switch), state: Arc::new(state) };
        this.switch.open(listener);
        this
    }

    /// What closes and opens it while it runs.
    pub fn switch(&self) -> AdminSwitch {
        self.switch.clone()
    }
}

type Orders = mpsc::UnboundedReceiver<Option<TcpListener>>;

/// Closes the admin service and opens it again, so that another process can have its port.
#[derive(Clone, Debug)]
pub struct AdminSwitch(mpsc::UnboundedSender<Option<TcpListener>>);

impl AdminSwitch {
    /// Closes the listener soon, and the connections when they have been answered. Without effect on one that has ended.
    pub fn close(&self) {
        let _ = self.0.send(None);
    }

    /// Serves on this listener from now on.
    pub fn open(&self, listener: TcpListener) {
        let _ = self.0.send(Some(listener));
    }
}

#[async_trait]
impl BackgroundService for Admin {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(mut orders) = self.orders.lock().take() else {
            return;
        };
        loop {
            // It never ends by itself: a sender is ours.
            let mut order = tokio::select! {
                order = orders.recv() => order.flatten(),
                () = told_to_stop(&mut shutdown) => return,
            };
            while let Some(listener) = order.take() {
                let stop = watch::Sender::new(false);
                let mut serving = pin!(serve_on(listener, health::router(&self.state), stop.subscribe()));
                let stopped = tokio::select! {
                    () = &mut serving => break,
                    next = orders.recv() => {
                        order = next.flatten();
                        false
                    }
                    () = told_to_stop(&mut shutdown) => true,
                };
                stop.send_replace(true);
                serving.await;
                if stopped {
                    return;
                }
            }
        }
    }
}

async fn serve_on(listener: TcpListener, router: Router, shutdown: ShutdownWatch) {
    let listener = listener.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(listener));
    match listener {
        Ok(listener) => serve(listener, router, LIMITS, shutdown).await,
        Err(error) => log::error!("the admin service has no listener: {error}"),
    }
}

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at once; further ones wait in the listener's backlog.
    connections: usize,
    /// For a request's head, and between two requests.
    head: Duration,
    /// From a connection's start until it is asked to end.
    life: Duration,
    /// From then to its end by force. Bounds a reader that does not read.
    rest: Duration,
}

const LIMITS: Limits = Limits {
    connections: 32,
    head: Duration::from_secs(5),
    life: Duration::from_secs(30),
    rest: Duration::from_secs(5),
};
/// Bytes of a request's head.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;
/// For the connections' last answers once the service was told to stop.
const PARTING: Duration = Duration::from_secs(2);
/// After a refused `accept`: mostly too many open files, which pass.
const BACK_OFF: Duration = Duration::from_millis(50);

async fn serve(listener: tokio::net::TcpListener, router: Router, limits: Limits, mut shutdown: ShutdownWatch) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            listener.accept().await.map(|(stream, _)| (stream, permit))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = told_to_stop(&mut shutdown) => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, router, limits, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                log::warn!("the admin service could not accept a connection: {error}");
                sleep(BACK_OFF).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is left then is dropped with the set.
    let _ = timeout(PARTING, ended).await;
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, mut shutdown: ShutdownWatch) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // How a connection of a scraper ends is nobody's concern.
    tokio::select! {
        _ = &mut connection => return,
        () = sleep(limits.life) => {}
        () = told_to_stop(&mut shutdown) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.rest, connection).await;
}

/// Ends when the service is told to stop, or when there is nobody left who could tell.
async fn told_to_stop(shutdown: &mut ShutdownWatch) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
