//! What `keys create` prints: the key for a shell to take, and all else for eyes.
//!
//! Invariant: standard output holds the key alone, or the JSON; the rest goes to standard error.
//! Never does: keep a key's text, or print it twice.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{ALL, limits, texts, time};
use crate::keys::{Created, NewKey, Scope};

/// Warns of a scope that opens nothing, or less than it seems to. The routes come in two lists: the opaque ones are apart.
pub(super) fn warn_of(scope: &Scope, routes: [&[(String, String)]; 2], warnings: &mut dyn Write) -> io::Result<()> {
    if scope.has_literal_star() {
        writeln!(
            warnings,
            "warning: a * in the scope {scope} stands for itself: it counts as the last segment of a path only"
        )?;
    }
    let routes = || routes.into_iter().flatten().map(|(method, path)| (method.as_str(), path.as_str()));
    if routes().next().is_none() || routes().any(|(method, path)| scope.touches_route(method, path)) {
        return Ok(());
    }
    let meant = scope.nearest_route(routes()).map_or_else(String::new, |path| format!(" (did you mean {path}?)"));
    writeln!(warnings, "warning: no route is configured for the scope {scope}; until one is, it opens nothing{meant}")
}

/// Gives a new key to its owner, alone on its line: the only time that its text leaves the process.
pub(super) fn key(created: &Created, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", created.token.expose())?;
    out.flush()
}

/// The same for programs, with all that belongs to the key.
pub(super) fn json_of_new(created: &Created, new: &NewKey, file: &Path) -> Value {
    json!({
        "id": created.id.as_str(),
        "username": new.username,
        "key": created.token.expose(),
        "scopes": texts(&new.scopes),
        "created_at": time(new.now),
        "expires_at": new.expires_at.map(time),
        "team": new.team,
        "models": new.models,
        "limits": limits::as_json(&new.allowance),
        "default_max_output_tokens": new.allowance.default_max_output_tokens,
        "file": file.display().to_string(),
    })
}

/// Prints JSON at once, so that what fails later does not hold it back.
pub(super) fn json(json: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{json:#}")?;
    out.flush()
}

/// Says on standard error what the new key is, so that a shell can take standard output for the key.
pub(super) fn details(created: &Created, new: &NewKey, file: &Path, err: &mut dyn Write) -> io::Result<()> {
    writeln!(err, "This is the key of {}, shown this once: it is stored nowhere, only its hash is.", new.username)?;
    writeln!(err, "  id       {}", created.id)?;
    writeln!(err, "  scopes   {}", texts(&new.scopes).join("\n           "))?;
    writeln!(err, "  expires  {}", new.expires_at.map_or_else(|| "never".to_owned(), time))?;
    if let Some(models) = &new.models {
        writeln!(err, "  models   {}", models.join(", "))?;
    }
    if let Some(limits) = limits::shown(&new.allowance) {
        writeln!(err, "  limits   {limits}")?;
    }
    writeln!(err, "  file     {}", file.display())
}

/// Says what the command did that its words do not say: made a folder, wrote `all` out.
pub(super) fn notes(new_folder: Option<&Path>, scopes: &str, err: &mut dyn Write) -> io::Result<()> {
    if let Some(folder) = new_folder {
        writeln!(err, "note: the folder {} was not there and was made", folder.display())?;
    }
    if scopes.trim() == ALL {
        writeln!(
            err,
            "note: `all` stands for the routes that are configured now; one that comes later takes a new key, or a \
             scope with a wildcard such as *:/openai/v1/*"
        )?;
    }
    Ok(())
}
