//! The variables of the NodeJS gateway, set or missing, and what each means here.
//!
//! Invariant: a variable is told by its name; the values that are looked at are those of switches.
//! Never does: keep or tell a value, or judge the keys themselves.

use std::path::{Path, PathBuf};

use super::provider::NewProvider;
use super::{Finding, Grade};
use crate::config::environment::Environment;
use crate::config::report::ENVIRONMENT;
use crate::keys::Incoming;

/// Both places of variables.
pub(super) struct Variables<'e> {
    /// Those of the process.
    pub(super) process: &'e Environment,
    /// Those of the process over those of `.env`.
    pub(super) all: &'e Environment,
    /// Where the keys go, where they leave `HASHED_API_KEYS`.
    pub(super) key_file: Option<&'e Path>,
    /// The key file that they are read from in place of that variable, as it was named and where it is.
    pub(super) old_keys: Option<(&'e Path, PathBuf)>,
}

impl Variables<'_> {
    /// Grades all of them.
    pub(super) fn grade(&self, providers: &[NewProvider]) -> Vec<Finding> {
        let mut findings: Vec<Finding> = providers.iter().map(|provider| self.provider_key(provider)).collect();
        findings.extend(self.keys());
        findings.extend(self.switches());
        findings
    }

    fn provider_key(&self, provider: &NewProvider) -> Finding {
        let NewProvider { id, variable, old_variable, .. } = provider;
        let becomes = format!("providers.{id}.api_key: ${{{variable}}}");
        let (grade, reason) = if variable != old_variable {
            (Grade::Manual, format!("set the key as {variable}: a variable is called so here"))
        } else if self.all.get(variable).is_none() {
            let reason = "is not set here; the gateway does not start without it, as the NodeJS gateway did not";
            (Grade::Manual, reason.to_owned())
        } else {
            (Grade::Exact, "a reference; the key itself is not written".to_owned())
        };
        self.finding(old_variable, grade, Some(becomes), reason)
    }

    fn keys(&self) -> Vec<Finding> {
        let name = "HASHED_API_KEYS";
        let value = self.all.get(name);
        // What is no key file is told when the YAML is proved, or the keys are imported.
        let (mut keys, ascii) = match (&self.old_keys, value) {
            (Some((named, file)), _) => {
                let mut keys = self.finding("keys", Grade::Exact, self.key_file_is(), "its entries are written there");
                keys.file = named.display().to_string();
                (keys, Incoming::read(file, false).is_ok_and(|keys| keys.is_ascii()))
            }
            (None, Some(value)) => {
                let ascii = Incoming::of(Path::new(name), value.as_bytes().to_vec(), true);
                let reason = match self.key_file {
                    Some(_) => "its entries are written there; the variable is no longer used, unset it",
                    None => "used as it is; `--keys FILE` would write a key file, which can change while it serves",
                };
                let keys = self.finding(name, Grade::Exact, self.key_file_is(), reason);
                (keys, ascii.is_ok_and(|keys| keys.is_ascii()))
            }
            (None, None) => {
                let reason = "is not set here; where it is set when the gateway runs, it is used as it is";
                return vec![self.finding(name, Grade::Manual, None, reason)];
            }
        };
        if !ascii {
            keys.grade = Grade::Approximate;
            let names =
                "; user names beyond ASCII, which the NodeJS gateway garbled, come out right in logs and metrics";
            keys.reason.to_mut().push_str(names);
        }
        let unread = value.filter(|_| self.old_keys.is_some()).map(|_| {
            let reason = "not read, since --hashed-api-keys goes before it; no longer used, unset it";
            self.finding(name, Grade::Manual, None, reason)
        });
        [keys].into_iter().chain(unread).chain([self.salt()]).collect()
    }

    fn key_file_is(&self) -> Option<String> {
        self.key_file.map(|file| format!("keys.file: {}", file.display()))
    }

    fn salt(&self) -> Finding {
        let name = "HASH_AUTH_SALT";
        if self.all.get(name).is_some() {
            let reason = "used as it is: the salt of entries without an id; leave it set as long as there are such";
            self.finding(name, Grade::Exact, None, reason)
        } else {
            let reason = "is not set here: each entry counts under its own salt (the NodeJS gateway answered 500 then)";
            self.finding(name, Grade::Approximate, None, reason)
        }
    }

    /// Those that are of interest only where they are set.
    fn switches(&self) -> Vec<Finding> {
        let known = |level: &str| {
            ["trace", "debug", "info", "warn", "error", "fatal", "silent"]
                .contains(&level.to_ascii_lowercase().as_str())
        };
        let pretty = |value: &str| matches!(value, "true" | "1");
        let node = "there is no Node any more; unset it";
        let no_proxy =
            (Grade::Approximate, "the NodeJS gateway ignored it; here the hosts that it names are reached directly");
        let all = [
            self.set("SERVER_CONFIG_FILE_PATH", |_| {
                (Grade::Manual, "unset it before `serve`, which refuses to start with a file that it does not read")
            }),
            self.set("HTTPS_PROXY", |_| (Grade::Exact, "used as it is, for providers at https URLs, by CONNECT")),
            self.set("https_proxy", |_| match self.all.get("HTTPS_PROXY") {
                Some(_) => (Grade::Exact, "not used, since HTTPS_PROXY goes before it"),
                None => {
                    (Grade::Approximate, "the NodeJS gateway ignored it; here it is used: unset it, or `proxy: off`")
                }
            }),
            self.set("NO_PROXY", |_| no_proxy),
            self.set("no_proxy", |_| no_proxy),
            self.set("LOG_LEVEL", |level| match known(level) {
                true => (Grade::Exact, "used as it is"),
                false => (Grade::Manual, "is none of the levels: info is used"),
            }),
            self.set("LOG_PRETTY", |value| match pretty(value) {
                true => (Grade::Approximate, "log lines are always JSON; pipe them through a formatter to read them"),
                false => (Grade::Exact, "log lines are JSON, as with this value"),
            }),
            self.set("NODE_ENV", |_| (Grade::Exact, node)),
            self.set("NODE_OPTIONS", |_| (Grade::Exact, node)),
        ];
        all.into_iter().flatten().collect()
    }

    fn set(&self, name: &str, grade: impl Fn(&str) -> (Grade, &'static str)) -> Option<Finding> {
        let (grade, reason) = grade(self.all.get(name)?);
        Some(self.finding(name, grade, None, reason))
    }

    fn finding(&self, name: &str, grade: Grade, becomes: Option<String>, reason: impl Into<String>) -> Finding {
        let from_file = self.process.get(name).is_none() && self.all.get(name).is_some();
        let file = if from_file { ".env" } else { ENVIRONMENT };
        Finding {
            file: file.to_owned(),
            line: 0,
            column: 0,
            setting: name.to_owned(),
            grade,
            becomes,
            reason: reason.into().into(),
        }
    }
}
