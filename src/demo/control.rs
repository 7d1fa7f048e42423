//! The control path of the tests that are not written in Rust, and the echo.
//!
//! `POST /__script` takes a [`Script`] or a list of them, `DELETE /__script` forgets them; `GET /__received` tells what
//! came and `DELETE /__received` forgets that.
//! Invariant: a control request is neither scripted nor noted, and its connection does not count.
//! Never does: exist where [`super::ProviderOptions::control`] is off.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Shared;
use super::answer::Answer;
use super::journal::{Received, hex};
use super::request::Head;
use super::script::Script;

/// Answers with what was received; a path of its own, for any method.
pub(super) const ECHO: &str = "/v1/echo";

/// Whether a path is of the control path.
pub(super) fn is_control(path: &str) -> bool {
    matches!(path, SCRIPT | RECEIVED)
}

/// Carries out a control request.
pub(super) fn answer(head: &Head, body: &[u8], shared: &Shared) -> Answer {
    match (head.method.as_str(), head.path()) {
        ("POST", SCRIPT) => match scripts(body) {
            Ok(scripts) => {
                let count = scripts.len();
                scripts.into_iter().for_each(|script| shared.scripts.push(script));
                Answer::json(200, &json!({ "queued": count }))
            }
            Err(error) => Answer::json(400, &json!({ "error": error.to_string() })),
        },
        ("DELETE", SCRIPT) => {
            shared.scripts.clear();
            Answer::json(200, &json!({}))
        }
        ("GET", RECEIVED) => Answer::json(200, &state(shared)),
        ("DELETE", RECEIVED) => {
            shared.journal.clear();
            Answer::json(200, &json!({}))
        }
        _ => Answer::json(405, &json!({ "error": "method" })),
    }
}

/// What was received, as an answer.
pub(super) fn echo(head: &Head, body: &[u8]) -> Answer {
    let echo = json!({
        "method": head.method,
        "target": head.target,
        "headers": headers(&head.headers),
        "body_length": body.len(),
        "body_sha256": hex(&Sha256::digest(body)),
        "body_base64": STANDARD.encode(body),
    });
    Answer::json(200, &echo)
}

fn scripts(body: &[u8]) -> serde_json::Result<Vec<Script>> {
    // Not an untagged enum: that would hide which field was wrong.
    if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(body)
    } else {
        serde_json::from_slice(body).map(|script| vec![script])
    }
}

fn state(shared: &Shared) -> Value {
    let journal = &shared.journal;
    json!({
        "received": journal.received().iter().map(one).collect::<Vec<_>>(),
        "open_connections": journal.open_connections(),
        "connections_accepted": journal.connections_accepted(),
        "malformed_requests": journal.malformed(),
        "scripts_left": shared.scripts.len(),
    })
}

fn one(received: &Received) -> Value {
    let since = |at: std::time::Instant| (at - received.arrived_at).as_secs_f64() * 1000.0;
    json!({
        "method": received.method,
        "target": received.target,
        "headers": headers(&received.headers),
        "body_base64": STANDARD.encode(&received.body),
        "body_length": received.body_length,
        "body_complete": received.body_complete,
        "body_sha256": received.body_sha256,
        "connection_id": received.connection_id,
        "request_number": received.request_number,
        "used": received.used.map(|used| json!({ "input": used.input, "output": used.output })),
        "answered_after_ms": received.answered_at.map(since),
        "cancelled": received.cancelled,
        "aborted_after_ms": received.aborted_at.map(since),
    })
}

/// Values that are no UTF-8 are told as far as they are.
fn headers(headers: &[(String, Vec<u8>)]) -> Vec<(&str, String)> {
    headers.iter().map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value).into_owned())).collect()
}

const SCRIPT: &str = "/__script";
const RECEIVED: &str = "/__received";
