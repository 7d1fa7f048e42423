//! Edits of the key file's text: entries added, an entry marked as revoked, an entry given an end.
//!
//! Invariant: every byte outside the edited entry stays as it was; the text given is one that [`super::KeyFile`]
//! has understood.
//! Never does: any IO; remove an entry.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde_json::{Map, Value, json};

use super::KeyRecord;
use super::json::{members, offset};
use super::token::Digest;
use crate::units::{Amount, Budget, Limits, OwnLimits};

/// Adds entries behind the last one, in their order.
///
/// # Errors
/// Where the text is no JSON object.
pub(super) fn insert(text: &str, entries: &[(Digest, Map<String, Value>)]) -> serde_json::Result<String> {
    let members = members(text)?;
    let entries: Vec<String> =
        entries.iter().map(|(digest, entry)| format!("\n  \"{}\": {}", digest.to_hex(), pretty(entry))).collect();
    let entries = entries.join(",");
    Ok(match members.last() {
        _ if entries.is_empty() => text.to_owned(),
        Some(last) => {
            let end = offset(text, last.value.get()) + last.value.get().len();
            format!("{},{entries}{}", &text[..end], &text[end..])
        }
        None => format!("{{{entries}\n}}\n"),
    })
}

/// Marks the entry at this place in the file as revoked.
///
/// # Errors
/// Where the text is no JSON object, or has no such entry.
pub(super) fn revoke(text: &str, index: usize, now: SystemTime) -> serde_json::Result<String> {
    change(text, index, |entry| {
        entry.insert("disabled".to_owned(), true.into());
        entry.insert("revoked_at".to_owned(), time(now));
    })
}

/// Gives the entry at this place in the file an end. Nothing else of it changes: without an `id` it has none after this
/// either, and so keeps its rule for the salt.
///
/// # Errors
/// Where the text is no JSON object, or has no such entry.
pub(super) fn expire(text: &str, index: usize, end: SystemTime) -> serde_json::Result<String> {
    change(text, index, |entry| {
        entry.insert("expires_at".to_owned(), time(end));
    })
}

fn change(text: &str, index: usize, edit: impl FnOnce(&mut Map<String, Value>)) -> serde_json::Result<String> {
    let members = members(text)?;
    let Some(member) = members.get(index) else {
        return Ok(text.to_owned());
    };
    let old = member.value.get();
    let mut entry: Map<String, Value> = serde_json::from_str(old)?;
    edit(&mut entry);
    let start = offset(text, old);
    Ok(format!("{}{}{}", &text[..start], pretty(&entry), &text[start + old.len()..]))
}

/// Spells a new entry. Its salt makes it one of ours together with the `id`.
pub(super) fn entry(record: &KeyRecord, salt: &[u8]) -> Map<String, Value> {
    let scopes = record.scopes.iter().map(|scope| json!({ "method": scope.method(), "path": scope.path() }));
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
    put("id", record.id.as_str().into());
    put("username", (&*record.username).into());
    put("salt", URL_SAFE.encode(salt).into());
    put("scopes", scopes.collect());
    if let Some(at) = record.created_at {
        put("created_at", time(at));
    }
    if let Some(at) = record.expires_at {
        put("expires_at", time(at));
    }
    if let Some(team) = &record.team {
        put("team", (&**team).into());
    }
    if let Some(models) = &record.models {
        put("models", models.clone().into());
    }
    if record.allowance.limits != OwnLimits::default() {
        put("limits", limits(&record.allowance.limits));
    }
    if let Some(tokens) = record.allowance.default_max_output_tokens {
        put("default_max_output_tokens", tokens.into());
    }
    entry
}

/// Spells limits, those of single models as `models` in them.
pub fn limits(own: &OwnLimits) -> Value {
    let mut all = set(&own.all);
    if !own.models.is_empty() {
        let models = own.models.iter().map(|(model, limits)| (model.clone(), set(limits).into()));
        all.insert("models".to_owned(), Value::Object(models.collect()));
    }
    all.into()
}

/// Whole dollars are numbers; others texts, which no reader rounds.
fn set(limits: &Limits) -> Map<String, Value> {
    let mut all = Map::new();
    let plain = [
        ("requests_per_minute", limits.requests_per_minute),
        ("tokens_per_minute", limits.tokens_per_minute),
        ("concurrent_requests", limits.concurrent_requests),
    ];
    all.extend(plain.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
    let budget = |budget: &Budget| match budget.amount {
        Amount::Tokens(count) => json!({ "tokens": count, "per": budget.per.name() }),
        Amount::Usd(amount) => {
            let text = amount.to_string();
            let amount = text.parse::<u64>().map_or_else(|_| text.into(), Value::from);
            json!({ "usd": amount, "per": budget.per.name() })
        }
    };
    if !limits.budgets.is_empty() {
        all.insert("budgets".to_owned(), limits.budgets.iter().map(budget).collect());
    }
    if limits.shadow {
        all.insert("shadow".to_owned(), true.into());
    }
    all
}

fn time(at: SystemTime) -> Value {
    humantime::format_rfc3339_seconds(at).to_string().into()
}

/// Two blanks a level, below a member of the file, in ASCII as the original's generator writes it: the original reads
/// nothing else out of `HASHED_API_KEYS`.
fn pretty(entry: &Map<String, Value>) -> String {
    let text = format!("{:#}", Value::Object(entry.clone()));
    let mut ascii = String::with_capacity(text.len() + 64);
    let mut units = [0; 2];
    for character in text.chars() {
        match character {
            '\n' => ascii.push_str("\n  "),
            character if character.is_ascii() => ascii.push(character),
            character => {
                for unit in character.encode_utf16(&mut units) {
                    ascii.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    ascii
}
