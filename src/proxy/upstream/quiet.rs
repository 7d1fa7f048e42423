//! Quiet connections over HTTP/1.1, kept for their next exchange.
//!
//! Pingora's own pool gives each a task, which every use wakes and ends, and asks the system for its peer each time. Here a use
//! costs a lock and a read of what the runtime knows already, which is no system call; one task for all closes what is over.
//!
//! Invariant: a connection that is given out has neither ended nor said anything since it was kept, as far as this machine
//! knows, and is younger than `POOL_IDLE`; there are never more than `POOL_SIZE`.
//! Never does: connect; know what is asked.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use super::{POOL_IDLE, POOL_SIZE};

/// How often what is over is looked for: as long as a provider's end may stand open on our side.
const SWEEP: Duration = Duration::from_secs(1);

/// All quiet connections, by where they lead.
#[derive(Default)]
pub(super) struct Quiet(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The one that was used last at the end.
    by_place: HashMap<u64, Vec<One>, RandomState>,
    count: usize,
    /// Whether the task runs.
    swept: bool,
}

struct One {
    stream: Stream,
    since: Instant,
}

impl Quiet {
    /// The connection of this place that was used last.
    pub(super) fn take(&self, place: u64) -> Option<Stream> {
        let now = Instant::now();
        let mut kept = self.0.lock();
        let Kept { by_place, count, .. } = &mut *kept;
        let line = by_place.get_mut(&place)?;
        while let Some(mut one) = line.pop() {
            *count -= 1;
            if one.is_usable(now) {
                return Some(one.stream);
            }
        }
        None
    }

    /// Keeps a connection, in place of the oldest one where there are many.
    pub(super) fn keep(&self, place: u64, stream: Stream) {
        let mut kept = self.0.lock();
        if kept.count >= POOL_SIZE {
            kept.drop_oldest();
        }
        kept.by_place.entry(place).or_default().push(One { stream, since: Instant::now() });
        kept.count += 1;
        if !std::mem::replace(&mut kept.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(&self.0)));
        }
    }
}

impl Kept {
    fn drop_oldest(&mut self) {
        let first = |line: &Vec<One>| line.first().map(|one| one.since);
        let oldest = self.by_place.values_mut().filter(|line| !line.is_empty()).min_by_key(|line| first(line));
        if let Some(line) = oldest {
            line.remove(0);
            self.count -= 1;
        }
    }

    fn drop_what_is_over(&mut self, now: Instant) {
        self.by_place.retain(|_, line| {
            line.retain_mut(|one| one.is_usable(now));
            !line.is_empty()
        });
        self.count = self.by_place.values().map(Vec::len).sum();
        self.swept = self.count > 0;
    }
}

impl One {
    fn is_usable(&mut self, now: Instant) -> bool {
        let mut room = [0];
        let mut context = Context::from_waker(Waker::noop());
        let young = now.saturating_duration_since(self.since) < POOL_IDLE;
        young && Pin::new(&mut self.stream).poll_read(&mut context, &mut ReadBuf::new(&mut room)).is_pending()
    }
}

/// Runs for as long as anything is kept.
async fn sweep(kept: Weak<Mutex<Kept>>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = kept.lock();
        kept.drop_what_is_over(Instant::now());
        if !kept.swept {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Both ends of a connection.
    async fn connected() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let ours = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let (theirs, _) = listener.accept().await.expect("accepted");
        (Box::new(pingora_core::protocols::l4::stream::Stream::from(ours)), theirs)
    }

    /// Until this end knows what the other did.
    async fn until(met: impl Fn() -> bool) {
        while !met() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn the_last_one_comes_first_and_only_to_its_place() {
        let quiet = Quiet::default();
        let (first, _open) = connected().await;
        let (second, _open_too) = connected().await;
        let last = second.id();
        quiet.keep(1, first);
        quiet.keep(1, second);
        assert!(quiet.take(2).is_none());
        assert_eq!(quiet.take(1).map(|stream| stream.id()), Some(last));
        assert!(quiet.take(1).is_some());
        assert!(quiet.take(1).is_none());
    }

    #[tokio::test]
    async fn one_that_ended_or_spoke_is_not_given_out() {
        let quiet = Quiet::default();
        for speaks in [true, false] {
            let (mut ours, mut theirs) = connected().await;
            if speaks {
                theirs.write_all(b"unasked").await.expect("written");
                // What is left after one byte says that all of it is here.
                ours.read_exact(&mut [0]).await.expect("read");
            } else {
                drop(theirs);
                tokio::time::timeout(Duration::from_secs(5), ours.read(&mut [0])).await.expect("ended").ok();
            }
            quiet.keep(1, ours);
            assert!(quiet.take(1).is_none(), "{speaks}");
        }
    }

    #[tokio::test]
    async fn an_end_is_seen_though_nobody_takes() {
        let quiet = Quiet::default();
        let (ours, theirs) = connected().await;
        quiet.keep(1, ours);
        let (other, _open) = connected().await;
        quiet.keep(2, other);
        drop(theirs);
        until(|| quiet.0.lock().count == 1).await;
        assert!(quiet.take(2).is_some());
        until(|| !quiet.0.lock().swept).await;
    }

    #[tokio::test]
    async fn an_old_one_is_over() {
        let (stream, _open) = connected().await;
        let mut one = One { stream, since: Instant::now() };
        assert!(one.is_usable(one.since + POOL_IDLE - Duration::from_millis(1)));
        assert!(!one.is_usable(one.since + POOL_IDLE));
    }

    #[tokio::test]
    async fn the_oldest_makes_room() {
        let quiet = Quiet::default();
        let mut open = Vec::new();
        for _ in 0..3 {
            let (ours, theirs) = connected().await;
            open.push((ours.id(), theirs));
            quiet.keep(open.len() as u64 % 2, ours);
        }
        quiet.0.lock().drop_oldest();
        assert_eq!(quiet.0.lock().count, 2);
        assert_eq!(quiet.take(1).map(|stream| stream.id()), Some(open[2].0));
        assert!(quiet.take(1).is_none());
    }
}
