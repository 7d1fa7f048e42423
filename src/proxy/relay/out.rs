//! The way of an answer's body to the client.
//!
//! Never does: change a byte; end a body that it was not told is over.

use std::future::{Future, poll_fn};
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Poll, ready};

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;

use crate::config::ServerSettings;
use crate::error::Refusal;
use crate::proxy::exchange::{within, written};
use crate::proxy::listener;
use crate::proxy::upstream::{Broken, Connection};
use crate::proxy::waits::Watch;

/// The way to the client.
pub(super) struct Out<'s> {
    settings: &'s ServerSettings,
    tail: Tail,
    way: Way,
    /// Whether something that was written is not sent.
    is_unsent: bool,
}

/// How a body goes out. What is put over HTTP/1.x takes a third of the work here of what it takes in Pingora, which writes over
/// HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Over HTTP/1.1, in chunks.
    Chunks,
    /// Over HTTP/1.x, as it came, with what is left of it; absent where the connection's end is its own.
    Plain(Option<u64>),
    /// Over HTTP/2, with what is left of it, where its length is known.
    Frames(Option<u64>),
}

/// What comes next of an answer.
pub(super) enum Next {
    /// A piece, the end, or a fault.
    Came(Result<Option<Bytes>, Broken>),
    /// First the client has to take what was written.
    Blocked,
}

impl<'s> Out<'s> {
    /// Once the head was written.
    pub(super) fn behind_head(settings: &'s ServerSettings, way: Way) -> Self {
        Self { settings, tail: Tail::default(), way, is_unsent: !matches!(way, Way::Frames(_)) }
    }

    /// Whether an event may begin here.
    pub(super) fn is_between_events(&self) -> bool {
        self.tail.is_between_events()
    }

    /// Writes a piece that is sent together with what comes before the next wait for the provider. False where it has to be
    /// waited for: it is then to be written.
    pub(super) fn puts(&mut self, session: &ServerSession, piece: &Bytes) -> bool {
        let put = match self.way {
            Way::Frames(_) => false,
            Way::Chunks => piece.is_empty() || listener::put(session, piece, true),
            Way::Plain(left) => !is_beyond(left, piece) && listener::put(session, piece, false),
        };
        if put {
            self.way.takes(piece);
            self.tail.push(piece);
            self.is_unsent = true;
        }
        put
    }

    /// The next of an answer. What was written is sent before that is waited for, and not before it is looked for: pieces that
    /// are here together leave together, the end with the last one.
    ///
    /// # Errors
    /// `ClientGone`.
    pub(super) async fn next(
        &mut self,
        session: &mut ServerSession,
        live: &mut Connection,
        watch: &mut Watch<'_>,
    ) -> Result<Next, Refusal> {
        if self.way == Way::Frames(Some(0)) {
            // A client that has everything may leave: what is to come is the provider's own end, and nothing is lost where
            // that goes wrong.
            return Ok(Next::Came(watch.next(None, live).await?.or(Ok(None))));
        }
        poll_fn(|context| {
            if let Poll::Ready(came) = live.poll_chunk(context) {
                return Poll::Ready(Ok(Next::Came(came)));
            }
            if mem::take(&mut self.is_unsent) {
                match listener::poll_flush(session, context) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(Refusal::ClientGone)),
                    Poll::Pending => return Poll::Ready(Ok(Next::Blocked)),
                }
            }
            watch.poll_over(Some(session), context).map_ok(Next::Came)
        })
        .await
    }

    /// Writes what was here when the head was written, with which it is sent.
    pub(super) async fn begins(&mut self, session: &mut ServerSession, pieces: Vec<Bytes>) -> Result<(), Refusal> {
        for piece in pieces {
            if !self.puts(session, &piece) {
                self.write(session, piece).await?;
            }
        }
        Ok(())
    }

    /// Writes a piece and sends it, and with it what was written before.
    ///
    /// # Errors
    /// `ClientGone`; `Bug` where it is more than was told.
    pub(super) async fn write(&mut self, session: &mut ServerSession, piece: Bytes) -> Result<(), Refusal> {
        if matches!(self.way, Way::Plain(left) if is_beyond(left, &piece)) {
            return Err(NOT_AS_TOLD);
        }
        self.tail.push(&piece);
        self.way.takes(&piece);
        match self.way {
            Way::Frames(left) => {
                return written(self.settings, pin!(session.write_response_body(piece, left == Some(0)))).await;
            }
            // A chunk of no bytes would end the body.
            Way::Chunks if piece.is_empty() => {}
            Way::Chunks => {
                listener::begin_chunk(session, piece.len());
                self.send(session, &piece).await?;
                listener::end_chunk(session);
            }
            Way::Plain(_) => self.send(session, &piece).await?,
        }
        drop(piece);
        self.flush(session).await
    }

    /// Hands on bytes, however little of them the client takes at once.
    async fn send(&self, session: &ServerSession, mut bytes: &[u8]) -> Result<(), Refusal> {
        let sent = poll_fn(|context| {
            while !bytes.is_empty() {
                match ready!(listener::poll_write(session, context, bytes)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Refusal::ClientGone)),
                    Ok(count) => bytes = &bytes[count..],
                }
            }
            Poll::Ready(Ok(()))
        });
        self.in_time(pin!(sent)).await
    }

    pub(super) async fn flush(&mut self, session: &ServerSession) -> Result<(), Refusal> {
        self.is_unsent = false;
        let sent = poll_fn(|context| listener::poll_flush(session, context).map_err(|_| Refusal::ClientGone));
        self.in_time(pin!(sent)).await
    }

    /// Waits for the client no longer than for its next request.
    async fn in_time(&self, sent: Pin<&mut impl Future<Output = Result<(), Refusal>>>) -> Result<(), Refusal> {
        let end = || tokio::time::Instant::now() + self.settings.idle_timeout;
        within(end, sent).await.unwrap_or(Err(Refusal::ClientGone))
    }

    /// Tells a client inside its stream that it was cut, in the shape on which its SDK raises; no end follows. Over HTTP/1.1
    /// the caller then aborts the connection; over HTTP/2 this is the end, because a reset would overtake the event.
    pub(super) async fn tell(&mut self, session: &mut ServerSession, event: String) {
        // The stream is lost either way.
        let _ = match self.way {
            Way::Frames(_) => written(self.settings, session.write_response_body(event.into(), true)).await,
            _ => self.write(session, event.into()).await,
        };
    }

    /// Ends the body.
    ///
    /// # Errors
    /// `ClientGone`; `Bug` where it is less than was told.
    pub(super) async fn end(&mut self, session: &mut ServerSession) -> Result<(), Refusal> {
        match self.way {
            Way::Frames(Some(0)) => return Ok(()),
            Way::Frames(_) => {
                return written(self.settings, pin!(session.write_response_body(Bytes::new(), true))).await;
            }
            Way::Chunks => listener::put_end(session),
            Way::Plain(Some(1..)) => return Err(NOT_AS_TOLD),
            Way::Plain(_) => {}
        }
        self.flush(session).await
    }
}

/// A body that is longer or shorter than its head says would be read as another answer's, or that as its own.
const NOT_AS_TOLD: Refusal = Refusal::Bug("a body of another length than its head tells");

fn is_beyond(left: Option<u64>, piece: &[u8]) -> bool {
    left.is_some_and(|left| left < piece.len() as u64)
}

impl Way {
    /// Takes what is sent off what is left.
    fn takes(&mut self, piece: &[u8]) {
        if let Self::Plain(Some(left)) | Self::Frames(Some(left)) = self {
            *left = left.saturating_sub(piece.len() as u64);
        }
    }
}

/// The last bytes that the client got.
#[derive(Default)]
struct Tail([u8; 4], bool);

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        self.1 |= !piece.is_empty();
        match piece.last_chunk::<4>() {
            Some(last) => self.0 = *last,
            None => {
                self.0.copy_within(piece.len().., 0);
                self.0[4 - piece.len()..].copy_from_slice(piece);
            }
        }
    }

    /// Whether an event may begin here: at the start, or behind an empty line (the HTML standard, section 9.2.6).
    fn is_between_events(&self) -> bool {
        !self.1 || [&b"\n\n"[..], b"\r\r", b"\n\r\n"].iter().any(|end| self.0.ends_with(end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Sources, load};
    use crate::proxy::listener::tests::pair;

    /// What a client gets of pieces behind a head that tells this length, and what came of them.
    async fn told(length: u64, pieces: &[&'static str]) -> (String, Result<(), Refusal>) {
        let yaml = Some("providers: { openai: { base_url: \"http://one.test\", api_key: x } }".to_owned());
        let (directory, environment) = (std::env::temp_dir(), Environment::default());
        let snapshot = load(&Sources { file: None, yaml, directory, environment }).expect("a configuration").snapshot;
        let (guard, mut client, _telemetry) = pair();
        let mut session = ServerSession::new_http1(Box::new(guard));
        let mut out = Out::behind_head(&snapshot.server, Way::Plain(Some(length)));
        let pieces = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
        let outcome = match out.begins(&mut session, pieces).await {
            Ok(()) => out.end(&mut session).await,
            broken => broken,
        };
        drop(session);
        let mut came = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut client, &mut came).await.expect("text");
        (came, outcome)
    }

    #[tokio::test]
    async fn a_body_is_as_long_as_was_told_or_its_connection_ends() {
        assert_eq!(told(4, &["ab", "", "cd"]).await, ("abcd".to_owned(), Ok(())));
        assert_eq!(told(0, &[]).await, (String::new(), Ok(())));
        assert_eq!(told(4, &["ab"]).await, ("ab".to_owned(), Err(NOT_AS_TOLD)));
        assert_eq!(told(4, &["abc", "de", "f"]).await, ("abc".to_owned(), Err(NOT_AS_TOLD)));
    }

    #[test]
    fn knows_where_an_event_may_begin() {
        let between = |pieces: &[&str]| {
            let mut tail = Tail::default();
            pieces.iter().for_each(|piece| tail.push(piece.as_bytes()));
            tail.is_between_events()
        };
        assert!(between(&[]));
        assert!(between(&["data: x\n\n"]));
        assert!(between(&["data: x\n", "\n"]));
        assert!(between(&["data: x\r\n\r", "\n"]));
        assert!(between(&["data: x\n\r\n"]));
        assert!(!between(&["data: x\r\n"]));
        assert!(!between(&["data: x\n"]));
        assert!(!between(&["da"]));
    }
}
