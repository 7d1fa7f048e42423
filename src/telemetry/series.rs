//! The gateway's own series, each with its name, help, labels and buckets in one place.
//!
//! Invariant: a call that looks like one before finds its handles with one look-up and formats nothing.
//! Never does: know the original's names (see `compat`).

use std::sync::Arc;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, proto};

use super::family::{Budget, Family, Rung, Shape};
use super::ledger::LedgerSeries;
use super::log::LogWriter;
use super::{LedgerState, Part, Reload, TelemetryError, TurnedAway, Upgrade, labels};
use crate::flow::Record;

/// 1 ms to 15 minutes: from an answer out of a test's mock to the longest call that is allowed.
const DURATION_BUCKETS: [f64; 17] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0];
/// 10 us to 1 s: what the gateway itself may take.
const OVERHEAD_BUCKETS: [f64; 14] =
    [0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0];
/// A histogram's bucket for infinity, its sum and its count.
pub(super) const HISTOGRAM_EXTRA: usize = 3;

/// Series that exist from the start: the single ones here and those of the process.
const FIXED: usize = OVERHEAD_BUCKETS.len() + HISTOGRAM_EXTRA + 34;

const WITH_MODEL: &[Rung] = &[Rung { blank: &[], percent: 80 }, Rung { blank: &[4], percent: 100 }];
const WHOLE: &[Rung] = &[Rung { blank: &[], percent: 100 }];

/// What a call with these labels counts in.
#[derive(Debug)]
struct Handles {
    requests: IntCounter,
    duration: Histogram,
}

/// The series and what finds them.
#[derive(Debug)]
pub(super) struct Series {
    registry: Registry,
    requests: IntCounterVec,
    durations: HistogramVec,
    attempts: IntCounterVec,
    by_call: Family<5, Handles>,
    by_route: Family<2, Histogram>,
    by_outcome: Family<2, IntCounter>,
    overhead: Histogram,
    in_flight: IntGauge,
    reloads: Reloads,
    panics: IntCounter,
    upgrades: [IntCounter; 3],
    connections: Connections,
    ledger: LedgerSeries,
}

/// The series of reloads.
#[derive(Debug)]
struct Reloads {
    applied: IntCounter,
    refused: IntCounter,
    config_stale: IntGauge,
    keys_stale: IntGauge,
    restart_required: IntGauge,
}

impl Reloads {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let results = Opts::new(
            "gateway_config_reloads_total",
            "Attempts to reload the configuration or the key file, by result.",
        );
        let results = add(registry, IntCounterVec::new(results, &["result"]))?;
        let restart_required = IntGauge::new(
            "gateway_restart_required",
            "1 where the configuration holds a change that only a restart applies.",
        );
        let config_stale = IntGauge::new(
            "gateway_config_stale",
            "1 while the last attempt to reload the configuration was refused and an older one is in force.",
        );
        let keys_stale = IntGauge::new(
            "gateway_keys_stale",
            "1 while the last attempt to reload the key file was refused and older keys are in force.",
        );
        Ok(Self {
            applied: results.get_metric_with_label_values(&["applied"])?,
            refused: results.get_metric_with_label_values(&["refused"])?,
            config_stale: add(registry, config_stale)?,
            keys_stale: add(registry, keys_stale)?,
            restart_required: add(registry, restart_required)?,
        })
    }

    fn note(&self, part: Part, result: Reload) {
        match result {
            Reload::Applied => self.applied.inc(),
            Reload::Refused => self.refused.inc(),
        }
        match (part, result) {
            (Part::Configuration, Reload::Refused) => self.config_stale.set(1),
            (Part::Keys, Reload::Refused) => self.keys_stale.set(1),
            (Part::Keys, Reload::Applied) => self.keys_stale.set(0),
            // It takes the keys with it.
            (Part::Configuration, Reload::Applied) => {
                self.config_stale.set(0);
                self.keys_stale.set(0);
            }
        }
    }
}

/// The series of connections.
#[derive(Debug)]
struct Connections {
    open: IntGauge,
    total: IntCounter,
    address: IntCounter,
    head_timeout: IntCounter,
}

impl Connections {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let open = IntGauge::new("gateway_connections", "Connections of clients that are open.");
        let refused = Opts::new(
            "gateway_connections_refused_total",
            "Connections that were closed for want of room, or because a head took too long, by reason.",
        );
        let refused = add(registry, IntCounterVec::new(refused, &["reason"]))?;
        Ok(Self {
            open: add(registry, open)?,
            total: refused.get_metric_with_label_values(&["total"])?,
            address: refused.get_metric_with_label_values(&["address"])?,
            head_timeout: refused.get_metric_with_label_values(&["head_timeout"])?,
        })
    }
}

/// By [`Upgrade`], in its order.
fn upgrades(registry: &Registry) -> prometheus::Result<[IntCounter; 3]> {
    let upgrades = Opts::new(
        "gateway_upgrades_total",
        "Upgrades by result: taken over from another process, failed ones of a new process, SIGQUITs in vain.",
    );
    let upgrades = add(registry, IntCounterVec::new(upgrades, &["result"]))?;
    let result = |result: Upgrade| upgrades.get_metric_with_label_values(&[result.label()]);
    Ok([result(Upgrade::TakenOver)?, result(Upgrade::Failed)?, result(Upgrade::Ignored)?])
}

/// A call in flight, for as long as this lives.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// An open connection, for as long as this lives.
#[derive(Debug)]
pub struct Connected(IntGauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Series {
    pub(super) fn new(budget: &Arc<Budget>, version: &str, log: &LogWriter) -> Result<Self, TelemetryError> {
        budget.reserve(FIXED);
        let registry = Registry::new();
        registry.register(Box::new(log.dropped_counter()))?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let build = Opts::new("gateway_build_info", "1, labelled by the gateway's version.");
        add(&registry, IntGauge::with_opts(build.const_label("version", version)))?.set(1);
        let durations =
            Opts::new("gateway_request_duration_seconds", "From a request's head to the end of its answer.");
        let durations = HistogramOpts::from(durations).buckets(DURATION_BUCKETS.to_vec());
        let overhead = Opts::new(
            "gateway_overhead_seconds",
            "What the gateway itself took of a call: its duration less the waits for client and provider.",
        );
        let overhead = HistogramOpts::from(overhead).buckets(OVERHEAD_BUCKETS.to_vec());
        let requests = Opts::new("gateway_requests_total", "Calls that are over.");
        let requests = IntCounterVec::new(requests, &["method", "route", "status", "provider", "model"]);
        let attempts =
            Opts::new("gateway_upstream_attempts_total", "Attempts at providers, also those that found no connection.");
        let attempts = IntCounterVec::new(attempts, &["provider", "outcome"]);
        let in_flight = IntGauge::new("gateway_inflight_requests", "Calls that are not over.");
        let panics = IntCounter::new("gateway_panics_total", "Panics; any at all is a bug.");
        Ok(Self {
            by_call: Family::new(shape(1, WITH_MODEL), budget),
            by_route: Family::new(shape(DURATION_BUCKETS.len() + HISTOGRAM_EXTRA, WHOLE), budget),
            by_outcome: Family::new(shape(1, WHOLE), budget),
            requests: add(&registry, requests)?,
            durations: add(&registry, HistogramVec::new(durations, &["route", "provider"]))?,
            attempts: add(&registry, attempts)?,
            overhead: add(&registry, Histogram::with_opts(overhead))?,
            in_flight: add(&registry, in_flight)?,
            panics: add(&registry, panics)?,
            reloads: Reloads::new(&registry)?,
            upgrades: upgrades(&registry)?,
            connections: Connections::new(&registry)?,
            ledger: LedgerSeries::new(&registry)?,
            registry,
        })
    }

    /// Notes a call.
    pub(super) fn observe(&self, record: &Record, [method, route, status, model]: [&str; 4]) {
        let provider = record.provider().unwrap_or(labels::UNKNOWN);
        let seconds = record.duration.as_secs_f64();
        self.by_call.with(
            [method, route, status, provider, model],
            |labels| self.handles(labels),
            |handles| {
                handles.requests.inc();
                handles.duration.observe(seconds);
            },
        );
        self.overhead.observe(record.overhead.as_secs_f64());
        if record.tried.is_empty() && record.attempts > 0 {
            self.count_attempt(provider, record.outcome());
        }
        for tried in &record.tried {
            self.count_attempt(tried.provider.as_str(), tried.outcome);
        }
    }

    fn handles(&self, labels: &[&str; 5]) -> Option<Handles> {
        let [_, route, _, provider, _] = *labels;
        let new = |labels: &[&str; 2]| self.durations.get_metric_with_label_values(labels).ok();
        Some(Handles {
            requests: self.requests.get_metric_with_label_values(labels).ok()?,
            duration: self.by_route.with([route, provider], new, Clone::clone)?,
        })
    }

    fn count_attempt(&self, provider: &str, outcome: &str) {
        let new = |labels: &[&str; 2]| self.attempts.get_metric_with_label_values(labels).ok();
        self.by_outcome.with([provider, outcome], new, IntCounter::inc);
    }

    pub(super) fn enter(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    pub(super) fn in_flight(&self) -> u64 {
        u64::try_from(self.in_flight.get()).unwrap_or(0)
    }

    pub(super) fn connect(&self) -> Connected {
        self.connections.open.inc();
        Connected(self.connections.open.clone())
    }

    pub(super) fn turn_away(&self, reason: TurnedAway) {
        match reason {
            TurnedAway::Total => self.connections.total.inc(),
            TurnedAway::Address => self.connections.address.inc(),
            TurnedAway::HeadTimeout => self.connections.head_timeout.inc(),
        }
    }

    pub(super) fn reload(&self, part: Part, result: Reload) {
        self.reloads.note(part, result);
    }

    pub(super) fn keys_are_fresh(&self) {
        self.reloads.keys_stale.set(0);
    }

    pub(super) fn restart_required(&self, required: bool) {
        self.reloads.restart_required.set(i64::from(required));
    }

    pub(super) fn upgrade(&self, result: Upgrade) {
        self.upgrades[result as usize].inc();
    }

    pub(super) fn ledger(&self, state: &LedgerState) {
        self.ledger.set(state);
    }

    pub(super) fn panicked(&self) {
        self.panics.inc();
    }

    /// Where further series are registered.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn gather(&self) -> Vec<proto::MetricFamily> {
        self.registry.gather()
    }
}

pub(super) fn add<M: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> prometheus::Result<M> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// A family that only the common budget bounds.
pub(super) fn shape(cost: usize, rungs: &'static [Rung]) -> Shape {
    Shape { cost, ceiling: usize::MAX / 100, rungs }
}
