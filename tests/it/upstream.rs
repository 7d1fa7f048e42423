//! Providers that fail in every way that the scriptable one can: what the client is told, and what is used again.
//!
//! Invariant: an answer that was cut never looks complete, and nothing of the gateway's own key or of internal addresses
//! is in any answer (`support` looks for the key in each one).
//! Never does: wait for a timeout of more than a second.

mod alpn;
mod faults;
mod frames;
mod http2;
mod passed;
mod reuse;
mod streams;

use ai_gateway::demo::{Reply, Script};

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";

fn timeouts(pair: Pair, timeouts: &str) -> Setup {
    Setup { provider: format!("timeouts: {{ {timeouts} }}"), pair, ..Setup::default() }
}

fn fixed(status: u16, headers: &[(&str, &str)], body: &'static str) -> Script {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Script { reply: Reply::Fixed { status, headers, body: body.into() }, ..Script::default() }
}

/// Checks that this is the gateway's own answer about a provider, and tells nothing of where that is.
fn told(answer: &Response, status: u16, code: &str) {
    let message = answer.error(status, "server_error", code);
    assert!(!message.contains("127.0.0.1") && !message.contains("os error"), "{message}");
    assert_eq!(answer.header("provider-name"), Some("openai"));
    let http1 = answer.version == "HTTP/1.1";
    assert_eq!(answer.header("connection"), http1.then_some("keep-alive"));
}
