//! Facts about the native path: what each fault of Pingora's loop comes to.
//!
//! Never does: run the loop; `tests/it/native.rs` does.

use super::*;

#[test]
fn faults_come_to_the_same_refusals_as_those_of_the_exchange() {
    let fault = |etype, source: ErrorSource, answered| {
        let mut error = Error::new(etype);
        error.esource = source;
        refusal(&error, answered, true)
    };
    use ErrorSource::{Downstream, Upstream};
    let reset = Refusal::Upstream(UpstreamFault::Reset);
    let rows = [
        (ErrorType::ConnectRefused, Upstream, false, Refusal::Upstream(UpstreamFault::Connect)),
        (ErrorType::ConnectTimedout, Upstream, false, Refusal::UpstreamTimeout(Silence::Connect)),
        (ErrorType::ReadTimedout, Upstream, false, Refusal::UpstreamTimeout(Silence::FirstByte)),
        (ErrorType::ReadTimedout, Upstream, true, Refusal::UpstreamTimeout(Silence::Idle)),
        (ErrorType::ConnectionClosed, Upstream, false, reset.clone()),
        (ErrorType::WriteError, Upstream, false, reset),
        (ErrorType::InvalidHTTPHeader, Upstream, false, Refusal::Upstream(UpstreamFault::BadAnswer)),
        (ErrorType::ReadTimedout, Downstream, false, Refusal::BodyTooSlow),
        (ErrorType::ConnectionClosed, Downstream, true, Refusal::ClientGone),
        (ErrorType::WriteError, Downstream, true, Refusal::ClientGone),
        (ErrorType::H2Error, Downstream, false, Refusal::ClientGone),
        (ErrorType::Custom("InvalidChunk"), Downstream, false, Refusal::BadBody),
    ];
    for (etype, source, answered, expected) in rows {
        let text = etype.as_str().to_owned();
        assert_eq!(fault(etype, source, answered), expected, "{text}");
    }
    let silent = Error::new_up(ErrorType::ReadTimedout);
    assert_eq!(refusal(&silent, false, false), Refusal::BodyTooSlow, "the client kept the provider waiting");
    let stuck = Error::new_up(ErrorType::WriteTimedout);
    assert_eq!(refusal(&stuck, false, false), Refusal::UpstreamTimeout(Silence::FirstByte));
}
