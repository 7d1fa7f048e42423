//! The record of all calls: what is asked of it, and what becomes of it when things go wrong.

mod asked;
mod faults;
mod kept;
mod kill;

use std::path::{Path, PathBuf};

use rusqlite::{Connection as Database, OpenFlags};
use serde_json::Value;

use crate::support::*;

/// Where the gateway of a folder keeps its ledger.
pub fn database(folder: &Path) -> PathBuf {
    folder.join("data/gateway.db")
}

/// The request ids and states in a ledger, by id; empty where it cannot be read now.
pub fn states(path: &Path) -> Vec<(String, String)> {
    let read = || -> rusqlite::Result<Vec<(String, String)>> {
        // Looking must not make one.
        let database = Database::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut statement = database.prepare("SELECT request_id, state FROM calls ORDER BY request_id")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    read().unwrap_or_default()
}

/// Whether a call of this id is there and over.
pub fn is_over(states: &[(String, String)], id: &str) -> bool {
    states.iter().any(|(own, state)| own == id && state != "intent")
}

/// What `ai-gateway usage` says in a gateway's folder, with these arguments.
async fn usage(folder: &Path, args: &[&str]) -> Ended {
    let args: Vec<&str> = ["usage"].iter().chain(args).copied().collect();
    Process::run(folder, &args, &[]).await
}

/// The same as JSON.
async fn usage_json(folder: &Path, args: &[&str]) -> Value {
    let args: Vec<&str> = ["--config", "gateway.yaml", "--json"].iter().chain(args).copied().collect();
    let ended = usage(folder, &args).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).expect("JSON")
}

/// A chat call; gives its request id.
async fn call(service: &Service) -> String {
    let answer = service.connect().await.post("/openai/v1/chat/completions", &chat("hello")).await;
    assert_eq!(answer.status, 200);
    answer.header("x-request-id").expect("an id").to_owned()
}
