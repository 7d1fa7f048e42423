//! `ai-gateway keys import`: another key file's entries into ours.
//!
//! Invariant: each entry of the other file is told, as added or as there already; so is what the salt rule means to it.
//! Never does: show a digest beyond an old key's id, or a salt.

use std::collections::HashSet;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{Common, KeysContext, KeysError, json_of, show::warn_of, table};
use crate::keys::{self, Imported, Incoming, Scope};
use crate::units::KeyId;

/// The arguments of `keys import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportKeys {
    /// The other key file, the NodeJS gateway's too; - for standard input
    #[arg(value_name = "FROM")]
    pub from: PathBuf,
    /// It is base64, the text of HASHED_API_KEYS
    #[arg(long)]
    pub base64: bool,
    /// Tells what would be done, and writes nothing
    #[arg(long)]
    pub dry_run: bool,
    /// What all commands share
    #[command(flatten)]
    pub common: Common,
}

pub(super) fn run(
    command: &ImportKeys,
    context: &KeysContext,
    out: &mut dyn Write,
    warnings: &mut dyn Write,
) -> Result<(), KeysError> {
    let incoming = if command.from == Path::new("-") {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|error| KeysError::Usage(format!("standard input cannot be read: {error}")))?;
        Incoming::of(Path::new("(standard input)"), bytes, command.base64)?
    } else {
        Incoming::read(&command.from, command.base64)?
    };
    let file = command.common.file.as_ref().unwrap_or(&context.file);
    let imported = keys::import(file, context.env_salt.as_ref(), &incoming, command.dry_run)?;
    show(&imported, command, context, file, out)?;
    for warning in salt_warnings(&imported) {
        writeln!(warnings, "warning: {warning}")?;
    }
    let mut seen = HashSet::new();
    let scopes = imported.added.iter().flat_map(|record| &*record.scopes).filter(|scope: &&Scope| seen.insert(*scope));
    for scope in scopes {
        warn_of(scope, [&context.routes, &context.opaque], warnings)?;
    }
    Ok(())
}

fn show(
    imported: &Imported,
    command: &ImportKeys,
    context: &KeysContext,
    file: &Path,
    out: &mut dyn Write,
) -> io::Result<()> {
    if command.common.json {
        let all = |records: &[keys::KeyRecord]| -> Value {
            records.iter().map(|record| json_of(record, context.now)).collect()
        };
        let json = json!({
            "file": file.display().to_string(),
            "dry_run": command.dry_run,
            "added": all(&imported.added),
            "skipped": all(&imported.skipped),
            "warnings": salt_warnings(imported),
        });
        writeln!(out, "{json:#}")?;
        return out.flush();
    }
    for record in &imported.added {
        writeln!(out, "  added     {}  {}", record.id, table::printable(&record.username))?;
    }
    for record in &imported.skipped {
        writeln!(out, "  is there  {}  {}", record.id, table::printable(&record.username))?;
    }
    let (added, skipped) = (imported.added.len(), imported.skipped.len());
    let file = file.display();
    if command.dry_run {
        writeln!(out, "{added} to add, {skipped} there already; {file} was not touched")?;
    } else {
        writeln!(out, "{added} added to {file}, {skipped} there already")?;
    }
    out.flush()
}

/// What the salt rule means to entries without an `id`.
pub(in crate::cli) fn salt_warnings(imported: &Imported) -> Vec<String> {
    let mut warnings = Vec::new();
    if !imported.by_other_salt.is_empty() {
        warnings.push(format!(
            "HASH_AUTH_SALT is not the salt that these entries name, and goes before it as they have no id: their keys \
             work only where they were made under HASH_AUTH_SALT: {}",
            named(&imported.by_other_salt)
        ));
    }
    if !imported.by_own_salt.is_empty() {
        warnings.push(format!(
            "these entries have no id and count under the salt that they name, as long as HASH_AUTH_SALT is not set to \
             another one: {}",
            named(&imported.by_own_salt)
        ));
    }
    warnings
}

fn named(ids: &[KeyId]) -> String {
    let mut text = ids.iter().take(NAMED).map(KeyId::to_string).collect::<Vec<_>>().join(", ");
    if ids.len() > NAMED {
        text.push_str(&format!(" and {} more", ids.len() - NAMED));
    }
    text
}

/// Entries that a warning names.
const NAMED: usize = 5;
