//! Facts about windows of the calendar, with hand-set time.
//!
//! Never does: read a clock.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> SystemTime {
    humantime::parse_rfc3339(text).expect(text)
}

#[track_caller]
fn assert_window(per: Per, zone: &str, now: &str, start: &str, end: &str) {
    let zone = Zone::named(zone).expect(zone);
    let window = Window::around(per, &zone, at(now));
    let shown = |time| humantime::format_rfc3339_seconds(time).to_string();
    let (from, to) = window.times();
    assert_eq!((shown(from), to.map(shown)), (start.to_owned(), Some(end.to_owned())), "{per:?} around {now}");
}

const UTC: &str = "UTC";
const BERLIN: &str = "Europe/Berlin";

#[test]
fn a_window_begins_at_its_first_second_and_ends_before_the_next() {
    assert_window(Per::Day, UTC, "2026-11-25T00:00:00Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z");
    assert_window(Per::Day, UTC, "2026-11-25T23:59:59.999Z", "2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z");
    assert_window(Per::Day, UTC, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_window(Per::Week, UTC, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
    assert_window(Per::Week, UTC, "2026-11-29T23:59:59Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
    // The first days of a year belong to the week that began in the old one.
    assert_window(Per::Week, UTC, "2027-01-01T12:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z");
}

#[test]
fn months_end_when_they_do() {
    assert_window(Per::Month, UTC, "2026-02-28T23:59:59Z", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
    assert_window(Per::Month, UTC, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
    assert_window(Per::Month, UTC, "2026-01-31T12:00:00Z", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    assert_window(Per::Month, UTC, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z");
    assert_window(Per::Month, BERLIN, "2026-10-31T22:59:59Z", "2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z");
}

#[test]
fn days_are_as_long_as_daylight_saving_makes_them() {
    // 23 hours, 25 hours.
    assert_window(Per::Day, BERLIN, "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
    assert_window(Per::Day, BERLIN, "2026-10-25T00:30:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
    assert_window(Per::Week, BERLIN, "2026-10-25T22:30:00Z", "2026-10-18T22:00:00Z", "2026-10-25T23:00:00Z");
    // Here midnight itself is skipped, so that the day begins at one.
    let santiago = "America/Santiago";
    assert_window(Per::Day, santiago, "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z");
    // Here a whole day was.
    let apia = "Pacific/Apia";
    assert_window(Per::Day, apia, "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    assert_window(Per::Day, apia, "2011-12-30T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
    // Here the clock went back over midnight at 0:01, so that the old day came again.
    let newfoundland = "America/St_Johns";
    assert_window(Per::Day, newfoundland, "2006-10-29T02:29:59Z", "2006-10-28T02:30:00Z", "2006-10-29T02:30:00Z");
    assert_window(Per::Day, newfoundland, "2006-10-29T02:45:00Z", "2006-10-29T02:30:00Z", "2006-10-30T03:30:00Z");
}

#[test]
fn the_window_for_ever_has_no_end() {
    let window = Window::around(Per::Total, &Zone::UTC, at("2026-11-25T12:00:00Z"));
    assert_eq!((window, window.resets_in(at("2026-11-25T12:00:00Z"))), (Window::TOTAL, None));
    assert!(window.contains(i64::MIN) && window.contains(i64::MAX));
}

#[test]
fn a_reset_is_told_to_the_end() {
    let window = Window::around(Per::Day, &Zone::UTC, at("2026-11-25T12:00:00Z"));
    assert_eq!(window.resets_in(at("2026-11-25T23:59:59.5Z")), Some(Duration::from_millis(500)));
    assert_eq!(window.resets_in(at("2026-11-27T00:00:00Z")), Some(Duration::ZERO));
}

#[test]
fn a_zone_has_a_name_of_the_iana_database() {
    for name in ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"] {
        assert!(Zone::named(name).is_some(), "{name}");
    }
    for name in ["", "Berlin", "CEST", "Europe/Nowhere", "+01:00"] {
        assert!(Zone::named(name).is_none(), "{name}");
    }
}

#[test]
fn a_time_beyond_the_calendar_has_a_window() {
    for far in [UNIX_EPOCH + Duration::from_secs(1 << 45), UNIX_EPOCH - Duration::from_secs(1 << 45)] {
        for per in Per::ALL {
            assert!(Window::around(per, &Zone::UTC, far).contains(seconds(far)));
        }
    }
}

proptest! {
    #[test]
    fn windows_follow_each_other_without_gap_or_overlap(
        start in -3_000_000_000_i64..5_000_000_000,
        per in proptest::sample::select(vec![Per::Day, Per::Week, Per::Month]),
        zone in proptest::sample::select(vec![
            "UTC", "Europe/Berlin", "America/Santiago", "America/St_Johns", "Pacific/Apia", "Africa/Cairo",
            "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Tehran", "America/Havana", "Antarctica/Troll",
        ]),
    ) {
        let zone = Zone::named(zone).expect("a zone");
        let mut now = start;
        for _ in 0..40 {
            let window = Window::around(per, &zone, time(now));
            prop_assert!(window.contains(now), "{window:?} {now}");
            let end = window.end.expect("an end");
            let most = match per { Per::Day => 50, Per::Week => 7 * 24 + 26, _ => 31 * 24 + 26 };
            prop_assert!(end - window.start <= most * 3600, "{window:?}");
            // Each second of it has it.
            for within in [window.start, i64::midpoint(window.start, end), end - 1] {
                prop_assert_eq!(Window::around(per, &zone, time(within)), window);
            }
            let next = Window::around(per, &zone, time(end));
            prop_assert_eq!(next.start, end);
            now = end;
        }
    }
}
