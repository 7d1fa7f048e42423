//! Waiting for the next piece of an answer: no longer than its times allow, and only while the client stays.
//!
//! Pieces that come in time, as nearly all do, cost neither a look at the client nor one at a timer: both are looked at only
//! once they have something to say.
//!
//! Invariant: whoever may end a wait has been asked since it last said anything.
//! Never does: end an answer itself; what is over in all is for the caller to see, who knows the time of each piece.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;
use tokio::time::Sleep;

use crate::error::{Refusal, Silence};

use super::upstream::{Broken, Connection};

/// How long to wait for an answer's next piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits {
    /// When the call has to be over.
    pub(super) deadline: Instant,
    /// When there has to be some content; absent where there is, or need not be.
    pub(super) first_token: Option<Instant>,
    pub(super) idle: Duration,
}

impl Waits {
    /// When a wait for the next piece is over that began then, and what it was that did not come.
    pub(super) fn end(&self, since: Instant) -> (Instant, Silence) {
        let idle = (since + self.idle, Silence::Idle);
        let first_token = self.first_token.map(|at| (at, Silence::FirstToken));
        let ends = [Some((self.deadline, Silence::Total)), first_token, Some(idle)];
        ends.into_iter().flatten().min_by_key(|(at, _)| *at).unwrap_or(idle)
    }

    /// The next piece of an answer.
    pub(super) async fn next(&self, connection: &mut Connection) -> Result<Option<Bytes>, Broken> {
        let now = Instant::now();
        let (end, silence) = self.end(now);
        // A timeout alone would let an answer go on for ever that always has the next piece ready.
        if now >= end {
            return Err(Broken::silent(silence));
        }
        tokio::time::timeout_at(end.into(), connection.chunk()).await.unwrap_or_else(|_| Err(Broken::silent(silence)))
    }
}

/// Who may end the waits for an answer's pieces: the client, and one timer for all of them.
pub(super) struct Watch<'t> {
    waits: Waits,
    timer: Pin<&'t mut Sleep>,
    /// When the wait began.
    since: Instant,
    bell: Option<(Arc<Bell>, Waker)>,
}

impl<'t> Watch<'t> {
    /// Begins with a wait. The timer is to ring by the deadline.
    pub(super) fn new(waits: Waits, timer: Pin<&'t mut Sleep>) -> Self {
        Self { waits, timer, since: Instant::now(), bell: None }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.waits.deadline
    }

    /// A wait begins.
    pub(super) fn begins(&mut self, now: Instant) {
        self.since = now;
    }

    /// There is content, for which no wait can be too long any more.
    pub(super) fn has_content(&mut self) {
        self.waits.first_token = None;
    }

    /// Waits for no longer than this.
    pub(super) fn idles_at_most(&mut self, idle: Duration) {
        if idle < self.waits.idle {
            self.waits.idle = idle;
            // The timer may ring too late.
            self.bell = None;
        }
    }

    /// The next piece; whether the client stays is asked of its session.
    ///
    /// # Errors
    /// `ClientGone`.
    pub(super) async fn next(
        &mut self,
        mut session: Option<&mut ServerSession>,
        connection: &mut Connection,
    ) -> Result<Result<Option<Bytes>, Broken>, Refusal> {
        poll_fn(|context| match connection.poll_chunk(context) {
            Poll::Ready(piece) => Poll::Ready(Ok(piece)),
            Poll::Pending => self.poll_over(session.as_deref_mut(), context),
        })
        .await
    }

    /// Whether the wait is over without a piece: by the client, who leaves, or by its time.
    pub(super) fn poll_over<T>(
        &mut self,
        session: Option<&mut ServerSession>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Result<T, Broken>, Refusal>> {
        // Over HTTP/2 a write takes the place of who waits for a reset.
        let remembers = session.as_ref().is_some_and(|session| !session.is_http2());
        if !remembers || self.bell.as_ref().is_none_or(|(bell, _)| !bell.is_of(context)) {
            self.bell = remembers.then(|| Bell::of(context));
        } else if self.bell.as_ref().is_some_and(|(bell, _)| !bell.has_rung()) {
            return Poll::Pending;
        }
        let waker = self.bell.as_ref().map_or_else(|| context.waker(), |(_, waker)| waker);
        let context = &mut Context::from_waker(waker);
        let left = session.is_some_and(|session| pin!(session.read_body_or_idle(true)).poll(context).is_ready());
        let end = match left {
            true => Err(Refusal::ClientGone),
            false => Ok(Err(Broken::silent(ready!(over(&self.waits, self.since, self.timer.as_mut(), context))))),
        };
        // Who has said this much is asked again.
        self.bell = None;
        Poll::Ready(end)
    }
}

/// Whether a wait is over.
fn over(waits: &Waits, since: Instant, timer: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<Silence> {
    let (end, silence) = waits.end(since);
    poll_until(timer, end.into(), context).map(|()| silence)
}

/// Waits until then, by a timer that outlives the wait: it is moved only where it would ring too late, or rings too early, so
/// that an end which is put off again and again costs none.
pub(super) fn poll_until(mut timer: Pin<&mut Sleep>, end: tokio::time::Instant, context: &mut Context<'_>) -> Poll<()> {
    if end < timer.deadline() {
        timer.as_mut().reset(end);
    }
    while timer.as_mut().poll(context).is_ready() {
        if end <= timer.deadline() {
            return Poll::Ready(());
        }
        timer.as_mut().reset(end);
    }
    Poll::Pending
}

/// Wakes a task, and remembers that it did.
struct Bell {
    rang: AtomicBool,
    task: Waker,
}

impl Bell {
    fn of(context: &Context<'_>) -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self { rang: AtomicBool::new(false), task: context.waker().clone() });
        (Arc::clone(&bell), bell.into())
    }

    fn is_of(&self, context: &Context<'_>) -> bool {
        self.task.will_wake(context.waker())
    }

    /// Whether it rang since this was asked last.
    fn has_rung(&self) -> bool {
        self.rang.load(Ordering::Acquire) && self.rang.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rang.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests;
