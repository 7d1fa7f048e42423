//! `ai-gateway serve`: the gateway as a process.
//!
//! Invariant: signals are caught before anything else is done.
//! Never does: print anything but the reason why it did not start; the rest is log lines on standard output.

use std::path::PathBuf;

use super::Failure;
use crate::config::Sources;
use crate::server::{Options, Signals, StartError, serve};

/// Serves until a signal ends it: SIGTERM drains, SIGINT stops, SIGHUP reloads configuration and keys.
#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The YAML file. Default: conf/gateway.yaml where that exists, else the built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: ServeArgs) -> Result<u8, Failure> {
    let signals = Signals::catch()?;
    let options = Options::default();
    serve(signals, Sources::of_process(args.config), options).map(|()| 0).map_err(Failure::from)
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match error {
            StartError::Config(_) | StartError::Listen { .. } | StartError::Roots(_) => 2,
            StartError::System(_) | StartError::Telemetry(_) | StartError::NoRandomness => 1,
        };
        let text = match error {
            StartError::Config(report) => format!("the configuration has problems, nothing is served:\n{report}"),
            other => other.to_string(),
        };
        Self { code, text }
    }
}
