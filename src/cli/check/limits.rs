//! What `check` tells of rate limits and budgets: who may use how much of what.
//!
//! Never does: tell what is used of them; `ai-gateway usage --budgets` does.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::cli::keys::printable;
use crate::config::{Rule, Snapshot};
use crate::keys;
use crate::units::OwnLimits;

/// Writes a line a rule.
pub(super) fn as_text(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let (rules, of_keys) = (snapshot.limits.rules(), of_the_key_file(snapshot));
    let lines: Vec<(String, String)> = rules.each().map(|rule| (whose(&rule), rule.limits.to_string())).collect();
    if lines.is_empty() && of_keys == 0 {
        return writeln!(out, "\nlimits none");
    }
    writeln!(out, "\nlimits by the midnights of {}", rules.zone().name())?;
    let width = lines.iter().map(|(whose, _)| whose.chars().count()).max().unwrap_or(0);
    for (whose, limits) in lines {
        writeln!(out, "  {whose:width$}  {limits}")?;
    }
    match of_keys {
        0 => Ok(()),
        1 => writeln!(out, "  1 key has limits of its own in the key file, which `ai-gateway keys list` shows"),
        more => {
            writeln!(out, "  {more} keys have limits of their own in the key file, which `ai-gateway keys list` shows")
        }
    }
}

/// The same for programs.
pub(super) fn as_json(snapshot: &Snapshot) -> Value {
    let rules = snapshot.limits.rules();
    let rule = |rule: Rule<'_>| {
        let mut limits = keys::limits_as_json(&OwnLimits { all: rule.limits.clone(), ..OwnLimits::default() });
        for (name, value) in [("kind", Some(rule.kind)), ("name", rule.name), ("model", rule.model)] {
            limits[name] = value.into();
        }
        limits
    };
    let all: Vec<Value> = rules.each().map(rule).collect();
    json!({ "zone": rules.zone().name(), "rules": all, "keys_with_own": of_the_key_file(snapshot) })
}

fn of_the_key_file(snapshot: &Snapshot) -> usize {
    snapshot.keys.iter().filter(|key| !key.record.allowance.limits.is_empty()).count()
}

fn whose(rule: &Rule<'_>) -> String {
    let whose = match (rule.kind, rule.name) {
        ("key", None) => "each key".to_owned(),
        (kind, None) => kind.to_owned(),
        (kind, Some(name)) => format!("{kind} {}", printable(name)),
    };
    rule.model.map_or_else(|| whose.clone(), |model| format!("{whose}, model {}", printable(model)))
}
