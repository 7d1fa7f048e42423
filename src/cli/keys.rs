//! `ai-gateway keys`: make, list, replace, revoke and import the gateway's own keys.
//!
//! Invariant: a key is shown once, by the command that made it; salts and digests are never shown.
//! Never does: read the configuration, a clock or the environment: the caller hands them in.

mod import;
mod limits;
mod rotate;
mod show;
mod table;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::keys::{self, KeyRecord, NewKey, Scope, ScopeError, StoreError};
use crate::units::{KeyId, Secret};

pub(super) use import::salt_warnings;
pub(super) use table::printable;

/// The commands that make and change keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Makes a key and prints it, once
    Create(CreateKey),
    /// Lists all keys, without what would let one use or guess them
    List(ListKeys),
    /// Revokes a key; its entry stays in the file
    Revoke(RevokeKey),
    /// Replaces a key by a new one; the old one works on for a while
    Rotate(rotate::RotateKey),
    /// Merges another key file into this one, all of it or nothing
    Import(import::ImportKeys),
}

/// The arguments of `keys create`.
#[derive(Debug, Args)]
pub(super) struct CreateKey {
    /// Whom the key is for; goes into logs and metrics
    #[arg(value_name = "USER")]
    pub user: String,
    /// `all`, or METHOD:PATH with commas between: get:/openai/v1/models,post:/openai/v1/embeddings
    #[arg(value_name = "SCOPES")]
    pub scopes: String,
    /// When the key stops working: 90d, 12h, 2027-01-31 or 2027-01-31T00:00:00Z [default: never]
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// A model that the key may use, exact or with a trailing *; may be given several times [default: any]
    #[arg(long = "model", value_name = "MODEL")]
    pub models: Vec<String>,
    /// The team that the key belongs to
    #[arg(long, value_name = "TEAM")]
    pub team: Option<String>,
    /// A limit of the key, such as requests_per_minute=60, concurrent_requests=5, usd/month=100, tokens/day=1000000, or
    /// shadow, which makes them count and not refuse; gpt-4o:usd/month=20 is of calls for that model alone; may be given
    /// several times [default: those of the configuration]
    #[arg(long = "limit", value_name = "LIMIT")]
    pub limits: Vec<String>,
    /// The most tokens of output of a call that names no such ceiling itself [default: the model's]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u64).range(1..))]
    pub default_max_output_tokens: Option<u64>,
    /// What all commands share
    #[command(flatten)]
    pub common: Common,
}

/// The arguments of `keys list`.
#[derive(Debug, Args)]
pub(super) struct ListKeys {
    /// What all commands share
    #[command(flatten)]
    pub common: Common,
}

/// The arguments of `keys revoke`.
#[derive(Debug, Args)]
pub(super) struct RevokeKey {
    /// The key's id, or so much of its beginning that no other key has it
    #[arg(value_name = "ID")]
    pub id: String,
    /// What all commands share
    #[command(flatten)]
    pub common: Common,
}

/// What all commands of this family share.
#[derive(Debug, Args)]
pub(super) struct Common {
    /// The key file [default: the one of the configuration]
    #[arg(long, value_name = "FILE", value_parser = absolute)]
    pub file: Option<PathBuf>,
    /// Prints JSON
    #[arg(long)]
    pub json: bool,
}

/// What the commands need to know of the world.
#[derive(Debug)]
pub(super) struct KeysContext {
    /// The key file, where the command does not name one.
    pub file: PathBuf,
    /// `HASH_AUTH_SALT`.
    pub env_salt: Option<Secret>,
    /// Configured routes that `all` stands for: method in lower case and pattern. Opaque ones are left out. Empty where
    /// the configuration was not read: then nothing is said of scopes without a route.
    pub routes: Vec<(String, String)>,
    /// Those that are left out.
    pub opaque: Vec<(String, String)>,
    /// The time.
    pub now: SystemTime,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeysError {
    /// An argument cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The key file cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key was made and could not be shown.
    #[error(
        "the key {id} was made, but could not be shown and is lost: {source} (hint: `ai-gateway keys revoke {id}`)"
    )]
    Lost {
        /// The key's public name.
        id: KeyId,
        /// What the system said.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl KeysError {
    /// The process's exit code: 2 for wrong usage or an unusable file, 1 for what failed on the way.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Store(
                StoreError::Invalid { .. }
                | StoreError::Unwritable { .. }
                | StoreError::UnknownId { .. }
                | StoreError::NotUsable { .. }
                | StoreError::Conflicts { .. }
                | StoreError::Ambiguous { .. },
            ) => 2,
            Self::Store(_) | Self::Lost { .. } | Self::Output(_) => 1,
        }
    }
}

impl KeysCommand {
    /// The key file, where the command names one.
    pub(super) fn file(&self) -> Option<&Path> {
        let common = match self {
            Self::Create(command) => &command.common,
            Self::List(command) => &command.common,
            Self::Revoke(command) => &command.common,
            Self::Rotate(command) => &command.common,
            Self::Import(command) => &command.common,
        };
        common.file.as_deref()
    }

    /// What the command wants of the configured routes, beside a key file.
    pub(super) fn routes(&self) -> Routes {
        match self {
            Self::Create(command) if command.scopes.trim() == ALL => Routes::Needed,
            Self::Create(_) | Self::Import(_) => Routes::Helpful,
            Self::List(_) | Self::Revoke(_) | Self::Rotate(_) => Routes::Unused,
        }
    }
}

/// What a command wants of the configured routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Routes {
    /// It cannot do without.
    Needed,
    /// It warns of scopes without a route.
    Helpful,
    /// Nothing.
    Unused,
}

/// Runs a command. Results go to `out`, warnings to `warnings` (standard error).
///
/// # Errors
/// [`KeysError`]; the key file is then as it was, unless it is `Lost` or `Output`.
pub(super) fn run(
    command: &KeysCommand,
    context: &KeysContext,
    out: &mut dyn Write,
    warnings: &mut dyn Write,
) -> Result<(), KeysError> {
    match command {
        KeysCommand::Create(command) => create(command, context, out, warnings),
        KeysCommand::List(command) => list(command, context, out),
        KeysCommand::Revoke(command) => revoke(command, context, out),
        KeysCommand::Rotate(command) => rotate::run(command, context, out, warnings),
        KeysCommand::Import(command) => import::run(command, context, out, warnings),
    }
}

fn create(
    command: &CreateKey,
    context: &KeysContext,
    out: &mut dyn Write,
    warnings: &mut dyn Write,
) -> Result<(), KeysError> {
    let scopes = scopes(&command.scopes, &context.routes)?;
    let new = NewKey {
        username: name("USER", &command.user)?,
        scopes: scopes.clone(),
        expires_at: command.expires.as_deref().map(|text| expiry(text, context.now)).transpose()?,
        models: models(&command.models)?,
        team: command.team.as_deref().map(|team| name("--team", team)).transpose()?,
        allowance: limits::allowance(&command.limits, command.default_max_output_tokens)?,
        now: context.now,
    };
    for scope in &scopes {
        show::warn_of(scope, [&context.routes, &context.opaque], warnings)?;
    }
    let file = command.common.file.as_ref().unwrap_or(&context.file);
    let new_folder = file.parent().filter(|folder| !folder.exists());
    let created = keys::create(file, context.env_salt.as_ref(), new.clone())?;
    let shown = match command.common.json {
        true => show::json(&show::json_of_new(&created, &new, file), out),
        false => show::key(&created, out),
    };
    shown.map_err(|source| KeysError::Lost { id: created.id.clone(), source })?;
    // The key is made and its owner has it: that nobody reads the rest is no failure.
    if !command.common.json {
        let _ = show::details(&created, &new, file, warnings);
    }
    let _ = show::notes(new_folder, &command.scopes, warnings);
    Ok(())
}

fn list(command: &ListKeys, context: &KeysContext, out: &mut dyn Write) -> Result<(), KeysError> {
    let file = command.common.file.as_ref().unwrap_or(&context.file);
    let records = keys::list(file, context.env_salt.as_ref())?;
    if command.common.json {
        let all: Vec<Value> = records.iter().map(|record| json_of(record, context.now)).collect();
        writeln!(out, "{:#}", Value::from(all))?;
    } else if records.is_empty() {
        writeln!(out, "No keys in {}. Make one: ai-gateway keys create USER all", file.display())?;
    } else {
        table::write(&records, context.now, out)?;
    }
    Ok(out.flush()?)
}

fn revoke(command: &RevokeKey, context: &KeysContext, out: &mut dyn Write) -> Result<(), KeysError> {
    let file = command.common.file.as_ref().unwrap_or(&context.file);
    let revoked = keys::revoke(file, context.env_salt.as_ref(), &command.id, context.now)?;
    let record = &revoked.record;
    if command.common.json {
        let mut json = json_of(record, context.now);
        json["already_revoked"] = revoked.already.into();
        writeln!(out, "{json:#}")?;
    } else {
        let what =
            if revoked.already { "was revoked before" } else { "is revoked; a running gateway follows within seconds" };
        let user = printable(&record.username);
        writeln!(out, "The key {} of {user} {what}.", record.id)?;
    }
    Ok(out.flush()?)
}

/// The scopes that a command names. `all` is written out: a route that is added later is not opened by it.
fn scopes(text: &str, routes: &[(String, String)]) -> Result<Vec<Scope>, KeysError> {
    if text.trim() == ALL {
        return all_scopes(routes);
    }
    let mut scopes: Vec<Scope> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let scope: Scope = part
            .parse()
            .map_err(|error: ScopeError| KeysError::Usage(format!("the scope {part:?} cannot be used: {error}")))?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() {
        let message = "SCOPES is empty: give `all`, or METHOD:PATH such as get:/openai/v1/models";
        return Err(KeysError::Usage(message.to_owned()));
    }
    Ok(scopes)
}

/// One scope a route, but for routes that another one's scope opens anyway: `/models/{model}` by that of `/models`.
fn all_scopes(routes: &[(String, String)]) -> Result<Vec<Scope>, KeysError> {
    let mut scopes: Vec<Scope> = Vec::with_capacity(routes.len());
    for (method, pattern) in routes {
        let scope = Scope::new(method, pattern).map_err(|error| {
            KeysError::Usage(format!("`all` cannot stand for the route {method} {pattern}: {error}"))
        })?;
        let covered = routes.iter().filter(|other| *other != &(method.clone(), pattern.clone())).any(
            |(method_of_other, path)| {
                Scope::new(method_of_other, path).is_ok_and(|other| other.permits_route(method, pattern))
            },
        );
        if !covered && !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    if scopes.is_empty() {
        let message = "`all` stands for all configured routes that are not opaque, and there are none: name the scopes";
        return Err(KeysError::Usage(message.to_owned()));
    }
    Ok(scopes)
}

fn name(argument: &str, text: &str) -> Result<String, KeysError> {
    if text.trim().is_empty() || text.chars().any(char::is_control) || text.len() > MAX_NAME_BYTES {
        let message = format!("{argument} must be a name of 1 to {MAX_NAME_BYTES} bytes without control characters");
        return Err(KeysError::Usage(message));
    }
    Ok(text.to_owned())
}

fn models(models: &[String]) -> Result<Option<Vec<String>>, KeysError> {
    match models.iter().find(|model| !keys::is_model_pattern(model)) {
        Some(model) => Err(KeysError::Usage(format!(
            "--model {model:?} cannot be used: give a model's name, or the beginning of names with a * at its end"
        ))),
        None => Ok((!models.is_empty()).then(|| models.to_vec())),
    }
}

fn expiry(text: &str, now: SystemTime) -> Result<SystemTime, KeysError> {
    let wrong = |why: &str| {
        let how = "give a span such as 90d, or a time in UTC such as 2027-01-31 or 2027-01-31T00:00:00Z";
        KeysError::Usage(format!("--expires {text:?} {why}: {how}"))
    };
    let time = humantime::parse_rfc3339(text).or_else(|_| humantime::parse_rfc3339(&format!("{text}T00:00:00Z")));
    let end = match time {
        Ok(time) => time,
        Err(_) => {
            let span = humantime::parse_duration(text).map_err(|_| wrong("is no time"))?;
            now.checked_add(span).ok_or_else(|| wrong("is too far away"))?
        }
    };
    // Times are written in whole seconds and with four digits for the year.
    if end < now + Duration::from_secs(1) {
        return Err(wrong("is not in the future"));
    }
    if end >= SystemTime::UNIX_EPOCH + Duration::from_secs(YEAR_9999_SECS) {
        return Err(wrong("is too far away"));
    }
    Ok(end)
}

fn json_of(record: &KeyRecord, now: SystemTime) -> Value {
    json!({
        "id": record.id.as_str(),
        "username": &*record.username,
        "state": table::state(record, now),
        "scopes": texts(&record.scopes),
        "created_at": record.created_at.map(time),
        "expires_at": record.expires_at.map(time),
        "revoked_at": record.revoked_at.map(time),
        "team": record.team.as_deref(),
        "models": record.models,
        "limits": limits::as_json(&record.allowance),
        "default_max_output_tokens": record.allowance.default_max_output_tokens,
    })
}

fn texts(scopes: &[Scope]) -> Vec<String> {
    scopes.iter().map(Scope::to_string).collect()
}

fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

/// The path as it is to be named: whoever reads of it knows no working directory.
fn absolute(text: &str) -> io::Result<PathBuf> {
    std::path::absolute(text)
}

/// Stands for all configured routes.
const ALL: &str = "all";
const MAX_NAME_BYTES: usize = 200;
/// 9999-01-01T00:00:00Z after 1970.
const YEAR_9999_SECS: u64 = 253_370_764_800;

#[cfg(test)]
mod tests;
