//! How each target of the configuration stands, set when somebody looks.
//!
//! Invariant: targets have no more series than the common ceiling leaves room for; those in the worst state come first.
//! Never does: ask the breakers; how they stand is handed in.

use std::cmp::Reverse;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use prometheus::{IntGaugeVec, Opts, Registry};

use super::family::Budget;
use super::series::add;
use crate::route::TargetView;

/// How much of the ceiling of all series targets may fill, in percent.
const PERCENT: usize = 60;

/// The series.
#[derive(Debug)]
pub(super) struct TargetSeries {
    state: IntGaugeVec,
    budget: Arc<Budget>,
    /// Series that targets have room for so far.
    room: Mutex<usize>,
}

impl TargetSeries {
    pub(super) fn new(registry: &Registry, budget: &Arc<Budget>) -> prometheus::Result<Self> {
        let state = Opts::new(
            "gateway_target_state",
            "How a target stands: 0 closed (in use), 1 half-open (being tried), 2 resting (all its keys are), 3 open (left \
             alone after failures). Without a model: all models that the configuration does not name.",
        );
        let state = add(registry, IntGaugeVec::new(state, &["provider", "model"]))?;
        Ok(Self { state, budget: Arc::clone(budget), room: Mutex::default() })
    }

    /// Sets all of them. Until the guard is dropped nobody else does, so that they can be read whole.
    pub(super) fn set(&self, targets: &[TargetView]) -> MutexGuard<'_, usize> {
        let mut targets: Vec<(i64, &TargetView)> = targets.iter().map(|target| (value(target), target)).collect();
        targets.sort_by_key(|(value, _)| Reverse(*value));
        let mut room = self.room.lock();
        while *room < targets.len() && self.budget.take(1, PERCENT) {
            *room += 1;
        }
        self.state.reset();
        for (value, target) in targets.into_iter().take(*room) {
            let labels = [target.provider.as_str(), target.model.as_deref().unwrap_or_default()];
            if let Ok(gauge) = self.state.get_metric_with_label_values(&labels) {
                gauge.set(value);
            }
        }
        room
    }
}

fn value(target: &TargetView) -> i64 {
    let has_key = |state: &str| target.keys.iter().any(|key| key.breaker.state == state);
    match target.breaker.state {
        "open" => 3,
        "half_open" => 1,
        _ if has_key("closed") || target.keys.is_empty() => 0,
        _ if has_key("half_open") => 1,
        _ => 2,
    }
}
