//! The access line: one JSON object a call in the shape of the original's log, and a second one where it failed.
//!
//! Invariant: every line is valid JSON whatever bytes the client sent, and holds no key: the record has none.
//! Never does: make strings on the way; everything is formatted into one buffer a thread that is used again.

use std::cell::Cell;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::log::LogWriter;
use crate::error::Refusal;
use crate::flow::Record;
use crate::units::Usd;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// The second of the last line, since 1970, and how it is written.
    static SECOND: Cell<(u64, [u8; SECONDS])> = const { Cell::new((u64::MAX, [0; SECONDS])) };
}

/// When it begins, in seconds since 1970.
const YEAR_10000: u64 = 253_402_300_800;
/// Bytes of `2026-11-30T12:00:00`.
const SECONDS: usize = 19;

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
    timestamp(line, at);
    line.push(b'"');
    line.extend_from_slice(origin);
}

/// As RFC 3339, in milliseconds. A year of five digits has no such text.
fn timestamp(line: &mut Vec<u8>, at: SystemTime) {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (second, text) = SECOND.get();
    if second == since.as_secs() {
        line.extend_from_slice(&text);
    } else {
        if since.as_secs() >= YEAR_10000 {
            return;
        }
        let start = line.len();
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
        let _ = write!(line, "{}", humantime::format_rfc3339_seconds(whole));
        line.truncate(start + SECONDS);
        if let Ok(text) = line[start..].try_into() {
            SECOND.set((since.as_secs(), text));
        }
    }
    let millis = since.subsec_millis();
    line.push(b'.');
    line.extend([millis / 100, millis / 10 % 10, millis % 10].map(|digit| b'0' + digit as u8));
    line.push(b'Z');
}

/// A number, which `write!` takes ten times as long for.
fn number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Closes a line.
pub(super) fn finish(line: &mut Vec<u8>, message: &str) {
    line.extend_from_slice(br#"},"message":"#);
    string(line, message);
    line.extend_from_slice(b"}\n");
}

/// A JSON string. Writing to memory does not fail.
pub(super) fn string(line: &mut Vec<u8>, text: &str) {
    let needs_escape = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // All bytes are looked at, which goes by the dozen.
    if text.bytes().fold(false, |any, byte| any | needs_escape(byte)) {
        let _ = serde_json::to_writer(line, text);
        return;
    }
    line.push(b'"');
    line.extend_from_slice(text.as_bytes());
    line.push(b'"');
}

fn meta(line: &mut Vec<u8>, record: &Record) {
    line.extend_from_slice(br#""method":"#);
    string(line, record.method.as_str());
    text(line, r#","path":"#, Some(&record.path));
    text(line, r#","providerName":"#, record.provider());
    text(line, r#","model":"#, record.model.as_deref());
    text(line, r#","username":"#, record.username());
    text(line, r#","keyId":"#, record.key.as_ref().map(|key| key.record.id.as_str()));
    let on_behalf_of = record.on_behalf_of.as_deref().or_else(|| record.username());
    text(line, r#","onBehalfOf":"#, on_behalf_of);
    line.extend_from_slice(br#","statusCode":""#);
    number(line, record.status.into());
    line.push(b'"');
    text(line, r#","requestId":"#, Some(&record.request_id));
    count(line, r#","durationMs":"#, whole_milliseconds(record.duration));
    count(line, r#","overheadUs":"#, u64::try_from(record.overhead.as_micros()).unwrap_or(u64::MAX));
    count(line, r#","attempts":"#, record.attempts.into());
    tried(line, record);
    spent(line, record);
    if let Some(client) = record.client {
        line.extend_from_slice(br#","clientAddress":""#);
        address(line, client);
        line.push(b'"');
    }
    text(line, r#","code":"#, record.refusal.as_ref().map(Refusal::code));
    text(line, r#","cause":"#, record.refusal.as_ref().and_then(Refusal::cause).as_deref());
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
        text(line, r#","model":"#, tried.model.as_deref());
        text(line, r#","outcome":"#, Some(tried.outcome));
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
        count(line, r#","ttftMs":"#, whole_milliseconds(first_token));
    }
    if record.key.is_none() {
        return;
    }
    let spent = &record.spent;
    text(line, r#","certainty":"#, Some(spent.certainty.name()));
    if let Some(usage) = &spent.usage {
        line.extend_from_slice(br#","usage":{"#);
        let kinds = usage.kinds().into_iter().filter(|(kind, count)| *count > 0 || matches!(*kind, "input" | "output"));
        for (index, (kind, tokens)) in kinds.enumerate() {
            line.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            line.extend_from_slice(kind.as_bytes());
            line.extend_from_slice(b"\":");
            number(line, tokens);
        }
        line.push(b'}');
    }
    if let Some(cost) = spent.cost {
        let mut room = Usd::ROOM;
        line.extend_from_slice(br#","cost":""#);
        line.extend_from_slice(cost.decimal(&mut room).as_bytes());
        line.push(b'"');
    }
    text(line, r#","answeredModel":"#, spent.model.as_deref());
}

/// A member that is a text; `name` with what stands around it.
fn text(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        line.extend_from_slice(name.as_bytes());
        string(line, value);
    }
}

/// The same of a number.
fn count(line: &mut Vec<u8>, name: &str, value: u64) {
    line.extend_from_slice(name.as_bytes());
    number(line, value);
}

fn address(line: &mut Vec<u8>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        let _ = write!(line, "{address}");
        return;
    };
    for (index, byte) in address.octets().into_iter().enumerate() {
        if index > 0 {
            line.push(b'.');
        }
        number(line, byte.into());
    }
}

/// Rounded as the original does it.
pub(super) fn whole_milliseconds(duration: Duration) -> u64 {
    u64::try_from((duration.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut line = Vec::new();
        write(&mut line);
        String::from_utf8(line).expect("text")
    }

    #[test]
    fn numbers_and_addresses_are_written_as_the_standard_library_does() {
        for value in [0, 9, 10, 99, 1_234_567_890, u64::MAX] {
            assert_eq!(written(|line| number(line, value)), value.to_string());
        }
        for text in ["127.0.0.1", "0.0.0.0", "255.10.9.100", "::1", "2001:db8::7"] {
            let parsed = text.parse().expect("an address");
            assert_eq!(written(|line| address(line, parsed)), text);
        }
    }

    #[test]
    fn texts_are_json_whatever_is_in_them() {
        for text in ["", "plain", "\u{e9}\u{1f600}\u{7f}", "a \"quote\"", "back\\slash", "line\nfeed", "\u{0}"] {
            assert_eq!(written(|line| string(line, text)), serde_json::Value::from(text).to_string());
        }
    }

    #[test]
    fn the_second_is_kept_only_for_itself() {
        for millis in [0, 1, 999, 1000, 1_795_737_600_042, 1_795_737_600_999, 1_795_737_601_000, 42] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(written(|line| timestamp(line, at)), humantime::format_rfc3339_millis(at).to_string());
        }
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(written(|line| timestamp(line, late)), "");
    }
}
