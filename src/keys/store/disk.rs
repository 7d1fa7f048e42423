//! The file system's side of the key file: lock, read, atomic replacement, and a cheap way to notice a change.
//!
//! Invariant: the replacement has the old file's mode and owner, and is on disk before it takes the old one's name.
//! Never does: look into the file; wait without an end.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::StoreError;
use crate::keys::token::{hex, random};

/// What tells one state of a file from another without reading it. Take it before the file is loaded, so that a change
/// in between is noticed next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: SystemTime,
    size_bytes: u64,
    inode: u64,
    device: u64,
    /// Of the inode, in seconds and nanoseconds: a change of mode can make an unreadable file readable.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of the file that the path leads to now, through links; `None` where there is none.
    ///
    /// # Errors
    /// What the system says, but for a missing file.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(data) => Ok(Some(Self {
                modified: data.modified()?,
                size_bytes: data.len(),
                inode: data.ino(),
                device: data.dev(),
                changed: (data.ctime(), data.ctime_nsec()),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A key file that this process alone may change, until this is dropped.
pub(super) struct Target {
    /// Where the file is, all links followed; it may be missing.
    path: PathBuf,
    folder: PathBuf,
    name: String,
    _lock: File,
}

impl Target {
    /// Follows links, makes the folder where it is missing, and takes the lock beside the file.
    pub(super) fn lock(path: &Path) -> Result<Self, StoreError> {
        let given = path;
        let name = file_name(given)?;
        let path = match fs::canonicalize(given) {
            Ok(path) => path,
            // A link that leads nowhere is an error, not a place for a new file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(given).is_err() => {
                let folder = folder_of(given);
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(folder)
                    .map_err(failed("make the folder", folder))?;
                let folder = fs::canonicalize(folder).map_err(failed("find", folder))?;
                folder.join(&name)
            }
            Err(error) => return Err(failed("find", given)(error)),
        };
        let name = file_name(&path)?;
        let folder = folder_of(&path).to_owned();
        let lock = take_lock(&folder.join(format!(".{name}.lock")))?;
        Ok(Self { path, folder, name, _lock: lock })
    }

    /// The file's content; that of a file without keys where it is missing.
    pub(super) fn read(&self) -> Result<Vec<u8>, StoreError> {
        look(&self.path)
    }

    /// Puts a new file in the place of the old one.
    pub(super) fn replace(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.folder.join(format!(".{}.{}.tmp", self.name, hex(&random::<6>()?)));
        let result = self.write_and_rename(&temporary, bytes);
        if result.is_err() {
            // The first failure is the one to tell; a left-over file does no harm.
            let _ = fs::remove_file(&temporary);
        }
        result
    }

    fn write_and_rename(&self, temporary: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(temporary)
            .map_err(failed("create", temporary))?;
        match fs::metadata(&self.path) {
            Ok(old) => self.take_after(&file, &old)?,
            Err(_) => give_to_owner_of(&self.folder, &file),
        }
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", temporary))?;
        fs::rename(temporary, &self.path).map_err(failed("replace", &self.path))?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(failed("sync", &self.folder))
    }

    /// Gives the new file the old one's owner and mode: the gateway may run as another user than the one who issues
    /// keys, and must be able to read it still.
    fn take_after(&self, file: &File, old: &fs::Metadata) -> Result<(), StoreError> {
        let new = file.metadata().map_err(failed("look at", &self.path))?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(file, Some(old.uid()), Some(old.gid()))
                .map_err(|_| StoreError::ForeignOwner { path: self.path.clone(), owner: old.uid() })?;
        }
        // After the change of owner, which may clear bits of the mode.
        file.set_permissions(Permissions::from_mode(old.mode() & 0o777)).map_err(failed("set the mode of", &self.path))
    }
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(failed("read", path))
}

/// Reads a whole file of somebody else's, to do this with it.
pub(super) fn read_to(doing: &'static str, path: &Path) -> Result<Vec<u8>, StoreError> {
    fs::read(path).map_err(failed(doing, path))
}

/// Refuses a file that is missing: an update would begin a new one.
pub(super) fn must_exist(path: &Path) -> Result<(), StoreError> {
    if path.exists() { Ok(()) } else { read(path).map(|_| ()) }
}

/// The file's content, that of a file without keys where it is missing, for a look that takes no lock.
pub(super) fn look(path: &Path) -> Result<Vec<u8>, StoreError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(b"{}".to_vec()),
        read => read.map_err(failed("read", path)),
    }
}

/// The error of an edit that found no JSON, which the parse before it rules out.
pub(super) fn no_json(path: &Path, error: serde_json::Error) -> StoreError {
    failed("edit", path)(error.into())
}

fn take_lock(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    let lock = match options.clone().create_new(true).open(path) {
        Ok(new) => {
            // Only a file made just now: one that was there may be a link that somebody has laid for root.
            give_to_owner_of(folder_of(path), &new);
            new
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            options.open(path).map_err(failed("lock", path))?
        }
        Err(error) => return Err(failed("lock", path)(error)),
    };
    let mut waited = Duration::ZERO;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::Error(error)) => return Err(failed("lock", path)(error)),
            Err(TryLockError::WouldBlock) if waited >= PATIENCE => {
                return Err(StoreError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => {
                std::thread::sleep(STEP);
                waited += STEP;
            }
        }
    }
}

/// Where root makes a file in a folder of the user that the gateway runs as, that user must be able to read it. Nobody
/// else may give files away, so that a failure means no more than that the file stays the maker's own.
fn give_to_owner_of(folder: &Path, file: &File) {
    if let (Ok(folder), Ok(own)) = (fs::metadata(folder), file.metadata())
        && folder.uid() != own.uid()
    {
        let _ = fchown(file, Some(folder.uid()), Some(folder.gid()));
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { doing, path, source }
}

fn file_name(path: &Path) -> Result<String, StoreError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| failed("use", path)(io::ErrorKind::InvalidFilename.into()))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// How long to wait for another process's change.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(5);
