//! The seam to the gateway's keys: from the key file or `HASHED_API_KEYS` to the ring of this snapshot.
//!
//! Invariant: a key file that is broken is a problem; one that is missing is a gateway without keys so far.
//! Never does: read a key's hash or compare one; that is `keys`.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::interpolate::reason;
use super::report::Problem;
use crate::keys::store::{self, StoreError};
use crate::keys::{KeyFile, KeyRing};
use crate::route::{Route, RouteTable};
use crate::units::{RouteSet, Secret};

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
pub(super) fn read(source: &KeySource, env_salt: Option<&Secret>, routes: &RouteTable) -> Result<KeysIn, Vec<Problem>> {
    let mut warnings = Vec::new();
    let file = match source {
        KeySource::Variable(text) => KeyFile::from_env(text.expose(), env_salt)
            .map_err(|problems| problems.into_iter().map(|problem| told(VARIABLE, problem)).collect::<Vec<_>>())?,
        KeySource::File(path, name) => {
            warnings.extend(warn_of_readers(path, name));
            load(path, name, env_salt)?
        }
    };
    if file.is_empty() {
        warnings.push("no keys yet: create one with `ai-gateway keys create`".to_owned());
    }
    warnings.extend(warn_of_scopes(&file, routes));
    let count = file.len();
    let ring = KeyRing::build(file, |scopes| {
        let mut set = RouteSet::default();
        for route in routes.iter() {
            let method = route.method.as_str().to_ascii_lowercase();
            if scopes.iter().any(|scope| scope.permits_route(&method, &route.pattern)) {
                set.insert(route.id);
            }
        }
        set
    });
    Ok(KeysIn { ring, count, warnings })
}

/// A key file that is not there holds no keys so far; one that is there has to be good.
fn load(path: &Path, name: &str, env_salt: Option<&Secret>) -> Result<KeyFile, Vec<Problem>> {
    match store::load(path, env_salt) {
        Ok(file) => Ok(file),
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(KeyFile::default()),
        Err(StoreError::Invalid { problems, .. }) => {
            Err(problems.into_iter().map(|problem| told(name, problem)).collect())
        }
        Err(StoreError::Io { source, .. }) => {
            Err(vec![Problem::of_file(name, format!("cannot be read: {}", reason(source.kind())))])
        }
        Err(other) => Err(vec![Problem::of_file(name, other.to_string())]),
    }
}

/// A problem of the key file as one of the configuration.
fn told(name: &str, problem: crate::keys::Problem) -> Problem {
    let message = match problem.path.is_empty() {
        true => problem.message,
        false => format!("{}: {}", problem.path, problem.message),
    };
    let told = Problem::of_file(name, message).at(problem.line, problem.column);
    match problem.hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// Scopes that open nothing are mostly spelling mistakes, or routes that are to come.
fn warn_of_scopes(file: &KeyFile, routes: &RouteTable) -> Option<String> {
    let odd = file.warnings(|scope| {
        let touches = |route: &Arc<Route>| {
            scope.touches_route(&route.method.as_str().to_ascii_lowercase(), &route.pattern)
        };
        routes.iter().any(touches)
    });
    let first: Vec<String> = odd.iter().take(3).map(ToString::to_string).collect();
    let more = if odd.len() > first.len() { format!(", and {} more", odd.len() - first.len()) } else { String::new() };
    (!odd.is_empty()).then(|| format!("scopes that no route has: {}{more}", first.join("; ")))
}

fn warn_of_readers(path: &Path, name: &str) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o077 != 0).then(|| format!("{name} can be read by other users of this machine: chmod 600 it"))
}
