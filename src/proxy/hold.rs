//! An answer that is held back until it is known whether it goes to the client.
//!
//! Invariant: what is held is bounded in bytes and in time, and goes on in the order in which it came.
//! Never does: judge.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use log::warn;
use pingora_core::protocols::http::ServerSession;

use crate::error::Refusal;
use crate::flow::Pace;
use crate::meter::{Shape, Tap};
use crate::route::Provider;

use super::Gateway;
use super::attempt::Ask;
use super::call::Call;
use super::exchange::while_client_stays;
use super::relay::shape;
use super::upstream::{AnswerHead, Broken, Connection};
use super::waits::Waits;

/// An answer whose head is here, and what came of it so far.
pub(super) struct Held {
    pub(super) provider: Arc<Provider>,
    /// Absent once the answer is complete.
    pub(super) connection: Option<Connection>,
    pub(super) head: AnswerHead,
    pub(super) shape: Shape,
    /// From the start of the attempt to the head.
    pub(super) after: Duration,
    /// What goes on to the client, behind the head.
    pub(super) pieces: Vec<Bytes>,
    /// Whether the provider was made to tell a stream's usage, of which the client shall see nothing.
    pub(super) hides_usage: bool,
    pub(super) waits: Waits,
    /// What was seen of it, where it is kept while others are asked.
    pub(super) tap: Option<Tap>,
    pub(super) pace: Pace,
    /// When its head was here.
    pub(super) since: Instant,
}

/// Why holding stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// It is known well enough: there is content, or all of it, or as much as is held.
    Enough,
    /// A stream told an error before any content.
    Error,
    /// A stream ended before any content, by itself or cut.
    Empty,
    /// It broke.
    Broken(Refusal),
}

/// The longest that an answer is held.
const LONGEST: Duration = Duration::from_secs(15);
/// Bytes of a stream that are held.
const MOST_OF_A_STREAM: usize = 64 * 1024;

impl Held {
    pub(super) fn begin(
        ask: &Ask,
        (connection, head): (Connection, AnswerHead),
        (started, here): (Instant, Instant),
        deadline: Instant,
    ) -> Self {
        let provider = Arc::clone(&ask.underway.target.provider);
        let (shape, times) = (shape(|name| head.headers.get(name)), &provider.timeouts);
        let first_token = times.first_token.filter(|_| shape == Shape::Events && head.status.is_success());
        Self {
            waits: Waits { deadline, first_token: first_token.map(|limit| started + limit), idle: times.idle },
            connection: Some(connection),
            head,
            shape,
            after: here - started,
            pieces: Vec::new(),
            hides_usage: ask.hides_usage,
            tap: None,
            pace: Pace::default(),
            since: here,
            provider,
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.shape == Shape::Events
    }

    pub(super) fn size(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// The next piece while it is held; `None` once it has been held for as long as may be.
    async fn next(&mut self) -> Option<Result<Option<Bytes>, Broken>> {
        let connection = self.connection.as_mut()?;
        let end = self.since + LONGEST;
        match self.waits.end(Instant::now()) {
            (next, _) if next <= end => Some(self.waits.next(connection).await),
            _ => tokio::time::timeout_at(end.into(), connection.chunk()).await.ok(),
        }
    }
}

/// Holds an answer until it is complete or this large. What the meter is to see, it sees.
pub(super) async fn all(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    held: &mut Held,
    most: usize,
) -> Result<Stopped, Refusal> {
    while held.size() < most {
        match call.waiting(while_client_stays(session, held.next())).await? {
            None => break,
            Some(Ok(Some(piece))) => take(call, held, piece)?,
            Some(Ok(None)) => {
                ended(gateway, call, held)?;
                break;
            }
            Some(Err(broken)) => return Ok(Stopped::Broken(told(call, held, broken)?)),
        }
    }
    Ok(Stopped::Enough)
}

/// Holds a stream until its first content.
pub(super) async fn until_content(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    held: &mut Held,
) -> Result<Stopped, Refusal> {
    while held.size() < MOST_OF_A_STREAM {
        match call.waiting(while_client_stays(session, held.next())).await? {
            None => break,
            Some(Ok(Some(piece))) => take(call, held, piece)?,
            Some(Ok(None)) => {
                ended(gateway, call, held)?;
                let seen = call.arrived()?.seen();
                return Ok(match seen {
                    seen if seen.error && !seen.content => Stopped::Error,
                    seen if seen.content || seen.terminal => Stopped::Enough,
                    _ => Stopped::Empty,
                });
            }
            Some(Err(broken)) => {
                let refusal = told(call, held, broken)?;
                let cut = matches!(refusal, Refusal::Upstream(_));
                return Ok(if cut { Stopped::Empty } else { Stopped::Broken(refusal) });
            }
        }
        let seen = call.arrived()?.seen();
        if seen.content {
            break;
        }
        if seen.error {
            return Ok(Stopped::Error);
        }
    }
    Ok(Stopped::Enough)
}

fn take(call: &mut Call, held: &mut Held, piece: Bytes) -> Result<(), Refusal> {
    held.pieces.extend(call.arrived()?.passes(piece, Instant::now()));
    Ok(())
}

fn ended(gateway: &Gateway, call: &mut Call, held: &mut Held) -> Result<(), Refusal> {
    held.pieces.extend(call.arrived()?.tap.as_mut().and_then(Tap::end));
    if let Some(connection) = mem::take(&mut held.connection) {
        gateway.upstream.release(connection);
    }
    Ok(())
}

fn told(call: &mut Call, held: &Held, broken: Broken) -> Result<Refusal, Refusal> {
    let request_id = &call.arrived()?.record.request_id;
    warn!("call {request_id}: provider {} in an answer that was held back: {}", held.provider.id, broken.cause);
    Ok(broken.refusal)
}
