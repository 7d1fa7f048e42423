//! The binary: calls the command line of the library, and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    ai_gateway::cli::main()
}
