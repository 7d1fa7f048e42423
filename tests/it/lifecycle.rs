//! The life of a gateway: its start, its reloads and its end, mostly as a real process with real signals.

mod reload;
mod start;
mod stop;

use std::path::Path;
use std::time::Duration;

use ai_gateway::demo::Script;

use crate::support::*;

/// A key that the original's generator made (`shared/keyfile.md`).
const OTHER_KEY: &str = "R6XiLWeArUl0UH15y0zynOkUWScYvLDYgD_AOk4JMwc";
/// A key file that holds it alone, with one scope.
const OTHER_KEY_FILE: &str = r#"{
  "2c2e5b7201c906daceb0899c9dd2fe0e3ad7e8b051bf600589e247ee08e07a2d": {
    "username": "other",
    "salt": "QlFkdWtiZmRDMG91R3VDeUNFS3JZQT09",
    "scopes": [{ "method": "get", "path": "/openai/v1/models" }, { "method": "get", "path": "/openai/v1/files" }]
  }
}"#;

/// Reads the rest of a stream and tells whether all of it came.
async fn is_whole((mut connection, head): (Connection, Response)) -> bool {
    let answer = connection.body(head, false).await;
    answer.complete && answer.text().ends_with("data: [DONE]\n\n")
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), text).expect("written");
}
