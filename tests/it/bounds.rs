//! What is bounded, and what becomes of what goes beyond: calls, bytes, memory, and the floods that HTTP/2 knows.
//!
//! Bodies, heads, connections and buffered bytes have their tests beside what they bound: `exchange::refusals`,
//! `exchange::bodies`, `admission`.
//! Never does: bound what the test itself takes.

mod calls;
mod floods;
mod lasting;
mod memory;
mod process;

use crate::support::*;

const CHAT: &str = "/openai/v1/chat/completions";
const MODELS: &str = "/openai/v1/models";
