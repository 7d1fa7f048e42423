//! The life of a gateway: its start and its end, mostly as a real process with real signals. Reloads are in `reload`,
//! the change of the binary in `upgrade`.

mod start;
mod stop;

use std::time::Duration;

use ai_gateway::demo::Script;

use crate::support::*;

/// Reads the rest of a stream and tells whether all of it came.
pub(crate) async fn is_whole((mut connection, head): (Connection, Response)) -> bool {
    let answer = connection.body(head, false).await;
    answer.complete && answer.text().ends_with("data: [DONE]\n\n")
}
