//! The key file on disk: read as a whole, and replaced as a whole under a lock.
//!
//! Invariant: a reader sees the old file or the new one, never a part; a file that cannot be understood is never
//! overwritten, and what is written was understood before.
//! Never does: delete an entry; follow anything but the path it is given; keep a key's text.

mod disk;
mod import;
mod rotate;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use std::{fmt, io};

use super::file::KeyFile;
use super::json::Problem;
use super::token::{KeyedHash, NoRandomness, PlainToken, hex, random};
use super::{Allowance, KeyRecord, Scope, edit};
use crate::units::{KeyId, Secret};

pub use disk::Stamp;
pub use import::{Conflict, Imported, Incoming, import};
pub use rotate::{Rotated, rotate};

/// What is to be known of a key that is made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whom it is issued to; not empty.
    pub username: String,
    /// What it opens.
    pub scopes: Vec<Scope>,
    /// When it stops working; absent means never. Kept to the second.
    pub expires_at: Option<SystemTime>,
    /// The models it may name; absent means any.
    pub models: Option<Vec<String>>,
    /// The group that it belongs to.
    pub team: Option<String>,
    /// How much it may use.
    pub allowance: Allowance,
    /// The time of its making.
    pub now: SystemTime,
}

/// A key that was made and is in the file.
#[derive(Debug)]
pub struct Created {
    /// The key itself, for its owner; it is nowhere else.
    pub token: PlainToken,
    /// Its public name.
    pub id: KeyId,
}

/// A key that is revoked.
#[derive(Debug)]
pub struct Revoked {
    /// What the file says of it now.
    pub record: KeyRecord,
    /// Whether it had been revoked before; then the file was not touched.
    pub already: bool,
}

/// Why the key file could not be read or changed. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("cannot {doing} {}: {source}{}", path.display(), hint_for(doing, source))]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file has problems; it was left as it is.
    #[error("the key file {} cannot be used:{}", path.display(), Listed(problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All its problems.
        problems: Vec<Problem>,
    },
    /// The file would have had problems after the change, which was not made.
    #[error("the key file {} was left as it is, since with this change it could not be used:{}", path.display(), Listed(problems))]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What its problems would have been. Lines are those of the unwritten file.
        problems: Vec<Problem>,
    },
    /// Somebody else has held the lock for too long.
    #[error("the key file is locked: another process has held {} for more than {} s", path.display(), disk::PATIENCE.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The file belongs to another user, and replacing it would take it from that user.
    #[error("the key file {} belongs to user {owner}, and this user may not give files away: run as that user", path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// The owner's number.
        owner: u32,
    },
    /// No key has this id.
    #[error("no key has the id {id:?}, nor one that begins like this: see `ai-gateway keys list`")]
    UnknownId {
        /// What was asked for.
        id: String,
    },
    /// Several keys begin like this.
    #[error("{} keys begin with {id:?}: give more of the id, as `ai-gateway keys list` shows it", count)]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// How many there are.
        count: usize,
    },
    /// The key that was to be replaced does not work any more.
    #[error("the key {id} {state}, so there is nothing to replace (hint: `ai-gateway keys create` issues a new key)")]
    NotUsable {
        /// Its public name.
        id: KeyId,
        /// What became of it: `is revoked`, `has expired`.
        state: &'static str,
    },
    /// Entries to be imported contradict those of the file.
    #[error("nothing was imported into {}: its entries and the new ones contradict each other:{}", path.display(), Listed(conflicts))]
    Conflicts {
        /// The file.
        path: PathBuf,
        /// All contradictions.
        conflicts: Vec<Conflict>,
    },
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Reads the key file. `env_salt` is `HASH_AUTH_SALT`, here and below.
///
/// # Errors
/// `Io`, `Invalid`.
pub fn load(path: &Path, env_salt: Option<&Secret>) -> Result<KeyFile, StoreError> {
    let bytes = disk::read(path)?;
    parse(path, &bytes, env_salt)
}

/// What the file says of each key, in its order.
///
/// # Errors
/// `Io`, `Invalid`.
pub fn list(path: &Path, env_salt: Option<&Secret>) -> Result<Vec<KeyRecord>, StoreError> {
    let file = load(path, env_salt)?;
    Ok(file.entries.into_iter().map(|entry| entry.record).collect())
}

/// Makes a key and adds it to the file, which is made where it is missing. Blocks for the lock.
///
/// # Errors
/// Any but `UnknownId`, `Ambiguous`.
pub fn create(path: &Path, env_salt: Option<&Secret>, new: NewKey) -> Result<Created, StoreError> {
    let (created, record) = make(new)?;
    update(path, env_salt, |text, file| Ok((Some(added(path, text, file, (&created, &record))?), ())))?;
    Ok(created)
}

/// Makes a key and the text of a key file that holds it alone: for a gateway that keeps none.
///
/// # Errors
/// `NoRandomness`.
pub fn create_alone(new: NewKey) -> Result<(Created, String), StoreError> {
    let (created, record) = make(new)?;
    let text = added(Path::new("(none)"), "{}", &KeyFile::default(), (&created, &record))?;
    Ok((created, text))
}

fn make(new: NewKey) -> Result<(Created, KeyRecord), StoreError> {
    let token = PlainToken::make()?;
    let id = KeyId::new(format!("key_{}", hex(&random::<6>()?)));
    let record = KeyRecord {
        id: id.clone(),
        username: new.username.into(),
        scopes: new.scopes.into(),
        created_at: Some(new.now),
        expires_at: new.expires_at,
        revoked_at: None,
        disabled: false,
        team: new.team.map(Arc::from),
        models: new.models,
        allowance: Arc::new(new.allowance),
    };
    Ok((Created { token, id }, record))
}

/// The file's text with one more entry.
fn added(
    path: &Path,
    text: &str,
    file: &KeyFile,
    (created, record): (&Created, &KeyRecord),
) -> Result<String, StoreError> {
    let salt = match file.entries.iter().find(|entry| entry.has_id) {
        Some(ours) => file.salts[usize::from(ours.salt)].text.0.to_vec(),
        // The salt is a text, as in the original: the hex digits themselves key the HMAC.
        None => hex(&random::<16>()?).into_bytes(),
    };
    let digest = KeyedHash::new(&salt).digest(created.token.expose().as_bytes());
    edit::insert(text, &[(digest, edit::entry(record, &salt))]).map_err(|error| disk::no_json(path, error))
}

/// Revokes the key that has this id, or whose id alone begins like this. The entry stays in the file.
///
/// # Errors
/// Any but `NoRandomness`.
pub fn revoke(path: &Path, env_salt: Option<&Secret>, id: &str, now: SystemTime) -> Result<Revoked, StoreError> {
    disk::must_exist(path)?;
    update(path, env_salt, |text, file| {
        let index = position(file, id)?;
        let mut record = file.entries[index].record.clone();
        if record.disabled && record.revoked_at.is_some() {
            return Ok((None, Revoked { record, already: true }));
        }
        let when = record.revoked_at.unwrap_or(now);
        let text = edit::revoke(text, index, when).map_err(|error| disk::no_json(path, error))?;
        record.disabled = true;
        record.revoked_at = Some(when);
        Ok((Some(text), Revoked { record, already: false }))
    })
}

/// Changes the file under its lock: `edit` gets its text and what it says, and gives the new text, or none to leave it.
fn update<T>(
    path: &Path,
    env_salt: Option<&Secret>,
    edit: impl FnOnce(&str, &KeyFile) -> Result<(Option<String>, T), StoreError>,
) -> Result<T, StoreError> {
    let target = disk::Target::lock(path)?;
    let bytes = target.read()?;
    let file = parse(path, &bytes, env_salt)?;
    // The parse above has found it to be UTF-8.
    let text = String::from_utf8_lossy(&bytes);
    let (new_text, result) = edit(&text, &file)?;
    if let Some(new_text) = new_text {
        KeyFile::parse(new_text.as_bytes(), env_salt)
            .map_err(|problems| StoreError::Unwritable { path: path.to_owned(), problems })?;
        target.replace(new_text.as_bytes())?;
    }
    Ok(result)
}

fn parse(path: &Path, bytes: &[u8], env_salt: Option<&Secret>) -> Result<KeyFile, StoreError> {
    KeyFile::parse(bytes, env_salt).map_err(|problems| StoreError::Invalid { path: path.to_owned(), problems })
}

fn position(file: &KeyFile, id: &str) -> Result<usize, StoreError> {
    let ids = || file.entries.iter().map(|entry| entry.record.id.as_str()).enumerate();
    let exact: Vec<usize> = ids().filter(|(_, own)| *own == id).map(|(index, _)| index).collect();
    let found = if exact.is_empty() && !id.is_empty() {
        ids().filter(|(_, own)| own.starts_with(id)).map(|(index, _)| index).collect()
    } else {
        exact
    };
    match found[..] {
        [index] => Ok(index),
        [] => Err(StoreError::UnknownId { id: id.to_owned() }),
        _ => Err(StoreError::Ambiguous { id: id.to_owned(), count: found.len() }),
    }
}

/// Problems or contradictions, one a line below the message.
struct Listed<'p, P>(&'p [P]);

impl<P: fmt::Display> fmt::Display for Listed<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

fn hint_for(doing: &str, error: &io::Error) -> &'static str {
    match error.kind() {
        _ if doing == import::DOING => "",
        io::ErrorKind::NotFound => " (hint: `ai-gateway keys create USER all` makes the file with a first key)",
        io::ErrorKind::PermissionDenied => " (hint: run as the user that owns the file and its folder)",
        io::ErrorKind::ReadOnlyFilesystem => " (hint: change the file where it is mounted from)",
        io::ErrorKind::ResourceBusy => " (hint: a file that is mounted by itself cannot be replaced; mount its folder)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
