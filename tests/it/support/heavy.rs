//! How much a test does: little by itself, so that all of them are a matter of minutes, and more where `tests/soak` says so.
//!
//! Never does: change what a test asserts.

/// How many of something a test has at once or in a row: the variable, or this.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")),
        Err(_) => default,
    }
}

/// Tells what a heavy test has measured; `tests/soak` shows it.
#[expect(clippy::print_stdout, reason = "what a test measured is for its reader")]
pub fn told(text: &str) {
    println!("{text}");
}
