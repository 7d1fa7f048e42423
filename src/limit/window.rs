//! Windows of the calendar: day, week from Monday, month, in a zone; and for ever.
//!
//! Invariant: the windows of one kind and zone follow each other without a gap or an overlap, whatever the zone does to its
//! clocks; the only place that knows `jiff`.
//! Never does: read a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::units::Per;

/// A time zone, by whose midnights days begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A span of time, in whole seconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Its first second. It names the window among those of its kind.
    pub start: i64,
    /// The first second behind it; `None` for the one that does not end.
    pub end: Option<i64>,
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// A zone by its name in the IANA database, such as `Europe/Berlin`.
    pub fn named(name: &str) -> Option<Self> {
        TimeZone::get(name).ok().map(Self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::UTC
    }
}

impl Window {
    /// The window without an end.
    pub const TOTAL: Self = Self { start: 0, end: None };

    /// The window of a kind that a time is in.
    pub fn around(per: Per, zone: &Zone, at: SystemTime) -> Self {
        if per == Per::Total {
            return Self::TOTAL;
        }
        let at = seconds(at);
        // Only times outside the years that jiff knows have no window.
        Self::of_calendar(per, &zone.0, at)
            .unwrap_or_else(|| Self { start: at - at.rem_euclid(A_DAY), end: Some(i64::MAX) })
    }

    fn of_calendar(per: Per, zone: &TimeZone, at: i64) -> Option<Self> {
        let date = Timestamp::from_second(at).ok()?.to_zoned_datetime(zone.clone()).date();
        let (mut first, length) = match per {
            Per::Week => (date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days()).ok()?, 1.week()),
            Per::Month => (date.first_of_month(), 1.month()),
            Per::Day | Per::Total => (date, 1.day()),
        };
        // A clock that is set back over midnight brings the end of a day twice: what is behind its first end is the next.
        let mut next = first.checked_add(length).ok()?;
        while begin(next, zone)? <= at {
            (first, next) = (next, next.checked_add(length).ok()?);
        }
        Some(Self { start: begin(first, zone)?, end: Some(begin(next, zone)?) })
    }

    /// Tells whether a time is in it.
    pub fn contains(&self, at: i64) -> bool {
        self.end.is_none() || (self.start <= at && !self.is_over(at))
    }

    /// Tells whether it is over.
    pub fn is_over(&self, at: i64) -> bool {
        self.end.is_some_and(|end| end <= at)
    }

    /// When it begins and ends.
    pub fn times(&self) -> (SystemTime, Option<SystemTime>) {
        (time(self.start), self.end.map(time))
    }

    /// How long it lasts from now on.
    pub fn resets_in(&self, now: SystemTime) -> Option<Duration> {
        self.end.map(|end| time(end).duration_since(now).unwrap_or_default())
    }
}

/// The first second of a date: 00:00, or where the clock skips that, the first second that there is.
fn begin(date: Date, zone: &TimeZone) -> Option<i64> {
    let midnight = date.at(0, 0, 0, 0);
    Some(zone.to_ambiguous_timestamp(midnight).compatible().ok()?.as_second())
}

/// Whole seconds since 1970.
pub(super) fn seconds(at: SystemTime) -> i64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

fn time(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) };
    time.unwrap_or(UNIX_EPOCH)
}

const A_DAY: i64 = 86_400;

#[cfg(test)]
mod tests;
