//! `ai-gateway serve`: the gateway as a process.
//!
//! Invariant: signals are caught before anything else is done.
//! Never does: print anything but the reason why it did not start; the rest is log lines on standard output.

use std::path::PathBuf;

use super::Failure;
use crate::config::Sources;
use crate::server::{CommandLine, Manner, Options, Signals, StartError, serve};

/// Serves until a signal ends it: SIGTERM drains, SIGINT stops, SIGHUP reloads configuration and keys, SIGQUIT hands over
/// to a process that was started with --upgrade, SIGUSR2 starts one and hands over.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The YAML file. Default: conf/gateway.yaml where that exists, else the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Takes the listeners over from the gateway that serves, under live traffic: gets ready, then waits for a SIGQUIT to
    /// that one, which ends with its last call. Both name the same server.upgrade_socket and are the same user. Whatever
    /// happens to this one before it serves, the other serves on.
    #[arg(long)]
    upgrade: bool,
    /// Takes over as soon as it is ready, without a SIGQUIT to the other one.
    #[arg(long, requires = "upgrade")]
    at_once: bool,
}

pub(super) fn run(args: ServeArgs) -> Result<u8, Failure> {
    let signals = Signals::catch()?;
    let options = Options::default();
    let manner = if args.upgrade { Manner::Upgrade { at_once: args.at_once } } else { Manner::Fresh };
    serve(signals, Sources::of_process(args.config), options, manner, &CommandLine::of_process())
        .map(|()| 0)
        .map_err(Failure::from)
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match error {
            StartError::Config(_)
            | StartError::Listen { .. }
            | StartError::Roots(_)
            | StartError::UpgradeSocket { .. }
            | StartError::NobodyServes(_) => 2,
            StartError::System(_) | StartError::Telemetry(_) | StartError::NoRandomness | StartError::Upgrade(_) => 1,
        };
        let text = match error {
            StartError::Config(report) => format!("the configuration has problems, nothing is served:\n{report}"),
            other => other.to_string(),
        };
        Self { code, text }
    }
}
