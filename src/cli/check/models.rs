//! What `check` tells of models: which targets a call would try, in which order, and how persistently.
//!
//! Never does: look at how targets stand; nothing runs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::json::millis;
use super::span;
use crate::config::Snapshot;
use crate::route::{Attempts, Deployment, Routing};

/// Writes what becomes of calls by the model they ask for.
pub(super) fn as_text(snapshot: &Snapshot, out: &mut dyn Write) -> io::Result<()> {
    let listed = snapshot.models.listed();
    writeln!(out, "\nattempts {}", attempts(&snapshot.attempts))?;
    for (name, routing) in &listed {
        writeln!(out, "model {name}")?;
        for (place, rank) in (1..).zip(ranks(routing)) {
            let share: u32 = rank.iter().map(|target| target.weight).sum();
            let targets: Vec<String> = rank.iter().map(|target| shown(target, rank.len() > 1, share)).collect();
            writeln!(out, "  {place}. {}", targets.join(", or "))?;
        }
    }
    match (snapshot.models.only_listed(), listed.is_empty()) {
        (true, _) => writeln!(out, "other models are refused (404 model_not_found)"),
        (false, false) => writeln!(out, "other models go to the provider in the path"),
        (false, true) => Ok(()),
    }
}

/// The same for programs.
pub(super) fn as_json(snapshot: &Snapshot) -> Value {
    let target = |target: &Deployment| {
        json!({
            "provider": target.provider.id.as_str(),
            "model": target.model.as_deref(),
            "weight": target.weight,
            "larger_context": target.larger_context,
        })
    };
    let ranks = |routing: &Routing| -> Vec<Value> {
        ranks(routing).into_iter().map(|rank| rank.iter().map(target).collect()).collect()
    };
    let listed = snapshot.models.listed().into_iter();
    listed.map(|(name, routing)| json!({ "name": name, "tried": ranks(routing) })).collect()
}

/// How persistent the gateway is, for programs.
pub(super) fn attempts_as_json(attempts: &Attempts) -> Value {
    json!({
        "max_attempts": attempts.max_attempts,
        "max_wait_ms": millis(attempts.max_wait),
        "backoff_ms": millis(attempts.backoff),
        "max_backoff_ms": millis(attempts.max_backoff),
        "retry_budget_percent": attempts.retry_budget_percent,
        "cooldown": {
            "consecutive_failures": attempts.cooldown.consecutive_failures,
            "first_ms": millis(attempts.cooldown.first),
            "longest_ms": millis(attempts.cooldown.longest),
        },
    })
}

fn attempts(attempts: &Attempts) -> String {
    let Attempts { max_attempts, retry_budget_percent, cooldown, .. } = attempts;
    let [wait, first, longest] = [attempts.max_wait, cooldown.first, cooldown.longest].map(span);
    let failures = cooldown.consecutive_failures;
    format!(
        "up to {max_attempts} a target, retry-after up to {wait}, retries {retry_budget_percent}% of calls; after {failures} \
         failures in a row a rest of {first} to {longest}"
    )
}

/// The targets by rank: those of one rank take turns, those of the next are for when these cannot.
fn ranks(routing: &Routing) -> Vec<&[Deployment]> {
    routing.targets().chunk_by(|one, other| one.rank == other.rank).collect()
}

fn shown(target: &Deployment, is_one_of_several: bool, share: u32) -> String {
    let model = target.model.as_ref().map_or_else(String::new, |model| format!(" {model}"));
    let mut notes = Vec::new();
    if is_one_of_several {
        notes.push(format!("{} of {share}", target.weight));
    }
    if target.larger_context {
        notes.push("larger context".to_owned());
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    format!("{}{model}{notes}", target.provider.id)
}

#[cfg(test)]
mod tests {
    use super::super::tests::run_with;

    const YAML: &str = "
providers:
  openai: { api_key: sk-canary-1 }
  azure: { base_url: 'https://azure.example.com', api_keys: [ { key: sk-canary-2, weight: 3 }, { key: sk-canary-3 } ] }
models:
  fast: { targets: [ { provider: openai, model: gpt-4o-mini, weight: 3 }, { provider: azure } ], fallbacks: [ smart ] }
  smart: { targets: [ { provider: openai, model: gpt-4.1, larger_context: true } ], fallbacks: [ fast ] }
  ft-*: { order: ordered, targets: [ { provider: azure }, { provider: openai } ] }
";

    #[test]
    fn each_model_is_explained_by_what_is_tried_in_which_order() {
        let (_, out, _) = run_with(Some(YAML), false);
        let expected = "
attempts up to 3 a target, retry-after up to 2s, retries 20% of calls; after 5 failures in a row a rest of 5s to 1m
model fast
  1. openai gpt-4o-mini (3 of 4), or azure fast (1 of 4)
  2. openai gpt-4.1 (larger context)
model ft-*
  1. azure
  2. openai
model smart
  1. openai gpt-4.1 (larger context)
  2. openai gpt-4o-mini (3 of 4), or azure fast (1 of 4)
other models go to the provider in the path
";
        assert!(out.contains(expected), "{out}");
        assert!(out.contains("provider azure, 2 keys in authorization\n"), "{out}");
        assert!(!out.contains("canary"), "{out}");
        let (_, out, _) = run_with(Some(&format!("{YAML}only_listed_models: true\n")), false);
        assert!(out.contains("\nother models are refused (404 model_not_found)\n"), "{out}");
    }

    #[test]
    fn programs_are_told_the_same() {
        let (_, out, _) = run_with(Some(YAML), true);
        let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(told["models"][0]["name"], "fast");
        assert_eq!(told["models"][0]["tried"][1][0]["model"], "gpt-4.1");
        assert_eq!(told["only_listed_models"], false);
        assert_eq!(told["attempts"]["cooldown"]["first_ms"], 5000);
        assert_eq!(told["providers"][0]["keys"], 2);
        assert!(!out.contains("canary"), "{out}");
    }
}
