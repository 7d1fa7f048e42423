//! An end for calls over HTTP/2 that Pingora's loop would wait for without one: the answer is complete, and the client
//! neither ends nor resets the body that nobody reads any more.
//!
//! Invariant: a call is ended from outside only where its hooks have asked for it; the stream is then reset.
//! Never does: touch HTTP/1.1, where Pingora's own limit of a read from the client holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::{Gateway, Hooks};

tokio::task_local! {
    /// The end of the call that this task carries.
    static END: Arc<End>;
}

/// When a call ends, once that is known.
#[derive(Debug, Default)]
struct End {
    at: Mutex<Option<Instant>>,
    set: Notify,
}

impl End {
    fn at(&self) -> Option<Instant> {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn has_come(&self) {
        loop {
            let set = self.set.notified();
            match self.at() {
                Some(at) => return sleep_until(at).await,
                None => set.await,
            }
        }
    }
}

/// Ends the call that this task carries after some time, where it is one over HTTP/2.
pub(super) fn end_within(time: Duration) {
    // Over HTTP/1.1 there is none.
    let _ = END.try_with(|end| {
        *end.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + time);
        end.set.notify_one();
    });
}

/// Whether the call that this task carries was asked to end, and has been.
pub(super) fn has_ended() -> bool {
    END.try_with(|end| end.at().is_some_and(|at| Instant::now() >= at)).unwrap_or(false)
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
        if !session.is_http2() {
            return self.proxy.process_new_http(session, shutdown).await;
        }
        let end = Arc::new(End::default());
        tokio::select! {
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
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_when_its_hooks_have_asked_for_it_and_not_before() {
        let end = Arc::new(End::default());
        let call = END.scope(Arc::clone(&end), async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert!(!has_ended());
            end_within(Duration::from_secs(2));
            std::future::pending::<()>().await;
        });
        let started = Instant::now();
        tokio::select! {
            () = call => {}
            () = end.has_come() => {}
        }
        assert_eq!(started.elapsed(), Duration::from_secs(102));
    }

    #[tokio::test]
    async fn outside_of_http_2_there_is_none() {
        end_within(Duration::ZERO);
        assert!(!has_ended());
    }
}
