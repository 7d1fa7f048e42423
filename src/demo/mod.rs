//! A built-in, scriptable provider that speaks OpenAI's protocol.
//!
//! Never does: know anything of the gateway.
