//! The integration tests: one binary, a real gateway on port 0, the scriptable provider behind it, raw sockets before it.
//!
//! | module | holds |
//! |---|---|
//! | `support` | the world of a test: gateway, provider, key file, log, raw HTTP client |
//! | `smoke` | a call, from its key to its record |

#![expect(unreachable_pub, reason = "one binary; `pub` marks what other modules of it use")]
#![expect(clippy::expect_used, clippy::panic, reason = "all of it is test code, which clippy knows of #[test] alone")]

mod smoke;
mod support;
