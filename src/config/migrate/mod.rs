//! The move from the NodeJS gateway: its TOML file and its environment in, our YAML and a grade for each setting out.
//!
//! Invariant: what is written has been loaded as the gateway would load it; nothing of the original is dropped silently.
//! Never does: write a secret; overwrite a file that it was not told to; change anything of the original.

mod original;
mod provider;
mod variables;
mod write;
mod yaml;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;

use super::environment::{Environment, MAX_FILE, read_bytes};
use super::interpolate::reason;
use super::load::{Sources, load};
use super::report::{Problem, Report};
use crate::units::Secret;
use original::Original;
use provider::{Desk, NewProvider};
use variables::Variables;

pub use write::{may_write, write};

/// Where the NodeJS gateway has its configuration.
#[derive(Clone, Debug)]
pub struct OldSources {
    /// The TOML file; `None` stands for `SERVER_CONFIG_FILE_PATH`, else for that gateway's default.
    pub file: Option<PathBuf>,
    /// Where `.env` is and what relative paths start from.
    pub directory: PathBuf,
    /// The variables of the process.
    pub environment: Environment,
    /// The key file that the entries of `HASHED_API_KEYS` go to; `None` leaves them where they are.
    pub key_file: Option<PathBuf>,
    /// That gateway's key file, whose entries go there in place of those of `HASHED_API_KEYS`.
    pub old_keys: Option<PathBuf>,
}

/// What a migration comes to, before anything is written.
#[derive(Debug)]
pub struct Migration {
    /// The TOML file as it was named.
    pub file: String,
    /// The YAML file's text.
    pub yaml: String,
    /// What becomes of each setting, in the order of the file, then of the variables.
    pub findings: Vec<Finding>,
    /// `HASHED_API_KEYS`, where it is set.
    pub keys: Option<Secret>,
    /// `HASH_AUTH_SALT`, where it is set.
    pub env_salt: Option<Secret>,
}

/// What becomes of one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file that has it; `environment` for a variable of the process.
    pub file: String,
    /// From 1; 0 where there is none.
    pub line: usize,
    /// From 1, in characters; 0 where there is none.
    pub column: usize,
    /// The setting: `server.appPort`, `OPENAI_API_KEY`.
    pub setting: String,
    /// How well it can be carried over.
    pub grade: Grade,
    /// What it is in our YAML; absent where it stays in its place or is left out.
    pub becomes: Option<String>,
    /// Why it has this grade; empty where nothing is to be said.
    pub reason: Cow<'static, str>,
}

/// How well a setting can be carried over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grade {
    /// It does what it did.
    Exact,
    /// It does nearly what it did.
    Approximate,
    /// Somebody has to look at it.
    Manual,
}

impl Grade {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Approximate => "approximate",
            Self::Manual => "manual",
        }
    }
}

/// Works out a migration.
///
/// # Errors
/// The [`Report`] of what cannot be carried over at all, or could not be read.
pub fn migrate(sources: &OldSources) -> Result<Migration, Report> {
    let environment = sources.environment.over_dotenv(&sources.directory)?;
    let secret = |name: &str| environment.get(name).map(|value| Secret::new(value.to_owned()));
    let has_keys = sources.old_keys.is_some() || environment.get("HASHED_API_KEYS").is_some();
    if sources.key_file.is_some() && !has_keys {
        let problem = Problem::of_variable("HASHED_API_KEYS", "is not set, so there are no keys to write to a file");
        return Err(problem.hint("set it, name the key file by --hashed-api-keys, or leave out --keys").into());
    }
    let (file, text) = read_toml(sources, &environment)?;
    let report = |problems| Report::of(problems).unwrap_or_else(|| Problem::of_file(&file, "cannot be used").into());
    let (original, ignored) = original::read(&file, &text).map_err(report)?;
    let mut desk = Desk { file: &file, problems: Vec::new(), findings: ignored };
    grade_ports(&mut desk, &original);
    let providers = carry_over(&mut desk, &original);
    if let Some(report) = Report::of(desk.problems) {
        return Err(report);
    }
    let mut findings = desk.findings;
    findings.sort_by_key(|finding| (finding.line, finding.column));
    let key_file = sources.key_file.as_deref();
    let old_keys = sources.old_keys.as_ref().map(|file| (file.as_path(), sources.directory.join(file)));
    let variables = Variables { process: &sources.environment, all: &environment, key_file, old_keys };
    findings.extend(variables.grade(&providers));
    let yaml = yaml::text((original.app_port.value, original.admin_port.value), &providers, key_file);
    prove(&yaml, &providers, sources, &environment)?;
    Ok(Migration { keys: secret("HASHED_API_KEYS"), env_salt: secret("HASH_AUTH_SALT"), file, yaml, findings })
}

/// The TOML file's name and text.
fn read_toml(sources: &OldSources, environment: &Environment) -> Result<(String, String), Problem> {
    let path = match (&sources.file, environment.get("SERVER_CONFIG_FILE_PATH")) {
        (Some(file), _) => file.clone(),
        (None, Some(named)) => PathBuf::from(named),
        (None, None) => PathBuf::from(DEFAULT_FILE),
    };
    let file = path.display().to_string();
    let bytes = read_bytes(&sources.directory.join(&path), MAX_FILE).map_err(|error| {
        Problem::of_file(&file, format!("cannot be read: {}", reason(error.kind())))
            .hint("name the NodeJS gateway's TOML by --config-toml or SERVER_CONFIG_FILE_PATH")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| Problem::of_file(&file, "is not UTF-8 text"))?;
    // Spans count from behind a byte order mark then, as columns do.
    let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
    Ok((file, text))
}

fn grade_ports(desk: &mut Desk<'_>, original: &Original) {
    let Original { app_port, admin_port, .. } = original;
    let becomes = format!("server.listen: [\"[::]:{}\"]", app_port.value);
    desk.grade(app_port, "server.appPort".to_owned(), Grade::Exact, (becomes, "all addresses, as before"));
    let becomes = format!("admin.listen: \"[::]:{}\"", admin_port.value);
    let reason = "open to other machines without a token, as it was: /ping, /livez, /readyz and /metrics, which has more \
                  series than before; 127.0.0.1 keeps others out";
    desk.grade(admin_port, "server.adminPort".to_owned(), Grade::Approximate, (becomes, reason));
}

fn carry_over(desk: &mut Desk<'_>, original: &Original) -> Vec<NewProvider> {
    let mut ids: HashMap<String, usize> = HashMap::new();
    let mut providers = Vec::with_capacity(original.providers.len());
    for old in &original.providers {
        let Some(provider) = provider::carry_over(desk, old) else {
            continue;
        };
        if let Some(line) = ids.insert(provider.id.clone(), old.name.line) {
            let message = format!("two providers have this name, the other one in line {line}");
            let mut problem = Problem::of_file(desk.file, message).at(old.name.line, old.name.column);
            problem.path = format!("providers.{}.name", old.id);
            desk.problems.push(problem.hint("put their routes together; a name is the first segment of all its paths"));
        }
        providers.push(provider);
    }
    providers
}

/// Loads what is to be written as `check` will. Variables that are missing here are set there, or told by it.
fn prove(yaml: &str, providers: &[NewProvider], sources: &OldSources, environment: &Environment) -> Result<(), Report> {
    // An empty variable goes before the one of `.env`, and counts as unset.
    let mut variables = environment.clone().with("SERVER_CONFIG_FILE_PATH", "");
    for provider in providers {
        if variables.get(&provider.variable).is_none() {
            variables = variables.with(&provider.variable, "not-set-yet");
        }
    }
    let new = Sources {
        file: None,
        yaml: Some(yaml.to_owned()),
        directory: sources.directory.clone(),
        environment: variables,
    };
    load(&new).map(|_| ()).map_err(|report| {
        let of_yaml = |problem: &Problem| {
            let mut problem = problem.clone();
            if problem.file == GIVEN {
                "(the new YAML)".clone_into(&mut problem.file);
            }
            problem
        };
        Report::of(report.problems().iter().map(of_yaml).collect()).unwrap_or(report)
    })
}

/// How `load` calls a configuration that is no file.
const GIVEN: &str = "(given as text)";
/// Where the NodeJS gateway looks where nothing is said.
const DEFAULT_FILE: &str = "/home/ai-gateway/config.toml";

#[cfg(test)]
mod tests;
