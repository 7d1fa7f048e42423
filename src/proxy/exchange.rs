//! The understood path: one call from its head to its last byte, read top to bottom; and the way of every call up to where
//! the native path takes over bodies that are not to be read.
//!
//! Invariant: nothing of a body is read before the call is admitted; what was committed to the client is never followed
//! by an end that looks complete unless the provider's answer was.
//! Never does: decide; each step unpacks, asks the domain, and packs.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, StatusCode, Version};
use log::{debug, error};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::protocols::http::ServerSession;
use pingora_core::{Error, ErrorType, Result};

use crate::config::ServerSettings;
use crate::error::Refusal;
use crate::flow::client_address;
use crate::route::Kind;
use crate::telemetry::Phase;

use super::Gateway;
use super::attempt::Ask;
use super::attempts;
use super::body;
use super::call::Call;
use super::limits;
use super::listener;
use super::listing;
use super::native;
use super::relay::relay;
use super::understand::{self, Understood};
use super::websocket;
use super::wire::{self, Facts, Unspeakable};

/// Longest request target, in bytes.
const MAX_URI: usize = 8 * 1024;

/// Whether a call has been answered, or is the native path's to carry.
enum Handled {
    Answered,
    Native,
}

/// Serves one call; true once it is answered, false where Pingora's loop is to carry it. An error aborts the client's
/// connection.
pub(super) async fn serve(gateway: &Gateway, session: &mut ServerSession, call: &mut Call) -> Result<bool> {
    let answered = answer(gateway, session, call).await;
    if !matches!(answered, Ok(false)) {
        call.finished();
    }
    answered
}

async fn answer(gateway: &Gateway, session: &mut ServerSession, call: &mut Call) -> Result<bool> {
    let served = match contained(pin!(handle(gateway, session, call))).await {
        Ok(served) => served,
        Err(Panicked) => {
            gateway.telemetry.panicked();
            Err(Refusal::Bug("a panic, told above"))
        }
    };
    match served {
        Ok(Handled::Answered) => Ok(true),
        Ok(Handled::Native) => Ok(false),
        // Boxed, because few calls need its state, which would weigh on every open stream.
        Err(refusal) => Box::pin(conclude(gateway, session, call, refusal)).await.map(|()| true),
    }
}

/// Ends a call that is not served, or not to its end: the client is told where nothing was committed to it. An error says
/// that its connection has to be cut.
pub(super) async fn conclude(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    refusal: Refusal,
) -> Result<()> {
    let aborted = || Error::explain(ErrorType::Custom("Cut"), refusal.code());
    let is_final = |status: StatusCode| !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS;
    let committed = call.committed || session.response_written().is_some_and(|head| is_final(head.status));
    if let Ok(arrived) = call.arrived() {
        if let Some(cause) = refusal.cause() {
            error!("call {}: failed on our side: {cause}", arrived.record.request_id);
        }
        arrived.record.refusal = Some(refusal.clone());
        if committed || refusal == Refusal::ClientGone {
            if refusal == Refusal::ClientGone {
                arrived.record.status = refusal.status();
            }
            return Err(aborted());
        }
        arrived.record.status = refusal.status();
    }
    part_when_draining(gateway, session);
    refuse(session, call, &refusal).await.map_err(|_| aborted())
}

async fn handle(gateway: &Gateway, session: &mut ServerSession, call: &mut Call) -> Result<Handled, Refusal> {
    let arrived = call.arrived()?;
    let snapshot = Arc::clone(&arrived.snapshot);
    let settings = &snapshot.server;
    listener::begins(session);
    bound(gateway, session, settings);
    let peer = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
    let head = session.req_header();
    arrived.noted(&head.method, head.uri.path());
    arrived.record.client = peer.map(|peer| client_address(peer, &head.headers, &settings.trusted_proxies));
    check_head(session, settings)?;
    part_behind_upgrade(session);
    if answered_here(gateway, session, call).await? {
        return Ok(Handled::Answered);
    }
    let head = session.req_header();
    let mut underway = call.arrived()?.admit(&head.method, &head.uri, &head.headers, SystemTime::now())?;
    call.place = Some(gateway.places.take(settings.max_in_flight)?);
    if underway.route.kind.is_unread() {
        understand::head(gateway, session, call, &mut underway)?;
        limits::admit_unread(gateway, call, &underway).await?;
        if underway.route.kind == Kind::Websocket {
            return Box::pin(websocket::answer(gateway, session, call, underway)).await.map(|()| Handled::Answered);
        }
        native::begin(session, call, underway, settings).await?;
        return Ok(Handled::Native);
    }
    let content_type = match has_body(session) {
        true => Some(wire::content_type(&session.req_header().headers)?),
        false => None,
    };
    let body = call.waiting(pin!(body::read(session, &gateway.buffers, settings))).await?;
    let Understood { body, edits, worst } = understand::body(gateway, session, call, &mut underway, body)?;
    limits::admit(gateway, call, &underway, &worst).await?;
    let mut ask = Ask::new(underway, content_type, body, edits);
    if listing::is_about(&ask) {
        return Box::pin(listing::answer(gateway, session, call, &mut ask)).await.map(|()| Handled::Answered);
    }
    let answer = attempts::answer(gateway, session, call, &mut ask).await?;
    relay(gateway, session, call, &ask, answer).await.map(|()| Handled::Answered)
}

/// Sets what bounds this connection. Pingora's own defaults keep a quiet connection for ever.
fn bound(gateway: &Gateway, session: &mut ServerSession, settings: &ServerSettings) {
    if session.get_keepalive().is_some() {
        session.set_keepalive(Some(settings.idle_timeout.as_secs().max(1)));
    }
    part_when_draining(gateway, session);
    // Pingora's own limit of one read would come before ours of the whole.
    session.set_read_timeout(Some(settings.body_timeout));
    // Without it a request that came early would be dropped, and its bytes taken for a client that left.
    session.set_pipelining_enabled(true);
}

/// Tells a client that the connection ends with this answer, once the gateway drains or has handed over: an idle one is dropped without a
/// word, at the moment when the client may use it again.
pub(super) fn part_when_draining(gateway: &Gateway, session: &mut ServerSession) {
    if gateway.readiness.phase() >= Phase::HandedOver {
        session.set_keepalive(None);
    }
}

/// What a client has sent behind a WebSocket's handshake is no request, whoever refuses that.
fn part_behind_upgrade(session: &mut ServerSession) {
    let head = session.req_header();
    if wire::is_upgrade(&head.method, head.version, &head.headers) {
        session.set_keepalive(None);
    }
}

fn check_head(session: &mut ServerSession, settings: &ServerSettings) -> Result<(), Refusal> {
    let head = session.req_header();
    if head.uri.path_and_query().map_or(0, |target| target.as_str().len()) > MAX_URI {
        return Err(Refusal::UriTooLong);
    }
    if head.version == Version::HTTP_11 && !head.headers.contains_key(HOST) {
        // RFC 9112 section 3.2 asks for it; Pingora does not.
        return Err(Refusal::BadHeader("host is missing"));
    }
    if let Some(odd) = oddity(head) {
        // What stands behind this head may be anything.
        session.set_keepalive(None);
        return Err(Refusal::BadHeader(odd));
    }
    // What stands around each name and value on the wire: a colon, a space and the line's end.
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if size > settings.max_header_bytes { Err(Refusal::HeadersTooLarge) } else { Ok(()) }
}

/// What Pingora's parser lets through and another server may understand differently.
fn oddity(head: &RequestHeader) -> Option<&'static str> {
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (Some(coding), None) if is_chunked(coding) => None,
        (Some(_), _) => Some("transfer-encoding may be chunked and nothing else"),
        (None, _) => None,
    }
}

/// Answers what is no call: health checks and CORS preflights.
async fn answered_here(gateway: &Gateway, session: &mut ServerSession, call: &mut Call) -> Result<bool, Refusal> {
    let head = session.req_header();
    let path = head.uri.path();
    if head.method != Method::OPTIONS && path != "/livez" && path != "/readyz" {
        return Ok(false);
    }
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let facts = facts(session, call, &snapshot.server)?;
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    let (reply, text) = match path {
        "/livez" if reads => (wire::own(StatusCode::OK, ALIVE, &facts), ALIVE),
        "/readyz" if reads => {
            let (ready, detail) = gateway.readiness.answer(gateway.ledger.is_up());
            let ready = StatusCode::from_u16(ready).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
            (wire::own(ready, detail, &facts), detail)
        }
        _ if head.method == Method::OPTIONS && snapshot.server.cors.is_on() => (wire::preflight(&facts), ""),
        _ => return Ok(false),
    };
    let reply = reply.map_err(unspeakable)?;
    whole(session, &snapshot.server, reply, text.into()).await?;
    call.forget();
    Ok(true)
}

const ALIVE: &str = r#"{"alive":true}"#;

fn has_body(session: &mut ServerSession) -> bool {
    !session.is_body_empty()
}

async fn refuse(session: &mut ServerSession, call: &mut Call, refusal: &Refusal) -> Result<(), Refusal> {
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let record = &call.arrived()?.record;
    let (route, provider) = (record.route.clone(), record.provider().map(str::to_owned));
    let facts = facts(session, call, &snapshot.server)?;
    let reply = wire::refusal(refusal, route.as_deref(), provider.as_deref(), &facts);
    let (head, text) = reply.map_err(unspeakable)?;
    body::before_refusal(session, refusal);
    debug!("call {}: refused: {refusal:?}", call.arrived()?.record.request_id);
    call.waiting(async {
        whole(session, &snapshot.server, head, text.into()).await?;
        body::after_refusal(session, &snapshot.server).await;
        Ok(())
    })
    .await
}

/// Writes an answer of the gateway's own. HTTP/2 would send a body in answer to HEAD, too.
pub(super) async fn whole(
    session: &mut ServerSession,
    settings: &ServerSettings,
    head: Box<ResponseHeader>,
    body: Bytes,
) -> Result<(), Refusal> {
    let body = if session.req_header().method == Method::HEAD { Bytes::new() } else { body };
    written(settings, session.write_response_header(head)).await?;
    written(settings, session.write_response_body(body, true)).await
}

/// What every answer tells. Borrows from the session, so that it is made where it is used.
pub(super) fn facts<'a>(
    session: &'a ServerSession,
    call: &'a mut Call,
    settings: &'a ServerSettings,
) -> Result<Facts<'a>, Refusal> {
    let head = session.req_header();
    let limits = call.limits.leeway();
    let arrived = call.arrived()?;
    let (request_id, dialect) = (&arrived.record.request_id, arrived.dialect());
    let secure = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    let (cors, shown) = (&settings.cors, settings.answer_headers);
    Ok(Facts { request_id, cors, shown, request: &head.headers, version: head.version, secure, limits, dialect })
}

pub(super) fn unspeakable(_: Unspeakable) -> Refusal {
    Refusal::Bug("a header that cannot be written")
}

/// Works for a client as long as it is there: dropping the work cancels it at the provider.
///
/// # Errors
/// `ClientGone`.
pub(super) async fn while_client_stays<T>(
    session: &mut ServerSession,
    work: impl Future<Output = T>,
) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        _ = session.read_body_or_idle(true) => Err(Refusal::ClientGone),
    }
}

/// Waits for a write to the client, no longer than for its next request. Pingora's own limit does not cover heads and the
/// last flush, which a client that never reads can block for ever.
///
/// # Errors
/// `ClientGone`.
pub(super) async fn written<T>(
    settings: &ServerSettings,
    write: impl Future<Output = Result<T>>,
) -> Result<T, Refusal> {
    match within(|| tokio::time::Instant::now() + settings.idle_timeout, pin!(write)).await {
        Some(Ok(done)) => Ok(done),
        Some(Err(_)) | None => Err(Refusal::ClientGone),
    }
}

/// Works until then; absent where it is not over. What is over at once, as most is that does not wait for somebody else,
/// needs neither a clock nor a timer.
pub(super) async fn within<T>(
    end: impl FnOnce() -> tokio::time::Instant,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let (mut end, mut timer) = (Some(end), pin!(None));
    poll_fn(|context| {
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        if let Some(end) = end.take() {
            timer.set(Some(tokio::time::sleep_until(end())));
        }
        match timer.as_mut().as_pin_mut() {
            Some(timer) => timer.poll(context).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

/// The end of a wait that begins now, cut at the call's deadline.
pub(super) fn until(deadline: Instant, wait: Duration) -> tokio::time::Instant {
    tokio::time::Instant::from_std((Instant::now() + wait).min(deadline))
}

#[derive(Debug)]
struct Panicked;

/// Keeps a panic inside its call. What it said is in the log, from the panic hook. The work stays where it is: copying its
/// state costs as much as reading a head.
async fn contained<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, Panicked> {
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
        Ok(Poll::Ready(done)) => Poll::Ready(Ok(done)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(_) => Poll::Ready(Err(Panicked)),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stays_inside_its_call() {
        assert!(contained(pin!(async { panic!("boom") })).await.is_err());
        assert_eq!(contained(pin!(async { 7 })).await.ok(), Some(7));
    }
}
