//! `ai-gateway check`: tells whether a configuration could be put in force, and what it comes to.
//!
//! Invariant: reads what `serve` would read and nothing else; exit code 0 or 2.
//! Never does: open a port or ask a provider; show a secret.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::{self, Loaded, Report, Snapshot, Sources};
use crate::route::{Provider, Route};

/// The arguments of `check`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct CheckArgs {
    /// The YAML file [default: conf/gateway.yaml where it exists, else the built-in defaults]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Prints JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// The exit code of a configuration that can be put in force.
const FINE: u8 = 0;
/// The exit code of one that cannot.
const WRONG: u8 = 2;

/// Checks the configuration of this process. The result is the exit code.
///
/// # Errors
/// Those of writing.
pub(super) fn run(args: &CheckArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    check(args, &Sources::of_process(args.config.clone()), out, err)
}

fn check(args: &CheckArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    match config::load(sources) {
        Ok(loaded) if args.json => writeln!(out, "{:#}", as_json(&loaded)).map(|()| FINE),
        Ok(loaded) => as_text(&loaded, out).map(|()| FINE),
        Err(report) => {
            if args.json {
                writeln!(out, "{:#}", report_as_json(&report))?;
            }
            writeln!(err, "{report}")?;
            let count = report.problems().len();
            let problems = if count == 1 { "problem" } else { "problems" };
            writeln!(err, "{count} {problems}; nothing would be put in force").map(|()| WRONG)
        }
    }
}

fn as_text(loaded: &Loaded, out: &mut dyn Write) -> io::Result<()> {
    let Snapshot { server, startup, .. } = &*loaded.snapshot;
    let listen: Vec<String> = startup.listen.iter().map(ToString::to_string).collect();
    let token = if startup.admin_token.is_some() { "" } else { ", no token: only health and metrics" };
    writeln!(out, "configuration  {}", loaded.describes)?;
    writeln!(out, "listen         {}", listen.join(", "))?;
    writeln!(out, "admin          {}{token}", startup.admin_listen)?;
    writeln!(out, "threads        {}", startup.threads)?;
    writeln!(
        out,
        "bodies         {} bytes each, {} bytes at once, within {}",
        server.max_body,
        server.max_buffered,
        humantime::format_duration(server.body_timeout)
    )?;
    writeln!(out, "heads          {} bytes", server.max_header_bytes)?;
    writeln!(
        out,
        "shutdown       {} until the listeners close, then up to {}",
        humantime::format_duration(server.readiness_delay),
        humantime::format_duration(server.grace)
    )?;
    writeln!(out, "keys           {} from {}", loaded.keys, key_source(&loaded.snapshot))?;
    for provider in &loaded.snapshot.providers {
        writeln!(out, "\nprovider {}{}{}", provider.id, credential(provider), way(provider))?;
        for route in routes_of(&loaded.snapshot, provider) {
            let (method, pattern) = (route.method_name(), &route.pattern);
            let kind = if route.kind.is_native() { format!(" ({})", route.kind.name()) } else { String::new() };
            writeln!(out, "  {method:<6} {pattern} -> {}{kind}", route.upstream_url())?;
        }
    }
    let mut title = "\n";
    for warning in &loaded.warnings {
        writeln!(out, "{title}warning: {warning}")?;
        title = "";
    }
    Ok(())
}

fn as_json(loaded: &Loaded) -> serde_json::Value {
    let Snapshot { server, startup, .. } = &*loaded.snapshot;
    let routes: Vec<_> = loaded
        .snapshot
        .routes
        .iter()
        .map(|route| {
            serde_json::json!({
                "method": route.method_name(),
                "path": route.pattern,
                "kind": route.kind.name(),
                "provider": route.provider.id.as_str(),
                "upstream": route.upstream_url(),
            })
        })
        .collect();
    serde_json::json!({
        "ok": true,
        "configuration": loaded.describes,
        "listen": startup.listen,
        "admin": { "listen": startup.admin_listen, "token": startup.admin_token.is_some() },
        "threads": startup.threads,
        "limits": {
            "max_body": server.max_body,
            "max_buffered": server.max_buffered,
            "max_header_bytes": server.max_header_bytes,
            "body_timeout_ms": millis(server.body_timeout),
            "idle_timeout_ms": millis(server.idle_timeout),
        },
        "shutdown": { "readiness_delay_ms": millis(server.readiness_delay), "grace_ms": millis(server.grace) },
        "keys": { "count": loaded.keys, "source": key_source(&loaded.snapshot) },
        "providers": loaded.snapshot.providers.iter().map(|own| provider_as_json(own)).collect::<Vec<_>>(),
        "routes": routes,
        "warnings": loaded.warnings,
    })
}

fn report_as_json(report: &Report) -> serde_json::Value {
    let problems: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| {
            serde_json::json!({
                "file": problem.file,
                "line": problem.line,
                "column": problem.column,
                "path": problem.path,
                "message": problem.message,
                "hint": problem.hint,
            })
        })
        .collect();
    serde_json::json!({ "ok": false, "problems": problems })
}

fn routes_of<'s>(snapshot: &'s Snapshot, provider: &Provider) -> impl Iterator<Item = &'s Route> {
    let id = provider.id.clone();
    let routes = snapshot.routes.iter().map(AsRef::as_ref);
    routes.filter(move |route: &&Route| route.provider.id == id)
}

fn credential(provider: &Provider) -> String {
    match &provider.credential {
        Some(_) => format!(", key in {}", provider.auth_header),
        None => ", no key".to_owned(),
    }
}

/// What is particular about the way to a provider; of a proxy its host and port only.
fn way(provider: &Provider) -> String {
    let mut way = provider.proxy.as_ref().map_or_else(String::new, |proxy| format!(", through proxy {proxy}"));
    let certificates = provider.certificates.as_ref();
    if certificates.is_some_and(|own| own.authorities.is_some()) {
        way.push_str(", authorities of ca_file");
    }
    if certificates.is_some_and(|own| own.client.is_some()) {
        way.push_str(", with client_cert");
    }
    way
}

fn provider_as_json(provider: &Provider) -> serde_json::Value {
    let certificates = provider.certificates.as_ref();
    serde_json::json!({
        "name": provider.id.as_str(),
        "proxy": provider.proxy.as_ref().map(ToString::to_string),
        "ca_file": certificates.is_some_and(|own| own.authorities.is_some()),
        "client_cert": certificates.is_some_and(|own| own.client.is_some()),
    })
}

fn key_source(snapshot: &Snapshot) -> String {
    match &snapshot.key_file {
        Some(file) => file.display().to_string(),
        None => "HASHED_API_KEYS".to_owned(),
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_with(yaml: Option<&str>, json: bool) -> (u8, String, String) {
        let directory = tempfile::tempdir().expect("a directory");
        if let Some(yaml) = yaml {
            std::fs::create_dir(directory.path().join("conf")).expect("made");
            std::fs::write(directory.path().join("conf/gateway.yaml"), yaml).expect("written");
        }
        let sources = Sources {
            file: None,
            yaml: None,
            directory: directory.path().to_owned(),
            environment: [("OPENAI_API_KEY", "sk-canary")].into_iter().collect(),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let args = CheckArgs { config: None, json };
        let code = check(&args, &sources, &mut out, &mut err).expect("written");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (code, text(out), text(err))
    }

    #[test]
    fn shows_what_the_defaults_come_to() {
        let (code, out, err) = run_with(None, false);
        assert_eq!((code, err.as_str()), (FINE, ""));
        assert!(out.starts_with("configuration  built-in defaults\nlisten "), "{out}");
        assert!(out.contains("provider openai, key in authorization\n"), "{out}");
        let route = "  GET    /openai/v1/models/{model} -> https://api.openai.com/v1/models/{model}\n";
        assert!(out.contains(route), "{out}");
        assert!(out.contains("\nwarning: no keys yet"), "{out}");
        assert!(!out.contains("canary"), "{out}");
    }

    #[test]
    fn tells_programs_the_same() {
        let yaml = "providers: { local: { base_url: 'http://127.0.0.1:11434/v1', query: { key: canary } } }";
        let (code, out, _) = run_with(Some(yaml), true);
        let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, &told["ok"]), (FINE, &true.into()));
        assert_eq!(told["configuration"], "conf/gateway.yaml");
        assert_eq!(told["routes"][0]["upstream"], "http://127.0.0.1:11434/v1/models");
        assert!(!out.contains("canary"), "{out}");
    }

    #[test]
    fn reports_all_problems_with_exit_code_2() {
        let yaml = "server: { threads: canary }\nadmin: { listen: canary }\n";
        let (code, out, err) = run_with(Some(yaml), false);
        assert_eq!((code, out.as_str()), (WRONG, ""));
        assert_eq!(
            err,
            "conf/gateway.yaml:1:20 server.threads: expected a whole number\n\
             conf/gateway.yaml:2:18 admin.listen: expected an address with a port (hint: such as \"127.0.0.1:8080\", or \
             \"[::]:8080\" for all addresses)\n2 problems; nothing would be put in force\n"
        );
        let (code, out, _) = run_with(Some(yaml), true);
        let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!((code, &told["problems"][0]["line"]), (WRONG, &1.into()));
    }
}
