//! The new file on disk.
//!
//! Invariant: a reader sees a whole file; a file that stands there stays, unless it was said that it may go.
//! Never does: look at what it writes.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::super::interpolate::reason;
use super::super::report::Problem;

/// Tells whether a file may be written there.
///
/// # Errors
/// A [`Problem`] where one stands there and may not go.
pub fn may_write(path: &Path, force: bool) -> Result<(), Problem> {
    if force || fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    Err(Problem::of_file(&path.display().to_string(), "is there already, and was left as it is")
        .hint("--force replaces it, --out names another, --dry-run shows what would be written"))
}

/// Writes a text into a file beside its place and renames it; `force` lets it take the place of a file that is there.
///
/// # Errors
/// A [`Problem`] with the file. It is as it was then.
pub fn write(path: &Path, text: &str, force: bool) -> Result<(), Problem> {
    may_write(path, force)?;
    put(path, text).map_err(|error| {
        Problem::of_file(&path.display().to_string(), format!("cannot be written: {}", reason(error.kind())))
    })
}

fn put(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or_else(|| Path::new("."));
    let Some(name) = path.file_name() else {
        return Err(io::ErrorKind::IsADirectory.into());
    };
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{}.{}.tmp", name.display(), std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}
