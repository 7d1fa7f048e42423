//! What `check --json` prints: the same as for people, and what it comes to for programs.
//!
//! Never does: print a value that may be a secret.

use super::*;

pub(super) fn as_json(loaded: &Loaded) -> serde_json::Value {
    let Snapshot { server, startup, .. } = &*loaded.snapshot;
    let keys = loaded.snapshot.keys.tally(SystemTime::now());
    let routes: Vec<_> = loaded.snapshot.routes.iter().map(|route| route_as_json(route)).collect();
    let providers: Vec<_> = loaded.snapshot.providers.iter().map(|provider| provider_as_json(provider)).collect();
    let origins: &[String] = match &server.cors {
        Cors::Any => &["*".to_owned()],
        Cors::Only(origins) => origins,
    };
    serde_json::json!({
        "ok": true,
        "configuration": loaded.describes,
        "listen": startup.listen.iter().map(shown).collect::<Vec<_>>(),
        "admin": { "listen": startup.admin_listen, "token": startup.admin_token.is_some() },
        "upgrade_socket": startup.upgrade_socket.as_ref().map(|socket| &socket.path),
        "threads": startup.threads,
        "limits": {
            "max_body": server.max_body,
            "max_buffered": server.max_buffered,
            "max_header_bytes": server.max_header_bytes,
            "body_timeout_ms": millis(server.body_timeout),
            "idle_timeout_ms": millis(server.idle_timeout),
            "head_timeout_ms": millis(server.head_timeout),
            "max_in_flight": server.max_in_flight,
            "max_connections": server.max_connections,
            "max_connections_per_address": server.max_connections_per_address,
        },
        "cors": { "allow_origins": origins },
        "trusted_proxies": trusted(server),
        "telemetry": {
            "max_series": startup.max_series,
            "compat_metrics": startup.compat_metrics,
            "access_log": loaded.snapshot.access_log,
            "log_level": startup.log_level.as_str().to_ascii_lowercase(),
        },
        "ledger": startup.ledger.as_ref().map(ledger_as_json),
        "shutdown": { "readiness_delay_ms": millis(server.readiness_delay), "grace_ms": millis(server.grace) },
        "keys": {
            "count": keys.total(),
            "active": keys.active,
            "expired": keys.expired,
            "revoked": keys.revoked,
            "source": loaded.snapshot.key_source(),
        },
        "prices": { "version": &**loaded.snapshot.prices.version() },
        "providers": providers,
        "routes": routes,
        "models": models::as_json(&loaded.snapshot),
        "only_listed_models": loaded.snapshot.models.only_listed(),
        "call_limits": limits::as_json(&loaded.snapshot),
        "attempts": models::attempts_as_json(&loaded.snapshot.attempts),
        "warnings": loaded.warnings_at(SystemTime::now()).collect::<Vec<_>>(),
    })
}

fn route_as_json(route: &Route) -> serde_json::Value {
    serde_json::json!({
        "method": route.method_name(),
        "path": route.pattern,
        "kind": route.kind.name(),
        "model": route.model.name(),
        "price_per_request": route.price.map(|price| price.to_string()),
        "provider": route.provider.id.as_str(),
        "upstream": route.upstream_url(),
    })
}

fn ledger_as_json(ledger: &LedgerSettings) -> serde_json::Value {
    let (retention_ms, max_size) = (millis(ledger.retention), ledger.max_size);
    serde_json::json!({ "path": ledger.path, "retention_ms": retention_ms, "max_size": max_size })
}

fn provider_as_json(provider: &Provider) -> serde_json::Value {
    let times = &provider.timeouts;
    let certificates = provider.certificates.as_ref();
    serde_json::json!({
        "name": provider.id.as_str(),
        "keys": provider.keys.keys().iter().filter(|key| key.credential.is_some()).count(),
        "priced_as": provider.prices.as_deref(),
        "inject_usage": provider.inject_usage,
        "key_in": provider.keys.is_needed().then(|| provider.auth_header.as_str()),
        "proxy": provider.proxy.as_ref().map(ToString::to_string),
        "ca_file": certificates.is_some_and(|own| own.authorities.is_some()),
        "client_cert": certificates.is_some_and(|own| own.client.is_some()),
        "timeouts": {
            "connect_ms": millis(times.connect),
            "first_byte_stream_ms": millis(times.first_byte_stream),
            "first_byte_other_ms": millis(times.first_byte_other),
            "first_token_ms": times.first_token.map(millis),
            "idle_ms": millis(times.idle),
            "total_ms": millis(times.total),
        },
    })
}

pub(in crate::cli) fn report_as_json(report: &Report) -> serde_json::Value {
    let problems: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| {
            serde_json::json!({
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "path": problem.path,
                "message": problem.message,
                "hint": problem.hint,
            })
        })
        .collect();
    serde_json::json!({ "ok": false, "problems": problems })
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
