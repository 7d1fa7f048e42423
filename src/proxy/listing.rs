//! The answers that tell of models: the provider's own list as the key of the call may see it, and single names that the
//! configuration has.
//!
//! Invariant: a name of the configuration is listed whatever the provider does, and for however long; a list that could show
//! too much goes to nobody unread.
//! Never does: decide what a key may see; that is `flow`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, ETAG, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};
use log::warn;
use pingora_core::protocols::http::ServerSession;

use crate::error::{Refusal, Silence, UpstreamFault};
use crate::flow::{Listing, listed_model};

use super::Gateway;
use super::attempt::Ask;
use super::attempts::{self, Answer};
use super::call::Call;
use super::exchange::{facts, part_when_draining, unspeakable, whole};
use super::hold::{self, Stopped};
use super::relay::relay;
use super::upstream::Length;
use super::wire;

/// How long a provider may take for its list where the configuration has names to show without it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a provider's list that are read: ten times the longest that is known, OpenRouter's (read 2026-11).
const MOST_OF_A_LIST: usize = 4 * 1024 * 1024;
/// What a request may not ask of an answer that is made anew each time.
const OF_ONE_VERSION: [http::HeaderName; 6] =
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
    ask: Ask,
) -> Result<(), Refusal> {
    let snapshot = Arc::clone(&call.arrived()?.snapshot);
    let underway = ask.underway.clone();
    if let Some(entry) = listed_model(&snapshot, &underway) {
        return own(gateway, session, call, entry).await;
    }
    let Some(listing) = Listing::of(&snapshot, &underway) else {
        let answer = attempts::answer(gateway, session, call, ask).await?;
        return relay(gateway, session, call, answer).await;
    };
    for name in &OF_ONE_VERSION {
        session.req_header_mut().remove_header(name);
    }
    match in_time(gateway, session, call, (ask, &listing)).await {
        Ok(answer) => relay(gateway, session, call, answer).await,
        Err(refusal) if listing.has_names() && !matches!(refusal, Refusal::ClientGone | Refusal::Bug(_)) => {
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
    (ask, listing): (Ask, &Listing<'_>),
) -> Result<Answer, Refusal> {
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
    (ask, listing): (Ask, &Listing<'_>),
) -> Result<Answer, Refusal> {
    let unread = || Refusal::Upstream(UpstreamFault::BadAnswer);
    let mut answer = attempts::answer(gateway, session, call, ask).await?;
    let held = &mut answer.held;
    if held.head.status != StatusCode::OK {
        let passes = !listing.has_names() && !held.head.status.is_success();
        return if passes { Ok(answer) } else { Err(unread()) };
    }
    for of_theirs in [ETAG, LAST_MODIFIED] {
        held.head.headers.remove(&of_theirs);
    }
    if session.req_header().method == Method::HEAD {
        held.head.headers.remove(&CONTENT_LENGTH);
        return Ok(answer);
    }
    if let Stopped::Broken(refusal) = hold::all(gateway, session, call, held, MOST_OF_A_LIST).await? {
        return Err(refusal);
    }
    let encoded = |value: &[u8]| !value.eq_ignore_ascii_case(b"identity");
    let is_readable = held.connection.is_none() && !held.head.headers.get(&CONTENT_ENCODING).is_some_and(encoded);
    match listing.merged(&held.pieces.concat()).filter(|_| is_readable) {
        Some(list) => {
            held.head.headers.remove(&CONTENT_LENGTH);
            held.head.length = Length::Known(list.len() as u64);
            held.pieces = vec![list.into()];
            Ok(answer)
        }
        None if listing.may_stay_unread() => Ok(answer),
        None => Err(unread()),
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
