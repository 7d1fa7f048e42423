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

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::http::ResponseHeader;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::PreTlsProcess;
use pingora_core::protocols::l4::stream::Stream as Socket;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{ALPN, GetProxyDigest as _, GetSocketDigest as _, SocketDigest, Stream};
use pingora_core::server::ShutdownWatch;
use pingora_core::{Error, ErrorType};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::config::{Live, Network, ServerSettings};
use crate::proxy::{Guard, Heads, Watched};
use crate::telemetry::{Connected, Telemetry, TurnedAway};

/// Once the listeners are closed, how long those that were let in last may take to send a head.
const LAST_HEADS: Duration = Duration::from_secs(5);
/// How long that is at least: connections whose task has not run, or whose TLS handshake is not over, are not counted.
const LET_IN: Duration = Duration::from_millis(100);
/// The same where another process serves, so that nobody waits for this one's end.
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
        let least = if self.at_leisure.load(Ordering::Relaxed) { LET_IN_AT_LEISURE } else { LET_IN };
        while closed.elapsed() < least || (self.heads.count() > 0 && closed.elapsed() < LAST_HEADS) {
            sleep(GLANCE).await;
        }
    }

    fn enter(self: &Arc<Self>) -> Entered {
        self.http2.fetch_add(1, Ordering::Relaxed);
        Entered(Arc::clone(self))
    }
}

struct Entered(Arc<OpenConnections>);

impl Drop for Entered {
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
    desk: Arc<Desk>,
    /// Pingora itself waits for ever for the first bytes of HTTP/2.
    begin_within: Duration,
}

impl Door {
    pub(super) fn new(proxy: Watched, live: Arc<Live>, telemetry: Arc<Telemetry>, open: Arc<OpenConnections>) -> Self {
        let begin_within = live.pin().server.idle_timeout;
        let desk = Desk { live: Arc::clone(&live), telemetry: Arc::clone(&telemetry), permits: Arc::default() };
        Self { proxy: Arc::new(proxy), live, telemetry, open, desk: Arc::new(desk), begin_within }
    }

    /// What counts a connection with TLS before its handshake.
    pub(super) fn before_tls(&self) -> Arc<dyn PreTlsProcess> {
        Arc::clone(&self.desk) as Arc<dyn PreTlsProcess>
    }

    /// Lets a connection in by the limits in force now; what is held has to be held until its end.
    fn admit(&self, stream: Stream) -> Option<(Guard, Held)> {
        let counted = match handed_on(&stream) {
            Some(counted) => counted,
            None => self.desk.count(stream.get_socket_digest().as_deref()).ok()?,
        };
        let http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        let within = if http2 { self.begin_within } else { self.live.pin().server.head_timeout };
        let entered = http2.then(|| self.open.enter());
        let held = Held { _counted: counted, _entered: entered };
        let heads = Arc::clone(&self.open.heads);
        Some((Guard::new(stream, within, Arc::clone(&self.telemetry), heads), held))
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let (guard, held) = self.admit(stream)?;
        let (proxy, shutdown) = (Arc::clone(&self.proxy), shutdown.clone());
        // In a task of its own, so that Pingora's ends, whose state is larger than that of a call: it has room for a handshake.
        tokio::spawn(async move {
            let _held = held;
            proxy.serve(Box::new(guard), &shutdown).await;
        });
        None
    }

    /// Called once the listeners are closed. It is the proxy's that ends connections without a call.
    async fn cleanup(&self) {
        self.open.last_heads().await;
        self.proxy.cleanup().await;
        self.open.parted.send_replace(true);
    }
}

/// What a connection holds for as long as it lives.
struct Held {
    _counted: Counted,
    _entered: Option<Entered>,
}

/// A connection that is among those that may be.
struct Counted {
    _permit: Permit,
    _connected: Connected,
}

/// Where connections are counted.
struct Desk {
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    permits: Arc<Permits>,
}

impl Desk {
    fn count(&self, digest: Option<&SocketDigest>) -> Result<Counted, TurnedAway> {
        let peer = digest.and_then(|digest| Some(digest.peer_addr()?.as_inet()?.ip()));
        let permit = self.permits.take(peer, &self.live.pin().server).inspect_err(|reason| {
            self.telemetry.turn_away(*reason);
        })?;
        Ok(Counted { _permit: permit, _connected: self.telemetry.connect() })
    }
}

/// A handshake takes a file descriptor for as long as Pingora lets it, which is 60 s, so that it needs a permit as well. The
/// digest of a proxy, which no listener has, is what a stream carries from here through its handshake and drops where that
/// fails.
#[async_trait]
impl PreTlsProcess for Desk {
    async fn process(&self, stream: &mut Socket) -> pingora_core::Result<()> {
        let refused = |_| Error::explain(ErrorType::AcceptError, "no room for another connection");
        let counted = self.count(stream.get_socket_digest().as_deref()).map_err(refused)?;
        let head = ResponseHeader::build(200, Some(0))?;
        stream.set_proxy_digest(ProxyDigest::new(Box::new(head), Some(Box::new(Mutex::new(Some(counted))))));
        Ok(())
    }
}

/// What was counted before the handshake.
fn handed_on(stream: &Stream) -> Option<Counted> {
    let digest = stream.get_proxy_digest()?;
    digest.user_data.as_ref()?.downcast_ref::<Mutex<Option<Counted>>>()?.lock().take()
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
    fn take(self: &Arc<Self>, peer: Option<IpAddr>, settings: &ServerSettings) -> Result<Permit, TurnedAway> {
        let address = peer.and_then(|peer| counted(peer, &settings.trusted_proxies));
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
        permits.take(Some(peer.parse().expect("an address")), settings)
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
        held.push(permits.take(None, &settings).expect("room for one whose address is not known"));
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
