//! `ai-gateway keys rotate`: a new key in the place of an old one.
//!
//! Invariant: the new key is shown once, and what becomes of the old one is told beside it.
//! Never does: take the old key away from a user who has not been shown the new one, unless that was asked for.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use clap::Args;

use super::{Common, KeysContext, KeysError, YEAR_9999_SECS, json_of, show, time};
use crate::keys::{self, Rotated};

/// The arguments of `keys rotate`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RotateKey {
    /// The key's id, or so much of its beginning that no other key has it
    #[arg(value_name = "ID")]
    pub id: String,
    /// How long the old key works on beside the new one, but not beyond its own end; 0s revokes it at once
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    pub overlap: String,
    /// What all commands share
    #[command(flatten)]
    pub common: Common,
}

pub(super) fn run(
    command: &RotateKey,
    context: &KeysContext,
    out: &mut dyn Write,
    warnings: &mut dyn Write,
) -> Result<(), KeysError> {
    let overlap = span(&command.overlap, context.now)?;
    let file = command.common.file.as_ref().unwrap_or(&context.file);
    let rotated = keys::rotate(file, context.env_salt.as_ref(), &command.id, overlap, context.now)?;
    let Rotated { created, new, old } = &rotated;
    let shown = if command.common.json {
        let mut json = show::json_of_new(created, new, file);
        json["replaces"] = json_of(old, context.now);
        show::json(&json, out)
    } else {
        show::key(created, out)
    };
    shown.map_err(|source| KeysError::Lost { id: created.id.clone(), source })?;
    // The key is made and its owner has it: that nobody reads the rest is no failure.
    if !command.common.json {
        let _ = details(&rotated, file, warnings);
    }
    // A key that was rotated before has the end of that overlap, and hands it on.
    if let Some(end) = rotated.new.expires_at
        && (overlap.is_zero() || rotated.old.expires_at == Some(end))
    {
        let end = time(end);
        writeln!(
            warnings,
            "warning: the new key expires at {end}, as the old one did; for another end: ai-gateway keys create"
        )?;
    }
    Ok(())
}

fn details(rotated: &Rotated, file: &Path, err: &mut dyn Write) -> io::Result<()> {
    let Rotated { created, new, old } = rotated;
    show::details(created, new, file, err)?;
    match old.expires_at {
        Some(end) if old.revoked_at.is_none() => writeln!(err, "The old key {} works until {}.", old.id, time(end)),
        _ => writeln!(err, "The old key {} is revoked; a running gateway follows within seconds.", old.id),
    }
}

fn span(text: &str, now: SystemTime) -> Result<Duration, KeysError> {
    let wrong = |why: &str| KeysError::Usage(format!("--overlap {text:?} {why}: give a span such as 24h, 30m or 0s"));
    let span = humantime::parse_duration(text).map_err(|_| wrong("is no span of time"))?;
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(YEAR_9999_SECS);
    match now.checked_add(span) {
        Some(end) if end < last => Ok(span),
        _ => Err(wrong("is too long")),
    }
}
