//! A family of metric series whose number has a ceiling, with handles that are found without formatting.
//!
//! Invariant: all families of one [`Budget`] together never export more series than it allows; where there is no room
//! for a label set, its dearest labels become `other`, rung by rung, and the last rung was paid for at the start.
//! Never does: forget a series; its labels must come from configuration or verified facts.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

/// What stands for all values that have no series of their own.
pub(super) const OTHER: &str = "other";

/// The series that all families of a gateway may have together, counted as lines of the exposition.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max })
    }

    /// Takes room for series that must exist whatever the ceiling.
    pub(super) fn reserve(&self, series: usize) {
        self.used.fetch_add(series, Ordering::Relaxed);
    }

    fn has_room(&self, series: usize, percent: usize) -> bool {
        self.used.load(Ordering::Relaxed) + series <= self.max * percent / 100
    }

    pub(super) fn take(&self, series: usize, percent: usize) -> bool {
        let ceiling = self.max * percent / 100;
        let grow = |used: usize| Some(used + series).filter(|used| *used <= ceiling);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).is_ok()
    }
}

/// One way to shorten a label set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rung {
    /// Positions of the labels that become `other`.
    pub(super) blank: &'static [usize],
    /// How much of the ceilings, in percent, must suffice. The rest is left for the rungs below.
    pub(super) percent: usize,
}

/// The size of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    /// Series that one label set exports.
    pub(super) cost: usize,
    /// Series that this family may have, within the common budget.
    pub(super) ceiling: usize,
    /// From the full label set to ever shorter ones; below the last one all labels are `other`.
    pub(super) rungs: &'static [Rung],
}

#[derive(Debug)]
struct Child<const N: usize, T> {
    labels: [Box<str>; N],
    series: T,
}

#[derive(Debug)]
struct Children<const N: usize, T> {
    by_hash: HashMap<u64, Vec<Child<N, T>>, RandomState>,
    used: usize,
}

/// All label sets of a metric that have `N` labels, and a handle of type `T` for each.
#[derive(Debug)]
pub(super) struct Family<const N: usize, T> {
    children: RwLock<Children<N, T>>,
    hasher: RandomState,
    shape: Shape,
    budget: Arc<Budget>,
}

enum Place<'f, 'l, const N: usize, T> {
    Found(&'f T),
    Missing { labels: [&'l str; N], percent: Option<usize> },
}

impl<const N: usize, T> Family<N, T> {
    /// An empty family; the set of nothing but `other` is paid for now.
    pub(super) fn new(shape: Shape, budget: &Arc<Budget>) -> Self {
        budget.reserve(shape.cost);
        Self {
            children: RwLock::new(Children { by_hash: HashMap::default(), used: shape.cost }),
            hasher: RandomState::default(),
            shape,
            budget: Arc::clone(budget),
        }
    }

    /// Runs `act` on the series of these labels, which `make` creates where they are new. `make` is given the labels
    /// as they shall be exported.
    pub(super) fn with<R>(
        &self,
        labels: [&str; N],
        make: impl Fn(&[&str; N]) -> Option<T>,
        act: impl Fn(&T) -> R,
    ) -> Option<R> {
        if let Place::Found(series) = self.place(&self.children.read(), labels) {
            return Some(act(series));
        }
        let mut children = self.children.write();
        loop {
            let (labels, percent) = match self.place(&children, labels) {
                Place::Found(series) => return Some(act(series)),
                Place::Missing { labels, percent } => (labels, percent),
            };
            // Another family may have taken the room since `place` saw it; then the next round finds a lower rung.
            if let Some(percent) = percent {
                if !self.budget.take(self.shape.cost, percent) {
                    continue;
                }
                children.used += self.shape.cost;
            }
            let child = Child { labels: labels.map(Box::from), series: make(&labels)? };
            let result = act(&child.series);
            let hash = self.hasher.hash_one(labels);
            children.by_hash.entry(hash).or_default().push(child);
            return Some(result);
        }
    }

    fn place<'f, 'l>(&self, children: &'f Children<N, T>, full: [&'l str; N]) -> Place<'f, 'l, N, T> {
        for rung in self.shape.rungs {
            let mut labels = full;
            for &at in rung.blank {
                labels[at] = OTHER;
            }
            if let Some(series) = self.find(children, &labels) {
                return Place::Found(series);
            }
            let room = children.used + self.shape.cost <= self.shape.ceiling * rung.percent / 100;
            if room && self.budget.has_room(self.shape.cost, rung.percent) {
                let percent = Some(rung.percent);
                return Place::Missing { labels, percent };
            }
        }
        let labels = [OTHER; N];
        match self.find(children, &labels) {
            Some(series) => Place::Found(series),
            None => Place::Missing { labels, percent: None },
        }
    }

    fn find<'f>(&self, children: &'f Children<N, T>, labels: &[&str; N]) -> Option<&'f T> {
        let same = |child: &&Child<N, T>| child.labels.iter().zip(labels).all(|(own, asked)| **own == **asked);
        let found = children.by_hash.get(&self.hasher.hash_one(labels))?;
        found.iter().find(same).map(|child| &child.series)
    }

    /// Shows every label set with its series, in no order.
    pub(super) fn each(&self, mut show: impl FnMut(&[Box<str>; N], &T)) {
        for child in self.children.read().by_hash.values().flatten() {
            show(&child.labels, &child.series);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNGS: &[Rung] = &[Rung { blank: &[], percent: 50 }, Rung { blank: &[1], percent: 100 }];

    fn shape(ceiling: usize) -> Shape {
        Shape { cost: 1, ceiling, rungs: RUNGS }
    }

    fn exported(family: &Family<2, String>, labels: [&str; 2]) -> String {
        let make = |labels: &[&str; 2]| Some(labels.join(","));
        family.with(labels, make, Clone::clone).expect("a series")
    }

    fn count(family: &Family<2, String>) -> usize {
        let mut count = 0;
        family.each(|_, _| count += 1);
        count
    }

    #[test]
    fn the_dearest_label_gives_way_first_and_the_ceiling_holds() {
        let family = Family::new(shape(10), &Budget::new(100));
        let seen: Vec<_> = (0..6).map(|model| exported(&family, ["a", &model.to_string()])).collect();
        assert_eq!(seen, ["a,0", "a,1", "a,2", "a,3", "a,other", "a,other"]);
        assert_eq!(exported(&family, ["a", "3"]), "a,3");
        for route in 0..100 {
            exported(&family, [&route.to_string(), "m"]);
        }
        assert_eq!(exported(&family, ["99", "m"]), "other,other");
        assert_eq!(count(&family), 10);
    }

    #[test]
    fn families_share_one_budget() {
        let budget = Budget::new(8);
        let (first, second) = (Family::new(shape(100), &budget), Family::new(shape(100), &budget));
        for label in 0..50 {
            exported(&first, [&label.to_string(), "x"]);
            exported(&second, [&label.to_string(), "x"]);
        }
        assert_eq!(count(&first) + count(&second), 8);
    }

    #[test]
    fn many_threads_make_each_series_once() {
        let family = Family::new(shape(1000), &Budget::new(1000));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for label in 0..100 {
                        exported(&family, [&label.to_string(), "x"]);
                    }
                });
            }
        });
        assert_eq!(count(&family), 100);
    }
}
