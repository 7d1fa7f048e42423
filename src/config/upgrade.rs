//! Where another process asks for the listeners: `server.upgrade_socket`.
//!
//! Never does: touch the file.

use std::path::{Path, PathBuf};

use super::UpgradeSocket;
use super::compile::Check;
use super::report::FieldPath;

/// The longest path of a unix socket: what the system takes less the end of the text. Source: unix(7).
const MAX_SOCKET_PATH: usize = 107;

/// Compiles the field; `None` is for `off`, or where there is no folder for it.
pub(super) fn socket(check: &mut Check<'_>, text: &str) -> Option<UpgradeSocket> {
    let (path, named) = match text {
        "off" => return None,
        "auto" => {
            // systemd's may be several folders.
            let runtime = check.environment.get("RUNTIME_DIRECTORY").and_then(|folders| folders.split(':').next());
            let folder = runtime.or_else(|| check.environment.get("XDG_RUNTIME_DIR"))?;
            (Path::new(folder).join("ai-gateway.sock"), false)
        }
        // Left as it is where it is relative to the working directory, so that it stays short.
        path if check.directory == Path::new(".") => (PathBuf::from(path), true),
        path => (check.directory.join(path), true),
    };
    let field = FieldPath::of("server.upgrade_socket");
    let hint = "such as /run/ai-gateway/upgrade.sock; \"off\" for none";
    if text.is_empty() || text.contains('\0') || text.ends_with('/') {
        check.refuse_with(&field, "expected a path of a socket, \"auto\" or \"off\"", hint);
    } else if path.as_os_str().len() > MAX_SOCKET_PATH {
        let message = format!("expected a path of up to {MAX_SOCKET_PATH} bytes, which is all that a socket may have");
        check.refuse_with(&field, message, hint);
    }
    Some(UpgradeSocket { path, named })
}
