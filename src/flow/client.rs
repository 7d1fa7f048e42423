//! Whose address a call comes from.
//!
//! Invariant: `x-forwarded-for` is believed only as far as configured proxies vouch for it.
//! Never does: a look-up of names.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::Network;

/// The caller's address: the connection's own, or, where that is a trusted proxy, the last address in
/// `x-forwarded-for` that is none.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> IpAddr {
    let vouches = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = peer.to_canonical();
    if trusted.is_empty() || !vouches(address) {
        return address;
    }
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        address = hop.to_canonical();
        if !vouches(address) {
            break;
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believes_only_trusted_proxies() {
        let network = Network { address: "10.0.0.0".parse().expect("an address"), prefix: 8 };
        let seen = |peer: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().expect("a value"));
            }
            let peer = peer.parse().expect("an address");
            client_address(peer, &headers, std::slice::from_ref(&network)).to_string()
        };
        assert_eq!(seen("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(seen("::ffff:10.0.0.1", &["203.0.113.9, 198.51.100.1, 10.1.1.1"]), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["203.0.113.9", "198.51.100.1,10.1.1.1"]), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1, junk"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
    }
}
