//! Connections over HTTP/2, each shared by many exchanges, and who makes the next one.
//!
//! Which version a provider speaks is known only after its first TLS handshake. Calls that come before that wait for the one
//! that makes it, so that a hundred at once make one connection and not a hundred; they also wait where a connection that is
//! being made will have room for them. Pingora's own pool has neither.
//!
//! Invariant: no connection carries more streams than we allow and than its provider does; a place is free again when its
//! stream is gone; a connection that died or that its provider is leaving gets no new stream.
//! Never does: resolve, connect or do TLS; know what is asked.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::{Broken, MAX_HEAD, POOL_IDLE};

/// Streams of one connection, where its provider allows as many.
const MAX_STREAMS: usize = 100;
/// What a provider may send on one stream before its client has read it, in bytes.
const STREAM_WINDOW: u32 = 512 * 1024;
/// The same for a whole connection: as much as for all its streams, so that no client that stopped reading holds up others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// What small pieces may cost beyond the window while they wait for their clients, in bytes. Each costs up to 256, and where
/// this is used up `h2` ends the connection, so that it allows for a connection full of clients that stopped reading events.
const SMALL_PIECES: usize = 2 * CONNECTION_WINDOW as usize;
/// The largest piece of a body that a provider may send, in bytes.
const MAX_FRAME: u32 = 64 * 1024;
/// Between an answer to a ping and the next ping.
const PING_EVERY: Duration = Duration::from_secs(20);
/// A connection that does not answer its first ping for so long has not begun.
const BEGUN_WITHIN: Duration = Duration::from_secs(10);
/// A connection that does not answer a later ping for so long is dead. Longer, because a ping waits behind what is on its way
/// to the provider: what sockets hold of large bodies.
const PONG_WITHIN: Duration = Duration::from_secs(20);
/// Places whose protocol is remembered. Each has an address, of which there are as many as resolvers tell.
const MAX_SITES: usize = 1024;

/// All shared connections.
#[derive(Default)]
pub(super) struct Links {
    sites: Arc<Mutex<HashMap<u64, Site>>>,
}

/// What is known of one place: one address of one provider, reached in one way.
#[derive(Default)]
struct Site {
    links: Vec<Arc<Link>>,
    /// What the last connection agreed on; absent before the first.
    shares: Option<bool>,
    /// Connections that are being made, and who waits for them.
    dialing: usize,
    waiting: usize,
    settled: Arc<Notify>,
    /// When the last attempt failed, and how.
    failed: Option<(Instant, Broken)>,
}

/// One connection.
struct Link {
    sender: SendRequest<Bytes>,
    /// Streams that are open, and those that were begun since the last ping.
    open: AtomicUsize,
    begun: AtomicUsize,
    /// Whether it takes no further streams.
    retired: AtomicBool,
    died_of: OnceLock<&'static str>,
}

/// A place for one stream.
pub(super) struct Slot(Arc<Link>);

/// What a call does next.
pub(super) enum Turn {
    /// It has a place.
    Slot(Slot),
    /// It makes a connection.
    Dial(Dialing),
}

/// A connection that is being made. Whoever waits for it goes on when this is dropped.
pub(super) struct Dialing(Home);

/// A site among all.
#[derive(Clone)]
struct Home {
    key: u64,
    sites: Arc<Mutex<HashMap<u64, Site>>>,
}

enum Step {
    Slot(Slot),
    Dial(Dialing),
    Wait(OwnedNotified),
}

impl Links {
    /// A place on a connection that is there.
    pub(super) async fn slot(&self, key: u64) -> Option<Slot> {
        loop {
            let slot = lock(&self.sites).get(&key)?.slot()?;
            if slot.is_usable().await {
                return Some(slot);
            }
        }
    }

    /// Waits for a place, or for its turn to make a connection.
    ///
    /// # Errors
    /// How the connection failed that it waited for.
    pub(super) async fn turn(&self, key: u64) -> Result<Turn, Broken> {
        let home = Home { key, sites: Arc::clone(&self.sites) };
        let came = Instant::now();
        loop {
            match home.step(came)? {
                Step::Slot(slot) if slot.is_usable().await => return Ok(Turn::Slot(slot)),
                Step::Slot(_) => {}
                Step::Dial(dialing) => return Ok(Turn::Dial(dialing)),
                Step::Wait(settled) => {
                    let waiting = Waiting(&home);
                    settled.await;
                    drop(waiting);
                }
            }
        }
    }
}

impl Home {
    fn step(&self, came: Instant) -> Result<Step, Broken> {
        let mut sites = lock(&self.sites);
        if sites.len() >= MAX_SITES {
            sites.retain(|key, site| *key == self.key || site.is_in_use());
        }
        let site = sites.entry(self.key).or_default();
        if let Some(slot) = site.slot() {
            return Ok(Step::Slot(slot));
        }
        if let Some((_, broken)) = site.failed.as_ref().filter(|(at, _)| *at >= came) {
            return Err(broken.clone());
        }
        if site.has_room_to_come() {
            site.waiting += 1;
            // Made while the lock is held, so that it cannot miss its call.
            return Ok(Step::Wait(Arc::clone(&site.settled).notified_owned()));
        }
        site.dialing += 1;
        Ok(Step::Dial(Dialing(self.clone())))
    }

    fn change(&self, change: impl FnOnce(&mut Site)) {
        if let Some(site) = lock(&self.sites).get_mut(&self.key) {
            change(site);
        }
    }
}

impl Dialing {
    /// The provider agreed on HTTP/2: begins it on this stream. Others get their places once the provider has said how many
    /// it allows; the caller need not wait for that.
    ///
    /// # Errors
    /// `Upstream(Reset)`.
    pub(super) async fn shares<T>(self, stream: T) -> Result<Slot, Broken>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.0.change(|site| site.shares = Some(true));
        let begun = h2::client::Builder::new()
            .enable_push(false)
            .initial_max_send_streams(MAX_STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(SMALL_PIECES)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEAD as u32)
            .handshake(stream)
            .await;
        match begun {
            Ok((sender, connection)) => {
                let link = Arc::new(Link::new(sender));
                let slot = Slot::new(&link);
                tokio::spawn(drive(connection, link, self));
                Ok(slot)
            }
            Err(error) => {
                let broken = Broken::reset(&format!("HTTP/2 could not begin: {error}"));
                self.failed(&broken);
                Err(broken)
            }
        }
    }

    /// The provider speaks HTTP/1.1.
    pub(super) fn does_not_share(self) {
        self.0.change(|site| site.shares = Some(false));
    }

    /// There is no connection. Those who wait for it have failed too.
    pub(super) fn failed(self, broken: &Broken) {
        self.0.change(|site| site.failed = Some((Instant::now(), broken.clone())));
    }

    fn succeeded(self, link: &Arc<Link>) {
        self.0.change(|site| site.links.push(Arc::clone(link)));
    }
}

impl Drop for Dialing {
    fn drop(&mut self) {
        self.0.change(|site| {
            site.dialing -= 1;
            site.settled.notify_waiters();
        });
    }
}

/// A call that waits; it is one less when this is dropped.
struct Waiting<'a>(&'a Home);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.change(|site| site.waiting -= 1);
    }
}

impl Site {
    fn slot(&self) -> Option<Slot> {
        self.links.iter().find_map(Slot::on)
    }

    /// Whether a connection that is being made will have a place for one more.
    fn has_room_to_come(&self) -> bool {
        match self.shares {
            None => self.dialing > 0,
            Some(true) => self.waiting < self.dialing * (MAX_STREAMS - 1),
            Some(false) => false,
        }
    }

    fn is_in_use(&self) -> bool {
        !self.links.is_empty() || self.dialing > 0 || self.waiting > 0
    }
}

impl Link {
    fn new(sender: SendRequest<Bytes>) -> Self {
        let (open, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { sender, open, begun, retired: AtomicBool::new(false), died_of: OnceLock::new() }
    }
}

impl Slot {
    /// A place where there is one. Called under the lock of all sites, so that no two calls take the last one.
    fn on(link: &Arc<Link>) -> Option<Self> {
        let most = MAX_STREAMS.min(link.sender.current_max_send_streams());
        let free = !link.retired.load(Ordering::Relaxed) && link.open.load(Ordering::Relaxed) < most;
        free.then(|| Self::new(link))
    }

    fn new(link: &Arc<Link>) -> Self {
        link.open.fetch_add(1, Ordering::Relaxed);
        link.begun.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(link))
    }

    /// What begins a stream.
    pub(super) fn sender(&self) -> SendRequest<Bytes> {
        self.0.sender.clone()
    }

    /// Takes no further streams on its connection.
    pub(super) fn retire(&self) {
        self.0.retired.store(true, Ordering::Relaxed);
    }

    /// Why the connection was given up, where it was us.
    pub(super) fn died_of(&self) -> Option<&'static str> {
        self.0.died_of.get().copied()
    }

    /// Tells whether the connection is there and its provider is not about to leave it; retires it otherwise.
    async fn is_usable(&self) -> bool {
        let mut sender = self.sender();
        let usable = poll_fn(|context| Poll::Ready(matches!(sender.poll_ready(context), Poll::Ready(Ok(()))))).await;
        if !usable {
            self.retire();
        }
        usable
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The life of a connection.
async fn drive<T>(mut connection: Connection<T, Bytes>, link: Arc<Link>, dialing: Dialing)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let home = dialing.0.clone();
    let mut dialing = Some(dialing);
    let pings = connection.ping_pong();
    tokio::select! {
        _ = connection => {}
        () = watch(pings, &link, &home, &mut dialing) => {}
    }
    link.retired.store(true, Ordering::Relaxed);
    home.change(|site| site.links.retain(|other| !Arc::ptr_eq(other, &link)));
    if let Some(dialing) = dialing {
        dialing.failed(&Broken::reset("a new connection ended before it had begun"));
    }
}

/// Returns when a connection is to be closed: it is dead, or nobody has used it for long.
async fn watch(pings: Option<PingPong>, link: &Arc<Link>, home: &Home, dialing: &mut Option<Dialing>) {
    let Some(mut pings) = pings else { return };
    let mut quiet = Duration::ZERO;
    loop {
        let within = if dialing.is_some() { BEGUN_WITHIN } else { PONG_WITHIN };
        match tokio::time::timeout(within, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection itself tells why.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => {
                let _ = link.died_of.set("the connection is dead: it did not answer a ping");
                return;
            }
        }
        // A provider's first frame says how many streams it allows.
        if let Some(dialing) = dialing.take() {
            dialing.succeeded(link);
        }
        tokio::time::sleep(PING_EVERY).await;
        let used = link.begun.swap(0, Ordering::Relaxed) > 0 || link.open.load(Ordering::Relaxed) > 0;
        quiet = if used { Duration::ZERO } else { quiet + PING_EVERY };
        if quiet >= POOL_IDLE {
            let sites = lock(&home.sites);
            // Nobody can have taken a place in the meantime: that needs the lock.
            let idle = link.open.load(Ordering::Relaxed) == 0;
            link.retired.fetch_or(idle, Ordering::Relaxed);
            drop(sites);
            if idle {
                return;
            }
        }
    }
}

fn lock(sites: &Mutex<HashMap<u64, Site>>) -> MutexGuard<'_, HashMap<u64, Site>> {
    sites.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
