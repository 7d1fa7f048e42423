//! `ai-gateway migrate`: from the NodeJS gateway's configuration to ours, with a grade for each setting.
//!
//! Invariant: everything is worked out and checked before the first file is written.
//! Never does: show a secret; write into a file that is there, but for a key file, which is merged into.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{check, keys as keys_command};
use crate::config::{self, Environment, Finding, Grade, Migration, OldSources, Problem, Report};
use crate::keys::{self, Imported, Incoming, StoreError};

/// The arguments of `migrate`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct MigrateArgs {
    /// The NodeJS gateway's TOML file [default: SERVER_CONFIG_FILE_PATH, else /home/ai-gateway/config.toml]
    #[arg(long, value_name = "FILE")]
    config_toml: Option<PathBuf>,
    /// Where the YAML goes
    #[arg(long, value_name = "FILE", default_value = "conf/gateway.yaml")]
    out: PathBuf,
    /// Merges the keys of HASHED_API_KEYS into this key file, which the YAML then names
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The NodeJS gateway's key file, whose keys --keys takes in place of those of HASHED_API_KEYS
    #[arg(long, value_name = "FILE", requires = "keys")]
    hashed_api_keys: Option<PathBuf>,
    /// Replaces the YAML file where there is one
    #[arg(long)]
    force: bool,
    /// Shows what would be written, and writes nothing
    #[arg(long)]
    dry_run: bool,
    /// Prints JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Why a migration was not made.
enum Stopped {
    Report(Report),
    Keys(StoreError),
    Output(io::Error),
}

/// Runs the command in the working directory. The result is the exit code.
///
/// # Errors
/// Those of writing the output.
pub(super) fn run(args: &MigrateArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let sources = OldSources {
        file: args.config_toml.clone(),
        directory: PathBuf::from("."),
        environment: Environment::of_process(),
        key_file: args.keys.clone(),
        old_keys: args.hashed_api_keys.clone(),
    };
    match migrate(args, &sources, out, err) {
        Ok(()) => Ok(0),
        Err(Stopped::Output(error)) => Err(error),
        Err(Stopped::Report(report)) => {
            if args.json {
                writeln!(out, "{:#}", check::report_as_json(&report))?;
            }
            writeln!(err, "{report}\nno YAML was written").map(|()| 2)
        }
        Err(Stopped::Keys(error)) => {
            let error = keys_command::KeysError::from(error);
            writeln!(err, "ai-gateway: {error}\nno YAML was written").map(|()| error.exit_code())
        }
    }
}

fn migrate(args: &MigrateArgs, sources: &OldSources, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Stopped> {
    let migration = config::migrate(sources)?;
    // First as a trial, so that a contradiction among the keys leaves no YAML behind.
    let mut imported = import(args, &migration, true)?;
    if !args.dry_run {
        config::may_write(&args.out, args.force)?;
        imported = import(args, &migration, false)?;
        config::write(&args.out, &migration.yaml, args.force)?;
    }
    if args.json {
        writeln!(out, "{:#}", as_json(args, &migration, imported.as_ref()))?;
    } else {
        as_text(args, &migration, imported.as_ref(), out)?;
    }
    for warning in imported.iter().flat_map(keys_command::salt_warnings) {
        writeln!(err, "warning: {warning}")?;
    }
    Ok(out.flush()?)
}

fn import(args: &MigrateArgs, migration: &Migration, dry_run: bool) -> Result<Option<Imported>, Stopped> {
    let Some(file) = &args.keys else {
        return Ok(None);
    };
    let incoming = match (&args.hashed_api_keys, &migration.keys) {
        (Some(old), _) => Incoming::read(old, false)?,
        (None, Some(keys)) => Incoming::of(Path::new("HASHED_API_KEYS"), keys.expose().as_bytes().to_vec(), true)?,
        (None, None) => return Ok(None),
    };
    Ok(Some(keys::import(file, migration.env_salt.as_ref(), &incoming, dry_run)?))
}

fn as_text(
    args: &MigrateArgs,
    migration: &Migration,
    imported: Option<&Imported>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for finding in &migration.findings {
        let Finding { setting, grade, becomes, reason, .. } = finding;
        write!(out, "{:<11}  {} {setting}", grade.word(), place(finding))?;
        if let Some(becomes) = becomes {
            write!(out, " -> {becomes}")?;
        }
        writeln!(out, "{}{reason}", if reason.is_empty() { "" } else { ": " })?;
    }
    let counts = counts(&migration.findings).map(|(grade, count)| format!("{count} {}", grade.word()));
    writeln!(out, "\n{}", counts.join(", "))?;
    if let (Some(imported), Some(file)) = (imported, &args.keys) {
        let (added, there) = (imported.added.len(), imported.skipped.len());
        let verb = if args.dry_run { "would be added" } else { "added" };
        writeln!(out, "keys: {added} {verb} to {}, {there} there already", file.display())?;
    }
    let yaml = args.out.display();
    if args.dry_run {
        writeln!(out, "{yaml} would be:\n\n{}", migration.yaml)
    } else {
        writeln!(out, "wrote {yaml}; see what it comes to: ai-gateway check --config {yaml}")
    }
}

fn as_json(args: &MigrateArgs, migration: &Migration, imported: Option<&Imported>) -> Value {
    let findings: Value = migration
        .findings
        .iter()
        .map(|finding| {
            json!({
                "file": finding.file,
                "line": (finding.line > 0).then_some(finding.line),
                "column": (finding.column > 0).then_some(finding.column),
                "setting": finding.setting,
                "grade": finding.grade.word(),
                "becomes": finding.becomes,
                "reason": finding.reason,
            })
        })
        .collect();
    let counts: serde_json::Map<String, Value> =
        counts(&migration.findings).map(|(grade, count)| (grade.word().to_owned(), count.into())).into_iter().collect();
    json!({
        "ok": true,
        "from": migration.file,
        "out": args.out.display().to_string(),
        "written": !args.dry_run,
        "counts": counts,
        "settings": findings,
        "keys": imported.map(|imported| json!({
            "file": args.keys.as_ref().map(|file| file.display().to_string()),
            "added": imported.added.len(),
            "skipped": imported.skipped.len(),
            "warnings": keys_command::salt_warnings(imported),
        })),
        "yaml": migration.yaml,
    })
}

fn counts(findings: &[Finding]) -> [(Grade, usize); 3] {
    [Grade::Exact, Grade::Approximate, Grade::Manual]
        .map(|grade| (grade, findings.iter().filter(|finding| finding.grade == grade).count()))
}

fn place(finding: &Finding) -> String {
    match finding.line {
        0 => finding.file.clone(),
        line => format!("{}:{line}:{}", finding.file, finding.column),
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<Report> for Stopped {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Report(problem.into())
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Keys(error)
    }
}
