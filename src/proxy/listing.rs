//! The answers that tell of models: the provider's own list as the key of the call may see it, and single names that the
//! configuration has.
//!
//! Invariant: a name of the configuration is listed whatever the provider does, and for however long; a list that could show
//! too much goes to nobody unread; lists in memory are accounted for with the bodies that are.
//! Never does: decide what a key may see; that is `flow`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{
    AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, ETAG, EXPIRES, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use log::warn;
use pingora_core::protocols::http::ServerSession;

use crate::error::{Refusal, Silence, UpstreamFault};
use crate::flow::{Listing, listed_model};

use super::Gateway;
use super::attempt::Ask;
use super::attempts::{self, Answer};
use super::body::Share;
use super::call::Call;
use super::exchange::{facts, part_when_draining, unspeakable, whole};
use super::hold::{self, Held, Stopped};
use super::relay::relay;
use super::upstream::Length;
use super::wire;

/// How long a provider may take for its list where the configuration has names to show without it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a provider's list that are read: ten times the longest that is known, OpenRouter's (read 2026-11).
const MOST_OF_A_LIST: usize = 4 * 1024 * 1024;
/// Bytes that there is room for at first; then for twice as many, and so on.
const FIRST_OF_A_LIST: usize = 64 * 1024;
/// How often a list is in memory while it is merged: as it came, in one piece or in many, and as it becomes, which may move
/// once while it grows.
const COPIES: usize = 3;
/// What a provider says of the bytes of its own list, besides how to keep them.
const OF_THEIR_BYTES: [HeaderName; 8] = [
    ETAG,
    LAST_MODIFIED,
    AGE,
    EXPIRES,
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];
/// What a request may not ask of an answer that is made anew each time.
const OF_ONE_VERSION: [HeaderName; 6] =
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE, IF_RANGE, RANGE];

/// Whether a call asks which models there are, or about one.
pub(super) fn is_about(ask: &Ask) -> bool {
    let route = &ask.underway.route;
    route.lists_models() || route.tells_a_model()
}

/// Answers such a call.
///
/// # Errors
/// As [`attempts::answer`] and [`relay`], and `Upstream` for a list that has to be read and cannot be.
pub(super) async fn answer(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    ask: &mut Ask,
) -> Result<(), Refusal> {
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let underway = ask.underway.clone();
    if let Some(entry) = listed_model(&snapshot, &underway) {
        return own(gateway, session, call, entry).await;
    }
    let Some(listing) = Listing::of(&snapshot, &underway) else {
        let answer = attempts::answer(gateway, session, call, ask).await?;
        return relay(gateway, session, call, ask, answer).await;
    };
    for name in &OF_ONE_VERSION {
        session.req_header_mut().remove_header(name);
    }
    match in_time(gateway, session, call, (&mut *ask, &listing)).await {
        Ok((answer, _share)) => relay(gateway, session, call, ask, answer).await,
        Err(refusal @ (Refusal::ClientGone | Refusal::Overloaded(_) | Refusal::Bug(_))) => Err(refusal),
        Err(refusal) if listing.has_names() => {
            let request_id = &call.arrived()?.record.request_id;
            let provider = &underway.target.provider.id;
            warn!("call {request_id}: the list of models is without that of provider {provider}: {}", refusal.code());
            own(gateway, session, call, listing.alone()).await
        }
        Err(refusal) => Err(refusal),
    }
}

/// The provider's list with ours, within the time that there is for it.
async fn in_time(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    (ask, listing): (&mut Ask, &Listing<'_>),
) -> Result<(Answer, Share), Refusal> {
    if !listing.has_names() {
        return merged(gateway, session, call, (ask, listing)).await;
    }
    let merging = merged(gateway, session, call, (ask, listing));
    if let Ok(merged) = tokio::time::timeout(PATIENCE, merging).await {
        return merged;
    }
    let silent = Refusal::UpstreamTimeout(Silence::Total);
    call.arrived()?.failed(Some(&silent), Instant::now());
    Err(silent)
}

/// The provider's answer with its list changed to what the key is to see. An error of the provider's is its own answer where
/// there is nothing to show without it.
async fn merged(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    (ask, listing): (&mut Ask, &Listing<'_>),
) -> Result<(Answer, Share), Refusal> {
    let mut share = Share::of(&gateway.buffers);
    let unread = || Refusal::Upstream(UpstreamFault::BadAnswer);
    let mut answer = attempts::answer(gateway, session, call, ask).await?;
    let held = &mut answer.held;
    if held.head.status != StatusCode::OK {
        let passes = !listing.has_names() && !held.head.status.is_success();
        return if passes { Ok((answer, share)) } else { Err(unread()) };
    }
    OF_THEIR_BYTES.iter().for_each(|name| held.head.headers.remove(name));
    held.head.headers.set(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if session.req_header().method == Method::HEAD {
        held.head.headers.remove(&CONTENT_LENGTH);
        return Ok((answer, share));
    }
    read(gateway, session, call, (held, &mut share)).await?;
    let encoded = |value: &[u8]| !value.eq_ignore_ascii_case(b"identity");
    let is_readable = held.connection.is_none() && !held.head.headers.get(&CONTENT_ENCODING).is_some_and(encoded);
    if !is_readable {
        return if listing.may_stay_unread() { Ok((answer, share)) } else { Err(unread()) };
    }
    let theirs = held.pieces.concat();
    held.pieces = Vec::new();
    match listing.merged(&theirs) {
        Some(list) => {
            share.grow_to(list.len() + theirs.len(), call.arrived()?.snapshot.server.max_buffered)?;
            held.head.headers.remove(&CONTENT_LENGTH);
            held.head.length = Length::Known(list.len() as u64);
            held.pieces = vec![list.into()];
            Ok((answer, share))
        }
        None if listing.may_stay_unread() => {
            held.pieces = vec![theirs.into()];
            Ok((answer, share))
        }
        None => Err(unread()),
    }
}

/// Reads a provider's list, as far as lists are read, where there is room for what will be made of it.
async fn read(
    gateway: &Gateway,
    session: &mut ServerSession,
    call: &mut Call,
    (held, share): (&mut Held, &mut Share),
) -> Result<(), Refusal> {
    let ceiling = call.arrived()?.snapshot.server.max_buffered;
    let mut most = FIRST_OF_A_LIST;
    loop {
        share.grow_to(most * COPIES, ceiling)?;
        if let Stopped::Broken(refusal) = hold::all(gateway, session, call, held, most).await? {
            return Err(refusal);
        }
        if held.connection.is_none() || held.size() < most || most >= MOST_OF_A_LIST {
            return Ok(());
        }
        most *= 2;
    }
}

/// Answers without a provider.
async fn own(gateway: &Gateway, session: &mut ServerSession, call: &mut Call, text: String) -> Result<(), Refusal> {
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    part_when_draining(gateway, session);
    let head = wire::own(StatusCode::OK, &text, &facts(session, call, &snapshot.server)?).map_err(unspeakable)?;
    call.arrived()?.record.status = StatusCode::OK.as_u16();
    call.waiting(whole(session, &snapshot.server, head, text.into())).await
}
