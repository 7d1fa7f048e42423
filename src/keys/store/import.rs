//! Another key file merged into this one: all of it, or nothing.
//!
//! Invariant: what stands in the file already stays as it is, to the byte; a contradiction refuses everything.
//! Never does: decide between two entries; show a salt, or more than 12 digits of a digest.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{StoreError, disk, edit, update};
use crate::keys::KeyRecord;
use crate::keys::file::{Entry, KeyFile, MAX_SALTS, SaltText, decode_base64, json_of_variable};
use crate::keys::json::members;
use crate::keys::token::Digest;
use crate::units::{KeyId, Secret};

/// A key file that is to be merged into another one.
#[derive(Debug)]
pub struct Incoming {
    name: PathBuf,
    json: Vec<u8>,
}

/// What an import came to.
#[derive(Debug)]
pub struct Imported {
    /// The keys that are new in the file.
    pub added: Vec<KeyRecord>,
    /// The keys that stood there already, with the same content.
    pub skipped: Vec<KeyRecord>,
    /// Added keys without an `id` that are hashed with their own salt, since `HASH_AUTH_SALT` is not set. They stop
    /// working where it is set to another one.
    pub by_own_salt: Vec<KeyId>,
    /// Added keys without an `id` whose own salt is not `HASH_AUTH_SALT`, by which they are hashed all the same. They
    /// work only where they were made under that one.
    pub by_other_salt: Vec<KeyId>,
}

/// One contradiction between the file and what is to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// The same digest with another content.
    Content {
        /// The key.
        id: KeyId,
        /// The fields that differ.
        fields: Vec<String>,
    },
    /// The same id for another key.
    Id {
        /// The id.
        id: KeyId,
    },
    /// More salts together than a file may have.
    Salts {
        /// How many there would be.
        count: usize,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content { id, fields } => {
                write!(f, "{id}: the same key stands there with another content ({})", fields.join(", "))
            }
            Self::Id { id } => write!(f, "{id}: another key has this id"),
            Self::Salts { count } => {
                write!(f, "there would be {count} different salts, and a file may have {MAX_SALTS}")
            }
        }
    }
}

impl Incoming {
    /// Reads a file.
    ///
    /// # Errors
    /// `Io`; `Invalid` where it is to be base64 and is not.
    pub fn read(path: &Path, base64: bool) -> Result<Self, StoreError> {
        Self::of(path, disk::read_to(DOING, path)?, base64)
    }

    /// Takes bytes, with a name for messages. `base64` tells that they are the value of a `HASHED_API_KEYS`.
    ///
    /// # Errors
    /// `Invalid` where they are to be base64 and are not.
    pub fn of(name: &Path, bytes: Vec<u8>, base64: bool) -> Result<Self, StoreError> {
        let name = name.to_owned();
        let json = match base64 {
            true => {
                json_of_variable(&bytes).map_err(|problems| StoreError::Invalid { path: name.clone(), problems })?
            }
            false => bytes,
        };
        Ok(Self { name, json })
    }

    /// Tells whether its text is ASCII throughout, which is all that the original reads out of `HASHED_API_KEYS`.
    pub fn is_ascii(&self) -> bool {
        self.json.is_ascii()
    }
}

/// Merges a key file into the one at the path, which is made where it is missing. A dry run only tells what would
/// become of it.
///
/// # Errors
/// `Io`, `Invalid` (of either file), `Unwritable`, `Locked`, `ForeignOwner`, `Conflicts`.
pub fn import(
    path: &Path,
    env_salt: Option<&Secret>,
    incoming: &Incoming,
    dry_run: bool,
) -> Result<Imported, StoreError> {
    let new = Entries::read(&incoming.name, &incoming.json, env_salt)?;
    if dry_run {
        let bytes = disk::look(path)?;
        super::parse(path, &bytes, env_salt)?;
        let (text, imported) = merge(path, &String::from_utf8_lossy(&bytes), &new, env_salt)?;
        if let Some(text) = text {
            KeyFile::parse(text.as_bytes(), env_salt)
                .map_err(|problems| StoreError::Unwritable { path: path.to_owned(), problems })?;
        }
        return Ok(imported);
    }
    update(path, env_salt, |text, _| merge(path, text, &new, env_salt))
}

/// A key file's entries, understood and as they are written, in the same order.
struct Entries {
    file: KeyFile,
    written: Vec<Map<String, Value>>,
}

impl Entries {
    fn read(path: &Path, bytes: &[u8], env_salt: Option<&Secret>) -> Result<Self, StoreError> {
        let file = super::parse(path, bytes, env_salt)?;
        // The parse above has found UTF-8, an object of objects, and no field twice.
        let text = String::from_utf8_lossy(bytes);
        let members = members(&text).map_err(|error| disk::no_json(path, error))?;
        let written = members.iter().map(|member| serde_json::from_str(member.value.get()).map(without_nulls));
        let written = written.collect::<Result<_, _>>().map_err(|error| disk::no_json(path, error))?;
        Ok(Self { file, written })
    }

    fn iter(&self) -> impl Iterator<Item = (&Entry, &Map<String, Value>)> {
        self.file.entries.iter().zip(&self.written)
    }

    fn salts(&self) -> impl Iterator<Item = &SaltText> {
        self.file.salts.iter().map(|salt| &salt.text)
    }
}

/// The text of the file with the new entries, where there are any, and what they are.
fn merge(
    path: &Path,
    text: &str,
    new: &Entries,
    env_salt: Option<&Secret>,
) -> Result<(Option<String>, Imported), StoreError> {
    let old = Entries::read(path, text.as_bytes(), env_salt)?;
    let by_digest: HashMap<Digest, &Map<String, Value>> =
        old.iter().map(|(entry, written)| (entry.digest, written)).collect();
    let ids: HashMap<&KeyId, bool> = old.iter().map(|(entry, _)| (&entry.record.id, entry.has_id)).collect();
    let mut imported =
        Imported { added: Vec::new(), skipped: Vec::new(), by_own_salt: Vec::new(), by_other_salt: Vec::new() };
    let mut conflicts = Vec::new();
    let mut added = Vec::new();
    for (entry, written) in new.iter() {
        let id = &entry.record.id;
        match by_digest.get(&entry.digest) {
            Some(same) if *same == written => imported.skipped.push(entry.record.clone()),
            Some(other) => {
                conflicts.push(Conflict::Content { id: id.clone(), fields: differing(other, written) });
            }
            // Two ids that are the beginning of digests may be equal; one that was given may not.
            None if ids.get(id).is_some_and(|given| *given || entry.has_id) => {
                conflicts.push(Conflict::Id { id: id.clone() });
            }
            None => {
                note_salt(&mut imported, entry, written, env_salt);
                imported.added.push(entry.record.clone());
                added.push((entry.digest, written.clone()));
            }
        }
    }
    let salts: HashSet<&SaltText> = old.salts().chain(new.salts()).collect();
    if salts.len() > MAX_SALTS {
        conflicts.push(Conflict::Salts { count: salts.len() });
    }
    if !conflicts.is_empty() {
        return Err(StoreError::Conflicts { path: path.to_owned(), conflicts });
    }
    let text = match added.is_empty() {
        true => None,
        false => Some(edit::insert(text, &added).map_err(|error| disk::no_json(path, error))?),
    };
    Ok((text, imported))
}

/// Notes what the salt rule (`keyfile.md`) means to an entry without an `id`.
fn note_salt(imported: &mut Imported, entry: &Entry, written: &Map<String, Value>, env_salt: Option<&Secret>) {
    if entry.has_id {
        return;
    }
    let id = entry.record.id.clone();
    match env_salt.map(|salt| salt.expose().as_bytes()).filter(|salt| !salt.is_empty()) {
        None => imported.by_own_salt.push(id),
        Some(env_salt) => {
            let own = written.get("salt").and_then(Value::as_str).and_then(|text| decode_base64(text.as_bytes()));
            if own.as_deref() != Some(env_salt) {
                imported.by_other_salt.push(id);
            }
        }
    }
}

fn differing(one: &Map<String, Value>, other: &Map<String, Value>) -> Vec<String> {
    let mut fields: Vec<String> =
        one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).cloned().collect();
    fields.sort();
    fields.dedup();
    fields
}

/// `null` counts as absent.
fn without_nulls(mut entry: Map<String, Value>) -> Map<String, Value> {
    entry.retain(|_, value| !value.is_null());
    entry
}

/// What is done with a file that is imported.
pub(super) const DOING: &str = "import";

#[cfg(test)]
mod tests;
