//! The integration tests: one binary, a real gateway on port 0, the scriptable provider behind it, raw sockets before it.
//!
//! | module | holds |
//! |---|---|
//! | `support` | the world of a test: gateway, provider, key file, log, raw HTTP client |
//! | `commands` | the commands: keys, check, demo, and the original's environment |
//! | `lifecycle` | start, reload and end of a gateway, by real signals |
//! | `smoke` | a call, from its key to its record |

#![expect(unreachable_pub, reason = "one binary; `pub` marks what other modules of it use")]

mod commands;
mod lifecycle;
mod smoke;
mod support;
