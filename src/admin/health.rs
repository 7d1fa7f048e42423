//! The paths of the admin service and the four that are open to all: `/ping`, `/livez`, `/readyz`, `/metrics`.
//!
//! Invariant: every answer says `no-store` and `nosniff`; every error is OpenAI's error object.
//! Never does: read a request's body.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use super::{AdminState, api, usage};
use crate::error::Refusal;
use crate::ledger::LedgerFigures;
use crate::route::Health;
use crate::telemetry::LedgerState;

/// All paths.
pub(super) fn router(state: &Arc<AdminState>) -> Router {
    let asking = Arc::new(Semaphore::new(usage::AT_ONCE));
    Router::new()
        .route("/ping", get(ping))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/keys", get(api::keys))
        .route("/api/limits", get(api::limits))
        .route("/api/targets", get(api::targets))
        .route("/api/usage", get(move |state, request| usage::usage(state, request, Arc::clone(&asking))))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(Arc::clone(state), api::guard))
        .layer(middleware::from_fn(harden))
        .with_state(Arc::clone(state))
}

/// The original's answer, byte for byte.
async fn ping() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], "pong")
}

/// As the proxy's own port answers it.
async fn livez() -> Response {
    json(200, r#"{"alive":true}"#.to_owned())
}

async fn readyz(State(state): State<Arc<AdminState>>) -> Response {
    let (status, detail) = state.readiness.answer(state.ledger.is_up());
    json(status, detail.to_owned())
}

async fn metrics(State(state): State<Arc<AdminState>>) -> impl IntoResponse {
    if let Some(LedgerFigures { up, queued, lag, dropped, size }) = state.ledger.figures() {
        state.telemetry.ledger(&LedgerState { up, queued, lag, dropped, size });
    }
    let limits = (&state.limiter.tally(), &*api::standing(&state));
    let targets = Health::view(&state.live.pin().models, Instant::now());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(CONTENT_TYPE, kind)], state.telemetry.scrape(limits, &targets, SystemTime::now()))
}

/// The answer to a path that there is not.
pub(super) async fn unknown() -> Response {
    let refusal = Refusal::UnknownRoute;
    json(refusal.status(), refusal.body())
}

async fn wrong_method() -> Response {
    refuse(405, "method_not_allowed", "This path does not take this method")
}

/// An answer of JSON.
pub(super) fn json(status: u16, body: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// An error that only this service has, as OpenAI's error object.
pub(super) fn refuse(status: u16, code: &str, message: &str) -> Response {
    let kind = "invalid_request_error";
    let error = serde_json::json!({"error": {"message": message, "type": kind, "param": null, "code": code}});
    json(status, error.to_string())
}

async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
