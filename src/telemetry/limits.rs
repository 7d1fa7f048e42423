//! The series of limits: what they refused, counted as it happens, and how they stand, set when somebody looks.
//!
//! Invariant: budgets have no more series than the common ceiling leaves room for; those that are used most come first.
//! Never does: ask the limiter; how it stands is handed in.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::family::Budget;
use super::series::add;
use crate::error::{Overload, Refusal};
use crate::flow::Record;
use crate::limit::{Standing, Tally};
use crate::units::{Limit, Measure, Per};

/// How much of the ceiling of all series budgets may fill, in percent.
const PERCENT: usize = 70;
/// Series that exist from the start: each limit in two counters, the store and the two overloads, and two alone.
const FIXED: usize = 2 * 11 + 3 + 2;

/// The series.
#[derive(Debug)]
pub(super) struct LimitSeries {
    rejected: IntCounterVec,
    shadowed: IntCounterVec,
    outstanding: IntGauge,
    overruns: IntCounter,
    used: GaugeVec,
    budget: Arc<Budget>,
    /// Series that budgets have room for so far, and what of the overruns is counted.
    shown: Mutex<(usize, u64)>,
}

impl LimitSeries {
    pub(super) fn new(registry: &Registry, budget: &Arc<Budget>) -> prometheus::Result<Self> {
        budget.reserve(FIXED);
        let rejected = Opts::new(
            "gateway_limit_rejections_total",
            "Calls and further attempts that a limit or its store refused, by that limit.",
        );
        let shadowed = Opts::new(
            "gateway_limit_shadow_rejections_total",
            "Calls that a limit in shadow would have refused, by that limit.",
        );
        let outstanding =
            IntGauge::new("gateway_reservations_outstanding", "Calls that hold a part of their limits now.");
        let overruns =
            IntCounter::new("gateway_limit_overruns_total", "Calls that used more than was reserved for them.");
        let used = Opts::new(
            "gateway_budget_used_ratio",
            "What is spent and held of a budget in its window, as this process knows it.",
        );
        let this = Self {
            rejected: add(registry, IntCounterVec::new(rejected, &["limit"]))?,
            shadowed: add(registry, IntCounterVec::new(shadowed, &["limit"]))?,
            outstanding: add(registry, outstanding)?,
            overruns: add(registry, overruns)?,
            used: add(registry, GaugeVec::new(used, &["kind", "name", "model", "limit"]))?,
            budget: Arc::clone(budget),
            shown: Mutex::default(),
        };
        for limit in all() {
            this.rejected.get_metric_with_label_values(&[limit.name()])?;
            this.shadowed.get_metric_with_label_values(&[limit.name()])?;
        }
        for other in ["budget_store", Overload::Bodies.name(), Overload::Calls.name()] {
            this.rejected.get_metric_with_label_values(&[other])?;
        }
        Ok(this)
    }

    pub(super) fn observe(&self, record: &Record) {
        if let Some(refusal) = &record.refusal {
            self.refused(refusal);
        }
    }

    pub(super) fn refused(&self, refusal: &Refusal) {
        let limit = refusal.limit();
        if let Some(Ok(counter)) = limit.map(|limit| self.rejected.get_metric_with_label_values(&[limit])) {
            counter.inc();
        }
    }

    pub(super) fn shadowed(&self, limit: Limit) {
        if let Ok(counter) = self.shadowed.get_metric_with_label_values(&[limit.name()]) {
            counter.inc();
        }
    }

    /// Sets all of them. Until the guard is dropped nobody else does, so that they can be read whole.
    pub(super) fn set(&self, tally: &Tally, standings: &[Standing]) -> MutexGuard<'_, (usize, u64)> {
        self.outstanding.set(i64::try_from(tally.outstanding).unwrap_or(i64::MAX));
        let budgets =
            standings.iter().filter(|standing| matches!(standing.limit, Limit::Budget(..)) && !standing.shadow);
        let mut budgets: Vec<(f64, &Standing)> = budgets.map(|standing| (ratio(standing), standing)).collect();
        budgets.sort_by(|one, other| other.0.total_cmp(&one.0));
        let mut shown = self.shown.lock();
        self.overruns.inc_by(tally.overruns.saturating_sub(shown.1));
        shown.1 = tally.overruns.max(shown.1);
        while shown.0 < budgets.len() && self.budget.take(1, PERCENT) {
            shown.0 += 1;
        }
        self.used.reset();
        for (ratio, Standing { subject, limit, .. }) in budgets.into_iter().take(shown.0) {
            let labels = [subject.kind(), subject.name(), subject.model.as_deref().unwrap_or_default(), limit.name()];
            if let Ok(gauge) = self.used.get_metric_with_label_values(&labels) {
                gauge.set(ratio);
            }
        }
        shown
    }
}

fn ratio(standing: &Standing) -> f64 {
    // Exact to fifteen digits, which is enough for a picture.
    (standing.used.saturating_add(standing.reserved)) as f64 / standing.value.max(1) as f64
}

fn all() -> impl Iterator<Item = Limit> {
    let budgets = [Measure::Usd, Measure::Tokens].into_iter();
    let budgets = budgets.flat_map(|measure| Per::ALL.into_iter().map(move |per| Limit::Budget(measure, per)));
    [Limit::RequestsPerMinute, Limit::TokensPerMinute, Limit::ConcurrentRequests].into_iter().chain(budgets)
}
