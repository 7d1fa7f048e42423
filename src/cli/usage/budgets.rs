//! How budgets stand, for eyes, for programs and for spreadsheets.
//!
//! Invariant: each amount is in the budget's own unit, and says which; none is rounded.
//! Never does: count; the ledger does.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::csv::cell;
use super::{UsageArgs, table};
use crate::cli::keys::printable;
use crate::ledger::BudgetLine;
use crate::units::{Limit, Measure, Owner, Subject, Usd};

const NUMBERS: [&str; 4] = ["BUDGET", "SPENT", "RESERVED", "REMAINING"];

/// Whether the arguments ask for budgets of this subject: without any for all.
pub(super) fn is_asked_for(args: &UsageArgs, subject: &Subject) -> bool {
    let named = [&args.user, &args.team, &args.key];
    let owner = match &subject.owner {
        Owner::Gateway => None,
        Owner::User(_) => Some(&args.user),
        Owner::Team(_) => Some(&args.team),
        Owner::Key(_) => Some(&args.key),
    };
    let is_named = |names: &Vec<String>, name: &str| names.iter().any(|named| named == name);
    (named.iter().all(|names| names.is_empty()) || owner.is_some_and(|names| is_named(names, subject.name())))
        && (args.model.is_empty() || subject.model.as_deref().is_some_and(|model| is_named(&args.model, model)))
}

/// As JSON; money is a text, because JSON's numbers are not exact.
pub(super) fn as_json(lines: &[BudgetLine]) -> Value {
    let line = |line: &BudgetLine| {
        let amount = |count: u128| match line.limit {
            Limit::Budget(Measure::Usd, _) => Value::from(Usd::from_picos(count).to_string()),
            _ => Value::from(u64::try_from(count).unwrap_or(u64::MAX)),
        };
        json!({
            "kind": line.subject.kind(),
            "name": owner(&line.subject),
            "model": line.subject.model.as_deref(),
            "limit": line.limit.name(),
            "shadow": line.shadow,
            "value": amount(line.value),
            "spent": amount(line.spent),
            "reserved": amount(line.reserved),
            "remaining": amount(line.remaining()),
            "window_start": time(line.window.0),
            "window_end": line.window.1.map(time),
        })
    };
    json!({ "object": "list", "data": lines.iter().map(line).collect::<Vec<_>>() })
}

/// As CSV: a line a budget.
pub(super) fn as_csv(lines: &[BudgetLine], out: &mut dyn Write) -> io::Result<()> {
    write!(out, "kind,name,model,limit,shadow,value,spent,reserved,remaining,window_start,window_end\r\n")?;
    for line in lines {
        let names = [line.subject.kind(), owner(&line.subject), line.subject.model.as_deref().unwrap_or_default()];
        let mut cells: Vec<String> = names.into_iter().chain([line.limit.name()]).map(cell).collect();
        cells.push(line.shadow.to_string());
        cells.extend(amounts(line));
        cells.extend([time(line.window.0), line.window.1.map(time).unwrap_or_default()]);
        write!(out, "{}\r\n", cells.join(","))?;
    }
    Ok(())
}

/// As a table.
pub(super) fn as_table(lines: &[BudgetLine], ledger: &Path, out: &mut dyn Write) -> io::Result<()> {
    if lines.is_empty() {
        return writeln!(out, "No budget limits anybody who was asked for.");
    }
    writeln!(out, "Budgets by {}, in USD or tokens\n", ledger.display())?;
    let texts = ["WHOSE", "MODEL", "LIMIT", "RESET"];
    let heading: Vec<String> = texts.into_iter().chain(NUMBERS).map(str::to_owned).collect();
    let row = |line: &BudgetLine| {
        let kind = line.subject.kind().trim_end_matches("_model");
        let whose = match owner(&line.subject) {
            "" => "gateway".to_owned(),
            name => format!("{kind} {}", printable(name)),
        };
        let model = line.subject.model.as_deref().map_or_else(|| "-".to_owned(), printable);
        let shadow = if line.shadow { " (shadow)" } else { "" };
        let reset = line.window.1.map_or_else(|| "never".to_owned(), time);
        [whose, model, format!("{}{shadow}", line.limit.name()), reset].into_iter().chain(amounts(line)).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(lines.iter().map(row)).collect();
    table::lines(&rows, texts.len(), out)
}

/// The name of whom a budget is of; empty for the gateway.
fn owner(subject: &Subject) -> &str {
    if subject.owner == Owner::Gateway { "" } else { subject.name() }
}

fn amounts(line: &BudgetLine) -> [String; 4] {
    [line.value, line.spent, line.reserved, line.remaining()].map(|count| match line.limit {
        Limit::Budget(Measure::Usd, _) => Usd::from_picos(count).to_string(),
        _ => count.to_string(),
    })
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}
