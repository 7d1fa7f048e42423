//! `ai-gateway usage`: what was used and what it cost, for eyes, for programs and for spreadsheets.
//!
//! Invariant: nothing that a client or a key file named can steer a terminal or be taken for a formula.
//! Never does: sum; the ledger does. Write to the ledger.

mod budgets;
mod csv;
mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Failure;
use crate::ledger::{self, AskError, BadParameter, Question, Reader};
use crate::limit::Bound;

/// The arguments of `usage`. Filters may be given several times: any of the values will do; "" is for calls without one.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct UsageArgs {
    /// From then on: 7d or 12h ago, 2026-11-01 or 2026-11-01T12:00:00Z (UTC) [default: 30d]
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Up to then, which is not in it: 2026-12-01 is the end of November [default: now]
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// What makes a line: some of user, team, key, on_behalf_of, provider, model, answered_model, route, status, state,
    /// error, service_tier, month, day, hour, with commas between; "" for the total alone [default: user,model]
    #[arg(long, value_name = "NAMES")]
    pub by: Option<String>,
    /// Only calls with keys of this user
    #[arg(long, value_name = "NAME")]
    pub user: Vec<String>,
    /// Only calls with keys of this team
    #[arg(long, value_name = "NAME")]
    pub team: Vec<String>,
    /// Only calls with this key
    #[arg(long, value_name = "ID")]
    pub key: Vec<String>,
    /// Only calls that say they act for this one
    #[arg(long, value_name = "NAME")]
    pub on_behalf_of: Vec<String>,
    /// Only calls to this provider
    #[arg(long, value_name = "NAME")]
    pub provider: Vec<String>,
    /// Only calls that ask for this model
    #[arg(long, value_name = "NAME")]
    pub model: Vec<String>,
    /// Only calls that this model answered
    #[arg(long, value_name = "NAME")]
    pub answered_model: Vec<String>,
    /// Only calls of this route: "POST /openai/v1/chat/completions"
    #[arg(long, value_name = "ROUTE")]
    pub route: Vec<String>,
    /// Only calls with this status: 429, or 4xx
    #[arg(long, value_name = "STATUS")]
    pub status: Vec<String>,
    /// Only calls in this state: intent, settled, estimated, failed, unknown
    #[arg(long, value_name = "STATE")]
    pub state: Vec<String>,
    /// Only calls that failed for this reason, by its code
    #[arg(long, value_name = "CODE")]
    pub error: Vec<String>,
    /// Only calls that were answered in this service tier
    #[arg(long, value_name = "NAME")]
    pub service_tier: Vec<String>,
    /// How the budgets of the configuration and the key file stand now, in place of sums of calls; with --user, --team, --key
    /// and --model only theirs
    #[arg(long, conflicts_with_all = [
        "since", "until", "by", "on_behalf_of", "provider", "answered_model", "route", "status", "state", "error",
        "service_tier", "limit",
    ])]
    pub budgets: bool,
    /// How many lines at most; the total is always that of all
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000)]
    pub limit: usize,
    /// Prints JSON
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Prints CSV
    #[arg(long)]
    pub csv: bool,
    /// The configuration that names the ledger
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The ledger's database [default: the one of the configuration]
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

/// Asks the ledger and prints what it says.
pub(super) fn run(args: &UsageArgs, ledger: &Path, now: SystemTime, out: &mut dyn Write) -> Result<(), Failure> {
    let question = question(args, now)?;
    if args.limit == 0 {
        return Err(BadParameter { name: "limit".to_owned(), expected: "a number from 1 on".to_owned() }.into());
    }
    let report = Reader::open(ledger, None)?.groups(&question, args.limit)?;
    if args.json {
        writeln!(out, "{:#}", report.json())?;
    } else if args.csv {
        csv::write(&report, out)?;
    } else {
        table::write(&report, ledger, out)?;
    }
    Ok(out.flush()?)
}

/// Asks the ledger how the budgets stand that limit somebody.
pub(super) fn run_budgets(
    args: &UsageArgs,
    ledger: &Path,
    bounds: &[Bound],
    now: SystemTime,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let asked: Vec<Bound> =
        bounds.iter().filter(|bound| budgets::is_asked_for(args, &bound.subject)).cloned().collect();
    let lines = ledger::budgets(&Reader::open(ledger, None)?, &asked, now)?;
    match (args.json, args.csv) {
        (true, _) => writeln!(out, "{:#}", budgets::as_json(&lines))?,
        (_, true) => budgets::as_csv(&lines, out)?,
        _ => budgets::as_table(&lines, ledger, out)?,
    }
    Ok(out.flush()?)
}

fn question(args: &UsageArgs, now: SystemTime) -> Result<Question, BadParameter> {
    let single = [
        ("since", Some(args.since.as_deref().unwrap_or("30d"))),
        ("until", args.until.as_deref()),
        ("by", Some(args.by.as_deref().unwrap_or("user,model"))),
    ];
    let filters = [
        ("user", &args.user),
        ("team", &args.team),
        ("key", &args.key),
        ("on_behalf_of", &args.on_behalf_of),
        ("provider", &args.provider),
        ("model", &args.model),
        ("answered_model", &args.answered_model),
        ("route", &args.route),
        ("status", &args.status),
        ("state", &args.state),
        ("error", &args.error),
        ("service_tier", &args.service_tier),
    ];
    let single = single.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let filters = filters.into_iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value.as_str())));
    single.chain(filters).try_fold(Question::default(), |question, (name, value)| question.with(name, value, now))
}

impl From<BadParameter> for Failure {
    fn from(bad: BadParameter) -> Self {
        Self::wrong(format!("--{}: expected {}", bad.name.replace('_', "-"), bad.expected))
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        Self::from(io::Error::other(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
