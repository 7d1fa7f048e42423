//! The YAML file that a migration writes.
//!
//! Invariant: it holds references to secrets, never one; what has a literal `$` has it doubled.
//! Never does: any IO.

use std::path::Path;

use super::provider::NewProvider;

/// Writes the file's text.
pub(super) fn text(ports: (u16, u16), providers: &[NewProvider], key_file: Option<&Path>) -> String {
    let (app, admin) = ports;
    let mut text = format!(
        "# Written by `ai-gateway migrate` from the NodeJS gateway's configuration. What is not here has its default;\n\
         # conf/gateway.yaml of the sources shows all fields.\n\n\
         server:\n  listen: [\"[::]:{app}\"]\n\n\
         # Other machines reach /ping, /livez, /readyz and /metrics, as they did; \"127.0.0.1:{admin}\" keeps them out.\n\
         admin:\n  listen: \"[::]:{admin}\"\n\n"
    );
    if let Some(file) = key_file {
        text.push_str(&format!("keys:\n  file: {}\n\n", quoted(&file.display().to_string())));
    }
    text.push_str("providers:\n");
    for provider in providers {
        text.push_str(&format!("  {}:\n    base_url: {}\n", quoted(&provider.id), quoted(&provider.base_url)));
        if let Some(version) = provider.version_path {
            text.push_str(&format!("    version_path: {}\n", quoted(version)));
        }
        // A variable that begins with a digit cannot be referred to, but is the default.
        if !provider.variable.starts_with(|first: char| first.is_ascii_digit()) {
            text.push_str(&format!("    api_key: ${{{}}}\n", provider.variable));
        }
        text.push_str("    routes:\n");
        for route in &provider.routes {
            text.push_str(&format!("      - {route}\n"));
        }
    }
    text.push_str("\n# The NodeJS gateway's two summaries stay on /metrics.\ntelemetry:\n  compat_metrics: on\n");
    text
}

/// A text as YAML; as JSON spells it where it needs quotes.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-'))
        && !matches!(text, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if plain { text.to_owned() } else { serde_json::Value::from(text.replace('$', "$$")).to_string() }
}
