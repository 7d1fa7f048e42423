//! HTTP proxies to providers: what the YAML names, and what `HTTPS_PROXY` and `NO_PROXY` say.
//!
//! Invariant: a URL of a proxy may hold a password, so that no fault of one tells any of it.
//! Never does: resolve a name, so that a range of `NO_PROXY` meets hosts that are written as addresses only.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::Network;
use super::compile::{Check, network};
use super::report::{FieldPath, Problem};
use super::upstream::{Base, parse_base, sensitive};
use super::values::Hidden;
use crate::route::HttpProxy;
use crate::units::Secret;

/// The proxy of a provider: what is written, else for https the environment's. `NO_PROXY` stands above both, as it does
/// with curl. Upper-case variables go before lower-case ones.
pub(super) fn proxy(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: Option<&Hidden>,
    base: &Base,
) -> Option<HttpProxy> {
    let variable = ["HTTPS_PROXY", "https_proxy"].into_iter().find(|name| check.environment.get(name).is_some());
    let text = match (written, variable) {
        (Some(written), _) => written.0.expose().trim(),
        (None, Some(variable)) if base.tls => check.environment.get(variable).unwrap_or_default().trim(),
        (None, _) => return None,
    };
    if matches!(text, "" | "off") || base.host.is_empty() || is_excepted(check, base) {
        return None;
    }
    let message = match parse(text) {
        Ok(proxy) => return Some(proxy),
        Err(message) => message,
    };
    match (written, variable) {
        (None, Some(variable)) => check.problems.push(Problem::of_variable(variable, message).hint(EXAMPLE)),
        _ => check.refuse_with(&path.key("proxy"), message, EXAMPLE),
    }
    None
}

const EXAMPLE: &str = "such as \"http://proxy.example.com:3128\" or \"http://user:p%40ss@proxy.example.com:3128\"";

/// Takes the URL of a proxy apart, or says what was expected. Without a scheme it needs a port: `HOST:PORT`.
fn parse(text: &str) -> Result<HttpProxy, &'static str> {
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
            return Err("a proxy that is itself reached by https is not supported; expected an http URL");
        }
        Some(_) => return Err("expected the http URL of a proxy; other kinds are not supported"),
        None if text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => text,
        None => return Err("expected the http URL of a proxy"),
    };
    // The last @, so that a password may hold one as it is.
    let (userinfo, host) = match rest.rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo), host),
        None => (None, rest),
    };
    let Base { host, port, path, .. } = parse_base(&format!("http://{host}")).map_err(|message| match message {
        "expected a port from 1 to 65535" => message,
        _ => "expected the http URL of a proxy: a host, and a port where that is not 80",
    })?;
    if !path.is_empty() {
        return Err("expected the URL of a proxy without a path");
    }
    Ok(HttpProxy { host, port, authorization: userinfo.map(authorization).transpose()? })
}

/// `Proxy-Authorization` for what stands before the `@`. RFC 7617: a user name has no colon.
fn authorization(userinfo: &str) -> Result<HeaderValue, &'static str> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let malformed = "expected % in the user and password of a proxy to begin a percent-encoded character (% is %25)";
    let (user, password) = (decoded(user).ok_or(malformed)?, decoded(password).ok_or(malformed)?);
    if user.contains(&b':') {
        return Err("the user of a proxy cannot hold a colon");
    }
    let basic = Secret::new(format!("Basic {}", STANDARD.encode([&*user, b":", &*password].concat())));
    sensitive(&basic).ok_or("holds characters that an HTTP header cannot carry")
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(match byte {
            b'%' => u8::try_from(digit()? << 4 | digit()?).ok()?,
            _ => byte,
        });
    }
    Some(decoded)
}

/// Tells whether `NO_PROXY` names a provider's host.
fn is_excepted(check: &mut Check<'_>, base: &Base) -> bool {
    let Some(variable) = ["NO_PROXY", "no_proxy"].into_iter().find(|name| check.environment.get(name).is_some()) else {
        return false;
    };
    let list = check.environment.get(variable).unwrap_or_default();
    let entries = list.split([',', ' ', '\t']).map(str::trim).filter(|entry| !entry.is_empty());
    let entries: Vec<_> = entries.map(Exception::parse).collect();
    let odd = format!("{variable} holds an entry that is no host, address or range; it has no effect");
    if entries.iter().any(Option::is_none) && !check.warnings.contains(&odd) {
        check.warn(odd);
    }
    entries.iter().flatten().any(|entry| entry.covers(&base.host, base.port))
}

/// An entry of `NO_PROXY`.
struct Exception {
    hosts: Hosts,
    /// Absent: all ports.
    port: Option<u16>,
}

enum Hosts {
    All,
    /// This name and all below it.
    Domain(String),
    Range(Network),
}

impl Exception {
    /// `*`, `HOST`, `.SUFFIX`, `*.SUFFIX`, `ADDRESS`, `ADDRESS/PREFIX`, each with or without `:PORT`.
    fn parse(text: &str) -> Option<Self> {
        if let Some(hosts) = Hosts::parse(text) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = text.rsplit_once(':')?;
        Some(Self { hosts: Hosts::parse(host)?, port: Some(port.parse().ok()?) })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        let named = match (&self.hosts, host.parse::<IpAddr>()) {
            (Hosts::All, _) => true,
            (Hosts::Domain(domain), Err(_)) => below(domain),
            (Hosts::Range(range), Ok(address)) => range.contains(address),
            (Hosts::Domain(_), Ok(_)) | (Hosts::Range(_), Err(_)) => false,
        };
        named && self.port.is_none_or(|own| own == port)
    }
}

impl Hosts {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Some(range) = network(bare) {
            return Some(Self::Range(range));
        }
        let name = text.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(text);
        let name = name.strip_prefix('.').unwrap_or(name);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        (!name.is_empty() && name.bytes().all(fine)).then_some(Self::Domain(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy = parse("http://us%65r:p%40%3a%C3%a9s@Proxy.Example.com:3128/").expect("a proxy");
        assert_eq!(proxy.to_string(), "proxy.example.com:3128");
        let authorization = proxy.authorization.as_ref().and_then(|value| value.to_str().ok()).expect("credentials");
        let encoded = authorization.strip_prefix("Basic ").expect("Basic");
        assert_eq!(STANDARD.decode(encoded).expect("base64"), "user:p@:és".as_bytes());
        assert!(!format!("{proxy:?}").contains(encoded));
        let basic = |url| parse(url).ok()?.authorization?.to_str().map(str::to_owned).ok();
        assert_eq!(basic("http://u@h:1").as_deref(), Some("Basic dTo="));
        assert_eq!(basic("http://u:a@b:c@h:1").as_deref(), Some("Basic dTphQGI6Yw=="));
    }

    #[test]
    fn a_proxy_has_a_host_and_a_port() {
        let shown = |url| parse(url).map(|proxy| proxy.to_string()).ok();
        assert_eq!(shown("http://proxy").as_deref(), Some("proxy:80"));
        assert_eq!(shown("HTTP://[::1]:3128").as_deref(), Some("[::1]:3128"));
        assert_eq!(shown("10.0.0.1:3128").as_deref(), Some("10.0.0.1:3128"));
        assert_eq!(shown("user:pass@proxy:3128").as_deref(), Some("proxy:3128"));
        for bad in [
            "proxy",
            "https://proxy:3128",
            "socks5://proxy:1080",
            "http://",
            "http://:3128",
            "http://proxy:0",
            "http://proxy:99999",
            "http://proxy:3128/path",
            "http://proxy:3128?x",
            "http://a b:3128",
            "http://u:100%@proxy:3128",
            "http://u:%2@proxy:3128",
            "http://u%3Av:p@proxy:3128",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exceptions_are_names_addresses_and_ranges() {
        let covers = |entry: &str, host: &str, port| {
            Exception::parse(entry).is_some_and(|exception| exception.covers(host, port))
        };
        for entry in ["*", "example.com", ".example.com", "*.example.com", "API.Example.com.", "api.example.com:443"] {
            assert!(covers(entry, "api.example.com", 443), "{entry}");
        }
        for entry in ["ample.com", "b.api.example.com", "api.example.com:444", "example.org", "10.0.0.0/8"] {
            assert!(!covers(entry, "api.example.com", 443), "{entry}");
        }
        for entry in ["10.1.2.3", "10.0.0.0/8", "10.1.2.3:8443", "10.0.0.0/8:8443", "*:8443"] {
            assert!(covers(entry, "10.1.2.3", 8443), "{entry}");
        }
        for entry in ["10.1.2.4", "11.0.0.0/8", "10.1.2.3:443", "2.3", "::/0"] {
            assert!(!covers(entry, "10.1.2.3", 8443), "{entry}");
        }
        for entry in ["::1", "[::1]", "[::1]:8443", "::/64"] {
            assert!(covers(entry, "::1", 8443), "{entry}");
        }
        for odd in ["10.0.0.0/33", "a b", "http://example.com", "", ".", "example.com:port", "exa*mple.com"] {
            assert!(Exception::parse(odd).is_none(), "{odd}");
        }
    }
}
