//! The seam to the gateway's keys: from the key file or `HASHED_API_KEYS` to the ring of this snapshot.
//!
//! Invariant: a key file that is broken is a problem; one that is missing is a gateway without keys so far.
//! Never does: read a key's hash or compare one; that is `keys`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::report::Problem;
use crate::keys::KeyRing;
use crate::route::RouteTable;
use crate::units::Secret;

/// Where the keys are.
#[derive(Debug)]
pub(super) enum KeySource {
    /// In a file: how to open it, and how it is named in messages.
    File(PathBuf, String),
    /// In `HASHED_API_KEYS`, base64 of such a file.
    Variable(Secret),
}

/// The keys of a snapshot.
#[derive(Debug, Default)]
pub(super) struct KeysIn {
    pub(super) ring: KeyRing,
    /// How many.
    pub(super) count: usize,
    /// What is odd about them.
    pub(super) warnings: Vec<String>,
}

/// The variable that holds a key file in base64.
const VARIABLE: &str = "HASHED_API_KEYS";

/// Reads the keys and ties their scopes to the routes.
pub(super) fn read(
    source: &KeySource,
    _env_salt: Option<&Secret>,
    _routes: &RouteTable,
) -> Result<KeysIn, Vec<Problem>> {
    let mut warnings = Vec::new();
    match source {
        KeySource::Variable(text) if text.expose().trim().is_empty() => {
            return Err(vec![Problem::of_file(VARIABLE, "is empty")]);
        }
        KeySource::Variable(_) => {}
        KeySource::File(path, name) => warnings.extend(warn_of_readers(path, name)),
    }
    warnings.push("no keys yet: create one with `ai-gateway keys create`".to_owned());
    Ok(KeysIn {
        warnings,
        ..KeysIn::default()
    })
}

fn warn_of_readers(path: &Path, name: &str) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| format!("{name} can be read by other users of this machine: chmod 600 it"))
}
