//! Usage as CSV (RFC 4180), for spreadsheets.
//!
//! Invariant: no cell that holds a name begins as a formula does: such a name gets an apostrophe in front, which
//! spreadsheets take for "this is a text" (OWASP, CSV injection).
//! Never does: a line of totals, which would be summed again.

use std::io::{self, Write};

use crate::ledger::UsageReport;

/// Writes a line a group below the names.
pub(super) fn write(report: &UsageReport, out: &mut dyn Write) -> io::Result<()> {
    let names = report.by.iter().map(|dimension| dimension.name());
    let numbers = report.total.numbers();
    let names: Vec<&str> = names.chain(numbers.iter().map(|(name, _)| *name)).chain(["cost_usd"]).collect();
    write!(out, "{}\r\n", names.join(","))?;
    for group in &report.groups {
        let values = group.values.iter().map(|value| cell(value.as_deref().unwrap_or_default()));
        let numbers = group.tally.numbers().into_iter().map(|(_, number)| number.to_string());
        let cost = group.tally.known().map_or_else(String::new, |cost| cost.to_string());
        let cells: Vec<String> = values.chain(numbers).chain([cost]).collect();
        write!(out, "{}\r\n", cells.join(","))?;
    }
    Ok(())
}

pub(super) fn cell(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { "'" } else { "" };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{guard}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{guard}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_text_whatever_it_holds() {
        assert_eq!(cell("gpt-4o"), "gpt-4o");
        assert_eq!(cell("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(cell("@SUM(1,2)"), "\"'@SUM(1,2)\"");
        assert_eq!(cell("-1+1"), "'-1+1");
        assert_eq!(cell("a \"b\"\nc"), "\"a \"\"b\"\"\nc\"");
        assert_eq!(cell(""), "");
    }
}
