//! A summary over the last ten minutes: counts in logarithmic buckets, in a ring of slots of half a minute.
//!
//! Invariant: memory is bounded (20 slots of 304 counters, each allocated when first used, freed when it has passed);
//! a quantile is within 1/32 (3.2 %) of a value that was observed; below 32 ms it is exact; above 70 minutes it says 70.
//! Never does: read a clock; a clock that was set back by more than the window begins a new one.

const SLOTS: u64 = 20;
const SLOT_SECONDS: u64 = 30;

/// Values below this have a bucket of their own; above, each power of two is cut into `PARTS`.
const EXACT: u64 = 32;
const EXACT_BITS: u32 = 5;
const PARTS: u64 = 16;
const PARTS_BITS: u32 = 4;
const LARGEST: u64 = (1 << 22) - 1;
const BUCKETS: usize = 304;

/// What dashboards of the original ask for.
pub(super) const QUANTILES: [f64; 5] = [0.5, 0.75, 0.9, 0.95, 0.99];

#[derive(Debug, Default)]
struct Slot {
    /// Which half minute since 1970 this is.
    index: u64,
    counts: Option<Box<[u32; BUCKETS]>>,
}

/// A summary of milliseconds. Its quantiles slide, its sum and count are for life.
#[derive(Debug, Default)]
pub(super) struct Window {
    count: u64,
    sum: u64,
    newest: u64,
    slots: [Slot; SLOTS as usize],
}

/// What a summary exports.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    /// The values of [`QUANTILES`]; not a number where nothing was observed in the window.
    pub(super) quantiles: [f64; 5],
    /// Milliseconds of all observations for life.
    pub(super) sum: u64,
    /// Observations for life.
    pub(super) count: u64,
}

impl Window {
    /// Notes a duration at a time in seconds since 1970.
    pub(super) fn observe(&mut self, milliseconds: u64, now: u64) {
        self.count += 1;
        self.sum += milliseconds;
        let index = self.turn_to(now);
        let slot = &mut self.slots[(index % SLOTS) as usize];
        if slot.index != index {
            slot.counts = None;
            slot.index = index;
        }
        let counts = slot.counts.get_or_insert_with(|| Box::new([0; BUCKETS]));
        let count = &mut counts[bucket(milliseconds)];
        *count = count.saturating_add(1);
    }

    /// Reads the summary as it stands at a time in seconds since 1970, and frees the slots that have passed.
    pub(super) fn read(&mut self, now: u64) -> Reading {
        let newest = self.turn_to(now);
        let mut total = [0_u64; BUCKETS];
        for slot in &mut self.slots {
            if slot.index + SLOTS <= newest {
                slot.counts = None;
            }
            for (sum, count) in total.iter_mut().zip(slot.counts.iter().flat_map(|counts| counts.iter())) {
                *sum += u64::from(*count);
            }
        }
        Reading { quantiles: QUANTILES.map(|quantile| value_at(quantile, &total)), sum: self.sum, count: self.count }
    }

    fn turn_to(&mut self, now: u64) -> u64 {
        let index = now / SLOT_SECONDS;
        if index + SLOTS <= self.newest {
            self.slots = Default::default();
            self.newest = index;
        }
        self.newest = self.newest.max(index);
        self.newest
    }
}

fn bucket(milliseconds: u64) -> usize {
    let value = milliseconds.min(LARGEST);
    if value < EXACT {
        return value as usize;
    }
    let power = value.ilog2();
    let part = (value >> (power - PARTS_BITS)) % PARTS;
    (EXACT + u64::from(power - EXACT_BITS) * PARTS + part) as usize
}

/// The middle of a bucket.
fn value_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < EXACT {
        return bucket;
    }
    let above = (bucket - EXACT) / PARTS;
    let width = 1 << (above + u64::from(EXACT_BITS - PARTS_BITS));
    (PARTS + (bucket - EXACT) % PARTS) * width + (width - 1) / 2
}

/// The value that `quantile` of all observations do not exceed (nearest rank).
fn value_at(quantile: f64, total: &[u64; BUCKETS]) -> f64 {
    let count: u64 = total.iter().sum();
    let rank = ((quantile * count as f64).ceil() as u64).max(1);
    let mut seen = 0;
    let reached = total.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    reached.map_or(f64::NAN, |bucket| value_of(bucket) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forgets_after_ten_minutes_but_not_the_count() {
        let mut window = Window::default();
        let start = 1_764_000_000;
        window.observe(20, start);
        assert_eq!(window.read(start + 599).quantiles, [20.0; 5]);
        let later = window.read(start + 600);
        assert!(later.quantiles.iter().all(|value| value.is_nan()));
        assert_eq!((later.sum, later.count), (20, 1));
        window.observe(0, start + 600);
        let again = window.read(start + 601);
        assert_eq!(again.quantiles, [0.0; 5]);
        assert_eq!((again.sum, again.count), (20, 2));
    }

    #[test]
    fn frees_what_has_passed() {
        let mut window = Window::default();
        for second in 0..600 {
            window.observe(second, second);
        }
        window.read(100_000);
        assert!(window.slots.iter().all(|slot| slot.counts.is_none()));
    }

    #[test]
    fn a_clock_that_was_set_back_far_begins_a_new_window() {
        let mut window = Window::default();
        window.observe(1, 10_000_000);
        window.observe(7, 1_000);
        assert_eq!(window.read(1_000).quantiles, [7.0; 5]);
        window.observe(7, 990);
        assert_eq!(window.read(1_000).quantiles, [7.0; 5]);
    }

    #[test]
    fn quantiles_are_nearest_ranks() {
        let mut window = Window::default();
        for value in 1..=20 {
            window.observe(value, 50);
        }
        assert_eq!(window.read(50).quantiles, [10.0, 15.0, 18.0, 19.0, 20.0]);
    }

    proptest! {
        #[test]
        fn a_bucket_is_within_its_error(value in 0_u64..10_000_000) {
            let shown = value_of(bucket(value));
            let value = value.min(LARGEST);
            prop_assert!(shown.abs_diff(value) * 32 <= value, "{value} shown as {shown}");
        }

        #[test]
        fn buckets_keep_the_order(one in 0_u64..=LARGEST, other in 0_u64..=LARGEST) {
            let (small, large) = (one.min(other), one.max(other));
            prop_assert!(bucket(small) <= bucket(large) && bucket(large) < BUCKETS);
        }
    }
}
