//! The door for connections: a permit for each, and a guard around it.
//!
//! Invariant: a permit is taken before anything is read, TLS included, and given back by drop, whatever ends the connection;
//! who has connected before the listeners closed is served; the end of a gateway can wait for the last bytes of HTTP/2.
//! Never does: look at a request.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use log::debug;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp as _;
use pingora_core::listeners::tls::Acceptor;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::socket::Socket;
use crate::config::{Live, Network, ServerSettings};
use crate::proxy::{Awaited, Guard, Heads, Watched};
use crate::telemetry::{Connected, Telemetry, TurnedAway};

/// Once the listeners are closed, how long those that were let in last may take to send a head.
const LAST_HEADS: Duration = Duration::from_secs(5);
/// How long that is at least where another process serves, so that nobody waits for this one's end.
const LET_IN_AT_LEISURE: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(10);

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct OpenConnections {
    /// Those over HTTP/2.
    http2: AtomicUsize,
    heads: Arc<Heads>,
    at_leisure: AtomicBool,
    /// True once the listeners are closed and connections at rest are told to go.
    parted: watch::Sender<bool>,
}

impl OpenConnections {
    /// The number of HTTP/2 connections.
    pub(super) fn http2(&self) -> usize {
        self.http2.load(Ordering::Relaxed)
    }

    /// Lets connections at rest live on a little after the listeners have closed: they are asked to go with an answer.
    pub(super) fn at_leisure(&self) {
        self.at_leisure.store(true, Ordering::Relaxed);
    }

    /// Waits until everybody has been served who connected before the listeners closed, and who is not served now.
    pub(super) async fn parted(&self) {
        let most = LAST_HEADS + LET_IN_AT_LEISURE;
        // It never comes where the service was stopped before it began.
        let _ = timeout(most, self.parted.subscribe().wait_for(|parted| *parted)).await;
    }

    async fn last_heads(&self) {
        let closed = Instant::now();
        let least = if self.at_leisure.load(Ordering::Relaxed) { LET_IN_AT_LEISURE } else { Duration::ZERO };
        while closed.elapsed() < least || (self.heads.count() > 0 && closed.elapsed() < LAST_HEADS) {
            sleep(GLANCE).await;
        }
    }

    fn count_http2(self: &Arc<Self>) -> OverHttp2 {
        self.http2.fetch_add(1, Ordering::Relaxed);
        OverHttp2(Arc::clone(self))
    }
}

struct OverHttp2(Arc<OpenConnections>);

impl Drop for OverHttp2 {
    fn drop(&mut self) {
        self.0.http2.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The proxy behind its door.
pub(super) struct Door {
    proxy: Arc<Watched>,
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    open: Arc<OpenConnections>,
    permits: Arc<Permits>,
    /// Pingora itself waits for ever for the first bytes of HTTP/2.
    begin_within: Duration,
}

impl Door {
    pub(super) fn new(proxy: Watched, live: Arc<Live>, telemetry: Arc<Telemetry>, open: Arc<OpenConnections>) -> Self {
        let begin_within = live.pin().server.idle_timeout;
        Self { proxy: Arc::new(proxy), live, telemetry, open, permits: Arc::default(), begin_within }
    }

    /// Lets a connection in, by the limits in force now, and serves it in a task of its own.
    pub(super) fn enter(self: &Arc<Self>, socket: Socket, tls: Option<&Arc<Acceptor>>, shutdown: &ShutdownWatch) {
        let Ok(counted) = self.count(socket.peer()) else { return };
        let (door, tls, shutdown) = (Arc::clone(self), tls.cloned(), shutdown.clone());
        // Before the handshake, and before the task has run: a drain waits for this head.
        let awaited = self.open.heads.awaited();
        // Boxed, because a task's state is copied three times.
        tokio::spawn(Box::pin(async move {
            let _counted = counted;
            let stream: Stream = match tls {
                None => Box::new(socket),
                // Boxed, because connections without it should have no room for it.
                Some(acceptor) => match Box::pin(door.shakes_hands(&acceptor, socket)).await {
                    Some(stream) => stream,
                    None => return,
                },
            };
            door.serve(stream, awaited, &shutdown).await;
        }));
    }

    fn count(&self, peer: IpAddr) -> Result<Counted, TurnedAway> {
        let permit = self.permits.take(peer, &self.live.pin().server).inspect_err(|reason| {
            self.telemetry.turn_away(*reason);
        })?;
        Ok(Counted { _permit: permit, _connected: self.telemetry.connect() })
    }

    /// A TLS handshake, which may take as long as a head.
    async fn shakes_hands(&self, acceptor: &Acceptor, socket: Socket) -> Option<Stream> {
        let (peer, within) = (socket.peer(), self.live.pin().server.head_timeout);
        match timeout(within, acceptor.tls_handshake(socket)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            // Any scanner of ports makes one.
            Ok(Err(error)) => {
                debug!("a TLS handshake with {peer} failed: {error}");
                None
            }
            Err(_) => {
                self.telemetry.turn_away(TurnedAway::HeadTimeout);
                None
            }
        }
    }

    async fn serve(&self, stream: Stream, awaited: Awaited, shutdown: &ShutdownWatch) {
        let http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let within = if http2 { self.begin_within } else { self.live.pin().server.head_timeout };
        let _counted = http2.then(|| self.open.count_http2());
        let guard = Guard::new(stream, within, Arc::clone(&self.telemetry), awaited);
        self.proxy.serve(Box::new(guard), shutdown).await;
    }

    /// To be called once the listeners are closed. It is the proxy's that ends connections without a call.
    pub(super) async fn close(&self) {
        self.open.last_heads().await;
        self.proxy.cleanup().await;
        self.open.parted.send_replace(true);
    }
}

/// A connection that is among those that may be.
struct Counted {
    _permit: Permit,
    _connected: Connected,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Permits(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    /// Those that count by address, whether or not that is limited now: a reload may limit it.
    by_address: HashMap<IpAddr, u32>,
}

/// A place among the connections, given back by its drop.
#[derive(Debug)]
struct Permit {
    permits: Arc<Permits>,
    address: Option<IpAddr>,
}

impl Permits {
    fn take(self: &Arc<Self>, peer: IpAddr, settings: &ServerSettings) -> Result<Permit, TurnedAway> {
        let address = counted(peer, &settings.trusted_proxies);
        let mut counts = self.0.lock();
        if counts.all >= settings.max_connections {
            return Err(TurnedAway::Total);
        }
        if let Some(address) = address {
            let own = counts.by_address.get(&address).copied().unwrap_or(0);
            if settings.max_connections_per_address.is_some_and(|most| own >= most) {
                return Err(TurnedAway::Address);
            }
            counts.by_address.insert(address, own + 1);
        }
        counts.all += 1;
        Ok(Permit { permits: Arc::clone(self), address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.permits.0.lock();
        counts.all -= 1;
        if let Some(address) = self.address
            && let Entry::Occupied(mut own) = counts.by_address.entry(address)
        {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// What a connection counts by: its address, or the /64 that an IPv6 client usually has to itself. Behind a proxy there
/// are many clients, and on the machine itself there is one that nobody attacks.
fn counted(peer: IpAddr, trusted: &[Network]) -> Option<IpAddr> {
    let address = peer.to_canonical();
    if address.is_loopback() || trusted.iter().any(|network| network.contains(address)) {
        return None;
    }
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cors;

    fn settings(most: u32, each: u32) -> ServerSettings {
        let proxies = Network { address: IpAddr::from([10, 0, 0, 0]), prefix: 8 };
        ServerSettings {
            max_body: 0,
            max_buffered: 0,
            max_header_bytes: 0,
            body_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            head_timeout: Duration::ZERO,
            max_in_flight: 1,
            max_connections: most,
            max_connections_per_address: Some(each).filter(|each| *each > 0),
            trusted_proxies: vec![proxies],
            cors: Cors::Any,
            answer_headers: Default::default(),
            readiness_delay: Duration::ZERO,
            grace: Duration::ZERO,
        }
    }

    fn take(permits: &Arc<Permits>, peer: &str, settings: &ServerSettings) -> Result<Permit, TurnedAway> {
        permits.take(peer.parse().expect("an address"), settings)
    }

    #[test]
    fn an_address_has_its_number_and_gets_room_back() {
        let (permits, settings) = (Arc::<Permits>::default(), settings(100, 2));
        let first = take(&permits, "192.0.2.1", &settings).expect("room");
        // The same client over a dual-stack socket.
        let second = take(&permits, "::ffff:192.0.2.1", &settings).expect("room");
        assert_eq!(take(&permits, "192.0.2.1", &settings).err(), Some(TurnedAway::Address));
        let other = take(&permits, "192.0.2.2", &settings).expect("room");
        drop(first);
        let third = take(&permits, "192.0.2.1", &settings).expect("room again");
        assert_eq!(take(&permits, "192.0.2.1", &settings).err(), Some(TurnedAway::Address));
        drop((second, third, other));
        let counts = permits.0.lock();
        assert_eq!((counts.all, counts.by_address.len()), (0, 0), "nothing is left of clients that went");
    }

    #[test]
    fn ipv6_counts_by_64_bits() {
        let (permits, settings) = (Arc::<Permits>::default(), settings(100, 1));
        let _first = take(&permits, "2001:db8:0:1::1", &settings).expect("room");
        assert_eq!(take(&permits, "2001:db8:0:1:ffff::2", &settings).err(), Some(TurnedAway::Address));
        assert!(take(&permits, "2001:db8:0:2::1", &settings).is_ok());
    }

    #[test]
    fn loopback_and_trusted_proxies_count_in_all_only() {
        let (permits, settings) = (Arc::<Permits>::default(), settings(8, 1));
        let peers = ["127.0.0.1", "127.0.0.1", "::1", "::1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3"];
        let mut held: Vec<_> = peers.iter().map(|peer| take(&permits, peer, &settings).expect("room")).collect();
        held.push(take(&permits, "192.0.2.9", &settings).expect("room"));
        for peer in ["127.0.0.1", "192.0.2.1"] {
            assert_eq!(take(&permits, peer, &settings).err(), Some(TurnedAway::Total));
        }
        held.pop();
        assert!(take(&permits, "192.0.2.1", &settings).is_ok());
    }

    #[test]
    fn new_limits_count_those_that_are_open() {
        let permits = Arc::<Permits>::default();
        let held: Vec<_> = (0..3).map(|_| take(&permits, "192.0.2.1", &settings(100, 0)).expect("room")).collect();
        assert_eq!(take(&permits, "192.0.2.1", &settings(100, 3)).err(), Some(TurnedAway::Address));
        assert_eq!(take(&permits, "192.0.2.1", &settings(2, 0)).err(), Some(TurnedAway::Total));
        assert_eq!(held.len(), 3);
    }

    #[test]
    fn a_panic_gives_back_what_it_held() {
        let (permits, settings) = (Arc::<Permits>::default(), settings(1, 1));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _permit = take(&permits, "192.0.2.1", &settings).expect("room");
            panic!("boom");
        }));
        assert!(panicked.is_err());
        assert!(take(&permits, "192.0.2.1", &settings).is_ok());
    }
}
