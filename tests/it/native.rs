//! Routes whose bodies pass unread: what goes in, what comes out, who may, and what is told where it breaks.
//!
//! Invariant: what holds for a call of the exchange holds here too; where both are meant, one test asks both.
//! Never does: hold a large body; it is made as it is sent and compared by its SHA-256.

mod admission;
mod answers;
mod faults;
mod models;
mod opaque;
mod uploads;
mod websocket;

use std::time::Duration;

use ai_gateway::demo::{Reply, Script};
use sha2::{Digest, Sha256};

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
pub(super) const SPEECH: &str = "/openai/v1/audio/speech";
pub(super) const UPLOAD: &str = "/openai/v1/audio/transcriptions";
pub(super) const REALTIME: &str = "/openai/v1/realtime";
pub(super) const VOICES: &str = "/openai/v1/audio/voices";
const MULTIPART: (&str, &str) = ("content-type", "multipart/form-data; boundary=frontier");

/// A world with routes of each kind, a key for these scopes, and this in `providers.openai`.
pub(super) fn setup(scopes: &[&str], more: &str) -> Setup {
    let routes = [
        "get /v1/models",
        "post /v1/chat/completions",
        "post /v1/audio/transcriptions stream",
        "post /v1/audio/speech stream",
        "get /v1/audio/voices stream",
        "get /v1/realtime websocket",
        "any /v1/* opaque",
    ];
    let more = if more.is_empty() { String::new() } else { format!(", {more}") };
    let provider = format!("routes: [{}]{more}", routes.join(", "));
    Setup { provider, key_file: Some(key_file(scopes, "")), ..Setup::default() }
}

/// The test key with other scopes, `method:path`, and further fields.
fn key_file(scopes: &[&str], more: &str) -> String {
    let scope = |text: &&str| {
        let (method, path) = text.split_once(':').expect("a scope");
        serde_json::json!({ "method": method, "path": path }).to_string()
    };
    let scopes: Vec<String> = scopes.iter().map(scope).collect();
    let digest = "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69";
    let scopes = scopes.join(", ");
    format!(r#"{{ "{digest}": {{ "username": "test", "salt": "ZmFrZQ==", "scopes": [{scopes}]{more} }} }}"#)
}

async fn world() -> World {
    World::with(setup(&["*:/openai/*"], "")).await
}

async fn world_with(more: &str) -> World {
    World::with(setup(&["*:/openai/*"], more)).await
}

pub(super) fn sha256(bytes: impl AsRef<[u8]>) -> String {
    hex(Sha256::digest(bytes).as_slice())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The head of a request with the test key and these further headers.
fn with_key(method: &str, path: &str, more: &[(&str, &str)]) -> String {
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let headers: Vec<_> = [bearer(KEY)].into_iter().chain(more).collect();
    head(method, path, &headers, b"")
}

pub(super) fn fixed(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Script {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Script { reply: Reply::Fixed { status, headers, body: body.into().into() }, ..Script::default() }
}
