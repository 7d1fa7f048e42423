//! Reloads: by SIGHUP, and of the key file without a signal; under load, and with what is no configuration at all.

mod applied;
mod memory;
mod storm;

use std::path::Path;
use std::time::Duration;

use ai_gateway::demo::Script;

use crate::lifecycle::is_whole;
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

const APPLIED: &str = r#"gateway_config_reloads_total{result="applied"}"#;
const REFUSED: &str = r#"gateway_config_reloads_total{result="refused"}"#;

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), text).expect("written");
}
