//! What the faults of Pingora's loop come to.
//!
//! Invariant: each has one meaning, which depends on whose side it broke on and on how far the call was.
//! Never does: show what Pingora says of it, which may repeat what was sent.

use pingora_core::{Error, ErrorSource, ErrorType};

use crate::error::{Refusal, Silence, UpstreamFault};
use crate::proxy::body;

/// What a fault of Pingora's loop comes to; `asked` tells whether the client had sent its whole body.
pub(super) fn refusal(error: &Error, answered: bool, asked: bool) -> Refusal {
    use ErrorType as E;
    if *error.esource() == ErrorSource::Downstream {
        return match error.etype() {
            E::WriteError | E::WriteTimedout | E::ConnectError => Refusal::ClientGone,
            _ => body::refusal(error),
        };
    }
    match error.etype() {
        E::ConnectTimedout | E::TLSHandshakeTimedout => Refusal::UpstreamTimeout(Silence::Connect),
        E::ConnectRefused
        | E::ConnectNoRoute
        | E::ConnectError
        | E::SocketError
        | E::BindError
        | E::TLSHandshakeFailure
        | E::InvalidCert
        | E::HandshakeError => Refusal::Upstream(UpstreamFault::Connect),
        E::ReadTimedout | E::WriteTimedout if answered => Refusal::UpstreamTimeout(Silence::Idle),
        // The provider waited as we did: over HTTP/2 Pingora has no time for a read from the client.
        E::ReadTimedout if !asked => Refusal::BodyTooSlow,
        E::ReadTimedout | E::WriteTimedout => Refusal::UpstreamTimeout(Silence::FirstByte),
        E::InvalidHTTPHeader | E::H1Error => Refusal::Upstream(UpstreamFault::BadAnswer),
        E::Custom(_) => Refusal::Upstream(UpstreamFault::BadAnswer),
        _ if *error.esource() == ErrorSource::Upstream => Refusal::Upstream(UpstreamFault::Reset),
        // What broke between the halves of Pingora's loop did so because one of them had ended.
        _ => Refusal::Upstream(UpstreamFault::Reset),
    }
}

#[cfg(test)]
mod tests;
