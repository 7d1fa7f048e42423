//! The integration tests: one binary, a real gateway on port 0, the scriptable provider behind it, raw sockets before it.
//!
//! | module | holds |
//! |---|---|
//! | `support` | the world of a test: gateway, provider, key file, log, raw HTTP client |
//! | `contract` | what clients of the original gateway rely on |
//! | `exchange` | one call: bodies, answers, refusals, and the connection they share |
//! | `property` | any cut of a body or an answer into chunks and writes changes nothing |
//! | `smoke` | a call, from its key to its record |
//! | `upstream` | providers that fail, and what becomes of calls and connections |

#![expect(unreachable_pub, reason = "one binary; `pub` marks what other modules of it use")]
#![expect(clippy::expect_used, clippy::panic, reason = "this is how a test fails")]

mod contract;
mod exchange;
mod property;
mod smoke;
mod support;
mod upstream;
