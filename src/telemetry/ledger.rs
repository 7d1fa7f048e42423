//! The series of the ledger, which are set when somebody looks.
//!
//! Invariant: what was lost is counted once, however many look at the same time.
//! Never does: ask the ledger; the state is handed in.

use parking_lot::Mutex;
use prometheus::{Gauge, IntCounter, IntGauge, Registry};

use super::LedgerState;
use super::series::add;

/// The series.
#[derive(Debug)]
pub(super) struct LedgerSeries {
    up: IntGauge,
    queued: IntGauge,
    lag: Gauge,
    size: IntGauge,
    dropped: IntCounter,
    /// What of the drops is counted so far.
    counted: Mutex<u64>,
}

impl LedgerSeries {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let up = IntGauge::new("gateway_ledger_up", "0 while records do not reach the ledger's database, else 1.");
        let queued = IntGauge::new("gateway_ledger_queue", "Entries that wait for the ledger's database.");
        let lag = Gauge::new("gateway_ledger_lag_seconds", "How long the oldest of them has been waiting.");
        let size = IntGauge::new("gateway_ledger_size_bytes", "Size of the ledger's database, looked at each minute.");
        let dropped = IntCounter::new("gateway_ledger_dropped_total", "Entries of the ledger that were lost.");
        let this = Self {
            up: add(registry, up)?,
            queued: add(registry, queued)?,
            lag: add(registry, lag)?,
            size: add(registry, size)?,
            dropped: add(registry, dropped)?,
            counted: Mutex::new(0),
        };
        this.up.set(1);
        Ok(this)
    }

    pub(super) fn set(&self, state: &LedgerState) {
        self.up.set(i64::from(state.up));
        self.queued.set(i64::try_from(state.queued).unwrap_or(i64::MAX));
        self.lag.set(state.lag.as_secs_f64());
        self.size.set(i64::try_from(state.size).unwrap_or(i64::MAX));
        let mut counted = self.counted.lock();
        self.dropped.inc_by(state.dropped.saturating_sub(*counted));
        *counted = state.dropped.max(*counted);
    }
}
