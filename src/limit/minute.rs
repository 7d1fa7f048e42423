//! The sliding minute: how much came in the last 60 seconds.
//!
//! Invariant: what is admitted while `used + need <= limit` never comes to more than the limit in any 60 seconds. The minute
//! is kept in seconds, so that a call stops to count between 60 and 61 seconds after it came.
//! Never does: read a clock; time never goes back, because an earlier second than the last one counts as the last one.

use std::time::Duration;

/// Seconds that count: any 60 seconds touch at most 61 of them.
const SLOTS: usize = 61;
const WINDOW: u64 = SLOTS as u64;

/// What came, by the second.
#[derive(Clone, Debug)]
pub(super) struct Minute {
    slots: [u64; SLOTS],
    /// The last second that was seen.
    newest: u64,
    used: u64,
}

impl Minute {
    /// A minute in which nothing came.
    pub(super) fn new() -> Self {
        Self { slots: [0; SLOTS], newest: 0, used: 0 }
    }

    /// Moves on to a time since some origin, and gives the second that counts for what comes now.
    pub(super) fn at(&mut self, since: Duration) -> u64 {
        let second = since.as_secs();
        if second > self.newest {
            if second - self.newest >= WINDOW {
                self.slots = [0; SLOTS];
                self.used = 0;
            } else {
                for old in self.newest + 1..=second {
                    self.used = self.used.saturating_sub(std::mem::take(&mut self.slots[index(old)]));
                }
            }
            self.newest = second;
        }
        self.newest
    }

    /// What came and still counts.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Counts so much in the second that was last moved to.
    pub(super) fn take(&mut self, count: u64) {
        let slot = &mut self.slots[index(self.newest)];
        let sum = slot.saturating_add(count).min(slot.saturating_add(u64::MAX - self.used));
        self.used += sum - *slot;
        *slot = sum;
    }

    /// Puts another amount in the place of one that was counted in a second; nothing where that does not count any more.
    pub(super) fn correct(&mut self, second: u64, counted: u64, actual: u64) {
        if second > self.newest || self.newest - second >= WINDOW {
            return;
        }
        let slot = &mut self.slots[index(second)];
        let gone = counted.min(*slot);
        *slot -= gone;
        self.used -= gone;
        let added = actual.min(u64::MAX - self.used);
        *slot = slot.saturating_add(added);
        self.used += added;
    }

    /// How long until so much more fits; `since` is the time that was last moved to.
    pub(super) fn fits_in(&self, limit: u64, need: u64, since: Duration) -> Duration {
        let mut used = self.used;
        for second in (self.newest + 1).saturating_sub(WINDOW)..=self.newest {
            if used.saturating_add(need) <= limit {
                break;
            }
            used -= self.slots[index(second)];
            if used.saturating_add(need) <= limit || second == self.newest {
                return Duration::from_secs(second + WINDOW).saturating_sub(since);
            }
        }
        Duration::ZERO
    }

    /// How long until nothing that came counts any more.
    pub(super) fn empty_in(&self, since: Duration) -> Duration {
        let last = (0..WINDOW).map(|ago| self.newest.saturating_sub(ago)).find(|second| self.slots[index(*second)] > 0);
        last.map_or(Duration::ZERO, |second| Duration::from_secs(second + WINDOW).saturating_sub(since))
    }
}

fn index(second: u64) -> usize {
    // Less than the number of slots.
    (second % WINDOW) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64, millis: u64) -> Duration {
        Duration::from_millis(seconds * 1000 + millis)
    }

    #[test]
    fn a_minute_is_over_at_its_edge() {
        let mut minute = Minute::new();
        minute.at(at(10, 900));
        minute.take(3);
        minute.at(at(70, 999));
        assert_eq!(minute.used(), 3);
        assert_eq!(minute.fits_in(3, 1, at(70, 999)), Duration::from_millis(1));
        minute.at(at(71, 0));
        assert_eq!(minute.used(), 0);
    }

    #[test]
    fn an_earlier_time_counts_as_the_last_one() {
        let mut minute = Minute::new();
        minute.at(at(100, 0));
        minute.take(1);
        assert_eq!(minute.at(at(5, 0)), 100);
        minute.take(1);
        assert_eq!(minute.used(), 2);
        minute.at(at(160, 0));
        assert_eq!(minute.used(), 2);
        minute.at(at(161, 0));
        assert_eq!(minute.used(), 0);
    }

    #[test]
    fn counts_stop_at_the_largest() {
        let mut minute = Minute::new();
        minute.take(u64::MAX);
        minute.take(5);
        assert_eq!(minute.used(), u64::MAX);
        minute.correct(0, u64::MAX, 1);
        minute.at(at(61, 0));
        assert_eq!(minute.used(), 0);
    }

    proptest! {
        #[test]
        fn never_more_than_the_limit_in_any_minute_and_nobody_is_refused_who_fits(
            limit in 1_u64..20,
            steps in proptest::collection::vec((0_u64..20_000, 1_u64..6, 0_u64..7), 1..200),
        ) {
            let mut minute = Minute::new();
            let mut since = Duration::ZERO;
            // When it came, how much was counted for it, and in which second.
            let mut came: Vec<(Duration, u64, u64)> = Vec::new();
            for (pause, need, actual) in steps {
                since += Duration::from_millis(pause);
                let second = minute.at(since);
                let within = |span: u64| {
                    let from = since.checked_sub(Duration::from_secs(span));
                    came.iter().filter(|(at, ..)| from.is_none_or(|from| *at > from)).map(|(_, count, _)| count).sum::<u64>()
                };
                prop_assert!(within(60) <= minute.used() && minute.used() <= within(61));
                if minute.used() + need <= limit {
                    prop_assert_eq!(minute.fits_in(limit, need, since), Duration::ZERO);
                    minute.take(need);
                    came.push((since, need, second));
                    prop_assert!(came.iter().filter(|(at, ..)| *at + Duration::from_secs(60) > since).map(|(_, count, _)| count).sum::<u64>() <= limit);
                } else {
                    prop_assert!(within(61) + need > limit, "refused wrongly");
                    if need <= limit {
                        let wait = minute.fits_in(limit, need, since);
                        let fits = |wait: Duration| {
                            let mut later = minute.clone();
                            later.at(since + wait);
                            later.used() + need <= limit
                        };
                        prop_assert!(fits(wait) && !fits(wait.saturating_sub(Duration::from_millis(1))));
                    }
                }
                let mut later = minute.clone();
                later.at(since + minute.empty_in(since));
                prop_assert_eq!(later.used(), 0);
                // One that came earlier turns out to have been less.
                let index = usize::try_from(actual).unwrap_or(0);
                if let Some((_, count, second)) = came.iter_mut().rev().nth(index) {
                    let less = (*count).min(actual);
                    minute.correct(*second, *count, less);
                    *count = less;
                }
            }
        }
    }
}
