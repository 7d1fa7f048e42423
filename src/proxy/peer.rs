//! Where providers are, or the proxies before them: names resolved in the background, and Pingora's picture of each
//! address.
//!
//! Invariant: a name that was resolved once stays usable when the resolver fails; TLS always carries a name to verify;
//! a connection made for one provider, proxy and set of certificates is never used for another.
//! Never does: block a worker on a look-up (`HttpPeer::new` with a host name would, and panics where it fails).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use http::HeaderValue;
use log::{debug, info, warn};
use pingora_core::protocols::{ALPN, TcpKeepalive};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use tokio::sync::Mutex as AsyncMutex;

use crate::error::{Refusal, UpstreamFault};
use crate::route::{Certificates, HttpProxy, Provider};
use crate::units::ProviderId;

use super::tunnel::Tunnel;
use super::upstream::Broken;

/// How often names are looked up again. Providers' records live for a minute or more.
pub(crate) const REFRESH: Duration = Duration::from_secs(30);
/// How long one look-up may take.
const LOOK_UP: Duration = Duration::from_secs(5);
/// How long a name that did not resolve is not asked for again.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The addresses of all providers.
#[derive(Default)]
pub(crate) struct Peers {
    known: RwLock<HashMap<ProviderId, Arc<Known>, RandomState>>,
    /// Whose turn it is to look a name up, and how the last turn failed.
    first_look_ups: Mutex<HashMap<ProviderId, Arc<Turn>>>,
}

/// One look-up at a time: when the last one failed, and why.
type Turn = AsyncMutex<Option<(Instant, String)>>;

/// What makes a connection fit for a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    host: String,
    port: u16,
    tls: bool,
    http2: bool,
    connect: Duration,
    proxy: Option<HttpProxy>,
    /// Of the certificates.
    fingerprint: Option<[u8; 32]>,
}

/// The addresses of one place. One is used until it fails, so that the pool of connections is not split.
struct Known {
    place: Place,
    peers: Vec<Arc<HttpPeer>>,
    current: AtomicUsize,
}

impl Peers {
    /// The peer to connect to.
    ///
    /// # Errors
    /// `Upstream(Resolve)` where the name was never resolved so far.
    pub(super) async fn peer(&self, provider: &Provider) -> Result<Arc<HttpPeer>, Broken> {
        if let Some(peer) = self.known(provider).and_then(|known| known.peer()) {
            return Ok(peer);
        }
        // Boxed, because it is rare and its state would otherwise weigh on every open stream.
        Box::pin(self.first_look_up(provider)).await.map_err(|cause| match &provider.proxy {
            Some(proxy) => {
                let cause = format!("the proxy {proxy} could not be resolved: {cause}");
                Broken { refusal: Refusal::Upstream(UpstreamFault::Proxy), cause }
            }
            None => Broken { refusal: Refusal::Upstream(UpstreamFault::Resolve), cause },
        })
    }

    /// Looks a name up for the first time. One call does it, the others wait for what it finds: each look-up holds a
    /// thread until the resolver answers, however long ago its caller has left.
    async fn first_look_up(&self, provider: &Provider) -> Result<Arc<HttpPeer>, String> {
        let turn = {
            let mut turns = self.first_look_ups.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(provider.id.clone()).or_default())
        };
        let mut failed = turn.lock().await;
        if let Some(peer) = self.known(provider).and_then(|known| known.peer()) {
            return Ok(peer);
        }
        if let Some((at, cause)) = failed.as_ref().filter(|(at, _)| at.elapsed() < FAILED_FOR) {
            debug!("the host of provider {} failed to resolve {:?} ago", provider.id, at.elapsed());
            return Err(cause.clone());
        }
        let found = look_up(provider).await.and_then(|addresses| {
            self.learn(provider, addresses);
            let peer = self.known(provider).and_then(|known| known.peer());
            peer.ok_or_else(|| "the name has no address".to_owned())
        });
        *failed = found.as_ref().err().map(|cause| (Instant::now(), cause.clone()));
        found
    }

    /// Takes note that connecting to an address failed: the next call tries the place's next one. Of many calls that fail
    /// at once only the first has a say, so that they do not turn back to the address that failed.
    pub(super) fn failed(&self, provider: &Provider, peer: &HttpPeer) {
        let Some(known) = self.known(provider) else { return };
        let current = known.current.load(Ordering::Relaxed);
        if known.peer().is_some_and(|other| other._address == peer._address) {
            let next = current.wrapping_add(1);
            let _ = known.current.compare_exchange(current, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Looks all names up again, forgets providers that are gone, and keeps what was known where a look-up fails.
    pub(crate) async fn refresh(&self, providers: &[Arc<Provider>]) {
        let stays = |id: &ProviderId| providers.iter().any(|provider| provider.id == *id);
        self.known.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| stays(id));
        for provider in providers {
            let id = &provider.id;
            let what = if provider.proxy.is_some() { "proxy" } else { "host" };
            match look_up(provider).await {
                Ok(addresses) => self.learn(provider, addresses),
                Err(cause) if self.known(provider).is_some() => {
                    warn!("the {what} of provider {id} could not be resolved again, its last addresses stay: {cause}");
                }
                Err(cause) => warn!("the {what} of provider {id} could not be resolved: {cause}"),
            }
        }
    }

    fn known(&self, provider: &Provider) -> Option<Arc<Known>> {
        let all = self.known.read().unwrap_or_else(PoisonError::into_inner);
        all.get(provider.id.as_str()).filter(|known| known.place.fits(provider)).map(Arc::clone)
    }

    fn learn(&self, provider: &Provider, mut addresses: Vec<SocketAddr>) {
        // Sorted, so that a resolver which rotates its answers does not look like a change; IPv4 first, because a
        // missing IPv6 route costs a whole connect timeout.
        addresses.sort_by_key(|address| (address.is_ipv6(), *address));
        addresses.dedup();
        let old = self.known(provider);
        let same = old
            .as_ref()
            .is_some_and(|old| old.peers.iter().map(|peer| peer._address.as_inet()).eq(addresses.iter().map(Some)));
        if addresses.is_empty() || same {
            return;
        }
        if old.is_some() {
            info!("the addresses of provider {} have changed", provider.id);
        }
        let place = Place::of(provider);
        let peers = peers(provider, &addresses, place.group_key());
        let known = Arc::new(Known { place, peers, current: AtomicUsize::new(0) });
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(provider.id.clone(), known);
    }
}

impl Known {
    fn peer(&self) -> Option<Arc<HttpPeer>> {
        let at = self.current.load(Ordering::Relaxed) % self.peers.len().max(1);
        self.peers.get(at).map(Arc::clone)
    }
}

impl Place {
    fn of(provider: &Provider) -> Self {
        Self {
            host: provider.host.clone(),
            port: provider.port,
            tls: provider.tls,
            http2: provider.http2,
            connect: provider.timeouts.connect,
            proxy: provider.proxy.clone(),
            fingerprint: fingerprint(provider),
        }
    }

    fn fits(&self, provider: &Provider) -> bool {
        let same_place = self.host == provider.host && self.port == provider.port && self.tls == provider.tls;
        let same_way =
            self.proxy == provider.proxy && self.http2 == provider.http2 && self.fingerprint == fingerprint(provider);
        same_place && same_way && self.connect == provider.timeouts.connect
    }

    /// What keeps connections apart that Pingora's pool would take for the same: it knows the address, which may be a
    /// proxy's, and the name, but neither port, proxy, certificates nor what ALPN may agree on.
    fn group_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.host, self.port, self.http2, &self.fingerprint).hash(&mut hasher);
        if let Some(HttpProxy { host, port, authorization }) = &self.proxy {
            (host, port, authorization.as_ref().map(HeaderValue::as_bytes)).hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn fingerprint(provider: &Provider) -> Option<[u8; 32]> {
    provider.certificates.as_ref().map(|certificates| certificates.fingerprint)
}

/// The picture of each address.
fn peers(provider: &Provider, addresses: &[SocketAddr], group_key: u64) -> Vec<Arc<HttpPeer>> {
    let tunnel = provider.proxy.as_ref().map(|proxy| Arc::new(Tunnel::new(provider, proxy)));
    let (authorities, client) = provider.certificates.as_ref().map(certificates).unwrap_or_default();
    let peer = |address: &SocketAddr| {
        // An empty server name would switch verification off; a host is never empty (config refuses it).
        let mut peer = HttpPeer::new(*address, provider.tls, provider.host.clone());
        let connect = provider.timeouts.connect;
        peer.group_key = group_key;
        if provider.tls && provider.http2 {
            peer.options.alpn = ALPN::H2H1;
        }
        peer.client_cert_key.clone_from(&client);
        peer.options.ca.clone_from(&authorities);
        if let Some(tunnel) = &tunnel {
            peer.options.custom_l4 = Some(Arc::clone(tunnel) as _);
        }
        peer.options.connection_timeout = Some(connect);
        // TCP and TLS each have their own turn.
        peer.options.total_connection_timeout = Some(connect * 2);
        peer.options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            user_timeout: Duration::ZERO,
        });
        Arc::new(peer)
    };
    addresses.iter().map(peer).collect()
}

/// Pingora's picture of certificates. Config has parsed each one, so that the parser here cannot panic.
fn certificates(own: &Certificates) -> (Option<Arc<[WrappedX509]>>, Option<Arc<CertKey>>) {
    let authorities = own.authorities.as_ref();
    let authorities = authorities.map(|all| all.iter().map(|one| WrappedX509::new(one.clone(), parse_x509)).collect());
    let client = own.client.as_ref();
    (authorities, client.map(|client| Arc::new(CertKey::new(client.chain.clone(), client.key.to_vec()))))
}

async fn look_up(provider: &Provider) -> Result<Vec<SocketAddr>, String> {
    // The name of a provider behind a proxy is for the proxy to resolve.
    let (host, port) = match &provider.proxy {
        Some(proxy) => (&proxy.host, proxy.port),
        None => (&provider.host, provider.port),
    };
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = tokio::net::lookup_host((host.as_str(), port));
    match tokio::time::timeout(LOOK_UP, found).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the resolver did not answer in time".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tests::provider;

    fn addresses(hosts: &[&str]) -> Vec<SocketAddr> {
        hosts.iter().map(|host| SocketAddr::new(host.parse().expect("an address"), 443)).collect()
    }

    #[test]
    fn one_address_is_kept_until_it_fails() {
        let peers = Peers::default();
        let provider = provider("openai");
        let current = || peers.known(&provider).and_then(|known| known.peer()).map(|peer| peer._address.to_string());
        peers.learn(&provider, addresses(&["::1", "127.0.0.2", "127.0.0.1"]));
        assert_eq!(current().as_deref(), Some("127.0.0.1:443"));
        let first = peers.known(&provider).and_then(|known| known.peer()).expect("a peer");
        // Two calls that failed at once.
        peers.failed(&provider, &first);
        peers.failed(&provider, &first);
        peers.learn(&provider, addresses(&["127.0.0.2", "::1", "127.0.0.1"]));
        assert_eq!(current().as_deref(), Some("127.0.0.2:443"), "the same addresses are no change");
        peers.learn(&provider, Vec::new());
        assert!(current().is_some(), "an empty answer forgets nothing");
    }

    #[test]
    fn tls_always_has_a_name_to_verify() {
        let peers = Peers::default();
        let provider = provider("openai");
        peers.learn(&provider, addresses(&["127.0.0.1"]));
        let peer = peers.known(&provider).and_then(|known| known.peer()).expect("a peer");
        assert_eq!(peer.sni, "api.example.com");
        assert!(peer.options.verify_cert && peer.options.verify_hostname);
    }

    #[test]
    fn another_way_is_another_connection() {
        let direct = provider("openai");
        let through = |host: &str, password: &'static str| {
            let authorization = Some(HeaderValue::from_static(password));
            let mut provider = Arc::into_inner(provider("openai")).expect("the only one");
            provider.proxy = Some(HttpProxy { host: host.to_owned(), port: 3128, authorization });
            provider
        };
        let with = |fingerprint: u8| {
            let mut provider = Arc::into_inner(provider("openai")).expect("the only one");
            provider.certificates = Some(Certificates { fingerprint: [fingerprint; 32], ..Certificates::default() });
            provider
        };
        let ways = [through("a", "x"), through("b", "x"), through("a", "y"), with(1), with(2)];
        let mut keys: Vec<u64> = ways.iter().map(|way| Place::of(way).group_key()).collect();
        keys.push(Place::of(&direct).group_key());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 6);
        let peers = Peers::default();
        peers.learn(&direct, addresses(&["127.0.0.1"]));
        assert!(ways.iter().all(|way| peers.known(way).is_none()), "what is known of one way is not used for another");
        peers.learn(&ways[0], addresses(&["127.0.0.1"]));
        let peer = peers.known(&ways[0]).and_then(|known| known.peer()).expect("a peer");
        assert!(peer.options.custom_l4.is_some() && peer.sni == "api.example.com");
    }
}
