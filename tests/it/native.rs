//! Routes whose bodies pass unread: what goes in, what comes out, who may, and what is told where it breaks.
//!
//! Invariant: what holds for a call of the exchange holds here too; where both are meant, one test asks both.
//! Never does: hold a large body; it is made as it is sent and compared by its SHA-256.

mod admission;
mod answers;
mod faults;
mod large;
mod models;
mod opaque;
mod uploads;
mod websocket;

use std::time::Duration;

use ai_gateway::demo::{Reply, Script};
use sha2::{Digest, Sha256};

use crate::support::{heavy, *};

const CHAT: &str = "/openai/v1/chat/completions";
const MULTIPART: (&str, &str) = ("content-type", "multipart/form-data; boundary=frontier");

async fn world() -> World {
    World::with(each_kind(ALL, "")).await
}

async fn world_with(more: &str) -> World {
    World::with(each_kind(ALL, more)).await
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
