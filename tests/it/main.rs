//! The integration tests: one binary, a real gateway on port 0, the scriptable provider behind it, raw sockets before it.
//!
//! | module | holds |
//! |---|---|
//! | `support` | the world of a test: gateway, provider, key file, log, raw HTTP client |
//! | `admission` | who gets in, and how long a head may take |
//! | `anthropic` | providers that speak Anthropic's API: contract, usage, failover, limits |
//! | `authorisation` | no spelling of a path, a method or a credential reaches what a key is not for |
//! | `bounds` | what is bounded: calls, memory, files, floods over HTTP/2 |
//! | `clients_tls` | clients over TLS: HTTP/1.1, HTTP/2, certificates and their change |
//! | `commands` | the commands: keys, check, demo, migrate, and the original's environment |
//! | `contract` | what clients of the original gateway rely on |
//! | `exchange` | one call: bodies, answers, refusals, and the connection they share |
//! | `failover` | several targets of a model: what becomes of calls when one of them fails |
//! | `faults` | no file descriptors, no mercy, panics: it goes on, or is back at once with what it knew |
//! | `framing` | requests that two servers could understand differently |
//! | `ledger` | the record of all calls: what is asked of it, and what becomes of it when things go wrong |
//! | `limits` | limits and budgets: what they refuse, and what holds under load, crashes and reloads |
//! | `lifecycle` | start and end of a gateway, by real signals |
//! | `models` | which models there are, for whom, and a model that several providers serve |
//! | `native` | routes whose bodies pass unread: uploads, media, WebSockets, and the rest of an API |
//! | `observability` | health, metrics and log: what is told of calls |
//! | `permissions` | what a key may do beyond its routes, and what a refusal says of it |
//! | `policy` | policies of an embedding program, and the examples as they run |
//! | `property` | any cut of a body or an answer into chunks and writes changes nothing |
//! | `reload` | reloads: what they apply and refuse, a hundred of them under load, and bombs |
//! | `secrets` | keys and prompts: where they must never be |
//! | `slow` | nobody waits for somebody else: slow clients, readers and providers |
//! | `smoke` | a call, from its key to its record |
//! | `tls` | providers over TLS, good and bad certificates |
//! | `tunnel` | providers behind an HTTP proxy, with authorities of their own, and that want a certificate |
//! | `upgrade` | a change of the binary under live traffic |
//! | `upstream` | providers that fail, and what becomes of calls and connections |
//! | `usage` | what each call used and cost: in its record, in metrics and headers, and never in its bytes |

#![expect(unreachable_pub, reason = "one binary; `pub` marks what other modules of it use")]
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod admission;
mod anthropic;
mod authorisation;
mod bounds;
mod clients_tls;
mod commands;
mod contract;
mod exchange;
mod failover;
mod faults;
mod framing;
mod ledger;
mod lifecycle;
mod limits;
mod models;
mod native;
mod observability;
mod permissions;
mod policy;
mod property;
mod reload;
mod secrets;
mod slow;
mod smoke;
mod support;
mod tls;
mod tunnel;
mod upgrade;
mod upstream;
mod usage;
