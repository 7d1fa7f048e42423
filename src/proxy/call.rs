//! The context of one call: its facts, and the clock that tells work from waiting.
//!
//! Invariant: dropping it settles the call and tells telemetry, the policies and the ledger, whatever happened before.
//! Never does: any IO.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;

use crate::config::Snapshot;
use crate::error::Refusal;
use crate::flow::Arrived;
use crate::ledger::Ledger;
use crate::policy::Policies;
use crate::telemetry::{InFlight, Telemetry};

use super::limits::Held;
use super::native::Native;
use super::places::Place;
use super::watch::{self, Ended};

/// One call.
pub struct Call {
    /// Absent once it is forgotten, or the ledger has its record.
    arrived: Option<Arrived>,
    /// Whether it was served or refused to its end. A call that is dropped before was cut by the gateway's own end.
    over: bool,
    /// Whether an answer's head was put to the client, of which Pingora may know nothing.
    pub(super) committed: bool,
    /// Whether the ledger knows that it goes upstream.
    intended: bool,
    /// What it holds of its limits.
    pub(super) limits: Held,
    /// Its place among all calls, once it is admitted.
    pub(super) place: Option<Place>,
    /// Where Pingora's loop carries it.
    pub(super) native: Option<Native>,
    telemetry: Arc<Telemetry>,
    policies: Policies,
    ledger: Ledger,
    _in_flight: InFlight,
}

impl Call {
    pub(super) fn new(
        snapshot: Arc<Snapshot>,
        request_id: String,
        telemetry: Arc<Telemetry>,
        policies: Policies,
        ledger: Ledger,
    ) -> Self {
        let arrived = Arrived::new(snapshot, request_id, Instant::now(), SystemTime::now());
        let _in_flight = telemetry.enter();
        Self {
            arrived: Some(arrived),
            over: false,
            committed: false,
            intended: false,
            limits: Held::default(),
            place: None,
            native: None,
            telemetry,
            policies,
            ledger,
            _in_flight,
        }
    }

    /// The facts so far.
    ///
    /// # Errors
    /// `Bug` where the call is settled or forgotten, after which nothing asks.
    pub(super) fn arrived(&mut self) -> Result<&mut Arrived, Refusal> {
        self.arrived.as_mut().ok_or(Refusal::Bug("a call was used after its end"))
    }

    /// Takes note that the client gets an answer of this status.
    pub(super) fn commits(&mut self, status: StatusCode) {
        self.committed = true;
        if let Some(arrived) = &mut self.arrived {
            arrived.record.status = status.as_u16();
            arrived.asked.relayed = true;
        }
    }

    /// Leaves no trace: a health check or a preflight is no call.
    pub(super) fn forget(&mut self) {
        self.arrived = None;
    }

    /// Takes note that there is nothing left to do for it.
    pub(super) fn finished(&mut self) {
        self.over = true;
    }

    /// Tells the ledger, once, that the call is about to go upstream.
    pub(super) fn goes_upstream(&mut self) {
        if let Some(arrived) = &self.arrived
            && !std::mem::replace(&mut self.intended, true)
        {
            self.ledger.intent(&arrived.record);
        }
    }

    /// Takes note that it goes upstream once more, beside an attempt that was not answered. The ledger is told again, so that
    /// both count for a budget whatever becomes of this process.
    pub(super) fn goes_on(&mut self) {
        if let Some(arrived) = &mut self.arrived {
            arrived.goes_on();
            self.intended = false;
        }
    }

    /// Waits for somebody else and takes note of how long that took.
    ///
    /// What is over at once is no wait, and asks no clock. One that is given up was a wait, too. Large work is best handed in
    /// pinned, so that it is not copied.
    pub(super) async fn waiting<T>(&mut self, work: impl Future<Output = T>) -> T {
        Wait { arrived: &mut self.arrived, since: None }.on(work).await
    }

    /// The same, with the time when it was over.
    pub(super) async fn waited<T>(&mut self, work: impl Future<Output = T>) -> (T, Instant) {
        let mut wait = Wait { arrived: &mut self.arrived, since: None };
        let outcome = wait.on(work).await;
        let now = Instant::now();
        wait.ends(now);
        (outcome, now)
    }

    /// What the gateway itself has taken so far.
    pub(super) fn own_time(&self) -> Duration {
        self.arrived.as_ref().map_or(Duration::ZERO, |arrived| arrived.started.elapsed().saturating_sub(arrived.waited))
    }
}

/// A wait, which counts however it ends.
struct Wait<'c> {
    arrived: &'c mut Option<Arrived>,
    since: Option<Instant>,
}

impl Wait<'_> {
    async fn on<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let outcome = poll_fn(|context| {
            let polled = work.as_mut().poll(context);
            if polled.is_pending() {
                self.since.get_or_insert_with(Instant::now);
            }
            polled
        });
        outcome.await
    }

    fn ends(&mut self, now: Instant) {
        if let (Some(since), Some(arrived)) = (self.since.take(), self.arrived.as_mut()) {
            arrived.waited += now.saturating_duration_since(since);
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if self.since.is_some() {
            self.ends(Instant::now());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Some(arrived) = &mut self.arrived else { return };
        let ended = watch::has_ended().filter(|_| !self.over);
        let unfinished = if std::thread::panicking() {
            // One that the exchange did not contain: in a hook of the native path, or Pingora's own.
            self.telemetry.panicked();
            Refusal::Bug("a panic, told above")
        } else if let Some(Ended::Silent(silence)) = ended {
            if let Some(native) = &mut self.native {
                native.falls_silent(arrived);
            }
            Refusal::UpstreamTimeout(silence)
        } else if self.over || ended.is_some() {
            Refusal::ClientGone
        } else {
            Refusal::ShuttingDown
        };
        let record = &mut arrived.record;
        if record.status == 0 {
            record.status = unfinished.status();
            record.refusal.get_or_insert(unfinished);
        } else if !self.over && ended != Some(Ended::Lingered) {
            // What was sent of the answer looks like success, which it was not.
            record.refusal.get_or_insert(unfinished);
        }
        let access_log = arrived.snapshot.access_log;
        let record = arrived.settle(Instant::now());
        std::mem::take(&mut self.limits).settle(record);
        self.telemetry.observe(record, access_log);
        for _ in 0..self.policies.settled(record) {
            self.telemetry.panicked();
        }
        // It is large, and moved only for somebody.
        if self.ledger.is_on()
            && let Some(arrived) = self.arrived.take()
        {
            self.ledger.settle(arrived.record);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Sources, load};
    use crate::telemetry::{LogSettings, LogWriter, TelemetrySettings};

    fn call() -> (Call, Arc<Telemetry>) {
        let folder = tempfile::tempdir().expect("a folder");
        let yaml = Some("providers: { openai: { base_url: \"http://one.test\", api_key: x } }".to_owned());
        let environment: Environment = [("", ""); 0].into_iter().collect();
        let sources = Sources { file: None, yaml, directory: folder.path().to_owned(), environment };
        let snapshot = load(&sources).expect("a configuration").snapshot;
        let log = LogWriter::new(Box::new(std::io::sink()), LogSettings::default()).expect("a thread");
        let settings = TelemetrySettings { max_series: 100, compat_metrics: false, version: "1" };
        let telemetry = Arc::new(Telemetry::new(&settings, log).expect("telemetry"));
        let call =
            Call::new(snapshot, "req_1".to_owned(), Arc::clone(&telemetry), Policies::new(Vec::new()), Ledger::off());
        (call, telemetry)
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_was_no_work_of_ours() {
        let (mut call, _telemetry) = call();
        let patience = Duration::from_millis(50);
        let given_up = tokio::time::timeout(patience, call.waiting(std::future::pending::<()>())).await;
        assert!(given_up.is_err());
        let waited = call.arrived().expect("a call").waited;
        assert!(waited > patience / 2, "{waited:?}");
    }

    /// One in a hook of the native path or in Pingora itself, which only the task that carries the call keeps inside.
    #[test]
    fn a_panic_that_the_exchange_did_not_contain_is_counted_and_settles_its_call() {
        let (call, telemetry) = call();
        assert_eq!(telemetry.in_flight(), 1);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _call = call;
            panic!("a bug");
        }));
        assert!(panicked.is_err());
        assert_eq!(telemetry.in_flight(), 0);
        let metrics = telemetry.render(SystemTime::now());
        assert!(metrics.contains("\ngateway_panics_total 1\n"), "{metrics}");
        assert!(metrics.contains("status=\"500\"} 1\n"), "{metrics}");
    }
}
