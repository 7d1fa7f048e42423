//! Usage as a table, for eyes; programs use `--json`.
//!
//! Invariant: what is an estimate is marked, and what has no known cost is said below the table.
//! Never does: let a name steer the terminal; cut a number.

use std::io::{self, Write};
use std::path::Path;

use crate::cli::keys::printable;
use crate::ledger::{Tally, UsageReport};

const NUMBERS: [&str; 7] = ["REQUESTS", "FAILED", "INPUT", "CACHED", "OUTPUT", "REASONING", "COST (USD)"];

/// Writes a line a group, the total, and what has to be known about both.
pub(super) fn write(report: &UsageReport, ledger: &Path, out: &mut dyn Write) -> io::Result<()> {
    let [since, until] = &report.span;
    let since = since.as_deref().unwrap_or("the beginning");
    let until = until.as_deref().unwrap_or("now");
    if report.total.requests == 0 {
        return writeln!(out, "No calls from {since} to {until} in {}.", ledger.display());
    }
    writeln!(out, "From {since} to {until}, by {}\n", ledger.display())?;
    let names = report.by.iter().map(|dimension| dimension.name().to_uppercase());
    let heading: Vec<String> = names.chain(NUMBERS.map(str::to_owned)).collect();
    let groups = report.groups.iter().map(|group| {
        let values = group.values.iter().map(|value| value.as_deref().map_or_else(|| "-".to_owned(), printable));
        values.chain(numbers(&group.tally)).collect()
    });
    let total = ["TOTAL"].into_iter().chain([""].into_iter().cycle()).take(report.by.len()).map(str::to_owned);
    let total: Vec<String> = total.chain(numbers(&report.total)).collect();
    let mut rows: Vec<Vec<String>> = std::iter::once(heading).chain(groups).collect();
    if !report.by.is_empty() || report.groups.is_empty() {
        rows.push(total);
    }
    lines(&rows, report.by.len(), out)?;
    notes(report, out)
}

fn numbers(tally: &Tally) -> [String; 7] {
    let tokens = &tally.tokens;
    let about = if tally.estimated > 0 { "~" } else { "" };
    let and = if tally.unknown_cost > 0 { " + ?" } else { "" };
    let cost = tally.known().map_or_else(|| "?".to_owned(), |cost| format!("{about}{cost}{and}"));
    let [requests, failed, input, cached, output, reasoning] =
        [tally.requests, tally.failed, tokens.input, tokens.cached_input, tokens.output, tokens.reasoning]
            .map(|number| number.to_string());
    [requests, failed, input, cached, output, reasoning, cost]
}

/// Texts to the left, numbers to the right.
pub(super) fn lines(rows: &[Vec<String>], texts: usize, out: &mut dyn Write) -> io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(at, (cell, &width))| if at < texts { format!("{cell:width$}") } else { format!("{cell:>width$}") })
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn notes(report: &UsageReport, out: &mut dyn Write) -> io::Result<()> {
    let total = &report.total;
    let calls = |count: u64| if count == 1 { "1 call".to_owned() } else { format!("{count} calls") };
    let mut notes = Vec::new();
    if total.estimated > 0 {
        notes.push(format!("~ {} estimated: the client left, or the answer was cut", calls(total.estimated)));
    }
    if total.unknown_cost > 0 {
        let unknown = calls(total.unknown_cost);
        notes.push(format!("? {unknown} with an unknown cost, which is not in the sum: no price, or no usage told"));
    }
    if total.open > 0 {
        notes.push(format!("  {} not over so far", calls(total.open)));
    }
    if report.more > 0 {
        let lines = if report.more == 1 { "line" } else { "lines" };
        notes.push(format!("  {} more {lines}; the total is that of all (--limit shows more)", report.more));
    }
    if notes.is_empty() { Ok(()) } else { writeln!(out, "\n{}", notes.join("\n")) }
}
