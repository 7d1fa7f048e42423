//! Bodies on the native path, piece by piece as they pass.
//!
//! Invariant: a body that only drips ends, and so does an answer that stalls, or takes longer than is allowed in all.
//! Never does: hold a piece back, but for its end where that may be the beginning of the provider's key.

use std::time::{Duration, Instant};

use bytes::Bytes;
use log::warn;
use pingora_core::Result;
use pingora_core::protocols::http::ServerSession;

use super::{Native, explain, is_asked};
use crate::error::{Refusal, Silence};
use crate::flow::Arrived;
use crate::proxy::call::Call;
use crate::proxy::listener;
use crate::proxy::upstream::Length;
use crate::proxy::watch;
use crate::route::Outcome;

/// Bytes a second that a body has to come with on the whole, once `limits.body_timeout` is over.
const LEAST_RATE: u64 = 1024;
/// How much later than Pingora, which can still answer, a call without an answer is ended from outside.
const BEHIND_PINGORA: Duration = Duration::from_secs(1);
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
    if !ended && took > patience && native.uploaded < took.as_secs() * LEAST_RATE {
        return Err(call.broken_off(Refusal::BodyTooSlow));
    }
    Ok(())
}

/// Covers the provider's key in a piece, shows it to the meter, and ends an answer that has taken longer than is allowed in
/// all: one that always has the next piece ready is not waited for.
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
        watch::is_answered();
        answered_before_the_end(session);
    } else {
        watch::moves();
    }
    let native = call.native()?;
    if native.deadline.is_some_and(|deadline| Instant::now() > deadline) {
        return Err(call.broken_off(Refusal::UpstreamTimeout(Silence::Total)));
    }
    if let Some(came) = piece.take().filter(|came| !came.is_empty()) {
        if session.response_written().is_none() {
            listener::head_has_company(session);
        }
        *piece = Some(watch::passing(came));
    }
    Ok(())
}

impl Native {
    /// The provider has the whole request, from when on its answer has its time.
    pub(super) fn is_asked(&mut self, now: Instant) {
        let deadline = now + self.underway.target.provider.timeouts.total;
        self.deadline = Some(deadline);
        // Pingora has a time for each read of a head, which a drip begins anew.
        watch::end_by(deadline + BEHIND_PINGORA, None);
        self.is_answering();
    }

    /// From its head on an answer may not stall. While the provider has not the whole request it may wait for that.
    pub(super) fn is_answering(&mut self) {
        match (self.deadline, self.answered) {
            (_, Some((Length::None | Length::Known(0), _))) => watch::is_answered(),
            (Some(deadline), Some(_)) => {
                watch::end_by(deadline, Some(self.underway.target.provider.timeouts.idle));
            }
            _ => {}
        }
    }

    /// Takes note that the call is ended from outside because of its provider.
    pub(in crate::proxy) fn falls_silent(&mut self, arrived: &mut Arrived) {
        warn!(
            "call {}: provider {}: silent for too long, or too slow in all",
            arrived.record.request_id, self.underway.target.provider.id
        );
        arrived.waited += self.started.elapsed();
        let outcome = if watch::is_client_behind() { Outcome::Completed } else { Outcome::Broke };
        self.plan.judge(outcome, Instant::now());
    }
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
