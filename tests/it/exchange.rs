//! One call through the exchange: what goes in, what comes out, and what the connection is good for afterwards.
//!
//! Invariant: what reaches the provider is compared by its SHA-256, what reaches the client to the byte.
//! Never does: measure time, but for the limits that are about it.

mod answers;
mod bodies;
mod connection;
mod pairs;
mod refusals;

use ai_gateway::demo::{Reply, Script};
use sha2::{Digest, Sha256};

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";

fn limits(limits: &str) -> Setup {
    Setup { server: format!("limits: {{ {limits} }}"), ..Setup::default() }
}

/// A JSON body of exactly this many bytes.
fn sized(length: usize) -> String {
    let (before, after) = (r#"{"messages":[{"role":"user","content":""#, r#""}],"model":"gpt-4o"}"#);
    format!("{before}{}{after}", "x".repeat(length - before.len() - after.len()))
}

fn sha256(bytes: impl AsRef<[u8]>) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The head of a POST with the test key, with these further headers.
fn post_head(more: &[(&str, &str)]) -> String {
    let json = ("content-type", "application/json".to_owned());
    let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
    let headers: Vec<_> = [bearer(KEY), json].into_iter().chain(more).collect();
    head("POST", CHAT, &headers, b"")
}

/// A body in chunks of this size.
fn chunked(body: &str, size: usize) -> String {
    let chunks = body.as_bytes().chunks(size).map(|chunk| {
        let text = std::str::from_utf8(chunk).expect("ASCII");
        format!("{:x}\r\n{text}\r\n", chunk.len())
    });
    chunks.collect::<String>() + "0\r\n\r\n"
}

fn fixed(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Script {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Script { reply: Reply::Fixed { status, headers, body: body.into().into() }, ..Script::default() }
}
