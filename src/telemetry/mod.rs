//! Metrics, the log writer and the access line: readers of the record.
//!
//! Invariant: nothing here is global; labels come from configuration or verified facts only, and all series together
//! stay under a ceiling.
//! Never does: wait for whoever reads it; read a clock.

mod compat;
mod family;
mod labels;
mod ledger;
mod limits;
mod line;
mod log;
mod logger;
mod readiness;
mod series;
mod spending;
mod summary;
mod targets;

use std::time::{Duration, SystemTime};

use prometheus::TextEncoder;

use crate::error::Refusal;
use crate::flow::Record;
use crate::limit::{Standing, Tally};
use crate::route::TargetView;
use crate::units::Limit;
use compat::Compat;
use family::Budget;
use labels::Models;
use limits::LimitSeries;
use series::Series;
use spending::Spending;
use targets::TargetSeries;

pub use log::{LogSettings, LogWriter};
pub use logger::init_logger;
pub use readiness::{Phase, Readiness};
pub use series::{Connected, InFlight};

/// Fewer series than this are not worth having; a lower setting counts as this.
const LEAST_SERIES: usize = 200;

/// What is fixed when a gateway starts.
#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    /// Ceiling of all series together, as lines of the exposition; below 200 it counts as 200.
    pub max_series: usize,
    /// Whether the original gateway's two summaries are exported.
    pub compat_metrics: bool,
    /// The gateway's own version.
    pub version: &'static str,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A bug: two metrics of one name, or a name that is none.
    #[error("a metric could not be registered: {0}")]
    Metric(#[from] prometheus::Error),
    /// The system refused a thread for the log.
    #[error("the log has no thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// What was to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The configuration as a whole, with the keys.
    Configuration,
    /// The key file alone.
    Keys,
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The new configuration is in force.
    Applied,
    /// It was refused whole; the old one stays in force.
    Refused,
}

/// How an attempt to change the binary ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// This process has taken over from another one.
    TakenOver,
    /// A new process came and did not take over from this one.
    Failed,
    /// This process was told to hand over, and there was nobody ready for it.
    Ignored,
}

impl Upgrade {
    fn label(self) -> &'static str {
        match self {
            Self::TakenOver => "taken_over",
            Self::Failed => "failed",
            Self::Ignored => "ignored",
        }
    }
}

/// How the ledger does.
#[derive(Clone, Copy, Debug)]
pub struct LedgerState {
    /// Whether records reach the database.
    pub up: bool,
    /// Entries that wait.
    pub queued: usize,
    /// How long the oldest of them has been waiting.
    pub lag: Duration,
    /// Entries that were lost since the start.
    pub dropped: u64,
    /// Bytes of the database.
    pub size: u64,
}

/// Why a connection was closed before it was served, or before its next request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// There are as many connections as may be.
    Total,
    /// Its address has as many as one may have.
    Address,
    /// A head or a TLS handshake took too long, or HTTP/2 never began.
    HeadTimeout,
}

/// Everything that is told of one gateway.
#[derive(Debug)]
pub struct Telemetry {
    series: Series,
    spending: Spending,
    limits: LimitSeries,
    targets: TargetSeries,
    compat: Option<Compat>,
    models: Models,
    log: LogWriter,
}

impl Telemetry {
    /// Sets up all metrics with a registry of their own.
    ///
    /// # Errors
    /// [`TelemetryError::Metric`], which is a bug.
    pub fn new(settings: &TelemetrySettings, log: LogWriter) -> Result<Self, TelemetryError> {
        let max = settings.max_series.max(LEAST_SERIES);
        let budget = Budget::new(max);
        let series = Series::new(&budget, settings.version, &log)?;
        Ok(Self {
            spending: Spending::new(series.registry(), &budget)?,
            limits: LimitSeries::new(series.registry(), &budget)?,
            targets: TargetSeries::new(series.registry(), &budget)?,
            series,
            compat: settings.compat_metrics.then(|| Compat::new(&budget, max)),
            models: Models::default(),
            log,
        })
    }

    /// Notes a call that is over, in the metrics and, where `access_log` is set, as a line of the log.
    pub fn observe(&self, record: &Record, access_log: bool) {
        let status = http::StatusCode::from_u16(record.status).ok();
        let status = status.as_ref().map_or(family::OTHER, http::StatusCode::as_str);
        let method = labels::method(&record.method);
        let route = labels::route(record);
        let model = self.models.label(record);
        self.series.observe(record, [method, route, status, model]);
        self.spending.observe(record, model);
        self.limits.observe(record);
        if let Some(compat) = &self.compat {
            compat.observe(record, [method, route, status, model]);
        }
        if access_log {
            line::access(&self.log, record);
        }
    }

    /// Counts a call as in flight until the guard is dropped.
    pub fn enter(&self) -> InFlight {
        self.series.enter()
    }

    /// Calls in flight now.
    pub fn in_flight(&self) -> u64 {
        self.series.in_flight()
    }

    /// Counts a client's connection as open until the guard is dropped.
    pub fn connect(&self) -> Connected {
        self.series.connect()
    }

    /// Counts a connection that was closed.
    pub fn turn_away(&self, reason: TurnedAway) {
        self.series.turn_away(reason);
    }

    /// Counts a reload, and notes whether what is in force is now older than its file.
    pub fn reload(&self, part: Part, result: Reload) {
        self.series.reload(part, result);
    }

    /// Notes that the key file is again the one in force, with nothing read.
    pub fn keys_are_fresh(&self) {
        self.series.keys_are_fresh();
    }

    /// Tells whether the configuration holds a change that only a restart can apply.
    pub fn restart_required(&self, required: bool) {
        self.series.restart_required(required);
    }

    /// Counts an attempt to change the binary.
    pub fn upgrade(&self, result: Upgrade) {
        self.series.upgrade(result);
    }

    /// Notes how the ledger does.
    pub fn ledger(&self, state: &LedgerState) {
        self.series.ledger(state);
    }

    /// Counts a further attempt of a call that a limit or its store refused.
    pub fn refused_again(&self, refusal: &Refusal) {
        self.limits.refused(refusal);
    }

    /// Counts a call that a limit in shadow would have refused.
    pub fn shadowed(&self, limit: Limit) {
        self.limits.shadowed(limit);
    }

    /// Counts a panic; there must never be one.
    pub fn panicked(&self) {
        self.series.panicked();
    }

    /// The way to the log.
    pub fn log(&self) -> &LogWriter {
        &self.log
    }

    /// All series as Prometheus text, with how limits and targets stand now. Two at once wait for each other, so that neither
    /// lacks what the other one is just setting anew.
    pub fn scrape(&self, (tally, standings): (&Tally, &[Standing]), targets: &[TargetView], now: SystemTime) -> String {
        let _alone = (self.limits.set(tally, standings), self.targets.set(targets));
        self.render(now)
    }

    /// All series as Prometheus text, format 0.0.4.
    pub fn render(&self, now: SystemTime) -> String {
        let mut families = self.series.gather();
        families.extend(self.compat.iter().flat_map(|compat| compat.gather(now)));
        // Fails for a family without series only, and there is none.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

#[cfg(test)]
pub(crate) mod tests;
