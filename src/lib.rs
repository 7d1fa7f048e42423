//! AI Gateway: one binary between OpenAI-compatible clients and their providers, built on Pingora.
//!
//! The layers, lowest first; each imports only from those above it in this list (`tests/architecture.rs` holds it):
//!
//! | module | holds | never does |
//! |---|---|---|
//! | [`units`] | identifiers, secrets | IO, decisions |
//! | [`error`] | every reason not to serve, and its looks | IO |
//! | [`dialect`] | API families: what an answer says | IO; keep an answer |
//! | [`keys`] | gateway keys, scopes, the key file | read a clock; keep a key's text |
//! | [`route`] | providers, routes, the route table; models and their targets, the plan of attempts, what rests | IO; read a clock |
//! | [`limit`] | rate limits and budgets: reserve, then settle | IO, read a clock |
//! | [`meter`] | reading of bodies in passing | change a byte |
//! | [`config`] | YAML to one immutable snapshot | print a secret |
//! | [`flow`] | the life of a call; its record | IO, read a clock |
//! | [`policy`] | what an embedding program decides on calls | show a credential; wait |
//! | [`ledger`] | the record of all calls in SQLite, and its reports | fail or delay a call |
//! | [`telemetry`] | metrics, the log writer, the access line | wait for a reader |
//! | [`proxy`] | Pingora's hooks, the exchange, upstream connections | decide about keys, money or models |
//! | [`admin`] | health, metrics and administration on their own port | serve clients' calls |
//! | [`server`] | the parts put together; signals, reload, drain, upgrade | handle a request |
//! | [`demo`] | a built-in, scriptable provider | know the gateway |
//! | [`cli`] | the commands | hold logic of its own |

pub mod admin;
pub mod cli;
pub mod config;
pub mod demo;
pub mod dialect;
pub mod error;
pub mod flow;
pub mod keys;
pub mod ledger;
pub mod limit;
pub mod meter;
pub mod policy;
pub mod proxy;
pub mod route;
pub mod server;
pub mod telemetry;
pub mod units;
