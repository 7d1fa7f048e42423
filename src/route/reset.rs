//! When a provider says that one may ask again: the headers of a 429 or 503.
//!
//! Invariant: total: what cannot be understood counts as not said; no time is longer than a day.
//! Never does: read a clock; the wall clock of a date is an argument.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// The provider's own time until it may be asked again, where it says one. The most exact header goes first:
/// `retry-after-ms` (Azure OpenAI and OpenAI's SDKs), `retry-after` in seconds or as a date (RFC 9110 section 10.2.3),
/// then `x-ratelimit-reset-*` (platform.openai.com/docs/guides/rate-limits: `1s`, `6m0s`), of which those count whose
/// `x-ratelimit-remaining-*` is 0; where none is, the soonest. Last `anthropic-ratelimit-*-reset`, a time as in RFC 3339,
/// of limits that are used up alone: it says when a bucket is full again, which others are without any trouble
/// (platform.claude.com/docs/en/api/rate-limits, "Response headers"; all read 2026-11).
pub fn time_to_reset(headers: &HeaderMap, wall: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = || text("retry-after-ms").and_then(decimal).map(|ms| from_seconds(ms / 1000.0));
    let seconds = || text("retry-after").and_then(|text| retry_after(text, wall));
    let limit = |what: &str| {
        let span = text(&format!("x-ratelimit-reset-{what}")).and_then(span)?;
        let is_used_up = text(&format!("x-ratelimit-remaining-{what}")).and_then(decimal) == Some(0.0);
        Some((span, is_used_up))
    };
    let limits = || {
        let limits = [limit("requests"), limit("tokens")];
        let used_up = limits.iter().flatten().filter(|(_, is_used_up)| *is_used_up).map(|(span, _)| *span).max();
        used_up.or_else(|| limits.iter().flatten().map(|(span, _)| *span).min())
    };
    let anthropics = || {
        ANTHROPICS.iter().filter_map(|[remaining, reset]| {
            (text(remaining).and_then(decimal) == Some(0.0))
                .then(|| text(reset))
                .flatten()
                .and_then(|at| until(at, wall))
        })
    };
    milliseconds().or_else(seconds).or_else(limits).or_else(|| anthropics().max()).map(|span| span.min(A_DAY))
}

/// What is left of a limit of Anthropic's, and when it is whole again.
const ANTHROPICS: [[&str; 2]; 4] = [
    ["anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"],
    ["anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
    ["anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"],
    ["anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"],
];

const A_DAY: Duration = Duration::from_secs(86_400);

fn retry_after(text: &str, wall: SystemTime) -> Option<Duration> {
    if let Some(seconds) = decimal(text) {
        return Some(from_seconds(seconds));
    }
    Some(after(jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?, wall))
}

/// The time until a date of RFC 3339, with its offset.
fn until(text: &str, wall: SystemTime) -> Option<Duration> {
    text.parse().ok().map(|at| after(at, wall))
}

/// The time from now to then. A date that has passed says: now.
fn after(then: jiff::Timestamp, wall: SystemTime) -> Duration {
    let at = Duration::from_secs(u64::try_from(then.as_second()).unwrap_or_default());
    at.saturating_sub(wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

/// A span in Go's notation: numbers with units `h`, `m`, `s`, `ms`, `us` (or `µs`), `ns`, each once at most as it comes;
/// a bare number is seconds.
fn span(text: &str) -> Option<Duration> {
    if let Some(seconds) = decimal(text) {
        return Some(from_seconds(seconds));
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, next) = behind.split_at(letters);
        let unit = match unit {
            "d" => 86_400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        seconds += decimal(number)? * unit;
        rest = next;
    }
    (!text.is_empty()).then(|| from_seconds(seconds))
}

/// A number of digits with one point at most: no sign, no exponent, no `inf`.
fn decimal(text: &str) -> Option<f64> {
    let fine = text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if fine { text.parse().ok() } else { None }
}

fn from_seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(A_DAY)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    /// 1994-11-06T08:49:37Z, the date of RFC 9110's example.
    const THEN: Duration = Duration::from_secs(784_111_777);

    fn told(headers: &[(&'static str, &str)]) -> Option<Duration> {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
        };
        let headers: HeaderMap = headers.iter().map(pair).collect();
        time_to_reset(&headers, SystemTime::UNIX_EPOCH + THEN)
    }

    fn millis(ms: u64) -> Option<Duration> {
        Some(Duration::from_millis(ms))
    }

    #[test]
    fn reads_retry_after_in_seconds_and_as_a_date() {
        assert_eq!(told(&[("retry-after", "7")]), millis(7000));
        assert_eq!(told(&[("retry-after", " 0.5 ")]), millis(500));
        assert_eq!(told(&[("retry-after", "0")]), millis(0));
        assert_eq!(told(&[("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")]), millis(30_000));
        assert_eq!(told(&[("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")]), millis(0), "it has passed");
        for odd in ["", "-1", "soon", "1e9", "inf", "NaN", "0x10", "1 s", "Sun, 99 Nov 1994 08:50:07 GMT", "\u{661}"] {
            assert_eq!(told(&[("retry-after", odd)]), None, "{odd}");
        }
    }

    #[test]
    fn the_most_exact_header_goes_first() {
        let all = [("retry-after", "2"), ("retry-after-ms", "1500"), ("x-ratelimit-reset-requests", "9s")];
        assert_eq!(told(&all), millis(1500));
        assert_eq!(told(&[("retry-after", "2"), ("x-ratelimit-reset-requests", "9s")]), millis(2000));
        assert_eq!(told(&[("retry-after", "odd"), ("x-ratelimit-reset-tokens", "20ms")]), millis(20));
        assert_eq!(told(&[]), None);
    }

    #[test]
    fn of_two_limits_the_one_that_is_used_up_counts() {
        let reset = |requests, tokens| {
            told(&[
                ("x-ratelimit-reset-requests", "6m0s"),
                ("x-ratelimit-reset-tokens", "1s"),
                ("x-ratelimit-remaining-requests", requests),
                ("x-ratelimit-remaining-tokens", tokens),
            ])
        };
        assert_eq!(reset("0", "100"), millis(360_000));
        assert_eq!(reset("5", "0"), millis(1000));
        assert_eq!(reset("0", "0"), millis(360_000));
        assert_eq!(reset("5", "150"), millis(1000), "the soonest");
    }

    #[test]
    fn anthropics_limits_count_where_they_are_used_up() {
        let reset = |requests, output| {
            told(&[
                ("anthropic-ratelimit-requests-remaining", requests),
                ("anthropic-ratelimit-requests-reset", "1994-11-06T08:50:07Z"),
                ("anthropic-ratelimit-output-tokens-remaining", output),
                ("anthropic-ratelimit-output-tokens-reset", "1994-11-06T09:51:37+01:00"),
            ])
        };
        assert_eq!(reset("0", "100"), millis(30_000));
        assert_eq!(reset("5", "0"), millis(120_000), "with its offset");
        assert_eq!(reset("0", "0"), millis(120_000), "the later");
        assert_eq!(reset("5", "100"), None, "of 529, say, which is about neither");
        let odd = [("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", "soon")];
        assert_eq!(told(&odd), None);
        assert_eq!(told(&[odd[0], odd[1], ("retry-after", "7")]), millis(7000), "it goes first");
    }

    #[test]
    fn spans_have_units() {
        let read = |text| span(text).map(|span| span.as_micros());
        assert_eq!(read("1s"), Some(1_000_000));
        assert_eq!(read("6m0s"), Some(360_000_000));
        assert_eq!(read("20ms"), Some(20_000));
        assert_eq!(read("1h2m3.5s"), Some(3_723_500_000));
        assert_eq!(read("7.66s"), Some(7_660_000));
        assert_eq!(read("59"), Some(59_000_000));
        assert_eq!(read("12µs"), Some(12));
        for odd in ["", "s", "1x", "1s2", "-1s", "1 s", "1.2.3s", "1S"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn no_time_is_longer_than_a_day() {
        assert_eq!(told(&[("retry-after", "99999999999999999999")]), Some(A_DAY));
        assert_eq!(told(&[("x-ratelimit-reset-requests", "9999999h")]), Some(A_DAY));
        assert_eq!(told(&[("retry-after", "Sat, 06 Nov 2094 08:50:07 GMT")]), Some(A_DAY));
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(text in "[ -~]{0,40}") {
            let span = told(&[("retry-after", &text), ("x-ratelimit-reset-tokens", &text), ("retry-after-ms", &text)]);
            prop_assert!(span.is_none_or(|span| span <= A_DAY));
        }
    }
}
