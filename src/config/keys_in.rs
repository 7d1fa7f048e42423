//! The seam to the gateway's keys: from the key file or `HASHED_API_KEYS` to the ring of this snapshot.
//!
//! Invariant: a key file that is broken is a problem; one that is missing is a gateway without keys so far, and a problem
//! where keys are in force.
//! Never does: read a key's hash or compare one; that is `keys`.

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::interpolate::reason;
use super::report::Problem;
use crate::keys::{self, KeyFile, KeyRing, Scope, Stamp, StoreError};
use crate::route::RouteTable;
use crate::units::{RouteSet, Secret};

/// Where the keys are.
#[derive(Debug)]
pub(super) enum KeySource {
    /// In a file; the path is absolute.
    File(PathBuf),
    /// In `HASHED_API_KEYS`, base64 of such a file.
    Variable(Secret),
}

impl KeySource {
    /// The file as it is now; `None` where there is none, or where it cannot be looked at.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::File(path) => Stamp::of(path).ok().flatten(),
            Self::Variable(_) => None,
        }
    }
}

/// The keys of a snapshot.
#[derive(Debug, Default)]
pub(super) struct KeysIn {
    pub(super) ring: KeyRing,
    /// What is odd about them.
    pub(super) warnings: Vec<String>,
}

/// The variable that holds a key file in base64.
pub(super) const VARIABLE: &str = "HASHED_API_KEYS";
/// Scopes without a route that are named in the warning.
const NAMED: usize = 3;

/// The problem of a key file that is missing while keys are in force: it may be in the middle of being replaced.
fn missing(path: &Path) -> Problem {
    let mut problem = Problem::of_file("keys.file", "there is no such file; the old keys stay");
    problem.path = path.display().to_string();
    problem.hint("write {} into it for a gateway without keys")
}

/// Reads the keys and ties their scopes to the routes. Where they are `needed`, a missing file is a problem.
pub(super) fn read(
    source: &KeySource,
    env_salt: Option<&Secret>,
    routes: &RouteTable,
    needed: bool,
) -> Result<KeysIn, Vec<Problem>> {
    let mut warnings = Vec::new();
    let file = match source {
        KeySource::Variable(text) => KeyFile::from_env(text.expose(), env_salt)
            .map(Some)
            .map_err(|problems| problems.into_iter().map(|problem| told(VARIABLE, problem)).collect::<Vec<_>>())?,
        KeySource::File(path) => {
            let name = path.display().to_string();
            warnings.extend(warn_of_readers(path, &name, (0o077, "600")));
            of_file(path, &name, env_salt)?
        }
    };
    match (&file, source) {
        (None, KeySource::File(path)) if needed => return Err(vec![missing(path)]),
        (None, KeySource::File(path)) => {
            warnings.push(format!("no key file at {}: `ai-gateway keys create` makes it", path.display()));
        }
        (Some(file), _) if file.is_empty() => {
            warnings.push("no keys yet: create one with `ai-gateway keys create`".to_owned());
        }
        _ => {}
    }
    let file = file.unwrap_or_default();
    warnings.extend(warn_of_idle_scopes(&file, routes));
    let ring = KeyRing::build(file, |scopes| routes_of(scopes, routes));
    Ok(KeysIn { ring, warnings })
}

/// The file's keys; `None` where there is no file.
fn of_file(path: &Path, name: &str, env_salt: Option<&Secret>) -> Result<Option<KeyFile>, Vec<Problem>> {
    match keys::load(path, env_salt) {
        Ok(file) => Ok(Some(file)),
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(StoreError::Io { source, .. }) => {
            let message = format!("cannot be read: {}", reason(source.kind()));
            Err(vec![Problem::of_file(name, message)])
        }
        Err(StoreError::Invalid { problems, .. }) => {
            Err(problems.into_iter().map(|problem| told(name, problem)).collect())
        }
        Err(_) => Err(vec![Problem::of_file(name, "cannot be read")]),
    }
}

fn told(file: &str, problem: keys::Problem) -> Problem {
    Problem {
        file: file.to_owned(),
        path: problem.path,
        line: problem.line,
        column: problem.column,
        message: problem.message.into(),
        hint: problem.hint.map(Into::into),
    }
}

fn routes_of(scopes: &[Scope], routes: &RouteTable) -> RouteSet {
    let mut open = RouteSet::default();
    for route in routes.iter() {
        let method = route.method_name().to_ascii_lowercase();
        if scopes.iter().any(|scope| scope.permits_route(&method, &route.pattern)) {
            open.insert(route.id);
        }
    }
    open
}

fn warn_of_idle_scopes(file: &KeyFile, routes: &RouteTable) -> Option<String> {
    let methods: Vec<(String, &str)> =
        routes.iter().map(|route| (route.method_name().to_ascii_lowercase(), route.pattern.as_str())).collect();
    let has_route = |scope: &Scope| methods.iter().any(|(method, pattern)| scope.touches_route(method, pattern));
    let idle = file.warnings(has_route);
    let named: Vec<&str> = idle.iter().take(NAMED).filter_map(|problem| problem.message.rsplit(' ').next()).collect();
    let more = if idle.len() > NAMED { ", ..." } else { "" };
    let begin = match idle.len() {
        0 => return None,
        1 => "1 scope of a key has".to_owned(),
        count => format!("{count} scopes of keys have"),
    };
    Some(format!("{begin} no configured route: {}{more}", named.join(", ")))
}

/// Warns of a file of secrets with a bit of its mode that it should not have; `chmod` with the second mends it.
pub(super) fn warn_of_readers(path: &Path, name: &str, (bits, mend): (u32, &str)) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & bits != 0).then(|| format!("{name} can be read by other users of this machine: chmod {mend} it"))
}
