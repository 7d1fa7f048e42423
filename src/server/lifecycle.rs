//! The end of a gateway: at once, or gently.
//!
//! Invariant: a drain first tells load balancers, then closes the listeners, and ends as soon as the last call does.
//! Pingora hears only of the end, so that its own fixed grace period is never slept through.
//! Never does: cut a call before the grace period is over, unless told to stop.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use tokio::sync::watch;
use tokio::time::Instant;

use super::connections::OpenConnections;
use crate::config::Live;
use crate::ledger::Ledger;
use crate::proxy::{Limiting, Parts};
use crate::telemetry::{Phase, Readiness, Telemetry};

/// How often a drain looks whether the last call is over.
const GLANCE: Duration = Duration::from_millis(20);
/// How long HTTP/2 connections may take to send what they hold and to close, once no call runs.
const LAST_BYTES: Duration = Duration::from_secs(2);
/// How long the last records and the last lines of the log may take, together.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long all threads may take to end, once nothing is waited for any more. One takes for ever that a policy blocks.
const OVERDUE: Duration = Duration::from_secs(10);

/// What was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Serve,
    /// Another process has the listeners.
    HandOver,
    Drain,
    Stop,
}

/// Takes orders and carries them out.
pub(super) struct Lifecycle {
    order: watch::Sender<Order>,
    /// True once the services have begun.
    started: watch::Sender<bool>,
    listeners: watch::Sender<bool>,
    /// True once Pingora was told to end.
    told: watch::Sender<bool>,
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    readiness: Arc<Readiness>,
    ledger: Ledger,
    limits: Arc<Limiting>,
    connections: Arc<OpenConnections>,
}

impl Lifecycle {
    pub(super) fn new(parts: &Parts) -> Self {
        let order = watch::Sender::new(Order::Serve);
        let (started, listeners, told) = Default::default();
        let Parts { live, telemetry, readiness, ledger, limits, .. } = parts.clone();
        let connections = Arc::default();
        Self { order, started, listeners, told, live, telemetry, readiness, ledger, limits, connections }
    }

    /// The connections that are open.
    pub(super) fn connections(&self) -> &Arc<OpenConnections> {
        &self.connections
    }

    /// Turns true when the listeners are to close.
    pub(super) fn closing(&self) -> ShutdownWatch {
        self.listeners.subscribe()
    }

    pub(super) fn ready(&self) {
        self.readiness.advance(Phase::Ready);
        self.started.send_replace(true);
    }

    /// Waits until the services have begun.
    pub(super) async fn started(&self) {
        // As below.
        let _ = self.started.subscribe().wait_for(|started| *started).await;
    }

    /// Closes the listeners at once, because another process has them too; what runs here runs on.
    pub(super) fn hand_over(&self) {
        self.order(Order::HandOver);
    }

    /// Waits until there is an end in sight; tells whether that is because another process serves.
    pub(super) async fn ending(&self) -> bool {
        self.ordered(Order::HandOver).await;
        self.has_handed_over()
    }

    /// Whether another process serves in this one's place. A later order to end hides it.
    pub(super) fn has_handed_over(&self) -> bool {
        *self.order.borrow() == Order::HandOver
    }

    /// Whether there is an end in sight.
    pub(super) fn is_ending(&self) -> bool {
        *self.order.borrow() >= Order::HandOver
    }

    pub(super) fn drain(&self) {
        self.order(Order::Drain);
    }

    pub(super) fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Waits until the threads should long have ended. With one thread for calls, Pingora waits for it however long it takes.
    pub(super) async fn overdue(&self) {
        // As below.
        let _ = self.told.subscribe().wait_for(|told| *told).await;
        tokio::time::sleep(OVERDUE).await;
    }

    /// Waits for the last records and the last lines of the log: those of calls that were cut are handed in only when all
    /// threads have ended.
    pub(super) fn last_words(&self) {
        let begun = Instant::now();
        self.limits.close();
        self.ledger.close(LAST_WORDS);
        log::info!("stopped");
        self.telemetry.log().flush(LAST_WORDS.saturating_sub(begun.elapsed()).max(GLANCE));
    }

    fn order(&self, order: Order) {
        self.order.send_if_modified(|current| {
            let further = order > *current;
            *current = order.max(*current);
            further
        });
    }

    async fn ordered(&self, order: Order) {
        // Fails only where the sender is gone, which lives as long as this.
        let _ = self.order.subscribe().wait_for(|current| *current >= order).await;
    }

    async fn drained(&self) {
        let server = self.live.pin().server.clone();
        if self.has_handed_over() {
            self.readiness.advance(Phase::HandedOver);
            self.connections.at_leisure();
        } else {
            self.readiness.advance(Phase::Draining);
            log::info!("draining: not ready, listeners close in {:?}", server.readiness_delay);
            tokio::time::sleep(server.readiness_delay).await;
        }
        self.listeners.send_replace(true);
        log::info!("listeners are closed, {} calls run on for up to {:?}", self.telemetry.in_flight(), server.grace);
        let last = async {
            self.connections.parted().await;
            // What a call has written over HTTP/2 is sent behind it, by its connection.
            let mut over = Instant::now();
            while self.telemetry.in_flight() > 0 || (self.connections.http2() > 0 && over.elapsed() < LAST_BYTES) {
                tokio::time::sleep(GLANCE).await;
                if self.telemetry.in_flight() > 0 {
                    over = Instant::now();
                }
            }
        };
        match tokio::time::timeout(server.grace, last).await {
            Ok(()) => log::info!("the last call is over"),
            Err(_) => log::warn!("the grace period is over, {} calls are cut", self.telemetry.in_flight()),
        }
    }
}

/// Tells Pingora when to end.
pub(super) struct Watch(pub(super) Arc<Lifecycle>);

#[async_trait]
impl ShutdownSignalWatch for Watch {
    async fn recv(&self) -> ShutdownSignal {
        self.0.ordered(Order::HandOver).await;
        tokio::select! {
            () = self.0.drained() => {}
            () = self.0.ordered(Order::Stop) => {
                log::info!("stopping at once, {} in flight", self.0.telemetry.in_flight());
            }
        }
        self.0.readiness.advance(Phase::Draining);
        self.0.told.send_replace(true);
        // Pingora's quick way would come back while its threads still hold the listeners.
        ShutdownSignal::GracefulTerminate
    }
}
