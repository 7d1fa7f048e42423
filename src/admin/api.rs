//! What needs the admin token: everything under `/api/`.
//!
//! Invariant: the token is compared in constant time, before the path is looked at; where none is configured, nothing
//! under `/api/` exists.
//! Never does: show a key's text or hash, or a provider's key.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::AdminState;
use super::health::{self, refuse};
use crate::error::Refusal;
use crate::keys::KeyRecord;
use crate::limit::{Now, Standing};
use crate::route::{Cause, Health, KeyView, TargetView, View};
use crate::units::{Limit, Measure, Secret, Usd};

/// Lets requests under `/api/` pass with the token only.
pub(super) async fn guard(State(state): State<Arc<AdminState>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if path != "/api" && !path.starts_with("/api/") {
        return next.run(request).await;
    }
    let Some(token) = &state.token else {
        return health::unknown().await;
    };
    if holds(request.headers(), token) {
        return next.run(request).await;
    }
    let mut response = refuse(401, "invalid_admin_token", "Invalid admin token");
    let challenge = HeaderValue::from_static("Bearer");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

/// All keys of the snapshot in force, by their ids.
pub(super) async fn keys(State(state): State<Arc<AdminState>>) -> Response {
    let snapshot = state.live.pin();
    let mut keys: Vec<&KeyRecord> = snapshot.keys.iter().map(|key| &key.record).collect();
    keys.sort_by(|one, other| one.id.cmp(&other.id));
    let now = SystemTime::now();
    let data: Vec<Value> = keys.into_iter().map(|key| describe(key, now)).collect();
    health::json(200, json!({"object": "list", "data": data}).to_string())
}

/// What may be shown of a key. One line a field.
fn describe(key: &KeyRecord, now: SystemTime) -> Value {
    let time = |time: Option<SystemTime>| time.map(|time| humantime::format_rfc3339_seconds(time).to_string());
    let state = match key.usable(now) {
        Err(Refusal::RevokedKey) => "revoked",
        Err(_) => "expired",
        Ok(()) => "active",
    };
    json!({
        "id": key.id.as_str(),
        "username": &*key.username,
        "team": key.team.as_deref(),
        "state": state,
        "scopes": key.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "models": key.models,
        "created_at": time(key.created_at),
        "expires_at": time(key.expires_at),
        "revoked_at": time(key.revoked_at),
    })
}

/// How all limits of the snapshot in force stand.
pub(super) fn standing(state: &AdminState) -> Vec<Standing> {
    let now = Now { wall: SystemTime::now(), steady: Instant::now() };
    state.limiter.standing(&state.live.pin().limits.all(), now)
}

/// All limits and what is used of them, each in its own unit: calls, tokens, or USD as decimals.
pub(super) async fn limits(State(state): State<Arc<AdminState>>) -> Response {
    let data: Vec<Value> = standing(&state).iter().map(describe_limit).collect();
    health::json(200, json!({"object": "list", "data": data}).to_string())
}

fn describe_limit(standing: &Standing) -> Value {
    let time = |time: SystemTime| humantime::format_rfc3339_seconds(time).to_string();
    let amount = |count: u128| match standing.limit {
        Limit::Budget(Measure::Usd, _) => Value::from(Usd::from_picos(count).to_string()),
        _ => Value::from(u64::try_from(count).unwrap_or(u64::MAX)),
    };
    json!({
        "kind": standing.subject.kind(),
        "name": standing.subject.name(),
        "model": standing.subject.model.as_deref(),
        "limit": standing.limit.name(),
        "shadow": standing.shadow,
        "value": amount(standing.value),
        "used": amount(standing.used),
        "reserved": amount(standing.reserved),
        "window_start": standing.window.map(|(start, _)| time(start)),
        "window_end": standing.window.and_then(|(_, end)| end).map(time),
        "resets_in_seconds": standing.resets_in.map(|wait| wait.as_secs_f64().ceil()),
    })
}

/// How all targets of the configuration in force stand, with the keys of their providers by a piece of a hash of each.
pub(super) async fn targets(State(state): State<Arc<AdminState>>) -> Response {
    let snapshot = state.live.pin();
    let views = Health::view(&snapshot.models, Instant::now());
    let data: Vec<Value> = views.iter().map(target).collect();
    health::json(200, json!({"object": "list", "data": data}).to_string())
}

fn target(view: &TargetView) -> Value {
    let key = |key: &KeyView| {
        let mut shown = breaker(&key.breaker);
        shown["key"] = key.mark.to_string().into();
        shown
    };
    let mut shown = breaker(&view.breaker);
    shown["provider"] = view.provider.as_str().into();
    shown["model"] = view.model.as_deref().into();
    shown["keys"] = view.keys.iter().map(key).collect();
    shown
}

/// `model` is absent where it stands for all models that the configuration does not name.
fn breaker(view: &View) -> Value {
    let cause = view.cause.map(|cause| match cause {
        Cause::Failures => "failures",
        Cause::RateLimit => "rate_limit",
        Cause::Refused => "refused",
    });
    let millis = |span: Option<Duration>| span.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
    json!({
        "state": view.state,
        "cause": cause,
        "since_ms": millis(view.since),
        "rests_for_ms": millis(view.until),
        "failures": view.failures,
    })
}

fn holds(headers: &HeaderMap, token: &Secret) -> bool {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (all.next(), all.next()) else {
        return false;
    };
    let Some((scheme, presented)) = header.as_bytes().split_at_checked("Bearer ".len()) else {
        return false;
    };
    let same: bool = presented.ct_eq(token.expose().as_bytes()).into();
    scheme.eq_ignore_ascii_case(b"Bearer ") && same && !presented.is_empty()
}
