//! Whether new calls should be sent here: one answer for the proxy's `/readyz` and the admin service's.
//!
//! Invariant: once draining, never ready again.
//! Never does: decide when to drain; the server tells it.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where the gateway stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not all parts are up so far.
    Starting,
    /// Serving.
    Ready,
    /// Another process has the listeners; what runs here goes on, and who asks here is told that all is well.
    HandedOver,
    /// Told to stop; calls that run go on, new ones should go elsewhere.
    Draining,
}

/// The phase, shared by all who ask for it. Starts as [`Phase::Starting`].
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Starts in [`Phase::Starting`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves on to a later phase; an earlier one changes nothing.
    pub fn advance(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::HandedOver,
            _ => Phase::Draining,
        }
    }

    /// The whole answer to `/readyz`: a status and a JSON body. A ledger that is down is told and changes nothing: calls
    /// are served without it.
    pub fn answer(&self, ledger_is_up: bool) -> (u16, &'static str) {
        match (self.phase(), ledger_is_up) {
            (Phase::Starting, _) => (503, r#"{"ready":false,"draining":false,"reasons":["starting"]}"#),
            (Phase::Ready | Phase::HandedOver, true) => (200, r#"{"ready":true,"draining":false,"reasons":[]}"#),
            (Phase::Ready | Phase::HandedOver, false) => {
                (200, r#"{"ready":true,"draining":false,"reasons":[],"warnings":["the ledger is down"]}"#)
            }
            (Phase::Draining, _) => (503, r#"{"ready":false,"draining":true,"reasons":["draining"]}"#),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_forward_only() {
        let readiness = Readiness::new();
        assert_eq!(readiness.answer(true).0, 503);
        readiness.advance(Phase::Ready);
        assert_eq!(readiness.answer(true).0, 200);
        readiness.advance(Phase::Draining);
        readiness.advance(Phase::Ready);
        assert_eq!(readiness.phase(), Phase::Draining);
        assert_eq!(readiness.answer(true).0, 503);
    }

    #[test]
    fn every_answer_is_json() {
        for phase in [Phase::Starting, Phase::Ready, Phase::HandedOver, Phase::Draining] {
            let readiness = Readiness::new();
            readiness.advance(phase);
            let serves = matches!(phase, Phase::Ready | Phase::HandedOver);
            for up in [true, false] {
                let (status, detail) = readiness.answer(up);
                let detail: serde_json::Value = serde_json::from_str(detail).expect("JSON");
                assert_eq!((&detail["ready"], status == 200), (&serves.into(), serves));
                assert_eq!(detail["warnings"].is_array(), serves && !up);
            }
        }
    }
}
