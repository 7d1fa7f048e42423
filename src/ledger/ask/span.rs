//! Moments as people write them: `7d` ago, a day, a time.
//!
//! Invariant: a day begins at midnight UTC, as the days of reports do.
//! Never does: read a clock; `now` is handed in.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::ledger::row::micros_since_1970;

/// What is expected, for messages.
pub(super) const EXPECTED: &str =
    "a span such as 7d or 12h, a day such as 2026-11-01, or a time such as 2026-11-01T12:00:00Z";

/// In microseconds.
const SECOND: i64 = 1_000_000;

/// In microseconds since 1970; a span ago is told by the second.
pub(super) fn moment(text: &str, now: SystemTime) -> Option<i64> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let then = now.checked_sub(ago).map_or(0, micros_since_1970).max(0);
        return Some(then - then % SECOND);
    }
    let is_day = text.len() == "2026-11-01".len();
    let text = if is_day { format!("{text}T00:00:00Z") } else { text.to_owned() };
    text.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// A moment as RFC 3339 in UTC.
pub(super) fn told(micros: i64) -> String {
    Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn reads_spans_days_and_times() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_064_800_999);
        let told = |text| moment(text, now).map(told);
        assert_eq!(told("1d").as_deref(), Some("2025-11-24T10:00:00Z"));
        assert_eq!(told("90m").as_deref(), Some("2025-11-25T08:30:00Z"));
        assert_eq!(told("2025-11-01").as_deref(), Some("2025-11-01T00:00:00Z"));
        assert_eq!(told("2025-11-01T01:00:00+02:00").as_deref(), Some("2025-10-31T23:00:00Z"));
        assert_eq!(told("2025-11-01T01:00:00.5Z").as_deref(), Some("2025-11-01T01:00:00.5Z"));
        assert_eq!(told("99999y").as_deref(), Some("1970-01-01T00:00:00Z"));
        for wrong in ["", "yesterday", "7", "-7d", "2025-11-31", "2025-11-01T01:00:00", "=cmd", "1764064800"] {
            assert_eq!(told(wrong), None, "{wrong}");
        }
    }
}
