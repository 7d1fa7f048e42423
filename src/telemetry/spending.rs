//! The series of what calls used and cost, and of the pace of their streams.
//!
//! Invariant: tokens and money are counted only where the record is of a call that was answered; what has no price is
//! counted as a call without one, never as money.
//! Never does: reckon; usage and cost are the record's.

use std::sync::Arc;

use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::TelemetryError;
use super::family::{Budget, Family, Rung, Shape};
use super::labels;
use super::series::{HISTOGRAM_EXTRA, add, shape};
use crate::flow::{Certainty, Record};

/// 10 ms to 2 minutes: from a small model nearby to one that reasons.
const FIRST_TOKEN_BUCKETS: [f64; 13] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
/// 1 ms to 5 s, between two pieces of an answer.
const INTER_TOKEN_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Labels of tokens: type, provider, model, user. The model gives way first, then the user.
const BY_TYPE: &[Rung] =
    &[Rung { blank: &[], percent: 70 }, Rung { blank: &[2], percent: 85 }, Rung { blank: &[2, 3], percent: 100 }];
/// Labels of money: provider, model, user.
const BY_USER: &[Rung] =
    &[Rung { blank: &[], percent: 70 }, Rung { blank: &[1], percent: 85 }, Rung { blank: &[1, 2], percent: 100 }];
/// Labels of pace and of what has no price: provider, model.
const BY_MODEL: &[Rung] = &[Rung { blank: &[], percent: 80 }, Rung { blank: &[1], percent: 100 }];

/// What calls used and cost.
#[derive(Debug)]
pub(super) struct Spending {
    tokens: Counted<4, IntCounter, IntCounterVec>,
    cost: Counted<3, Counter, CounterVec>,
    unpriced: Counted<2, IntCounter, IntCounterVec>,
    first_token: Counted<2, Histogram, HistogramVec>,
    inter_token: Counted<2, Histogram, HistogramVec>,
    metered: [IntCounter; 4],
}

/// A family and the registered vector that its members are made by.
#[derive(Debug)]
struct Counted<const N: usize, T, V> {
    family: Family<N, T>,
    all: V,
}

/// Series that exist from the start, beside those that each family pays for itself.
const FIXED: usize = 4;

impl Spending {
    pub(super) fn new(registry: &Registry, budget: &Arc<Budget>) -> Result<Self, TelemetryError> {
        budget.reserve(FIXED);
        let tokens = Opts::new(
            "gateway_tokens_total",
            "Tokens that calls used, by type: input and output are whole, all others are parts of them.",
        );
        let cost = Opts::new("gateway_cost_usd_total", "What calls cost in US dollars, where it is known.");
        let unpriced = Opts::new(
            "gateway_cost_unknown_total",
            "Answered calls whose cost is not known: no usage was told, or the model has no price.",
        );
        let metered = Opts::new("gateway_metered_total", "Authenticated calls by how sure it is what they used.");
        let metered = add(registry, IntCounterVec::new(metered, &["certainty"]))?;
        let certain = |certainty: Certainty| metered.get_metric_with_label_values(&[certainty.name()]);
        let first_token =
            Opts::new("gateway_time_to_first_token_seconds", "From a stream's request to its first content.");
        let inter_token =
            Opts::new("gateway_inter_token_seconds", "Mean time between two pieces of a stream's content.");
        let histogram = |opts: Opts, buckets: &[f64]| {
            add(
                registry,
                HistogramVec::new(HistogramOpts::from(opts).buckets(buckets.to_vec()), &["provider", "model"]),
            )
        };
        Ok(Self {
            tokens: Counted {
                family: Family::new(shape(1, BY_TYPE), budget),
                all: add(registry, IntCounterVec::new(tokens, &["type", "provider", "model", "user"]))?,
            },
            cost: Counted {
                family: Family::new(shape(1, BY_USER), budget),
                all: add(registry, CounterVec::new(cost, &["provider", "model", "user"]))?,
            },
            unpriced: Counted {
                family: Family::new(shape(1, BY_MODEL), budget),
                all: add(registry, IntCounterVec::new(unpriced, &["provider", "model"]))?,
            },
            first_token: Counted {
                family: Family::new(of_histogram(&FIRST_TOKEN_BUCKETS), budget),
                all: histogram(first_token, &FIRST_TOKEN_BUCKETS)?,
            },
            inter_token: Counted {
                family: Family::new(of_histogram(&INTER_TOKEN_BUCKETS), budget),
                all: histogram(inter_token, &INTER_TOKEN_BUCKETS)?,
            },
            metered: [
                certain(Certainty::Settled)?,
                certain(Certainty::Estimated)?,
                certain(Certainty::Failed)?,
                certain(Certainty::Unknown)?,
            ],
        })
    }

    /// Notes a call; `model` is what may be a label of it.
    pub(super) fn observe(&self, record: &Record, model: &str) {
        let Some(user) = record.username() else { return };
        let spent = &record.spent;
        self.metered[spent.certainty as usize].inc();
        let provider = record.provider().unwrap_or(labels::UNKNOWN);
        if let Some(usage) = &spent.usage {
            for (kind, count) in usage.kinds().into_iter().filter(|(_, count)| *count > 0) {
                let new = |labels: &[&str; 4]| self.tokens.all.get_metric_with_label_values(labels).ok();
                self.tokens.family.with([kind, provider, model, user], new, |tokens| tokens.inc_by(count));
            }
        }
        match spent.cost {
            Some(cost) if cost.picos() > 0 => {
                let new = |labels: &[&str; 3]| self.cost.all.get_metric_with_label_values(labels).ok();
                self.cost.family.with([provider, model, user], new, |dollars| dollars.inc_by(cost.as_f64()));
            }
            Some(_) => {}
            None => {
                let new = |labels: &[&str; 2]| self.unpriced.all.get_metric_with_label_values(labels).ok();
                self.unpriced.family.with([provider, model], new, IntCounter::inc);
            }
        }
        self.pace(record, provider, model);
    }

    fn pace(&self, record: &Record, provider: &str, model: &str) {
        let pace = &record.pace;
        let Some(first_token) = pace.first_token else { return };
        let new = |labels: &[&str; 2]| self.first_token.all.get_metric_with_label_values(labels).ok();
        self.first_token.family.with([provider, model], new, |all| all.observe(first_token.as_secs_f64()));
        if let Some(gaps) =
            pace.events.checked_sub(1).and_then(|gaps| u32::try_from(gaps).ok()).filter(|gaps| *gaps > 0)
        {
            let mean = pace.tokens.as_secs_f64() / f64::from(gaps);
            let new = |labels: &[&str; 2]| self.inter_token.all.get_metric_with_label_values(labels).ok();
            self.inter_token.family.with([provider, model], new, |all| all.observe(mean));
        }
    }
}

fn of_histogram(buckets: &[f64]) -> Shape {
    shape(buckets.len() + HISTOGRAM_EXTRA, BY_MODEL)
}
