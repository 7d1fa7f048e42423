//! What the process was given from outside: its variables, the `.env` file, the machine.
//!
//! Invariant: `.env` is parsed into a map and never set into the process; where both have a variable, the process wins.
//! Never does: print a value, in `Debug` neither.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::net::{Ipv6Addr, TcpListener};
use std::path::Path;

use super::interpolate::reason;
use super::report::Problem;

/// The variables that the configuration may use.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<String, String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.variables.len())
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let variables = variables.into_iter();
        Self { variables: variables.map(|(name, value)| (name.into(), value.into())).collect() }
    }
}

impl Environment {
    /// The variables of this process; those that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    /// The value of a variable, where it is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// These variables over those of the directory's `.env`, where there is one.
    pub(super) fn over_dotenv(&self, directory: &Path) -> Result<Self, Problem> {
        let text = match read_text(&directory.join(".env"), MAX_FILE) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.clone()),
            Err(error) => {
                let message = format!("cannot be read: {}", reason(error.kind()));
                return Err(Problem::of_file(".env", message));
            }
        };
        let mut variables = HashMap::new();
        for entry in dotenvy::from_read_iter(text.as_bytes()) {
            let (name, value) = entry.map_err(|_| broken_line(&text))?;
            variables.insert(name, value);
        }
        variables.extend(self.variables.clone());
        Ok(Self { variables })
    }
}

/// The name of this machine, as the log names it; empty where it cannot be told.
pub fn hostname() -> String {
    read_text(Path::new("/proc/sys/kernel/hostname"), MAX_FILE).map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Files of this size are no configuration.
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Reads a file that is text and not larger than `max` bytes.
pub(super) fn read_text(path: &Path, max: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, max)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Reads a file that is not larger than `max` bytes.
pub(super) fn read_bytes(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let mut bytes = Vec::new();
    let length = file.take(max + 1).read_to_end(&mut bytes)?;
    if length as u64 > max {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// The problem of the first entry that cannot be read, by the line that it begins in.
fn broken_line(text: &str) -> Problem {
    let problem = Problem::of_file(".env", "expected NAME=value");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_fine = |entry: &[&str]| dotenvy::from_read_iter(entry.concat().as_bytes()).all(|entry| entry.is_ok());
    let mut start = 0;
    while let Some(rest) = lines.get(start..).filter(|rest| !rest.is_empty()) {
        let Some(length) = (1..=rest.len().min(LONGEST_ENTRY)).find(|length| is_fine(&rest[..*length])) else {
            let has_odd = |quote| rest[0].matches(quote).count() % 2 == 1;
            let hint = match has_odd('"') || has_odd('\'') {
                true => "is a closing quote missing?",
                false => "quote a value that holds blanks or #",
            };
            return problem.hint(hint).at(start + 1, 1);
        };
        start += length;
    }
    problem
}

/// Lines of a quoted value, such as a certificate.
const LONGEST_ENTRY: usize = 200;

/// What the machine offers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// Bytes of memory that we may use, where that is known.
    pub(super) memory: Option<u64>,
    /// Cores that we may use.
    pub(super) cores: usize,
    /// Whether it has IPv6.
    pub(super) ipv6: bool,
}

impl Host {
    /// Asks the machine.
    pub(super) fn ask() -> Self {
        Self {
            memory: memory(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            ipv6: TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok(),
        }
    }
}

/// The machine's memory or the control group's share of it, whichever is less.
fn memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = meminfo.as_deref().and_then(total_of_meminfo);
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok());
    machine.into_iter().chain(group).min()
}

fn total_of_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_wins_over_dotenv() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "# comment\nA=from-file\nexport B='from file'\n";
        std::fs::write(directory.path().join(".env"), text).expect("written");
        let process: Environment = [("A", "from-process")].into_iter().collect();
        let both = process.over_dotenv(directory.path()).expect("a fine file");
        assert_eq!(both.get("A"), Some("from-process"));
        assert_eq!(both.get("B"), Some("from file"));
        assert!(!format!("{both:?}").contains("from"));
    }

    #[test]
    fn a_broken_line_is_told_without_its_text() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join(".env"), "A=1\nsk-secret is here\n").expect("written");
        let problem = Environment::default().over_dotenv(directory.path()).expect_err("broken");
        assert!(problem.to_string().starts_with(".env:2:1: expected"), "{problem}");
        assert!(!problem.to_string().contains("secret"));
    }

    #[test]
    fn each_broken_line_is_told_by_its_number() {
        let directory = tempfile::tempdir().expect("a directory");
        for (text, line, hint) in [
            ("A=1\n\n  B C=2\nD=3\n", 3, "quote a value"),
            ("A=1\nB=x y z\n", 2, "quote a value"),
            ("# words\nA=1\r\nB=\"sk-secret\r\nC=2\r\n", 3, "is a closing quote missing?"),
            ("\n\nA='sk-secret\nB=2\nC=3", 3, "is a closing quote missing?"),
            ("AB=1\nB", 2, "quote a value"),
            ("A=${B", 1, "quote a value"),
            ("A=1\n=2\n", 2, "quote a value"),
            ("A=\"1\n2\n3\"\nB C\n", 4, "quote a value"),
        ] {
            std::fs::write(directory.path().join(".env"), text).expect("written");
            let told = Environment::default().over_dotenv(directory.path()).expect_err(text).to_string();
            assert!(told.starts_with(&format!(".env:{line}:1: expected NAME=value (hint: {hint}")), "{text:?}: {told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn reads_the_kernels_table() {
        let text = "MemTotal:       16384 kB\nMemFree:  1 kB\n";
        assert_eq!(total_of_meminfo(text), Some(16 << 20));
        assert_eq!(total_of_meminfo("nonsense"), None);
    }
}
