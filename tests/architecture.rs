//! The rules of the tree, held by a test: headers, one-way imports, fences, sizes, no silenced lints.
//!
//! Invariant: each rule has a test that it can fail.
//! Never does: judge test code by more than its size, its header and its lints.

#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/tokens.rs"]
mod tokens;

use std::fs;
use std::io;
use std::path::Path;

use source::{Source, Violation, row};

/// The layers, lowest first. A file imports from the rows above its own and from its own folder.
const ROWS: &[&[&str]] = &[
    &["units"],
    &["error"],
    &["dialect"],
    &["keys", "route", "limit", "meter"],
    &["config"],
    &["flow"],
    &["policy"],
    &["ledger", "telemetry"],
    &["proxy", "admin"],
    &["server"],
    &["demo"],
    &["cli"],
];

/// Modules that import nothing of the crate, though others stand above them.
const ALONE: &[&str] = &["demo"];

/// What may be named only in some places: the beginning of a path (a crate with `*` is a family), and its homes.
const FENCES: &[(&str, &[&str])] = &[
    ("pingora*", &["proxy/", "admin/", "server.rs", "server/"]),
    ("prometheus", &["telemetry/"]),
    ("env_logger", &["telemetry/"]),
    ("marked_yaml", &["config/"]),
    ("toml", &["config/migrate/"]),
    ("dotenvy", &["config/"]),
    ("clap", &["cli/"]),
    ("arc_swap", &["config/mod.rs"]),
    ("axum*", &["admin/"]),
    ("hyper*", &["admin/"]),
    ("httparse", &["proxy/", "demo/"]),
    ("h2", &["proxy/upstream/", "demo/"]),
    ("rusqlite", &["ledger/"]),
    ("redis", &["limit/redis.rs"]),
    ("jiff", &["limit/window.rs", "limit/window/", "ledger/ask/span.rs", "route/reset.rs"]),
    ("rustix", &["server/listen.rs", "server/process.rs", "server/systemd.rs", "server/upgrade/"]),
    ("rustls", &["config/", "server/tls.rs"]),
    ("x509_parser", &["config/"]),
    ("std::fs", &["config/", "keys/store.rs", "keys/store/", "ledger/", "server/upgrade/socket.rs"]),
    ("tokio::fs", &["config/", "keys/store.rs", "keys/store/", "ledger/"]),
    ("tokio::spawn", RING),
    ("tokio::task::spawn*", RING),
];

/// The outermost ring: it alone reads clocks and starts tasks.
const RING: &[&str] = &["server.rs", "server/", "proxy/", "admin/", "ledger/", "limit/redis.rs", "cli/", "demo/"];

const CLOCKS: &[&str] = &["Instant", "SystemTime"];

const MAX_FILE_LINES: usize = 400;
/// An example is read at a glance.
const MAX_EXAMPLE_LINES: usize = 79;
const MAX_FUNCTION_LINES: usize = 60;

/// What breaks a rule all the same: the beginning of the violation's text, and why. An entry that nothing needs any more
/// fails the test, so the list can only shrink.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files under a folder: path within the repository, and text.
fn sources(folder: &str) -> io::Result<Vec<(String, String)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root().join(folder))? {
        let entry = entry?;
        let name = format!("{folder}/{}", entry.file_name().display());
        if entry.path().is_dir() {
            all.extend(sources(&name)?);
        } else if name.ends_with(".rs") {
            all.push((name, fs::read_to_string(entry.path())?));
        }
    }
    all.sort();
    Ok(all)
}

#[test]
fn the_tree_keeps_its_rules() {
    let folders = ["src", "tests", "benches", "examples"].into_iter().filter(|folder| root().join(folder).exists());
    let files: Vec<_> = folders.flat_map(|folder| sources(folder).expect("readable files")).collect();
    assert!(files.len() > 50, "only {} files were found", files.len());
    let found: Vec<_> = files.iter().flat_map(|(file, text)| Source::check(file, text)).collect();
    let broken: Vec<_> =
        found.iter().filter(|violation| excuse(violation).is_none()).map(Violation::to_string).collect();
    assert!(broken.is_empty(), "{} violations:\n{}", broken.len(), broken.join("\n"));
    for (what, because) in EXCEPTIONS {
        let needed = found.iter().any(|violation| violation.text().starts_with(what));
        assert!(needed, "nothing needs this exception any more, take it out: {what} ({because})");
        assert!(because.split(' ').count() > 3, "an exception needs a reason: {what}");
    }
}

fn excuse(violation: &Violation) -> Option<&'static str> {
    EXCEPTIONS.iter().find(|(what, _)| violation.text().starts_with(what)).map(|(_, because)| *because)
}

#[test]
fn the_map_in_lib_rs_lists_every_module_in_rank_order() {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let between = |line: &str, start: &str, end: char| {
        line.strip_prefix(start).and_then(|rest| rest.split_once(end)).map(|(name, _)| name.to_owned())
    };
    let listed: Vec<_> = text.lines().filter_map(|line| between(line, "//! | [`", '`')).collect();
    let mut modules: Vec<_> = text.lines().filter_map(|line| between(line, "pub mod ", ';')).collect();
    let ranks: Vec<_> = listed.iter().map(|name| row(name)).collect();
    assert!(ranks.iter().all(Option::is_some) && ranks.is_sorted(), "the table is not in rank order: {listed:?}");
    modules.sort_by_key(|name| listed.iter().position(|other| other == name));
    assert_eq!(listed, modules, "the table of src/lib.rs and its modules differ");
}

/// What is found wrong with code in a file that is otherwise in order.
fn found(file: &str, code: &str) -> Vec<String> {
    let text = format!("//! A file.\n//! Never does: anything.\n{code}\n");
    Source::check(file, &text).iter().map(Violation::to_string).collect()
}

#[track_caller]
fn refuses(file: &str, code: &str, what: &str) {
    let found = found(file, code);
    assert!(found.len() == 1 && found[0].contains(what), "{code}\n{found:?}");
}

#[track_caller]
fn accepts(file: &str, code: &str) {
    assert_eq!(found(file, code), [""; 0], "{code}");
}

#[test]
fn a_file_needs_its_header() {
    let whole = "//! Holds x.\n//!\n//! Never does: y.\n";
    assert_eq!(Source::check("src/units.rs", whole), []);
    for text in
        ["fn f() {}\n", "//! Never does: y.\n", "//! Holds x.\n//! And y.\n", "\n//! Holds x.\n//! Never does: y.\n"]
    {
        assert_eq!(Source::check("src/units.rs", text).len(), 1, "{text}");
    }
    assert_eq!(Source::check("src/main.rs", "//! The binary.\n"), []);
    assert_eq!(Source::check("tests/it/main.rs", "//! The tests.\n"), []);
}

#[test]
fn an_import_points_down() {
    refuses("src/keys/ring.rs", "use crate::flow::Record;", "src/keys/ring.rs:3: keys imports crate::flow");
    refuses(
        "src/keys/ring.rs",
        "use crate::{error::Refusal,\n flow::{Record, Arrived}};",
        ":4: keys imports crate::flow",
    );
    refuses("src/units.rs", "fn f() {\n    crate::error::g();\n}", "src/units.rs:4: units imports crate::error");
    refuses("src/units.rs", "fn f() { h!(1, { crate::error::g() }); }", "units imports");
    refuses("src/units.rs", "impl X { fn f(x: Vec<Box<crate::error::Refusal>>) {} }", "units imports");
    refuses("src/route/mod.rs", "use crate::keys::Key;", "route imports crate::keys");
    refuses("src/admin/api.rs", "use crate::proxy::Gateway;", "admin imports crate::proxy");
    refuses("src/demo/mod.rs", "use crate::units::Secret;", "demo imports");
    refuses("src/keys/ring.rs", "use super::super::flow::Record;", "crate's root");
    refuses("src/units.rs", "use crate::nowhere::X;", "units imports crate::nowhere");
    accepts("src/keys/ring.rs", "use crate::keys::Key; use super::token; use crate::{error, units::{KeyId, Secret}};");
    accepts("src/keys/file/read.rs", "use super::super::token::hex; pub(in crate::keys) fn f() {}");
    accepts("src/units.rs", "#[cfg(test)]\nmod tests { use crate::flow::Record; }");
    accepts("src/units.rs", "impl X { #[cfg(test)] fn f() { crate::flow::g() } }");
    accepts("src/units/tests.rs", "use crate::flow::Record;");
}

#[test]
fn an_outside_crate_stays_behind_its_fence() {
    refuses("src/flow/mod.rs", "use pingora_proxy::Session;", "pingora* is used outside proxy/, admin/");
    refuses("src/flow/mod.rs", "fn f(x: &pingora::proxy::Session) {}", "pingora* is used");
    refuses("src/config/load.rs", "use arc_swap::ArcSwap;", "arc_swap is used outside config/mod.rs");
    refuses("src/config/load.rs", "use toml::de::DeTable;", "toml is used outside config/migrate/");
    refuses("src/server.rs", "#[derive(clap::Args)]\nstruct X;", "clap is used");
    refuses("src/route/mod.rs", "use std::{io, fs::File};", "std::fs is used");
    refuses("src/keys/file.rs", "fn f() { std::fs::read(1); }", "std::fs is used");
    refuses("src/flow/mod.rs", "fn f() { Instant::now(); }", "Instant::now is read outside");
    refuses("src/flow/mod.rs", "fn f() { g(std::time::SystemTime::now); }", "SystemTime::now is read outside");
    refuses("src/telemetry/log.rs", "fn f() { tokio::spawn(g()); }", "tokio::spawn is used");
    refuses("src/telemetry/log.rs", "use tokio::task::{spawn_blocking};", "tokio::task::spawn* is used");
    accepts("src/proxy/mod.rs", "use pingora_proxy::Session; fn f() { tokio::spawn(g(Instant::now())); }");
    accepts("src/keys/store/disk.rs", "use std::fs::{self, File};");
    refuses("src/flow/mod.rs", "use redis;", "redis is used outside limit/redis.rs");
    refuses("src/flow/mod.rs", "fn f() { log!(::redis::cmd(1)); }", "redis is used outside limit/redis.rs");
    accepts("src/flow/mod.rs", "fn now(now: Instant, redis: Clap) { self.fs.clap(); }");
}

#[test]
fn sizes_are_bounded() {
    accepts("src/units.rs", &"\n".repeat(397));
    refuses("src/units.rs", &"\n".repeat(398), "401 lines");
    refuses("src/units/tests.rs", &"\n".repeat(398), "401 lines");
    accepts("examples/x.rs", &"\n".repeat(76));
    refuses("examples/x.rs", &"\n".repeat(77), "80 lines");
    let function = |lines: usize| format!("impl X {{\n    fn f() {{{}}}\n}}", "\n".repeat(lines - 1));
    accepts("src/units.rs", &function(60));
    refuses("src/units.rs", &function(61), "src/units.rs:4: the function f has 61 lines");
    accepts("src/units/tests.rs", &function(61));
    let nested = format!("trait T {{ fn f() {{\n fn g() {{{}}} }} }}", "\n".repeat(58));
    accepts("src/units.rs", &nested);
    refuses("src/units.rs", &nested.replace("g() {", "g() {\n"), "the function f has 61 lines");
}

#[test]
fn lints_are_not_silenced() {
    refuses("src/units.rs", "#[allow(dead_code)]\nfn f() {}", "src/units.rs:3: a lint is silenced");
    refuses("tests/it/main.rs", "#![allow(dead_code)]", "a lint is silenced");
    refuses(
        "src/units/tests.rs",
        "fn f() {\n  #[cfg_attr(x, allow(unused))]\n  let y = 1;\n}",
        ":4: a lint is silenced",
    );
    accepts("src/units.rs", "#[expect(dead_code, reason = \"x\")]\nfn f() { limiter.allow(1); allow(2); }");
}

#[test]
fn test_modules_are_named_so() {
    refuses("src/units.rs", "#[cfg(test)]\nmod samples;", "a module is `tests`");
    refuses("src/units.rs", "mod tests;", "a module is `tests`");
    accepts("src/units.rs", "#[cfg(test)]\npub(crate) mod tests;\nmod other;");
}

/// A promise that names a test which has moved would be kept by nobody.
#[test]
fn what_the_documents_name_is_there() {
    for document in ["SECURITY.md", "README.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).expect("a document");
        let quoted = text.split('`').skip(1).step_by(2);
        let is_path = |name: &&str| {
            ["tests/", "src/", "provision/", "conf/"].iter().any(|folder| name.starts_with(folder))
                && !name.contains(|odd: char| odd.is_whitespace() || "*{<".contains(odd))
                && !name.contains("NAME")
                && !name.starts_with("provision/secrets/")
        };
        let named: Vec<&str> = quoted.filter(is_path).collect();
        let gone: Vec<&&str> = named.iter().filter(|name| !root().join(name).exists()).collect();
        assert!(gone.is_empty(), "{document} names what is not there: {gone:?}");
    }
}
