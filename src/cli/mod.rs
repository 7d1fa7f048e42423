//! The commands: one file each, and the exit code that each ends with.
//!
//! Invariant: 0 is fine, 1 is failed, 2 is wrong usage or configuration.
//! Never does: hold logic of its own; what a command prints comes from the layer that it calls.

mod check;
mod demo;
mod keys;
mod migrate;
mod serve;
mod usage;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand};

use crate::config::{self, KeySettings, Sources};
use keys::Routes;

/// One binary between OpenAI-compatible clients and their providers.
#[derive(Debug, Parser)]
#[command(name = "ai-gateway", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves. Without any file, OPENAI_API_KEY is enough.
    Serve(serve::ServeArgs),
    /// Shows the gateway with a built-in provider: no account, no file, a key included.
    Demo(demo::DemoArgs),
    /// Checks the configuration and shows what it comes to.
    Check(check::CheckArgs),
    /// Makes, lists, replaces, revokes and imports gateway keys.
    Keys(KeysArgs),
    /// Shows what was used and what it cost, from the ledger, also while the gateway serves.
    Usage(Box<usage::UsageArgs>),
    /// Moves from the NodeJS gateway: reads its TOML and environment, writes our YAML.
    Migrate(migrate::MigrateArgs),
}

#[derive(Debug, clap::Args)]
struct KeysArgs {
    #[command(subcommand)]
    command: keys::KeysCommand,
    /// The configuration that names the key file and the routes.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args, &mut io::stdout(), &mut io::stderr()).map_err(Failure::from),
        Command::Keys(args) => run_keys(&args),
        Command::Usage(args) => run_usage(&args),
        Command::Migrate(args) => migrate::run(&args, &mut io::stdout(), &mut io::stderr()).map_err(Failure::from),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.text.is_empty() {
                // A reader that has gone needs no reason.
                let _ = writeln!(io::stderr(), "ai-gateway: {}", failure.text);
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Why a command ended badly.
struct Failure {
    code: u8,
    /// Empty where nobody is to be told.
    text: String,
}

impl Failure {
    fn wrong(text: impl ToString) -> Self {
        Self { code: 2, text: text.to_string() }
    }
}

impl From<io::Error> for Failure {
    /// A reader that has enough, as `head` has, is told nothing.
    fn from(error: io::Error) -> Self {
        let has_gone = error.kind() == io::ErrorKind::BrokenPipe;
        Self { code: 1, text: if has_gone { String::new() } else { error.to_string() } }
    }
}

fn run_keys(args: &KeysArgs) -> Result<u8, Failure> {
    let settings = key_settings(args)?;
    if settings.in_variable {
        let hint =
            "the gateway reads its keys from HASHED_API_KEYS, so it will not see this file: name it as keys.file";
        writeln!(io::stderr(), "ai-gateway: {hint}")?;
    }
    let context = keys::KeysContext {
        file: settings.file,
        env_salt: settings.env_salt,
        routes: settings.routes,
        opaque: settings.opaque,
        now: SystemTime::now(),
    };
    keys::run(&args.command, &context, &mut io::stdout(), &mut io::stderr()).map(|()| 0).map_err(|error| match error {
        keys::KeysError::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => error.into(),
        error => Failure { code: error.exit_code(), text: error.to_string() },
    })
}

fn run_usage(args: &usage::UsageArgs) -> Result<u8, Failure> {
    let path = match &args.ledger {
        Some(path) => path.clone(),
        None => config::ledger_path(&Sources::of_process(args.config.clone())).map_err(Failure::wrong)?.ok_or_else(
            || Failure::wrong("the configuration says `ledger: off`: calls are not recorded (hint: --ledger FILE)"),
        )?,
    };
    if args.budgets {
        let loaded = config::load(&Sources::of_process(args.config.clone())).map_err(Failure::wrong)?;
        let bounds = loaded.snapshot.limits.all();
        return usage::run_budgets(args, &path, &bounds, SystemTime::now(), &mut io::stdout()).map(|()| 0);
    }
    usage::run(args, &path, SystemTime::now(), &mut io::stdout()).map(|()| 0)
}

/// What a command of the `keys` family needs. With a key file that it names, the configuration is not read, or may be
/// broken: a key can be revoked whatever else is wrong.
fn key_settings(args: &KeysArgs) -> Result<KeySettings, Failure> {
    let sources = Sources::of_process(args.config.clone());
    let Some(file) = args.command.file() else {
        let hint = "(hint: `--file FILE` works without the configuration)";
        return config::key_settings(&sources).map_err(|report| Failure::wrong(format!("{report}\n{hint}")));
    };
    let read = match args.command.routes() {
        Routes::Unused => None,
        Routes::Helpful => match config::key_settings(&sources) {
            Ok(settings) => Some(settings),
            Err(report) => {
                writeln!(io::stderr(), "warning: the scopes are not compared with the configured routes:\n{report}")?;
                None
            }
        },
        Routes::Needed => Some(config::key_settings(&sources).map_err(|report| {
            Failure::wrong(format!("{report}\n(hint: `all` needs the configured routes; name the scopes instead)"))
        })?),
    };
    match read {
        Some(settings) => Ok(settings),
        None => {
            let env_salt = config::env_salt_alone(&sources).map_err(Failure::wrong)?;
            Ok(KeySettings {
                file: file.to_owned(),
                env_salt,
                in_variable: false,
                routes: Vec::new(),
                opaque: Vec::new(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
