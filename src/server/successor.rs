//! A new process of the binary as it is on disk now, with this one's arguments, environment and place: what takes over.
//!
//! Invariant: whatever becomes of it, this process serves on until it has said that it serves.
//! Never does: wait for it other than to tell how it ended.

use std::ffi::OsString;
use std::io;
use std::process::Command;

/// What is added to the arguments.
const UPGRADE: [&str; 2] = ["--upgrade", "--at-once"];

/// How this process was started.
#[derive(Clone, Debug, Default)]
pub struct CommandLine(Vec<OsString>);

impl CommandLine {
    /// That of this process, the program first.
    pub fn of_process() -> Self {
        Self(std::env::args_os().collect())
    }

    /// Starts a process that takes over as soon as it is ready.
    ///
    /// # Errors
    /// Where there is no command line, or the program cannot be started.
    pub(super) fn start_successor(&self) -> io::Result<()> {
        let mut command = self.successor().ok_or_else(|| io::Error::other("it is not known how"))?;
        let mut child = command.spawn()?;
        let pid = child.id();
        log::info!("started process {pid}, {}, which is to take over", command.get_program().display());
        // Somebody has to take note of its end, or it stays as a zombie.
        std::thread::Builder::new().name("successor".to_owned()).spawn(move || match child.wait() {
            Ok(status) => log::warn!("process {pid} has ended: {status}"),
            Err(error) => log::warn!("process {pid}: {error}"),
        })?;
        Ok(())
    }

    fn successor(&self) -> Option<Command> {
        let (program, arguments) = self.0.split_first()?;
        let mut command = Command::new(program);
        command.args(arguments.iter().filter(|argument| !UPGRADE.iter().any(|own| *own == argument.as_os_str())));
        command.args(UPGRADE);
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_arguments_are_ours_and_those_of_an_upgrade() {
        let successor = |words: &[&str]| {
            let command = CommandLine(words.iter().map(OsString::from).collect()).successor()?;
            let words = std::iter::once(command.get_program()).chain(command.get_args());
            Some(words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
        };
        let expected = Some("/bin/ai-gateway serve --config x.yaml --upgrade --at-once".to_owned());
        assert_eq!(successor(&["/bin/ai-gateway", "serve", "--config", "x.yaml"]), expected);
        let again = ["/bin/ai-gateway", "serve", "--upgrade", "--at-once", "--config", "x.yaml"];
        assert_eq!(successor(&again), expected, "one that has itself taken over");
        assert_eq!(successor(&[]), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_told() {
        CommandLine(vec!["/nonexistent/ai-gateway".into()]).start_successor().expect_err("no such program");
        CommandLine::default().start_successor().expect_err("no command line");
    }
}
