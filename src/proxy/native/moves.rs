//! Bodies on the native path, piece by piece as they pass.
//!
//! Invariant: a body that only drips ends, and so does an answer that takes longer than is allowed in all.
//! Never does: hold a piece back, but for its end where that may be the beginning of the provider's key.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora_core::Result;
use pingora_core::protocols::http::ServerSession;

use super::{Native, explain, is_asked};
use crate::error::{Refusal, Silence};
use crate::proxy::call::Call;
use crate::proxy::watch;

/// Bytes a second that a body has to come with on the whole, once `limits.body_timeout` is over.
const LEAST_RATE: u64 = 1024;
/// How long a client over HTTP/2 may take to end or reset its body behind the whole answer.
const LINGER: Duration = Duration::from_secs(2);

/// Looks at the clock when the client's body moves on. The time for the answer begins at its end.
///
/// # Errors
/// `BodyTooSlow` for a body that drips: each byte would begin the times of single reads anew, without an end.
pub(in crate::proxy) fn request_moves(call: &mut Call, bytes: usize, ended: bool) -> Result<()> {
    let patience = call.arrived().map_err(|refusal| explain(&refusal))?.snapshot.server.body_timeout;
    if ended {
        is_asked(call);
    }
    let native = call.native()?;
    native.uploaded += bytes as u64;
    let took = native.started.elapsed();
    if ended {
        native.deadline = Instant::now() + native.underway.target.provider.timeouts.total;
    } else if took > patience && native.uploaded < took.as_secs() * LEAST_RATE {
        return Err(call.broken_off(Refusal::BodyTooSlow));
    }
    Ok(())
}

/// Covers the provider's key in a piece, shows it to the meter, and ends an answer that has taken longer than is allowed in all.
pub(in crate::proxy) fn answer_moves(
    session: &mut ServerSession,
    call: &mut Call,
    piece: &mut Option<Bytes>,
    ended: bool,
) -> Result<()> {
    cover(call.native()?, piece, ended);
    if let (Some(piece), Ok(arrived)) = (&piece, call.arrived()) {
        // No usage is hidden here, so that the piece itself goes on.
        arrived.passes(piece.clone(), Instant::now());
    }
    if ended {
        answered_before_the_end(session);
    }
    let native = call.native()?;
    if Instant::now() > native.deadline {
        return Err(call.broken_off(Refusal::UpstreamTimeout(Silence::Total)));
    }
    Ok(())
}

/// Over HTTP/2 Pingora would wait without an end for the rest of a body that nobody reads any more.
pub(super) fn answered_before_the_end(session: &mut ServerSession) {
    if !session.is_body_done() {
        watch::end_within(LINGER);
    }
}

fn cover(native: &mut Native, piece: &mut Option<Bytes>, ended: bool) {
    let Some(masking) = &mut native.masking else { return };
    let came = piece.take().filter(|came| !came.is_empty());
    let passes = came.and_then(|came| masking.push(came));
    let rest = if ended { masking.end() } else { None };
    *piece = match (passes, rest) {
        (Some(passes), Some(rest)) => Some([passes, rest].concat().into()),
        (passes, rest) => passes.or(rest),
    };
}
