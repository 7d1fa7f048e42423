//! The ledger while two processes serve: each minds its own calls.
//!
//! Never does: wait for a time; the database tells who was heard of.

use ai_gateway::demo::Script;
use rusqlite::Connection as Database;

use super::*;
use crate::ledger::{database, states};

/// A stream that cannot end before its client reads it: more than all buffers on the way have room for.
fn large() -> Script {
    let word = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}},\"finish_reason\":null}}]}}\n\n",
        "x".repeat(60_000)
    );
    let end = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":300,\"total_tokens\":307}}\n\n",
        "data: [DONE]\n\n",
    ];
    Script::events(std::iter::repeat_n(word.as_str(), 500).chain(end))
}

/// When each instance that is alive was heard of last, by its name.
fn heard(database: &Database) -> Vec<(String, i64)> {
    let read = || -> rusqlite::Result<Vec<(String, i64)>> {
        let mut statement = database.prepare("SELECT id, seen_us FROM instances ORDER BY id")?;
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    read().unwrap_or_default()
}

#[tokio::test]
async fn a_call_of_the_old_process_stays_an_intent_until_it_ends() {
    let mut service = old().await;
    service.provider.script(large().on("/v1/chat/completions"));
    let (connection, head) = begin_stream(service.connect().await, &chat_stream("x")).await;
    let id = head.header("x-request-id").expect("an id").to_owned();
    let path = database(service.folder.path());
    let state = || states(&path).into_iter().find_map(|(own, state)| (own == id).then_some(state));
    eventually("it is an intent", async || state().as_deref() == Some("intent")).await;
    let mut old = upgrade(&mut service).await;
    old.says("INFO listeners are closed, 1 calls run on").await;

    // Both are heard of again: the new one has looked for calls of the dead, and the old one still says that it lives.
    let reader = Database::open(&path).expect("opened");
    reader.busy_timeout(SOON).expect("set");
    eventually("both are known", async || heard(&reader).len() == 2).await;
    let first = heard(&reader);
    eventually("both are heard of again", async || {
        let now = heard(&reader);
        now.len() == 2 && now.iter().zip(&first).all(|(now, before)| now.0 == before.0 && now.1 > before.1)
    })
    .await;
    assert_eq!(state().as_deref(), Some("intent"));

    let answer = service.connect().await.post("/openai/v1/chat/completions", &chat("x")).await;
    assert_eq!(answer.status, 200);
    let text = rest((connection, head)).await;
    assert!(text.ends_with("data: [DONE]\n\n"));
    assert_eq!(old.end().await.code, Some(0));
    let call = "SELECT state, instance, input, output FROM calls WHERE request_id = ?1";
    let told = |id: &str| -> (String, String, i64, i64) {
        let row = reader.query_row(call, [id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        row.expect("a row")
    };
    let (state, by, input, output) = told(&id);
    assert_eq!((state.as_str(), input, output), ("settled", 7, 300), "its end has written it");
    let other = answer.header("x-request-id").expect("an id");
    eventually("the call of the new one is there", async || crate::ledger::is_over(&states(&path), other)).await;
    assert_ne!(told(other).1, by, "each by its own process");
    let left: Vec<String> = heard(&reader).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [told(other).1], "the old one took its leave");
}
