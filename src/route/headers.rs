//! What the names of headers mean on the way to a provider: which are the gateway's own, and which of a client's stay here.
//!
//! Invariant: whoever sets a header upstream, the configuration or a policy, is held to one list; a header that frames a
//! message, or belongs to one connection, is in it.
//! Never does: look at a value.

use http::HeaderName;

/// Tells whether a header is the gateway's own to set, or belongs to one connection: nobody configures it.
pub fn is_own(name: &HeaderName) -> bool {
    is_of_one_hop(name) || is_of_the_message(name) || name == "via"
}

/// Tells whether a header may carry who the caller is: the client's key in any header that providers take keys from, and
/// cookies. Sources: ai.google.dev/gemini-api/docs/api-key and learn.microsoft.com/azure/api-management/api-management-subscriptions,
/// read 2026-11, for the last two.
pub fn is_credential(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "authorization"
            | "proxy-authorization"
            | "api-key"
            | "x-api-key"
            | "cookie"
            | "x-goog-api-key"
            | "ocp-apim-subscription-key"
    )
}

/// Tells whether some servers take a header for another method, path or host than the one that was authorised.
pub fn redirects(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-method"
            | "x-original-uri"
            | "x-original-url"
            | "x-override-url"
            | "x-http-path-override"
            | "x-rewrite-url"
            | "x-original-host"
            | "x-host"
    )
}

/// Tells whether a client's header never goes upstream: of this hop, of its credential, of proxies before us, or set anew.
pub fn stays_here(name: &HeaderName) -> bool {
    if is_own(name) || is_credential(name) || redirects(name) {
        return true;
    }
    match name.as_str() {
        "forwarded" | "x-real-ip" | "true-client-ip" | "origin" | "referer" => true,
        // The original's own.
        "on-behalf-of" | "username" => true,
        other => ["x-forwarded-", "x-gateway-", "cf-", "sec-"].iter().any(|start| other.starts_with(start)),
    }
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "upgrade"
            | "http2-settings"
            | "transfer-encoding"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "expect"
    )
}

fn is_of_the_message(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "content-length" | "content-type" | "content-encoding" | "accept-encoding" | "x-request-id")
}
