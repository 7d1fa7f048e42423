//! The answer on its way to the client, piece by piece as it arrives.
//!
//! Invariant: an answer that was cut never ends as if it were whole: a stream is told in-band, anything else is aborted.
//! (An HTTP/1.0 client of an answer without a length cannot tell the two apart; the protocol has no way.)
//! Never does: hold back a piece behind the head (but for JSON of up to 64 KiB, which is read whole), change one.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderName, Version};
use log::warn;
use pingora::http::ResponseHeader;
use pingora_core::protocols::http::ServerSession;
use tokio::time::sleep_until;

use crate::config::ServerSettings;
use crate::error::{Refusal, Silence};
use crate::meter::{Seen, Shape, Tap};
use crate::route::{Outcome, Provider};
use crate::units::Usd;

use super::Gateway;
use super::attempt::Ask;
use super::attempts::Answer;
use super::call::Call;
use super::exchange::{facts, part_when_draining, unspeakable, written};
use super::hold::Held;
use super::listener;
use super::upstream::{AnswerHead, Broken, Connection, Headers, Length};
use super::waits::Watch;
use super::wire::lines::{Behind, of_map};
use super::wire::{self, Told};

use out::{Next, Out, Way};

mod out;

/// How long what is already written may take to leave before a reset, with which the `h2` crate drops it.
const BEFORE_RESET: Duration = Duration::from_millis(50);

/// Most bytes of a JSON answer that is read whole before its head goes out, so that the head can tell what it cost, and one
/// that breaks is refused instead of cut.
const SMALL: u64 = 64 * 1024;

/// Most bytes of a body for which there is room behind its head, mostly: what waits there is 16 KiB with it.
const MOST_ROOM: usize = 14 * 1024;

/// How long a stream may take for what stands behind its end: a usage, `[DONE]`, the end of its body.
const BEHIND_THE_END: Duration = Duration::from_secs(1);

/// Sends the answer's head and body to the client and gives the connection back.
///
/// # Errors
/// `ClientGone`; `Upstream` and `UpstreamTimeout` where the answer was cut, after the client was told if it can be.
pub(super) async fn relay(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    ask: &Ask,
    Answer { mut plan, held }: Answer,
) -> Result<(), Refusal> {
    let relayed = pass(gateway, session, call, (ask, held)).await;
    match &relayed {
        Ok(()) => drop(plan.judge(Outcome::Completed, Instant::now())),
        Err(refusal) if refusal.is_of_upstream() => drop(plan.judge(Outcome::Broke, Instant::now())),
        Err(_) => {}
    }
    relayed
}

async fn pass(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    (ask, mut held): (&Ask, Box<Held>),
) -> Result<(), Refusal> {
    if held.tap.is_some() {
        let arrived = call.arrived()?;
        (arrived.tap, arrived.record.pace) = (held.tap.take(), held.pace);
    }
    let mut timer = pin!(sleep_until(held.waits.deadline.into()));
    let mut watch = Watch::new(held.waits, timer.as_mut());
    let cost = match held.head.length {
        Length::Known(1..=SMALL) if held.shape == Shape::Json => {
            whole(gateway, session, call, &mut held, &mut watch).await?
        }
        _ => None,
    };
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let events = held.shape == Shape::Events;
    let success = held.head.status.is_success();
    if held.hides_usage && events {
        unframe(&mut held.head);
    }
    let unframed = matches!(held.head.length, Length::Chunked | Length::ToClose);
    part(gateway, session, unframed);
    let way = way(session, &held.head);
    let provider = Arc::clone(&held.provider);
    let (connection, pieces) = (held.connection.take(), mem::take(&mut held.pieces));
    let told = Told { cost, upstream_head: held.after, gateway: call.own_time() };
    let room = Some(pieces.iter().map(Bytes::len).sum()).filter(|size| *size <= MOST_ROOM).unwrap_or_default();
    let (status, settings) = (held.head.status, &snapshot.server);
    // What was held ends here, so that a stream keeps none of it.
    let reply = reply(session, call, settings, held, (&provider, &told, room))?;
    call.commits(status);
    match reply {
        Reply::Text(head) => listener::put_head(session, head),
        Reply::Frame(head) => call.waiting(pin!(written(settings, pin!(session.write_response_header(head))))).await?,
    }
    let mut out = Out::behind_head(settings, way);
    call.waiting(pin!(out.begins(session, pieces))).await?;
    let ending = Ending::of(ask, success && events && unframed);
    let passed = match connection {
        Some(connection) => rest(gateway, session, call, &mut out, Rest { connection, watch, ending: &ending }).await?,
        None => Ok(()),
    };
    let lacks = ending.lacks(&call.arrived()?.seen());
    let Err(broken) = passed.and_then(|()| lacks.map_or(Ok(()), Err)) else {
        return call.waiting(pin!(out.end(session))).await;
    };
    let request_id = &call.arrived()?.record.request_id;
    warn!("call {request_id}: provider {} in the middle of an answer: {}", provider.id, broken.cause);
    let may_tell = events && unframed && out.is_between_events();
    let event = may_tell.then(|| provider.dialect.refusal_in_stream(&broken.refusal, request_id));
    Box::pin(cut(session, &mut out, event)).await;
    Err(broken.refusal)
}

/// Lets the connection end with this answer where it has to: by a drain, or because nothing else tells a client over HTTP/1.0
/// where the answer ends.
fn part(gateway: &Gateway, session: &mut ServerSession, unframed: bool) {
    if unframed && session.req_header().version == Version::HTTP_10 {
        session.set_keepalive(None);
    }
    part_when_draining(gateway, session);
}

/// How the body behind a head goes to the client.
fn way(session: &ServerSession, head: &AnswerHead) -> Way {
    let in_chunks = session.req_header().version == Version::HTTP_11;
    match head.length {
        Length::Known(length) if session.is_http2() => Way::Frames(Some(length).filter(|length| *length > 0)),
        _ if session.is_http2() => Way::Frames(None),
        Length::Known(length) => Way::Plain(Some(length)),
        Length::None => Way::Plain(Some(0)),
        Length::Chunked | Length::ToClose if in_chunks => Way::Chunks,
        Length::Chunked | Length::ToClose => Way::Plain(None),
    }
}

/// A head for the client.
enum Reply {
    /// As it goes out over HTTP/1.x.
    Text(Vec<u8>),
    /// For Pingora to write.
    Frame(Box<ResponseHeader>),
}

/// The head that the client gets, with room behind it. Lines of a provider pass as they came to a client over HTTP/1.x.
fn reply(
    session: &ServerSession,
    call: &mut Call,
    settings: &ServerSettings,
    held: Box<Held>,
    (provider, told, room): (&Provider, &Told, usize),
) -> Result<Reply, Refusal> {
    let facts = facts(session, call, settings)?;
    let behind = Behind { keeps: session.get_keepalive().is_some(), room };
    let AnswerHead { status, length, headers, .. } = held.head;
    let is_text = listener::takes_answers(session);
    match headers {
        // They end here, and with them the buffer that they were read into.
        Headers::Lines(lines) if is_text => {
            wire::lines::answer((status, length, &lines), provider, told, &facts, behind).map(Reply::Text)
        }
        headers => {
            let head = AnswerHead::of(status, headers.into_map(), length);
            let head = wire::answer(head, provider, told, &facts);
            head.map(|head| if is_text { Reply::Text(of_map(&head, behind)) } else { Reply::Frame(head) })
        }
    }
    .map_err(unspeakable)
}

/// Reads a small answer to its end, and tells what the call cost.
async fn whole(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    held: &mut Held,
    watch: &mut Watch<'_>,
) -> Result<Option<Usd>, Refusal> {
    let Held { connection, pieces, head, .. } = held;
    if let Some(live) = connection {
        live.gather();
    }
    while let Some(live) = connection {
        let (came, now) = call.waited(watch.next(Some(session), live)).await;
        watch.begins(now);
        if !matches!(came, Ok(Ok(_))) {
            // For the estimate of what the call used.
            call.arrived()?.passes(live.so_far(), now);
        }
        match came? {
            Ok(Some(piece)) if piece.is_empty() => {}
            Ok(Some(piece)) if pieces.is_empty() && head.length == Length::Known(piece.len() as u64) => {
                call.arrived()?.comes_whole(&piece);
                pieces.push(piece);
                if live.is_over() {
                    connection.take().into_iter().for_each(|connection| gateway.upstream.release(connection));
                }
            }
            Ok(Some(piece)) => pieces.extend(call.arrived()?.passes(piece, now)),
            Ok(None) => connection.take().into_iter().for_each(|connection| gateway.upstream.release(connection)),
            // All that was told is there; what breaks behind it is nobody's loss.
            Err(_) if head.length == Length::Known(pieces.iter().map(|piece| piece.len() as u64).sum()) => {
                *connection = None
            }
            Err(broken) => {
                let arrived = call.arrived()?;
                arrived.failed(Some(&broken.refusal), now);
                let request_id = &arrived.record.request_id;
                warn!("call {request_id}: the provider in the middle of an answer: {}", broken.cause);
                return Err(broken.refusal);
            }
        }
    }
    if pieces.len() > 1 {
        *pieces = vec![pieces.concat().into()];
    }
    Ok(call.arrived()?.reckon().cost)
}

/// What is still to come of an answer.
struct Rest<'t> {
    connection: Connection,
    watch: Watch<'t>,
    ending: &'t Ending,
}

/// Passes on what is still to come, to its end or to where it breaks.
async fn rest(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    out: &mut Out<'_>,
    Rest { connection: mut live, mut watch, ending }: Rest<'_>,
) -> Result<Result<(), Broken>, Refusal> {
    // What the head and the pieces took the client is not the provider's time.
    watch.begins(Instant::now());
    loop {
        let seen = call.arrived()?.seen();
        if seen.content {
            watch.has_content();
        }
        if ending.is_over(&seen) && ending.is_single {
            watch.idles_at_most(BEHIND_THE_END);
        }
        let (next, now) = call.waited(out.next(session, &mut live, &mut watch)).await;
        let Next::Came(came) = next? else {
            call.waiting(pin!(out.flush(session))).await?;
            // The time that the client takes is not the provider's.
            watch.begins(Instant::now());
            continue;
        };
        match came {
            Ok(Some(piece)) => {
                watch.begins(now);
                if now >= watch.deadline() {
                    return Ok(Err(Broken::silent(Silence::Total)));
                }
                let Some(piece) = call.arrived()?.passes(piece, now) else { continue };
                if !out.puts(session, &piece) {
                    call.waiting(pin!(out.write(session, piece))).await?;
                    watch.begins(Instant::now());
                }
            }
            Ok(None) => {
                if let Some(rest) = call.arrived()?.tap.as_mut().and_then(Tap::end)
                    && !out.puts(session, &rest)
                {
                    call.waiting(pin!(out.write(session, rest))).await?;
                }
                gateway.upstream.release(live);
                return Ok(Ok(()));
            }
            // All that was asked for is there; what breaks behind it is nobody's loss.
            Err(_) if ending.is_over(&seen) => return Ok(Ok(())),
            Err(broken) => return Ok(Err(broken)),
        }
    }
}

/// Gives up the length of a stream: what is taken out of it would be missing. What has no body gets none.
fn unframe(head: &mut AnswerHead) {
    if head.length == Length::None {
        return;
    }
    head.headers.remove(&CONTENT_LENGTH);
    head.length = Length::Chunked;
}

/// Ends an answer that was cut, as well as its client can be told: in-band where an event may begin.
async fn cut(session: &mut ServerSession, out: &mut Out<'_>, event: Option<String>) {
    // The answer is lost, whatever becomes of this.
    let _ = out.flush(session).await;
    if let Some(event) = event {
        out.tell(session, event).await;
    } else if session.is_http2() {
        tokio::time::sleep(BEFORE_RESET).await;
    }
}

/// What the meter can read of an answer, by its content type.
pub(super) fn shape<'h>(header: impl Fn(&HeaderName) -> Option<&'h [u8]>) -> Shape {
    let starts =
        |value: &[u8], with: &[u8]| value.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    let encoded = |value: &[u8]| !value.eq_ignore_ascii_case(b"identity");
    match header(&CONTENT_TYPE) {
        _ if header(&CONTENT_ENCODING).is_some_and(encoded) => Shape::Opaque,
        Some(value) if starts(value, b"text/event-stream") => Shape::Events,
        Some(value) if starts(value, b"application/json") => Shape::Json,
        _ => Shape::Opaque,
    }
}

/// How a stream ends.
struct Ending {
    /// Whether its protocol has an event for it.
    expected: bool,
    /// Whether it is a stream of a success at all, whose end is the gateway's to frame.
    events: bool,
    /// Whether one choice was asked for: behind the end of one another one may begin.
    is_single: bool,
}

impl Ending {
    fn of(ask: &Ask, events: bool) -> Self {
        Self { expected: ask.underway.route.ends_by_an_event(), events, is_single: ask.edits.choices <= 1 }
    }

    /// Whether all of it is there, but for what need not come.
    fn is_over(&self, seen: &Seen) -> bool {
        self.events && seen.terminal
    }

    /// What is wrong with a stream that ended, in form, by itself.
    fn lacks(&self, seen: &Seen) -> Option<Broken> {
        let cut = self.events && !seen.terminal && !seen.error && (self.expected || seen.content);
        cut.then(|| Broken::reset("the stream ended without its last event"))
    }
}
