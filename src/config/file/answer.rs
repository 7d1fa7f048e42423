//! The picture of `telemetry.answer_headers`.
//!
//! Never does: checks; the picture alone.

use serde::Deserialize;

/// What answers tell of themselves in headers, beside what they always do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerHeaders {
    /// Whether an answer of JSON with a length of at most 64 KiB tells what it cost: `x-gateway-cost-usd`. It is read whole
    /// before its head goes out. Absent where the cost is not known, and on all other answers. Default `true`.
    pub cost: bool,
    /// Whether `server-timing` tells how long the gateway and the provider took. Default `true`.
    pub server_timing: bool,
}

impl Default for AnswerHeaders {
    fn default() -> Self {
        Self { cost: true, server_timing: true }
    }
}
