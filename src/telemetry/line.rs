//! The access line: one JSON object a call in the shape of the original's log, and a second one where it failed.
//!
//! Invariant: every line is valid JSON whatever bytes the client sent, and holds no key: the record has none.
//! Never does: make strings on the way; everything is formatted into one buffer a thread that is used again.

use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, SystemTime};

use super::log::LogWriter;
use crate::error::Refusal;
use crate::flow::Record;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Writes the lines of a call that is over.
pub(super) fn access(writer: &LogWriter, record: &Record) {
    let mut line = BUFFER.take();
    line.clear();
    let at = record.started_at + record.duration;
    begin(&mut line, "INFO", at, writer.origin());
    let start = line.len();
    meta(&mut line, record);
    let end = line.len();
    finish(&mut line, "gateway request");
    // An answer that was cut behind its head keeps the status that the client got, but is no success.
    let failed = record.status >= 400 || record.refusal.is_some();
    if failed {
        begin(&mut line, "ERROR", at, writer.origin());
        line.extend_from_within(start..end);
        finish(&mut line, "gateway request failed");
    }
    writer.push(&line, 1 + usize::from(failed));
    BUFFER.set(line);
}

/// Opens a line, up to and with the brace of its `meta`.
pub(super) fn begin(line: &mut Vec<u8>, level: &str, at: SystemTime, origin: &[u8]) {
    line.extend_from_slice(br#"{"level":""#);
    line.extend_from_slice(level.as_bytes());
    line.extend_from_slice(br#"","timestamp":""#);
    let at = humantime::format_rfc3339_millis(at.max(SystemTime::UNIX_EPOCH));
    // Fails for years of five digits only; such a line has no timestamp.
    let _ = write!(line, "{at}");
    line.push(b'"');
    line.extend_from_slice(origin);
}

/// Closes a line.
pub(super) fn finish(line: &mut Vec<u8>, message: &str) {
    line.extend_from_slice(br#"},"message":"#);
    string(line, message);
    line.extend_from_slice(b"}\n");
}

/// A JSON string. Writing to memory does not fail.
pub(super) fn string(line: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(line, text);
}

fn meta(line: &mut Vec<u8>, record: &Record) {
    line.extend_from_slice(br#""method":"#);
    string(line, record.method.as_str());
    text(line, "path", Some(&record.path));
    text(line, "providerName", record.provider());
    text(line, "model", record.model.as_deref());
    text(line, "username", record.username());
    text(line, "keyId", record.key.as_ref().map(|key| key.record.id.as_str()));
    let on_behalf_of = record.on_behalf_of.as_deref().or_else(|| record.username());
    text(line, "onBehalfOf", on_behalf_of);
    let _ = write!(line, r#","statusCode":"{}""#, record.status);
    text(line, "requestId", Some(&record.request_id));
    let milliseconds = whole_milliseconds(record.duration);
    let microseconds = record.overhead.as_micros();
    let attempts = record.attempts;
    let _ = write!(line, r#","durationMs":{milliseconds},"overheadUs":{microseconds},"attempts":{attempts}"#);
    tried(line, record);
    spent(line, record);
    if let Some(client) = record.client {
        let _ = write!(line, r#","clientAddress":"{client}""#);
    }
    text(line, "code", record.refusal.as_ref().map(Refusal::code));
    text(line, "cause", record.refusal.as_ref().and_then(Refusal::cause).as_deref());
}

/// Each attempt, where the rest of the line does not tell it.
fn tried(line: &mut Vec<u8>, record: &Record) {
    let told = record.told_attempts();
    if told.is_empty() {
        return;
    }
    line.extend_from_slice(br#","tried":["#);
    for (index, tried) in told.iter().enumerate() {
        line.extend_from_slice(if index == 0 { br#"{"providerName":"# } else { br#",{"providerName":"# });
        string(line, tried.provider.as_str());
        text(line, "model", tried.model.as_deref());
        text(line, "outcome", Some(tried.outcome));
        if let Some(status) = tried.status {
            let _ = write!(line, r#","statusCode":"{status}""#);
        }
        let _ = write!(line, r#","durationMs":{}}}"#, whole_milliseconds(tried.duration));
    }
    line.push(b']');
}

/// What the call used and cost, where it was authenticated. Money is US dollars in a string, so that no reader rounds it.
fn spent(line: &mut Vec<u8>, record: &Record) {
    if let Some(first_token) = record.pace.first_token {
        let _ = write!(line, r#","ttftMs":{}"#, whole_milliseconds(first_token));
    }
    if record.key.is_none() {
        return;
    }
    let spent = &record.spent;
    text(line, "certainty", Some(spent.certainty.name()));
    if let Some(usage) = &spent.usage {
        line.extend_from_slice(br#","usage":{"#);
        let kinds = usage.kinds().into_iter().filter(|(kind, count)| *count > 0 || matches!(*kind, "input" | "output"));
        for (index, (kind, count)) in kinds.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(line, r#"{comma}"{kind}":{count}"#);
        }
        line.push(b'}');
    }
    if let Some(cost) = spent.cost {
        let _ = write!(line, r#","cost":"{cost}""#);
    }
    text(line, "answeredModel", spent.model.as_deref());
}

fn text(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        line.extend_from_slice(br#",""#);
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(br#"":"#);
        string(line, value);
    }
}

/// Rounded as the original does it.
pub(super) fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from((duration.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}
