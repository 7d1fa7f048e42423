//! The unix socket by which a new process finds the old one.
//!
//! Invariant: only its owner may connect; one that somebody answers is never taken away.
//! Never does: remove what is no socket.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::config::UpgradeSocket;
use crate::server::StartError;

/// A socket that a new process can connect to.
#[derive(Debug)]
pub(in crate::server) struct Socket {
    pub(super) listener: UnixListener,
    pub(super) path: PathBuf,
}

impl Socket {
    /// Listens there. `None` where the configuration leaves the place to us and it is of no use: then no process can take
    /// over, which is no reason not to serve.
    ///
    /// # Errors
    /// `UpgradeSocket`, where the configuration names a place that cannot be used.
    pub(in crate::server) fn open(wanted: Option<&UpgradeSocket>) -> Result<Option<Self>, StartError> {
        let Some(UpgradeSocket { path, named }) = wanted else {
            return Ok(None);
        };
        match listen(path) {
            Ok(listener) => Ok(Some(Self { listener, path: path.clone() })),
            Err(reason) if *named => Err(StartError::UpgradeSocket { path: path.display().to_string(), reason }),
            Err(reason) => {
                log::warn!("no process can take over from this one, the upgrade socket {}: {reason}", path.display());
                Ok(None)
            }
        }
    }

    /// Takes the socket away, so that nobody looks for a gateway there.
    pub(super) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path) {
            log::warn!("the upgrade socket {} could not be removed: {error}", self.path.display());
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener, String> {
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            make_room(path)?;
            UnixListener::bind(path)
        }
        bound => bound,
    };
    let ready = bound.and_then(|listener| {
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    ready.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "its folder does not exist (hint: make it, for the gateway's user alone)".to_owned(),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            format!("{error} (hint: the gateway's user needs to write into its folder)")
        }
        _ => error.to_string(),
    })
}

/// Removes what a process has left that did not end by itself.
fn make_room(path: &Path) -> Result<(), String> {
    let told = |error: io::Error| error.to_string();
    if !fs::symlink_metadata(path).map_err(told)?.file_type().is_socket() {
        return Err("there is a file of this name, and it is no socket".to_owned());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(told),
        Err(error) => Err(format!("somebody has it: {error}")),
        Ok(_) => {
            let hint = "give each gateway of this machine its own; to take over from that one, `serve --upgrade`";
            Err(format!("another gateway answers there (hint: {hint})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path, named: bool) -> Result<Option<Socket>, String> {
        let wanted = UpgradeSocket { path: path.to_owned(), named };
        Socket::open(Some(&wanted)).map_err(|error| error.to_string())
    }

    #[test]
    fn is_its_owners_alone_and_takes_the_place_of_a_dead_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("up.sock");
        drop(open(&path, true).expect("bound").expect("a socket"));
        let socket = open(&path, true).expect("bound again").expect("a socket");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        socket.remove();
        assert!(!path.exists());
    }

    #[test]
    fn one_that_lives_and_what_is_no_socket_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("up.sock");
        let living = open(&path, true).expect("bound").expect("a socket");
        let told = open(&path, true).expect_err("refused");
        assert!(told.contains("another gateway answers there"), "{told}");
        assert!(open(&path, false).expect("no reason not to serve").is_none());
        drop(living);
        let file = folder.path().join("file");
        fs::write(&file, "precious").expect("written");
        let told = open(&file, true).expect_err("refused");
        assert!(told.contains("it is no socket"), "{told}");
        assert_eq!(fs::read(&file).expect("there"), b"precious");
        let told = open(&folder.path().join("none/up.sock"), true).expect_err("refused");
        assert!(told.contains("its folder does not exist"), "{told}");
    }

    #[test]
    fn a_wish_for_none_is_granted() {
        assert!(Socket::open(None).expect("no reason not to serve").is_none());
    }
}
