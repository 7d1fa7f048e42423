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
use crate::limit::Ask;
use crate::meter::{self, Edits, Scan};
use crate::policy::{Content, Head, Look};

use super::Gateway;
use super::body::Body;
use super::call::Call;
use super::limits::{self, Worst};

/// A body that is ready to be sent.
pub(super) struct Understood {
    pub(super) body: Body,
    /// What it asks for, and what may be changed of it.
    pub(super) edits: Edits,
    /// What it may need at most, where it is limited.
    pub(super) worst: Ask,
}

/// Reads what a body asks for, and asks the policies.
///
/// # Errors
/// `InvalidJson`, `ModelNotAllowed`, `Denied`, `PolicyFailed`; `Overloaded` where a changed body finds no room.
pub(super) fn body(
    gateway: &Gateway,
    session: &ServerSession,
    call: &mut Call,
    underway: &mut Underway,
    body: Body,
) -> Result<Understood, Refusal> {
    let bytes = body.bytes.clone();
    let scan = scan(&bytes)?;
    call.arrived()?.understand(underway, &scan)?;
    if gateway.policies.is_empty() {
        return ready(call, underway, &scan, body);
    }
    let content = Content::of(&bytes, &scan);
    let Some(bytes) = ask(gateway, session, call, underway, content)? else {
        return ready(call, underway, &scan, body);
    };
    let arrived = call.arrived()?;
    let body = body.replaced(bytes.clone(), arrived.snapshot.server.max_buffered)?;
    let scan = self::scan(&bytes)?;
    arrived.understand(underway, &scan)?;
    ready(call, underway, &scan, body)
}

fn ready(call: &mut Call, underway: &Underway, scan: &Scan<'_>, body: Body) -> Result<Understood, Refusal> {
    let Worst { ask: worst, ceiling } = limits::worst(call, underway, scan, &body.bytes)?;
    Ok(Understood { edits: Edits::of(scan).with(ceiling), body, worst })
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
