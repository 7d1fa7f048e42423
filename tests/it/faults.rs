//! Faults of the machine and of the gateway itself: it goes on, or is back at once with what it knew.
//!
//! A database that fails is in `ledger::faults`, a provider that does in `upstream` and `failover`.

mod descriptors;
mod killed;
mod panics;

use std::time::Duration;

use ai_gateway::demo::Script;

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";
