//! What is known of a call before it goes upstream: what its body asks for, and what the policies of the embedding program
//! say and change.
//!
//! Invariant: a body that a policy changed is held to the key's models as the client's own was.
//! Never does: decide; it unpacks, asks `flow` and `policy`, and packs.

use std::time::SystemTime;

use bytes::Bytes;
use pingora_core::protocols::http::ServerSession;

use crate::error::{PolicyError, Refusal};
use crate::flow::Underway;
use crate::meter::{self, Scan};
use crate::policy::{Content, Head, Look};

use super::Gateway;
use super::body::Body;
use super::call::Call;

/// Reads what a body asks for, and asks the policies; gives the body as they leave it, and whether a stream is asked for.
///
/// # Errors
/// `InvalidJson`, `ModelNotAllowed`, `Denied`, `PolicyFailed`; `Overloaded` where a changed body finds no room.
pub(super) fn body(
    gateway: &Gateway,
    session: &ServerSession,
    call: &mut Call,
    underway: &mut Underway,
    body: Body,
) -> Result<(Body, bool), Refusal> {
    let scan = scan(&body.bytes)?;
    call.arrived()?.understand(underway, &scan)?;
    if gateway.policies.is_empty() {
        let stream = scan.stream;
        return Ok((body, stream));
    }
    let content = Content::of(&body.bytes, &scan);
    let (stream, changed) = (scan.stream, ask(gateway, session, call, underway, content)?);
    let Some(bytes) = changed else { return Ok((body, stream)) };
    let scan = self::scan(&bytes)?;
    call.arrived()?.understand(underway, &scan)?;
    let stream = scan.stream;
    let max_buffered = call.arrived()?.snapshot.server.max_buffered;
    Ok((body.replaced(bytes, max_buffered)?, stream))
}

/// Asks the policies about a call whose body passes unread.
///
/// # Errors
/// `Denied`, `PolicyFailed`.
pub(super) fn head(
    gateway: &Gateway,
    session: &ServerSession,
    call: &mut Call,
    underway: &mut Underway,
) -> Result<(), Refusal> {
    if gateway.policies.is_empty() {
        return Ok(());
    }
    ask(gateway, session, call, underway, None).map(drop)
}

fn ask(
    gateway: &Gateway,
    session: &ServerSession,
    call: &mut Call,
    underway: &mut Underway,
    content: Option<Content>,
) -> Result<Option<Bytes>, Refusal> {
    let head = session.req_header();
    let head = Head { method: &head.method, uri: &head.uri, headers: &head.headers };
    let mut look = Look::new(call.arrived()?, underway, head, content, SystemTime::now());
    let said = gateway.policies.look(&mut look);
    if let Err(Refusal::PolicyFailed(_, error)) = &said
        && **error == PolicyError::Panicked
    {
        gateway.telemetry.panicked();
    }
    said.map(|()| look.into_changed())
}

fn scan(bytes: &Bytes) -> Result<Scan<'_>, Refusal> {
    match bytes.is_empty() {
        true => Ok(Scan::default()),
        false => meter::scan(bytes).map_err(|fault| Refusal::InvalidJson(fault.into_text().into())),
    }
}
