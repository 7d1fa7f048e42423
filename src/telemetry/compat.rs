//! The original gateway's two summaries, with its names, labels and words, so that its dashboards go on working.
//!
//! Invariant: both together export at most [`MAX_SERIES`] series.
//! Never does: label by what a client merely sent, as the original did.

use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prometheus::proto;

use super::family::{Budget, Family, Rung, Shape};
use super::line::whole_milliseconds;
use super::summary::{QUANTILES, Window};
use crate::flow::Record;

/// Series of both summaries, as lines of the exposition.
pub(super) const MAX_SERIES: usize = 2000;

/// Five quantiles, the sum and the count.
const COST: usize = QUANTILES.len() + 2;
/// The original's word for a user or a provider that there was none of.
const UNDEFINED: &str = "undefined";

const GATEWAY: [&str; 6] = ["method", "path", "status_code", "model", "username", "provider_name"];
const PROVIDER: [&str; 5] = ["method", "path", "status_code", "model", "provider_name"];

const GATEWAY_RUNGS: &[Rung] =
    &[Rung { blank: &[], percent: 60 }, Rung { blank: &[3], percent: 80 }, Rung { blank: &[3, 4], percent: 100 }];

const PROVIDER_RUNGS: &[Rung] = &[Rung { blank: &[], percent: 80 }, Rung { blank: &[3], percent: 100 }];

/// The two summaries.
#[derive(Debug)]
pub(super) struct Compat {
    gateway: Family<6, Mutex<Window>>,
    provider: Family<5, Mutex<Window>>,
}

impl Compat {
    /// Empty summaries that together take at most half of what all families may have.
    pub(super) fn new(budget: &Arc<Budget>, max_series: usize) -> Self {
        let ceiling = MAX_SERIES.min(max_series / 2);
        let gateway = ceiling * 7 / 10;
        let shape = |ceiling, rungs| Shape { cost: COST, ceiling, rungs };
        Self {
            gateway: Family::new(shape(gateway, GATEWAY_RUNGS), budget),
            provider: Family::new(shape(ceiling - gateway, PROVIDER_RUNGS), budget),
        }
    }

    /// Notes a call. The labels are those of the gateway's own counter: method, route, status, model.
    pub(super) fn observe(&self, record: &Record, [method, path, status, model]: [&str; 4]) {
        let now = seconds(record.started_at + record.duration);
        let provider = record.provider().unwrap_or(UNDEFINED);
        let user = record.username().unwrap_or(UNDEFINED);
        let whole = whole_milliseconds(record.duration);
        self.gateway.with(
            [method, path, status, model, user, provider],
            |_| Some(Mutex::default()),
            |window| window.lock().observe(whole, now),
        );
        if let Some(head) = record.upstream_head {
            let head = whole_milliseconds(head);
            self.provider.with(
                [method, path, status, model, provider],
                |_| Some(Mutex::default()),
                |window| window.lock().observe(head, now),
            );
        }
    }

    /// Both summaries as they stand at `now`; one without observations is left out.
    pub(super) fn gather(&self, now: SystemTime) -> Vec<proto::MetricFamily> {
        let now = seconds(now);
        let gateway = family(
            "gateway_request_duration_ms",
            "Milliseconds from a request's head to the end of its answer; quantiles of the last 10 minutes.",
            metrics(&self.gateway, &GATEWAY, now),
        );
        let provider = family(
            "provider_request_duration_ms",
            "Milliseconds from a request to a provider to its answer's head; quantiles of the last 10 minutes.",
            metrics(&self.provider, &PROVIDER, now),
        );
        [gateway, provider].into_iter().flatten().collect()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn family(name: &str, help: &str, metrics: Vec<proto::Metric>) -> Option<proto::MetricFamily> {
    if metrics.is_empty() {
        return None;
    }
    let mut family = proto::MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(proto::MetricType::SUMMARY);
    family.set_metric(metrics);
    Some(family)
}

fn metrics<const N: usize>(family: &Family<N, Mutex<Window>>, names: &[&str; N], now: u64) -> Vec<proto::Metric> {
    let mut all = Vec::new();
    family.each(|labels, window| {
        let reading = window.lock().read(now);
        all.push((labels.clone(), reading));
    });
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all.into_iter()
        .map(|(labels, reading)| {
            let pairs = names.iter().zip(labels).map(|(name, value)| {
                let mut pair = proto::LabelPair::default();
                pair.set_name((*name).to_owned());
                pair.set_value(value.into());
                pair
            });
            let quantiles = QUANTILES.iter().zip(reading.quantiles).map(|(quantile, value)| {
                let mut point = proto::Quantile::default();
                point.set_quantile(*quantile);
                point.set_value(value);
                point
            });
            let mut summary = proto::Summary::default();
            summary.set_sample_sum(reading.sum as f64);
            summary.set_sample_count(reading.count);
            summary.set_quantile(quantiles.collect());
            let mut metric = proto::Metric::from_label(pairs.collect());
            metric.set_summary(summary);
            metric
        })
        .collect()
}
