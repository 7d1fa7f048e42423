//! A client's connection over HTTP/1.1, request after request.
//!
//! What the exchange answers is answered from here. Pingora's proxy loop, whose state of some 20 KB every call would have to
//! set up, gets what it alone can carry: HTTP bodies that pass unread, and with the first of them the rest of its connection.
//!
//! Invariant: which of the two it is, is told by the request's first line, and only where that reads in one way; all heads
//! are parsed by Pingora.
//! Never does: answer a call; bound the time of a head, which the listener's guard does.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::BytesMut;
use http::Method;
use pingora_core::ErrorType;
use pingora_core::apps::{HttpServerApp as _, ServerApp as _};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::{ALPN, Stream};
use pingora_core::server::ShutdownWatch;
use tokio::io::AsyncReadExt as _;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, Sleep, sleep};

use crate::config::Snapshot;

use super::exchange;
use super::listener;
use super::waits::poll_until;
use super::watch::Watched;

/// Room for a head, and a small body behind it.
const ROOM: usize = 4 * 1024;
/// A first line of which more has come than this is for Pingora to refuse.
const MAX_LINE: usize = 16 * 1024;
/// How long Pingora waits for a further piece of a head, where the guard does not end that before.
const PIECE_WITHIN: u64 = 60;

impl Watched {
    /// Serves a connection to its end.
    pub(crate) async fn serve(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) {
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            self.process_new(stream, shutdown).await;
            return;
        }
        let idle = self.gateway.live.pin().server.idle_timeout;
        let (parting, timer) = (pin!(self.parting.notified()), pin!(sleep(idle)));
        let mut rest = Rest { parting, timer, until: None };
        let mut next = Some((stream, BytesMut::new()));
        while let Some((mut stream, mut bytes)) = next {
            if self.parted.load(Ordering::Acquire) || !first_line(&mut stream, &mut bytes, &mut rest).await {
                return;
            }
            let snapshot = self.gateway.live.pin();
            if !is_for_exchange(&bytes, &snapshot) {
                return self.hand_over(stream, bytes, shutdown).await;
            }
            rest.until = None;
            // Pinned where it is made: its state is not to be copied.
            next = pin!(self.exchange((stream, bytes), snapshot, &mut rest, shutdown)).await;
            rest.until = Some(Instant::now() + self.gateway.live.pin().server.idle_timeout);
        }
    }

    /// One request that the exchange answers; gives the connection back where it stays, with what came of the next one.
    async fn exchange(
        &self,
        (stream, bytes): (Stream, BytesMut),
        snapshot: Arc<Snapshot>,
        rest: &mut Rest<'_, '_>,
        shutdown: &ShutdownWatch,
    ) -> Option<(Stream, BytesMut)> {
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(Some(PIECE_WITHIN));
        session.set_pipelined_prefix(bytes);
        let read = tokio::select! {
            biased;
            read = session.read_request() => read,
            () = rest.over() => return None,
        };
        match read {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                if *error.etype() == ErrorType::InvalidHTTPHeader {
                    // Whether it arrives is up to the client.
                    let _ = session.respond_error(400).await;
                }
                session.shutdown().await;
                return None;
            }
        }
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        let kept = {
            // It ends behind all of this: the end of a gateway waits for its calls, and their last bytes are to leave before.
            let mut call = self.gateway.call(snapshot);
            let answered = exchange::serve(&self.gateway, &mut session, &mut call).await;
            listener::over(&session);
            match answered {
                Ok(true) => session.finish().await.ok().flatten(),
                _ => None,
            }
        };
        let (stream, more) = kept?.into_parts();
        if more.is_none() {
            listener::afresh(&stream);
        }
        Some((stream, more.unwrap_or_default()))
    }

    /// Leaves a connection to Pingora's loop.
    async fn hand_over(self: &Arc<Self>, stream: Stream, bytes: BytesMut, shutdown: &ShutdownWatch) {
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(if *shutdown.borrow() { None } else { Some(PIECE_WITHIN) });
        session.set_pipelined_prefix(bytes);
        let mut kept = self.process_new_http(session, shutdown).await;
        while let Some((stream, settings)) = kept.map(|kept| kept.consume()) {
            let mut session = ServerSession::new_http1(stream);
            if let Some(settings) = settings {
                settings.apply_to_session(&mut session);
            }
            kept = self.process_new_http(session, shutdown).await;
        }
    }
}

/// What ends a connection that waits for a request.
struct Rest<'t, 'n> {
    parting: Pin<&'t mut Notified<'n>>,
    timer: Pin<&'t mut Sleep>,
    /// When it has been quiet for too long; absent for the first request, and while one is served.
    until: Option<Instant>,
}

impl Rest<'_, '_> {
    async fn over(&mut self) {
        poll_fn(|context| self.poll_over(context)).await;
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.parting.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(until) = self.until else { return Poll::Pending };
        poll_until(self.timer.as_mut(), until, context)
    }
}

/// Reads until the first line is there, or more than one may have; false where the connection ends before.
async fn first_line(stream: &mut Stream, bytes: &mut BytesMut, rest: &mut Rest<'_, '_>) -> bool {
    while memchr::memchr(b'\n', bytes).is_none() && bytes.len() <= MAX_LINE {
        bytes.reserve(ROOM);
        let read = tokio::select! {
            biased;
            read = stream.read_buf(bytes) => read,
            () = rest.over() => return false,
        };
        if !matches!(read, Ok(1..)) {
            return false;
        }
    }
    true
}

/// Whether a request that begins so is answered by the exchange. Where its line could be read in another way, it is not.
fn is_for_exchange(bytes: &[u8], snapshot: &Snapshot) -> bool {
    let Some(line) = memchr::memchr(b'\n', bytes).and_then(|end| bytes[..end].strip_suffix(b"\r")) else {
        return false;
    };
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(b"HTTP/1.1"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let is_plain =
        |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`');
    let Some(Ok(target)) = target.starts_with(b"/").then(|| std::str::from_utf8(target)) else { return false };
    let Ok(method) = Method::from_bytes(method) else { return false };
    if !target.bytes().all(|byte| is_plain(&byte)) || method == Method::CONNECT {
        return false;
    }
    let path = target.split('?').next().unwrap_or_default();
    !snapshot.routes.has_native()
        || snapshot.routes.find(&method, path).is_none_or(|found| !found.route.kind.is_native())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;
    use crate::config::{Environment, Sources, load};

    fn snapshot(routes: &str) -> Arc<Snapshot> {
        let yaml = format!(
            "keys: {{ file: none.json }}\nledger: off\nproviders: {{ openai: {{ api_key: x, routes: [ {routes} ] }} }}\n"
        );
        let environment = Environment::default();
        let sources = Sources { file: None, yaml: Some(yaml), directory: std::env::temp_dir(), environment };
        load(&sources).expect("a configuration").snapshot
    }

    #[test]
    fn what_passes_unread_goes_to_pingora_and_so_does_what_reads_in_two_ways() {
        let (json, both) = (
            snapshot("post /v1/embeddings"),
            snapshot("post /v1/embeddings, post /v1/files stream, get /v1/realtime websocket"),
        );
        let is = |line: &str, snapshot: &Snapshot| is_for_exchange(format!("{line}\r\nhost: x").as_bytes(), snapshot);
        for line in [
            "POST /openai/v1/embeddings HTTP/1.1",
            "GET /openai/v1/files?x=%20 HTTP/1.1",
            "GET /livez HTTP/1.1",
            "GET /openai/v1/realtime?model=x HTTP/1.1",
            "OPTIONS /nowhere HTTP/1.1",
        ] {
            assert!(is(line, &json) && is(line, &both), "{line}");
        }
        for line in ["POST /openai/v1/files HTTP/1.1", "POST /openai/v1/files/?x HTTP/1.1"] {
            assert!(is(line, &json) && !is(line, &both), "{line}");
        }
        for line in [
            "",
            "GET /livez",
            "GET /livez HTTP/1.0",
            "GET  /livez HTTP/1.1",
            "GET /livez HTTP/1.1 ",
            "GET /li vez HTTP/1.1",
            "GET http://x/livez HTTP/1.1",
            "GET * HTTP/1.1",
            "GET /livez#x HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /a\tb HTTP/1.1",
            "CONNECT /x HTTP/1.1",
            "G(T /x HTTP/1.1",
        ] {
            assert!(!is(line, &json) && !is(line, &both), "{line}");
        }
        assert!(!is_for_exchange(b"GET /livez HTTP/1.1\nhost: x", &json), "a bare line feed");
        assert!(!is_for_exchange(&[b'x'; MAX_LINE + 1], &json), "no line");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_ends_when_its_time_is_over_however_often_that_was_put_off() {
        let parting = Notify::new();
        let (notified, timer) = (pin!(parting.notified()), pin!(sleep(Duration::from_secs(60))));
        let mut rest = Rest { parting: notified, timer, until: None };
        let started = Instant::now();
        let over = async |rest: &mut Rest<'_, '_>, within| {
            tokio::time::timeout(Duration::from_secs(within), rest.over()).await.is_ok()
        };
        assert!(!over(&mut rest, 100).await, "the first request is the guard's");
        rest.until = Some(Instant::now() + Duration::from_secs(60));
        assert!(!over(&mut rest, 59).await);
        rest.until = Some(Instant::now() + Duration::from_secs(60));
        assert!(!over(&mut rest, 59).await);
        // A reload has made it shorter.
        rest.until = Some(Instant::now() + Duration::from_secs(5));
        assert!(over(&mut rest, 6).await);
        assert_eq!(started.elapsed().as_secs(), 100 + 59 + 59 + 5);
        rest.until = None;
        parting.notify_waiters();
        assert!(over(&mut rest, 1).await);
    }
}
