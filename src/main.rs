//! The binary: calls the command line of the library, and nothing else.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A call takes a hundred small pieces of memory and more, which the system's allocator makes dear, and musl's dearer.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    ai_gateway::cli::main()
}
