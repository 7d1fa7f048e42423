//! Fuzzed: the arithmetic of minutes and windows, with numbers from one end to the other.
//!
//! Never does: count as the limiter does; each amount is kept and added up anew.

use std::time::{Duration, UNIX_EPOCH};

use crate::limit::minute::Minute;
use crate::limit::window::{Window, Zone};
use crate::units::tests::fuzz::{fuzz, text};
use crate::units::{Limits, Per};

/// Eight bytes at a time, as numbers that are often very small or very large.
fn numbers(input: &[u8]) -> Vec<u64> {
    let number = |bytes: &[u8]| {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        let number = u64::from_le_bytes(eight);
        match number % 5 {
            0 => number % 100,
            1 => u64::MAX - number % 100,
            2 => i64::MAX as u64 - 50 + number % 100,
            3 => number % 100_000_000_000,
            _ => number,
        }
    };
    input.chunks(8).map(number).collect()
}

#[test]
fn fuzz_a_minute_never_counts_less_than_came() {
    fuzz!(20_000, |input: &[u8]| {
        let (mut minute, mut taken) = (Minute::new(), Vec::<(u64, u64)>::new());
        for three in numbers(input).chunks_exact(3) {
            let (since, count, limit) = (Duration::from_secs(three[0] % 400), three[1], three[2]);
            let now = minute.at(since);
            let counts = |(second, _): &&(u64, u64)| now - second < 61;
            let sum = taken.iter().filter(counts).map(|(_, count)| u128::from(*count)).sum::<u128>();
            assert_eq!(u128::from(minute.used()), sum.min(u128::from(u64::MAX)));
            if minute.used().checked_add(count).is_some_and(|sum| sum <= limit) {
                minute.take(count);
                taken.push((now, count));
            } else {
                let wait = minute.fits_in(limit, count, Duration::from_secs(now));
                let mut later = minute.clone();
                later.at(Duration::from_secs(now) + wait);
                let fits = later.used().saturating_add(count) <= limit;
                assert!(fits || count > limit || later.used() == 0, "{count} of {limit} in {wait:?}");
            }
        }
    });
}

#[test]
fn fuzz_each_time_is_in_its_window_and_in_no_other() {
    let zones =
        ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca", "Australia/Lord_Howe"];
    let zones = zones.map(|name| Zone::named(name).expect("a zone"));
    fuzz!(20_000, |input: &[u8]| {
        for (index, number) in numbers(input).into_iter().enumerate() {
            let zone = &zones[index % zones.len()];
            // To the year 9999, and far beyond.
            let Some(at) = UNIX_EPOCH.checked_add(Duration::from_secs(number % (1 << (34 + index % 25)))) else {
                continue;
            };
            let second = i64::try_from(at.duration_since(UNIX_EPOCH).expect("later").as_secs()).expect("not that late");
            for per in Per::ALL {
                let window = Window::around(per, zone, at);
                assert!(window.contains(second), "{per:?} {number}: {window:?}");
                let Some(end) = window.end.filter(|end| *end < i64::MAX) else { continue };
                assert!(window.start < end);
                let next = Window::around(per, zone, UNIX_EPOCH + Duration::from_secs(end as u64));
                if next.end.is_some_and(|end| end < i64::MAX) {
                    assert_eq!(next.start, end, "{per:?}: one follows the other");
                }
            }
        }
    });
}

#[test]
fn fuzz_limits_are_told_as_they_are_read() {
    let words = [
        "requests_per_minute=",
        "tokens_per_minute=",
        "concurrent_requests=",
        "usd/",
        "tokens/",
        "day=",
        "week=",
        "month=",
        "total=",
        "shadow",
        "1",
        "0",
        "12.5",
        ".",
        "-",
        "+1",
        "1e9",
        "18446744073709551615",
        "99999999999999999999999",
        "=",
        "/",
        " ",
        "0.000000000001",
        "000",
        "\u{661}",
        "",
    ];
    fuzz!(20_000, |input: &[u8]| {
        let mut limits = Limits::default();
        for three in input.chunks(3) {
            let text = text(three, &words);
            if limits.set(&text).is_ok() {
                assert!(limits.all().all(|(_, value)| value > 0), "{text}");
            }
        }
        let (told, mut again) = (limits.to_string(), Limits::default());
        told.split(", ").filter(|text| !text.is_empty()).for_each(|text| again.set(text).expect(text));
        assert_eq!((again.to_string(), &again), (told, &limits));
    });
}
