//! Whether the database hangs: a write that neither ends nor fails, of which the thread that waits for it can say nothing.
//!
//! Invariant: is told once, and so is its end.
//! Never does: look at the queue or a clock; how long a record waits is handed in.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A record that waits for so long tells that the database hangs.
pub(super) const HANGS: Duration = Duration::from_secs(10);

/// Whether it was told that it hangs, and no end since.
#[derive(Debug, Default)]
pub(super) struct Hang(AtomicBool);

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It hangs: a record has been waiting for so long.
    Hangs(Duration),
    /// It does not any more.
    IsOver,
}

impl Hang {
    /// What is news where the oldest record has been waiting for so long. `is_told`: what is wrong with the database is known.
    pub(super) fn news(&self, lag: Duration, is_told: bool) -> Option<News> {
        let hangs = lag >= HANGS;
        let was_told = self.0.load(Ordering::Relaxed);
        let changes = if hangs { !was_told && !is_told } else { was_told };
        // Of several that see it at once, one tells it.
        let is_news = changes && self.0.swap(hangs, Ordering::Relaxed) != hangs;
        is_news.then_some(if hangs { News::Hangs(lag) } else { News::IsOver })
    }
}

impl News {
    pub(super) fn log(self, path: &Path, dropped: u64) {
        let path = path.display();
        match self {
            Self::Hangs(lag) => log::error!(
                "the ledger {path} hangs: a record has been waiting for {} s. Calls go on; their records are held as long as \
                 there is room",
                lag.as_secs()
            ),
            Self::IsOver => {
                log::info!("the ledger {path} does not hang any more; records lost since the start: {dropped}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::queue::Queue;
    use super::super::row::Entry;
    use super::*;
    use crate::ledger::tests::{at, settled};

    #[test]
    fn a_record_that_waits_for_ten_seconds_is_told_once() {
        let (queue, hang) = (Queue::new(100), Hang::default());
        let push = |id: u64| queue.push(Entry::Settled(Box::new(settled(&id.to_string(), "ann", at(0)))));
        let looked: Vec<bool> = (1..=9).map(|id| push(id).is_some()).collect();
        assert_eq!(looked, [true, true, false, true, false, false, false, true, false], "seldom, but again and again");
        let start = Instant::now();
        let after = |seconds: u64| hang.news(queue.lag(start + Duration::from_secs(seconds)), false);
        assert_eq!((after(0), after(9)), (None, None));
        assert!(matches!(after(11), Some(News::Hangs(lag)) if lag >= HANGS));
        assert_eq!((after(12), after(60)), (None, None), "it was told");
        // The writer has them in hand, and is stuck with them.
        let mut batch = Vec::new();
        queue.take(&mut batch, start);
        assert_eq!((batch.len(), after(61)), (9, None));
        queue.finished(9);
        assert_eq!((after(62), after(63)), (Some(News::IsOver), None));
        push(10);
        assert_eq!(after(5), None);
        assert!(matches!(after(100), Some(News::Hangs(_))), "another time");
    }

    #[test]
    fn what_is_known_to_be_wrong_is_no_hang() {
        let hang = Hang::default();
        assert_eq!((hang.news(HANGS, true), hang.news(Duration::ZERO, false)), (None, None));
        assert_eq!(hang.news(HANGS, false), Some(News::Hangs(HANGS)));
        assert_eq!(hang.news(Duration::ZERO, true), Some(News::IsOver));
    }
}
