//! Attempts as metrics and the access line tell them.
//!
//! Never does: make an attempt.

use super::*;
use crate::flow::Tried;
use crate::units::ProviderId;

#[test]
fn attempts_are_counted_by_how_they_ended() {
    let (telemetry, _) = telemetry(10_000, false);
    let mut record = served();
    let tried = |outcome| Tried {
        provider: ProviderId::new("openai"),
        model: None,
        outcome,
        status: None,
        duration: Duration::ZERO,
    };
    (record.attempts, record.tried) = (3, ["retried", "retried", "reset"].map(tried).to_vec());
    telemetry.observe(&record, false);
    (record.attempts, record.tried) = (1, Vec::new());
    record.refusal = Some(Refusal::Upstream(UpstreamFault::Reset));
    telemetry.observe(&record, false);
    telemetry.panicked();
    let text = telemetry.render(NOW);
    assert_has(&text, r#"gateway_upstream_attempts_total{outcome="reset",provider="openai"} 2"#);
    assert_has(&text, r#"gateway_upstream_attempts_total{outcome="retried",provider="openai"} 2"#);
    assert_has(&text, "gateway_panics_total 1");
}
