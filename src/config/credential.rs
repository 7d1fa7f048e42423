//! The keys of a provider: one, several, or that of its variable, each as the whole value of a header.
//!
//! Invariant: a fault in a key names its field, never a piece of the key.
//! Never does: choose one of them.

use http::{HeaderName, HeaderValue, header};

use super::compile::Check;
use super::file::{self, ApiKey, Auth};
use super::report::FieldPath;
use super::upstream::{header_name, sensitive};
use crate::route::MOST;
use crate::units::Secret;

/// The header that carries a provider's key, and the keys with their weights; none where calls carry no credential.
pub(super) fn keys(
    check: &mut Check<'_>,
    path: &FieldPath,
    id: &str,
    written: &file::Provider,
) -> (HeaderName, Vec<(HeaderValue, u32)>) {
    let name = match &written.auth {
        Auth::Bearer => header::AUTHORIZATION,
        Auth::Header(name) => header_name(name).unwrap_or_else(|message| {
            check.refuse_with(&path.key("auth").key("header"), message, "such as \"api-key\" or \"x-api-key\"");
            header::AUTHORIZATION
        }),
    };
    let several = path.key("api_keys");
    if check.tree.name_position(&several).is_none() {
        return (name, single(check, path, id, written).map(|value| (value, 1)).into_iter().collect());
    }
    if written.api_key.is_some() {
        check.refuse_with(&several, "expected api_key or api_keys, not both", "put the one key into the list");
    }
    if written.api_keys.is_empty() {
        check.refuse_with(&several, "expected at least one key", "leave the field out for the default");
    } else if written.api_keys.len() > MOST {
        check.refuse(&several, format!("expected no more than {MOST} keys"));
    }
    let mut keys: Vec<(HeaderValue, u32)> = Vec::new();
    for (index, key) in written.api_keys.iter().enumerate() {
        let path = several.item(index);
        if let Some(value) = of_several(check, &path, &written.auth, key) {
            if keys.iter().any(|(other, _)| *other == value) {
                check.refuse_with(&path, "this key stands twice", "give one of them a larger weight");
            }
            keys.push((value, key.weight));
        }
    }
    (name, keys)
}

fn of_several(check: &mut Check<'_>, path: &FieldPath, auth: &Auth, written: &ApiKey) -> Option<HeaderValue> {
    if check.tree.is_told(path) {
        return None;
    }
    check.number(&path.key("weight"), written.weight, 1, 1000);
    let path = path.key("key");
    let key = written.key.as_ref().map_or_else(String::new, |key| key.0.expose().trim().to_owned());
    let key = Secret::new(key);
    if key.expose().is_empty() {
        check.refuse(&path, "key is needed");
        return None;
    }
    if let Some(odd) = oddity_of(&key) {
        check.warn(format!("{path} {odd}"));
    }
    value(check, &path, auth, &key)
}

/// The one key: that of the file, else that of the provider's variable.
fn single(check: &mut Check<'_>, path: &FieldPath, id: &str, written: &file::Provider) -> Option<HeaderValue> {
    let variable = format!("{}_API_KEY", id.to_ascii_uppercase().replace(['-', '.'], "_"));
    let key = match &written.api_key {
        Some(key) => key.0.expose(),
        None => check.environment.get(&variable).unwrap_or_default(),
    };
    let key = Secret::new(key.trim().to_owned());
    let named = if written.api_key.is_some() { path.key("api_key").to_string() } else { variable.clone() };
    if let Some(odd) = oddity_of(&key) {
        check.warn(format!("{named} {odd}"));
    }
    if key.expose().is_empty() {
        if written.api_key.is_none() && !check.tree.is_told(&path.key("api_key")) {
            check.warn(format!(
                "providers.{id} has no api_key and {variable} is not set: calls go out without a credential"
            ));
        }
        return None;
    }
    value(check, &path.key("api_key"), &written.auth, &key)
}

fn value(check: &mut Check<'_>, path: &FieldPath, auth: &Auth, key: &Secret) -> Option<HeaderValue> {
    let text = Secret::new(match auth {
        Auth::Bearer => format!("Bearer {}", key.expose()),
        Auth::Header(_) => key.expose().to_owned(),
    });
    let value = sensitive(&text);
    if value.is_none() {
        check.refuse(path, "holds characters that an HTTP header cannot carry");
    }
    value
}

/// What is odd about a key: nothing that a provider gives out looks like this.
fn oddity_of(key: &Secret) -> Option<&'static str> {
    let key = key.expose();
    let quoted = |quote| key.len() > 1 && key.starts_with(quote) && key.ends_with(quote);
    if quoted('"') || quoted('\'') {
        Some("has quotes around it, which are sent to the provider: leave them out")
    } else if key.contains(char::is_whitespace) {
        Some("has blanks in it")
    } else {
        None
    }
}
