//! The table of `keys list`, for eyes; programs use `--json`.
//!
//! Invariant: nothing that a key file holds can steer the terminal.
//! Never does: show a digest beyond an old key's id, or a salt.

use std::io::{self, Write};
use std::time::SystemTime;

use super::time;
use crate::error::Refusal;
use crate::keys::KeyRecord;

/// Writes one line a key below a heading; the widest column comes last.
pub(super) fn write(records: &[KeyRecord], now: SystemTime, out: &mut dyn Write) -> io::Result<()> {
    let heading = ["ID", "USER", "TEAM", "STATE", "EXPIRES", "SCOPES"].map(str::to_owned);
    let rows: Vec<[String; 6]> =
        std::iter::once(heading).chain(records.iter().map(|record| row(record, now))).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let [fixed @ .., scopes] = row;
        for (cell, width) in fixed.iter().zip(widths) {
            write!(out, "{cell:width$}  ")?;
        }
        writeln!(out, "{scopes}")?;
    }
    Ok(())
}

/// Whether the key works now: `active`, `expired` or `revoked`.
pub(super) fn state(record: &KeyRecord, now: SystemTime) -> &'static str {
    match record.usable(now) {
        Ok(()) => "active",
        Err(Refusal::ExpiredKey) => "expired",
        Err(_) => "revoked",
    }
}

/// A name with its control characters spelt out.
pub(in crate::cli) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let spelt = character.is_control().then(|| character.escape_default());
            spelt.into_iter().flatten().chain((!character.is_control()).then_some(character))
        })
        .collect()
}

fn row(record: &KeyRecord, now: SystemTime) -> [String; 6] {
    let mut scopes: Vec<String> = record.scopes.iter().map(|scope| printable(&scope.to_string())).collect();
    if let Some(models) = &record.models {
        scopes.push(printable(&format!("(models: {})", models.join(", "))));
    }
    [
        record.id.to_string(),
        printable(&record.username),
        record.team.as_deref().map_or_else(|| "-".to_owned(), printable),
        state(record, now).to_owned(),
        record.expires_at.map_or_else(|| "never".to_owned(), time),
        scopes.join(" "),
    ]
}
