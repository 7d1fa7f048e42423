//! The limits that `keys create` gives a key, and how they are shown.
//!
//! Invariant: they are spelt in one way: `--limit` takes what `keys list` shows.
//! Never does: decide whether a limit is wise.

use serde_json::Value;

use super::KeysError;
use crate::keys::{self, Allowance};
use crate::units::OwnLimits;

/// What the arguments come to.
///
/// # Errors
/// One of the limits cannot be used, or stands twice.
pub(super) fn allowance(texts: &[String], default_max_output_tokens: Option<u64>) -> Result<Allowance, KeysError> {
    let mut limits = OwnLimits::default();
    for text in texts {
        limits.set(text).map_err(|why| KeysError::Usage(format!("--limit {text:?} cannot be used: {why}")))?;
    }
    if limits.each().any(|limits| limits.shadow && limits.is_empty()) {
        return Err(KeysError::Usage("--limit shadow: there is no other limit that it could be for".to_owned()));
    }
    Ok(Allowance { limits, default_max_output_tokens })
}

/// In one line; `None` where nothing is limited.
pub(super) fn shown(allowance: &Allowance) -> Option<String> {
    let limits = Some(allowance.limits.to_string()).filter(|text| !text.is_empty());
    let ceiling = allowance.default_max_output_tokens.map(|tokens| format!("default_max_output_tokens={tokens}"));
    let all: Vec<String> = limits.into_iter().chain(ceiling).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// As the key file has them; `null` where there are none.
pub(super) fn as_json(allowance: &Allowance) -> Value {
    match allowance.limits.is_empty() {
        true => Value::Null,
        false => keys::limits_as_json(&allowance.limits),
    }
}
