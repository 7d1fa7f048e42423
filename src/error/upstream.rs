//! What clients read of a provider that failed or was silent.
//!
//! Never does: name an address, or what the provider said.

use super::{Silence, UpstreamFault};

/// What the client reads of a provider that failed.
pub(super) fn told_of_fault(fault: UpstreamFault) -> &'static str {
    match fault {
        UpstreamFault::Resolve => "The provider's address could not be resolved",
        UpstreamFault::Connect => "The provider could not be reached",
        UpstreamFault::Proxy => {
            "The provider could not be reached: the proxy on the way to it did not open a connection"
        }
        UpstreamFault::ProxySilent => {
            "The provider could not be reached: the proxy on the way to it did not open a connection in time"
        }
        UpstreamFault::Reset => "The provider closed the connection before its answer was complete",
        UpstreamFault::BadAnswer => "The provider's answer could not be understood",
    }
}

/// What the client reads of a provider that was silent.
pub(super) fn told_of_silence(silence: Silence) -> &'static str {
    match silence {
        Silence::Connect => "The provider could not be reached in time",
        Silence::FirstByte => "The provider did not begin to answer in time",
        Silence::FirstToken => "The provider did not begin with the content of its answer in time",
        Silence::Idle => "The provider fell silent in the middle of its answer",
        Silence::Total => "The provider's answer took longer than is allowed in all",
    }
}
