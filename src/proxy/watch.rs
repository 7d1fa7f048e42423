//! An end for calls that Pingora's loop would wait for too long: a provider that falls silent in the middle of an answer, or
//! takes longer for it than is allowed in all; and over HTTP/2 a client that has the whole answer and neither ends nor
//! resets a body that nobody reads any more.
//!
//! Invariant: a call is ended from outside only where its hooks have asked for it; the time that its client takes is no silence
//! of the provider, and is not held against it where the time for all is over. The connection is then cut, or the stream reset.
//! Never does: end a call without an answer whose provider may still begin one in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::error::Silence;

use super::{Gateway, Hooks};

tokio::task_local! {
    /// The end of the call that this task carries.
    static END: Arc<End>;
}

/// When a call ends, once that is known.
#[derive(Debug, Default)]
struct End {
    is_http2: bool,
    ends: Mutex<Ends>,
    /// Told when it ends sooner than it is waited for.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct Ends {
    /// When there has been enough of the client's lingering.
    lingers: Option<Instant>,
    /// When the answer has to be over.
    total: Option<Instant>,
    /// How long the provider may be silent, and since when it is.
    idle: Option<(Duration, Instant)>,
    /// Pieces that the client has not taken. While there are any the provider's silence does not count.
    on_the_way: usize,
    /// Whether the whole answer is here, so that no time of the provider's counts any more.
    is_answered: bool,
    /// Which end is waited for.
    awaited: Option<Instant>,
}

/// Why a call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its client lingered behind the whole answer.
    Lingered,
    /// Its provider was silent.
    Silent(Silence),
}

impl Ends {
    fn next(&self) -> Option<(Instant, Ended)> {
        let lingers = self.lingers.map(|at| (at, Ended::Lingered));
        let total = self.total.map(|at| (at, Ended::Silent(Silence::Total)));
        let idle = self.idle.filter(|_| self.on_the_way == 0);
        let idle = idle.map(|(idle, since)| (since + idle, Ended::Silent(Silence::Idle)));
        [lingers, total, idle].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The silence begins anew.
    fn moves(&mut self) {
        if let Some((_, since)) = &mut self.idle {
            *since = Instant::now();
        }
    }
}

impl End {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A later end is found out when the one is there that is waited for, so that a piece costs no timer.
    fn change(&self, change: impl FnOnce(&mut Ends)) {
        let mut ends = self.ends();
        change(&mut ends);
        if ends.next().is_some_and(|(at, _)| ends.awaited.is_none_or(|awaited| at < awaited)) {
            self.sooner.notify_one();
        }
    }

    fn has_ended(&self) -> Option<Ended> {
        self.ends().next().filter(|(at, _)| Instant::now() >= *at).map(|(_, ended)| ended)
    }

    async fn has_come(&self) {
        while self.has_ended().is_none() {
            let sooner = self.sooner.notified();
            let next = {
                let mut ends = self.ends();
                ends.awaited = ends.next().map(|(at, _)| at);
                ends.awaited
            };
            match next {
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = sooner => {}
                },
                None => sooner.await,
            }
        }
    }
}

fn change(change: impl FnOnce(&mut Ends)) {
    // Outside of Pingora's loop there is none.
    let _ = END.try_with(|end| end.change(change));
}

/// Ends the call that this task carries after some time, where it is one over HTTP/2: over HTTP/1.1 Pingora's own limit of a
/// read from the client holds.
pub(super) fn end_within(time: Duration) {
    let _ = END.try_with(|end| {
        if end.is_http2 {
            end.change(|ends| ends.lingers = Some(Instant::now() + time));
        }
    });
}

/// Ends the call then, and where there is an `idle` time also after a silence of the provider of that length.
pub(super) fn end_by(total: std::time::Instant, idle: Option<Duration>) {
    change(|ends| {
        if !ends.is_answered {
            ends.total = Some(total.into());
            ends.idle = idle.map(|idle| (idle, Instant::now()));
        }
    });
}

/// Takes note that something of the answer came.
pub(super) fn moves() {
    change(Ends::moves);
}

/// Takes note that the whole answer is here.
pub(super) fn is_answered() {
    change(|ends| (ends.total, ends.idle, ends.is_answered) = (None, None, true));
}

/// Takes note that a client over HTTP/1.1 does not take what was written, or has taken it.
pub(super) fn stuck(is_stuck: bool) {
    change(|ends| {
        ends.on_the_way = usize::from(is_stuck);
        ends.moves();
    });
}

/// A piece of an answer on its way to the client. Over HTTP/2 it is held until the client has room for it; over HTTP/1.1 the
/// listener's guard knows of that.
pub(super) fn passing(piece: Bytes) -> Bytes {
    match END.try_with(|end| end.is_http2.then(|| Arc::clone(end))) {
        Ok(Some(end)) => {
            end.ends().on_the_way += 1;
            Bytes::from_owner(Passing { piece, end })
        }
        _ => piece,
    }
}

/// A piece that the client has taken once it is dropped.
struct Passing {
    piece: Bytes,
    end: Arc<End>,
}

impl AsRef<[u8]> for Passing {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.end.change(|ends| {
            ends.on_the_way = ends.on_the_way.saturating_sub(1);
            ends.moves();
        });
    }
}

/// Why the call that this task carries was ended from here; absent where it was not.
pub(super) fn has_ended() -> Option<Ended> {
    END.try_with(|end| end.has_ended()).ok().flatten()
}

/// Whether the client has not taken all that came so far.
pub(super) fn is_client_behind() -> bool {
    END.try_with(|end| end.ends().on_the_way > 0).unwrap_or(false)
}

/// Pingora's proxy loop, with an end for calls that ask for one.
pub(crate) struct Watched {
    pub(super) gateway: Arc<Gateway>,
    proxy: Arc<HttpProxy<Hooks>>,
    /// Whether connections at rest are to go.
    pub(super) parted: AtomicBool,
    /// Told when that becomes so.
    pub(super) parting: Notify,
}

impl Watched {
    pub(crate) fn new(gateway: Arc<Gateway>, proxy: HttpProxy<Hooks>) -> Self {
        Self { gateway, proxy: Arc::new(proxy), parted: AtomicBool::new(false), parting: Notify::new() }
    }
}

#[async_trait]
impl HttpServerApp for Watched {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let end = Arc::new(End { is_http2: session.is_http2(), ..End::default() });
        tokio::select! {
            biased;
            done = END.scope(Arc::clone(&end), self.proxy.process_new_http(session, shutdown)) => done,
            () = end.has_come() => None,
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.proxy.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.proxy.server_options()
    }

    async fn http_cleanup(&self) {
        self.parted.store(true, Ordering::Release);
        self.parting.notify_waiters();
        self.proxy.http_cleanup().await;
    }
}

#[cfg(test)]
mod tests;
