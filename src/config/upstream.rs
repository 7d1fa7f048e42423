//! Providers and their routes: from what is written to what runs.
//!
//! Invariant: a credential becomes a sensitive header value here, and a fault in one names only its field.
//! Never does: resolve a name; connect.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Uri};

use super::compile::Check;
use super::file::{self, Dialect};
use super::read::is_out_of_place;
use super::report::FieldPath;
use super::values::Hidden;
use super::{certificates, credential, presets, prices, proxies, routes};
use crate::dialect::{self, ANTHROPIC, OPENAI};
use crate::meter::price::PriceBook;
use crate::route::{self, Asking, Pool, Provider, RouteTable, Timeouts};
use crate::units::{ProviderId, Secret};

/// Where a provider is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: String,
    /// The path, with no slash at its end.
    pub(super) path: String,
}

/// Compiles all providers and the table of their routes.
pub(super) fn compile(
    check: &mut Check<'_>,
    providers: &BTreeMap<String, file::Provider>,
    book: &PriceBook,
) -> (Vec<Arc<Provider>>, RouteTable) {
    let above = FieldPath::of("providers");
    if providers.is_empty() && !check.tree.is_told_below(&above) {
        check.refuse_with(&above, "expected at least one provider", "leave the field out for the default");
    }
    let mut table = RouteTable::default();
    let mut compiled = Vec::new();
    for (id, written) in providers {
        let path = above.key(id);
        check_id(check, &path, id);
        let mut provider = provider(check, &path, id, written);
        provider.prices = prices::section(check, &path.key("priced_as"), &provider, written.priced_as.as_deref(), book);
        let provider = Arc::new(provider);
        routes::compile(check, &path.key("routes"), &written.routes, &provider, &mut table);
        compiled.push(provider);
    }
    (compiled, table)
}

fn check_id(check: &mut Check<'_>, path: &FieldPath, id: &str) {
    match id_fault(id) {
        Some((message, Some(hint))) => check.refuse_with(path, message, hint),
        Some((message, None)) => check.refuse(path, message),
        None => {}
    }
}

/// What is wrong with a provider's name, and how to mend it.
pub(super) fn id_fault(id: &str) -> Option<(&'static str, Option<&'static str>)> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let first_is_fine = id.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit());
    if !first_is_fine || !id.bytes().all(fine) || id.len() > 64 {
        Some((
            "expected a name of lower-case letters, digits, \".\", \"_\" and \"-\", the first a letter or digit",
            Some("it is the first segment of the paths that clients call"),
        ))
    } else if matches!(id, "livez" | "readyz") {
        Some(("this name is the gateway's own path", None))
    } else {
        None
    }
}

fn provider(check: &mut Check<'_>, path: &FieldPath, id: &str, written: &file::Provider) -> Provider {
    let is_unknown = written.preset.as_deref().is_some_and(|name| presets::find(name).is_none());
    if is_unknown {
        check.refuse_with(&path.key("preset"), "there is no preset of this name", presets::NAMES);
    }
    let base = base(check, path, written.base_url.as_deref(), is_unknown);
    if is_beyond_the_api(&base.path, written.version_path.is_some()) {
        check.warn(format!(
            "{}: expected where the API begins, such as https://api.openai.com/v1",
            path.key("base_url")
        ));
    }
    let (base_prefix, version_prefix) = prefixes(check, path, &base.path, written.version_path.as_deref());
    let (auth_header, keys) = credential::keys(check, path, id, written);
    if !base.tls && !base.host.is_empty() && !is_loopback(&base.host) {
        check.warn(format!("providers.{id}.base_url is plain http to another machine: keys and content go in clear"));
    }
    let own = (!keys.is_empty()).then_some(&auth_header);
    Provider {
        id: ProviderId::new(id),
        tls: base.tls,
        http2: written.http2 == file::Http2::Auto,
        headers: headers(check, &path.key("headers"), &written.headers, own),
        proxy: proxies::proxy(check, path, written.proxy.as_ref(), &base),
        certificates: certificates::certificates(check, path, written, base.tls),
        authority: HeaderValue::try_from(base.authority).unwrap_or(HeaderValue::from_static("")),
        host: base.host,
        port: base.port,
        version_prefix,
        base_prefix,
        keys: Pool::new(&ProviderId::new(id), keys),
        auth_header,
        query: query(&written.query),
        dialect: family(written.dialect),
        timeouts: timeouts(check, &path.key("timeouts"), &written.timeouts),
        prices: None,
        inject_usage: written.inject_usage.or(written.dialect == Dialect::Openai),
        asking: Asking::default(),
    }
}

fn family(written: Dialect) -> &'static dyn dialect::Dialect {
    match written {
        Dialect::Openai => OPENAI,
        Dialect::Anthropic => ANTHROPIC,
    }
}

/// The base URL, or a stand-in where it is refused: the snapshot is not made then.
fn base(check: &mut Check<'_>, path: &FieldPath, text: Option<&str>, is_told: bool) -> Base {
    let told = is_told || (is_out_of_place(path) && check.tree.is_told_below(path));
    let path = path.key("base_url");
    let refused = Base { tls: true, host: String::new(), port: 0, authority: String::new(), path: String::new() };
    let example = "such as \"https://api.openai.com\" or \"http://127.0.0.1:11434/v1\"";
    let Some(text) = text else {
        if told {
            return refused;
        }
        check.refuse_with(&path, "base_url is needed", example);
        return refused;
    };
    parse_base(text).unwrap_or_else(|message| {
        check.refuse_with(&path, message, example);
        refused
    })
}

/// Takes a base URL apart, or says what was expected.
pub(super) fn parse_base(text: &str) -> Result<Base, &'static str> {
    if text.contains('@') {
        return Err("expected a URL without user or password");
    }
    if text.contains(['?', '#']) {
        return Err("expected a URL without query or fragment");
    }
    let url: Uri = text.parse().map_err(|_| "expected an http or https URL")?;
    let (tls, default_port) = match url.scheme_str() {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => (true, 443),
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => (false, 80),
        _ => return Err("expected an http or https URL"),
    };
    let authority = url.authority().ok_or("expected a URL with a host")?;
    let written = authority.host();
    let port = match authority.as_str().get(written.len()..).unwrap_or_default() {
        "" => default_port,
        _ => authority.port_u16().filter(|port| *port != 0).ok_or("expected a port from 1 to 65535")?,
    };
    let host = parse_host(written).ok_or("expected a URL with a host name or an IP address, IPv6 in brackets")?;
    let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let path = url.path().trim_end_matches('/');
    if path.split('/').skip(1).any(|segment| segment.is_empty() || segment.starts_with('.'))
        || path.contains(['{', '}'])
    {
        return Err("expected a URL whose path is plain");
    }
    Ok(Base {
        tls,
        authority: if port == default_port { shown } else { format!("{shown}:{port}") },
        host,
        port,
        path: path.to_owned(),
    })
}

fn parse_host(written: &str) -> Option<String> {
    if let Some(bracketed) = written.strip_prefix('[') {
        let address: Ipv6Addr = bracketed.strip_suffix(']')?.parse().ok()?;
        return Some(address.to_string());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let host = written.to_ascii_lowercase();
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    let fine = host.len() <= 253 && host.split('.').all(label) && (!numeric || host.parse::<Ipv4Addr>().is_ok());
    fine.then_some(host)
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Tells whether a base URL's path goes further than to where the API begins: a version before its end, or a route's
/// path. One who says what the version's path is has thought of it.
fn is_beyond_the_api(base: &str, version_is_given: bool) -> bool {
    let route = ["/chat/completions", "/completions", "/embeddings"].iter().any(|route| base.ends_with(route));
    let above = base.rsplit_once('/').map_or("", |(above, _)| above);
    route || (!version_is_given && (base.ends_with("/models") || above.split('/').any(is_version)))
}

/// What stands in place of `/{provider}` and of `/{provider}/v1`.
fn prefixes(check: &mut Check<'_>, path: &FieldPath, base: &str, version: Option<&str>) -> (String, String) {
    if let Some(version) = version {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~');
        let segments = version.split('/').skip(1).all(|segment| !segment.is_empty() && !segment.starts_with('.'));
        let begins = version.is_empty() || version.starts_with('/');
        if !begins || !segments || !version.bytes().all(fine) {
            check.refuse_with(
                &path.key("version_path"),
                "expected a path that begins with \"/\" and does not end with it, or an empty text",
                "such as \"/api/v3\"",
            );
        }
    }
    prefixes_of(base, version)
}

/// The same without a check; `version` is `version_path`.
pub(super) fn prefixes_of(base: &str, version: Option<&str>) -> (String, String) {
    match (version, base.rsplit_once('/')) {
        (None, Some((above, last))) if is_version(last) => (above.to_owned(), base.to_owned()),
        (None, _) => (base.to_owned(), format!("{base}/v1")),
        (Some(version), _) => match base.strip_suffix(version) {
            Some(above) => (above.to_owned(), base.to_owned()),
            None => (base.to_owned(), format!("{base}{version}")),
        },
    }
}

/// Tells whether a segment names a version: `v1`, `v3`, `v1beta`, `v2alpha1`.
fn is_version(segment: &str) -> bool {
    let Some(rest) = segment.strip_prefix('v') else {
        return false;
    };
    let word = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
    rest.starts_with(|c: char| c.is_ascii_digit()) && matches!(word, "" | "alpha" | "beta")
}

/// The value of a header that must not be shown.
pub(super) fn sensitive(text: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.expose()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

pub(super) fn header_name(text: &str) -> Result<HeaderName, &'static str> {
    let name: HeaderName = text.parse().map_err(|_| "expected the name of an HTTP header")?;
    if route::headers::is_own(&name) {
        return Err("this header is the gateway's own");
    }
    Ok(name)
}

fn headers(
    check: &mut Check<'_>,
    path: &FieldPath,
    written: &BTreeMap<String, Hidden>,
    credential: Option<&HeaderName>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (text, value) in written {
        let path = path.key(text);
        let name = match header_name(text) {
            Ok(name) => name,
            Err(message) => {
                check.refuse(&path, message);
                continue;
            }
        };
        if Some(&name) == credential {
            check.refuse(&path, "this header carries api_key");
        }
        if headers.iter().any(|(other, _)| *other == name) {
            check.refuse_with(&path, "this header stands twice", "names of headers have no case");
        }
        match sensitive(&value.0) {
            Some(value) => headers.push((name, value)),
            None => check.refuse(&path, "holds characters that an HTTP header cannot carry"),
        }
    }
    headers
}

fn query(written: &BTreeMap<String, Hidden>) -> Vec<(String, Secret)> {
    let pair = |name: &str, value: &Hidden| Secret::new(format!("{}={}", encoded(name), encoded(value.0.expose())));
    written.iter().map(|(name, value)| (name.clone(), pair(name, value))).collect()
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn timeouts(check: &mut Check<'_>, path: &FieldPath, written: &file::Timeouts) -> Timeouts {
    let first_byte = path.key("first_byte");
    let day = ["1ms", "24h"];
    Timeouts {
        connect: check.period(&path.key("connect"), written.connect, ["1ms", "5m"]),
        first_byte_stream: check.period(&first_byte.key("stream"), written.first_byte.stream, day),
        first_byte_other: check.period(&first_byte.key("other"), written.first_byte.other, day),
        first_token: written.first_token.0.map(|span| check.period(&path.key("first_token"), span, day)),
        idle: check.period(&path.key("idle"), written.idle, day),
        total: check.period(&path.key("total"), written.total, day),
    }
}
