//! Worlds with routes of each kind, keys for other routes than the original's four, and the provider's end of a WebSocket.
//!
//! Never does: start anything.

use ai_gateway::demo::{After, Script};

use super::{Setup, head};

pub const UPLOAD: &str = "/openai/v1/audio/transcriptions";
pub const SPEECH: &str = "/openai/v1/audio/speech";
pub const VOICES: &str = "/openai/v1/audio/voices";
pub const REALTIME: &str = "/openai/v1/realtime";

/// The scopes of a key for everything below `openai`.
pub const ALL: &[&str] = &["*:/openai/*"];

/// The digest of the test key (`shared/keyfile.md`).
const DIGEST: &str = "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69";

/// A key file with the test key for these scopes, `method:path`, and further fields.
pub fn key_file(scopes: &[&str], more: &str) -> String {
    let scope = |text: &&str| {
        let (method, path) = text.split_once(':').expect("a scope");
        serde_json::json!({ "method": method, "path": path }).to_string()
    };
    let scopes: Vec<String> = scopes.iter().map(scope).collect();
    let scopes = scopes.join(", ");
    format!(r#"{{ "{DIGEST}": {{ "username": "test", "salt": "ZmFrZQ==", "scopes": [{scopes}]{more} }} }}"#)
}

/// A world with routes of each kind, a key for these scopes, and this in `providers.openai`.
pub fn each_kind(scopes: &[&str], more: &str) -> Setup {
    let routes = [
        "get /v1/models",
        "\"get /v1/models/{model}\"",
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

/// The provider's other end of a WebSocket: it agrees and sends everything back.
pub fn agrees() -> Script {
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: realtime\r\n\
        x-request-id: theirs\r\nset-cookie: a=1\r\n\r\n";
    Script { after: After::Mirror, ..Script::raw(head) }
}

/// A client's end: the head that asks for one, with further headers, the key among them.
pub fn handshake(more: &[(&str, &str)]) -> String {
    let upgrade = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let headers: Vec<_> = upgrade.iter().chain(more).map(|(name, value)| (*name, (*value).to_owned())).collect();
    head("GET", &format!("{REALTIME}?model=gpt-realtime"), &headers, b"")
}
