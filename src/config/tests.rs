//! Facts about the configuration as a whole: each bad file with its exact report, precedence, secrets, defaults.
//!
//! Never does: read the process's own environment or folder; each test brings its files and variables.

mod bad;
mod fuzz;
mod good;
mod keys;
mod models;
mod reference;
mod ways;

use std::path::Path;

use super::*;

/// Sources in a directory with these variables.
fn sources(directory: &Path, file: Option<&str>, variables: &[(&str, &str)]) -> Sources {
    Sources {
        file: file.map(PathBuf::from),
        yaml: None,
        directory: directory.to_owned(),
        environment: variables.iter().copied().collect(),
    }
}

/// Loads a text as the only file of a directory.
pub(super) fn load_text(yaml: &str, variables: &[(&str, &str)]) -> Result<Loaded, Report> {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("g.yaml"), yaml).expect("written");
    load(&sources(directory.path(), Some("g.yaml"), variables))
}
