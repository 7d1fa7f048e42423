//! The queue between the calls and the thread that writes.
//!
//! Invariant: handing in takes one short lock and waits for nobody; what is held, waiting and being written together, is
//! bounded, and what does not fit is counted.
//! Never does: any IO.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::row::Entry;

/// How long the writer gathers entries for one transaction, once there is a first one.
const GATHER: Duration = Duration::from_millis(50);
/// Entries after which it does not wait for more.
const FULL_BATCH: usize = 1_000;

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For those who flush or close: something was written, or the writer has ended.
    done: Condvar,
    capacity: usize,
    dropped: AtomicU64,
    /// Whether a drop was told and no recovery since.
    dropping: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<Entry>,
    /// Entries that the writer has taken and not written so far.
    taken: usize,
    accepted: u64,
    finished: u64,
    /// When the first of the pending ones, and of those that were taken, was handed in.
    oldest_pending: Option<Instant>,
    oldest_taken: Option<Instant>,
    /// Whether the writer looks at the queue soon without being woken.
    awake: bool,
    urgent: bool,
    /// Until when the writer may go on trying, once there will be no more entries.
    closing: Option<Instant>,
    /// Whether the writer has opened the database, or tried to.
    begun: bool,
    ended: bool,
}

/// What the writer is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Write what there is, see what is due, come back.
    Work,
    /// The same, but there will be no more; try until then.
    End(Instant),
}

impl State {
    fn lag(&self, now: Instant) -> Duration {
        self.oldest_taken.or(self.oldest_pending).map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest))
    }
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            capacity,
            dropped: AtomicU64::new(0),
            dropping: AtomicBool::new(false),
        }
    }

    /// Takes an entry in, or counts it as dropped. Now and then it gives how long the oldest one has been waiting: seldom enough
    /// that the clock costs nothing, and at the latest when that time has doubled since the last look.
    pub(super) fn push(&self, entry: Entry) -> Option<Duration> {
        let mut state = self.state.lock();
        let held = state.pending.len() + state.taken;
        if held >= self.capacity || state.closing.is_some() {
            drop(state);
            self.drop_one();
            return None;
        }
        state.pending.push(entry);
        state.accepted += 1;
        let lag = state.pending.len().is_power_of_two().then(|| {
            let now = Instant::now();
            if state.pending.len() == 1 {
                state.oldest_pending = Some(now);
            }
            state.lag(now)
        });
        let wake = !state.awake || state.pending.len() == FULL_BATCH;
        state.awake = true;
        drop(state);
        if wake {
            self.work.notify_one();
        }
        lag
    }

    #[cold]
    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        if !self.dropping.swap(true, Ordering::Relaxed) {
            log::error!("the ledger's queue of {} entries is full: further records are lost", self.capacity);
        }
    }

    /// Counts entries that the writer gave up.
    pub(super) fn lost(&self, entries: u64) {
        self.dropped.fetch_add(entries, Ordering::Relaxed);
    }

    /// Tells whether entries were dropped since this was asked last.
    pub(super) fn has_dropped(&self) -> bool {
        self.dropping.swap(false, Ordering::Relaxed)
    }

    /// Waits for entries, at most until `until`, and appends them to `batch`. With a batch that could not be written
    /// before it waits for `until` alone, or for somebody who is in a hurry.
    pub(super) fn take(&self, batch: &mut Vec<Entry>, until: Instant) -> Next {
        let mut state = self.state.lock();
        if batch.is_empty() {
            while state.pending.is_empty() && !state.urgent && state.closing.is_none() {
                state.awake = false;
                if self.work.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
            state.awake = true;
            if !state.pending.is_empty() {
                let gathering =
                    |state: &mut State| !state.urgent && state.closing.is_none() && state.pending.len() < FULL_BATCH;
                self.work.wait_while_for(&mut state, gathering, GATHER);
            }
        } else {
            let waiting = |state: &mut State| !state.urgent && state.closing.is_none();
            self.work.wait_while_until(&mut state, waiting, until);
        }
        state.urgent = false;
        if batch.is_empty() {
            state.oldest_taken = state.oldest_pending;
        }
        if !state.pending.is_empty() {
            state.oldest_pending = None;
            state.taken += state.pending.len();
            batch.append(&mut state.pending);
        }
        state.closing.map_or(Next::Work, Next::End)
    }

    /// Notes that so many of the taken entries are written, or given up.
    pub(super) fn finished(&self, entries: usize) {
        let mut state = self.state.lock();
        state.taken = state.taken.saturating_sub(entries);
        state.finished += entries as u64;
        if state.taken == 0 {
            state.oldest_taken = None;
        }
        drop(state);
        self.done.notify_all();
    }

    /// Notes that the writer has opened the database, or tried to: who flushes does not come before it.
    pub(super) fn begun(&self) {
        self.state.lock().begun = true;
        self.done.notify_all();
    }

    /// Notes that the writer has ended.
    pub(super) fn ended(&self) {
        self.state.lock().ended = true;
        self.done.notify_all();
    }

    /// Waits until all that was handed in before is written, but never longer than `at_most`. Tells whether it is.
    pub(super) fn flush(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        let target = state.accepted;
        state.urgent = true;
        state.awake = true;
        self.work.notify_one();
        let unfinished = |state: &mut State| (state.finished < target || !state.begun) && !state.ended;
        !self.done.wait_while_for(&mut state, unfinished, at_most).timed_out() && state.finished >= target
    }

    /// Takes nothing more in; the writer goes on for at most so long.
    pub(super) fn close(&self, at_most: Duration) {
        let mut state = self.state.lock();
        state.closing.get_or_insert_with(|| Instant::now() + at_most);
        self.work.notify_one();
    }

    /// Waits for the writer's end, but never longer than `at_most`. Tells whether it has ended.
    pub(super) fn wait_for_end(&self, at_most: Duration) -> bool {
        let mut state = self.state.lock();
        self.done.wait_while_for(&mut state, |state| !state.ended, at_most);
        state.ended
    }

    /// Entries that are waiting or being written.
    pub(super) fn held(&self) -> usize {
        let state = self.state.lock();
        state.pending.len() + state.taken
    }

    /// How long the oldest entry has been waiting.
    pub(super) fn lag(&self, now: Instant) -> Duration {
        self.state.lock().lag(now)
    }

    /// Entries that were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_flushes_does_not_come_before_the_writer_has_opened_the_database() {
        let queue = Queue::new(1);
        assert!(!queue.flush(Duration::from_millis(1)));
        queue.begun();
        assert!(queue.flush(Duration::from_secs(60)));
    }
}
