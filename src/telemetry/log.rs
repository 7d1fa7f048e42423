//! The one way to stdout: a bounded queue of lines, and a thread of its own that writes them in batches.
//!
//! Invariant: handing in a line costs a copy and never waits for the reader; where the queue is full the line is
//! dropped and counted, so that a reader that is stuck for ever costs lines, not calls.
//! Never does: look into a line; write from a caller's thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

use super::TelemetryError;

/// How long lines may gather before they are written together. One wake-up of the thread a batch, not one a call.
const GATHER: Duration = Duration::from_millis(100);
/// How long a reader is left alone that takes nothing now and does not block.
const AGAIN: Duration = Duration::from_millis(10);
/// With this much in the queue the thread stops gathering.
const FULL_BATCH: usize = 256 * 1024;

/// Bounds of the queue, and what each line says of its origin.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `hostname` of each line.
    pub hostname: String,
    /// Bytes of lines that wait or are being written.
    pub max_bytes: usize,
    /// Lines that wait or are being written.
    pub max_lines: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { hostname: String::new(), max_bytes: 8 * 1024 * 1024, max_lines: 65_536 }
    }
}

/// The queue's entrance; clones share it. The thread ends when the last one is dropped and everything is written.
#[derive(Clone, Debug)]
pub struct LogWriter(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// `,"pid":1,"hostname":"x","meta":{`: what stands between each line's timestamp and its own fields.
    origin: Vec<u8>,
    max_bytes: usize,
    max_lines: usize,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
    written: Condvar,
    dropped: IntCounter,
}

#[derive(Debug, Default)]
struct Queue {
    pending: Vec<u8>,
    pending_lines: usize,
    /// What the thread has taken and not yet written.
    taken_bytes: usize,
    taken_lines: usize,
    /// Lines that came in, and lines that were written or lost, for life.
    accepted: u64,
    finished: u64,
    /// The thread is gathering or writing and will look again without being woken.
    awake: bool,
    /// Somebody waits for what is in the queue.
    urgent: bool,
    closed: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// [`TelemetryError::Thread`] where the system has no thread to give.
    pub fn new(out: Box<dyn Write + Send>, settings: LogSettings) -> Result<Self, TelemetryError> {
        let help = "Log lines that were dropped because the reader of the log was too slow.";
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            written: Condvar::new(),
            dropped: IntCounter::new("gateway_log_dropped_total", help)?,
        });
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || of_thread.run(out))
            .map_err(TelemetryError::Thread)?;
        Ok(Self(Arc::new(Handle {
            shared,
            origin: origin(&settings.hostname),
            max_bytes: settings.max_bytes,
            max_lines: settings.max_lines,
        })))
    }

    /// Hands in whole lines, each with its line feed, which stay together. False where they were dropped.
    pub fn push(&self, text: &[u8], lines: usize) -> bool {
        let shared = &self.0.shared;
        let mut queue = shared.queue.lock();
        let bytes = queue.pending.len() + queue.taken_bytes + text.len();
        if bytes > self.0.max_bytes || queue.pending_lines + queue.taken_lines + lines > self.0.max_lines {
            drop(queue);
            shared.dropped.inc_by(lines as u64);
            return false;
        }
        let before = queue.pending.len();
        queue.pending.extend_from_slice(text);
        queue.pending_lines += lines;
        queue.accepted += lines as u64;
        let full = before < FULL_BATCH && queue.pending.len() >= FULL_BATCH;
        let wake = full || !queue.awake;
        queue.awake = true;
        drop(queue);
        if wake {
            shared.work.notify_one();
        }
        true
    }

    /// Waits until all lines that were handed in before are written, but never longer than `at_most`. Tells whether
    /// they are.
    pub fn flush(&self, at_most: Duration) -> bool {
        let shared = &self.0.shared;
        let mut queue = shared.queue.lock();
        let target = queue.accepted;
        queue.urgent = true;
        queue.awake = true;
        shared.work.notify_one();
        let unfinished = |queue: &mut Queue| queue.finished < target;
        !shared.written.wait_while_for(&mut queue, unfinished, at_most).timed_out()
    }

    /// Lines that were dropped so far.
    pub fn dropped(&self) -> u64 {
        self.0.shared.dropped.get()
    }

    pub(super) fn dropped_counter(&self) -> IntCounter {
        self.0.shared.dropped.clone()
    }

    pub(super) fn origin(&self) -> &[u8] {
        &self.0.origin
    }
}

/// For `env_logger`, which hands in one whole line a call.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line, 1);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn run(&self, mut out: Box<dyn Write + Send>) {
        let mut batch = Vec::new();
        // A disk that was full has half a line; what comes next is not to be its other half.
        let mut torn = false;
        while self.take(&mut batch) {
            torn = torn && write_out(&mut *out, b"\n").len() == 1;
            let rest = write_out(&mut *out, &batch);
            self.dropped.inc_by(memchr::memchr_iter(b'\n', rest).count() as u64);
            let written = &batch[..batch.len() - rest.len()];
            torn = written.last().map_or(torn, |last| *last != b'\n');
            batch.clear();
            batch.shrink_to(FULL_BATCH);
            let mut queue = self.queue.lock();
            queue.finished += queue.taken_lines as u64;
            queue.taken_bytes = 0;
            queue.taken_lines = 0;
            drop(queue);
            self.written.notify_all();
        }
    }

    /// Waits for lines and takes all there are. False once there will be no more.
    fn take(&self, batch: &mut Vec<u8>) -> bool {
        let mut queue = self.queue.lock();
        while queue.pending.is_empty() {
            if queue.closed {
                return false;
            }
            queue.awake = false;
            queue.urgent = false;
            self.work.wait(&mut queue);
        }
        queue.awake = true;
        let gathering = |queue: &mut Queue| !queue.urgent && !queue.closed && queue.pending.len() < FULL_BATCH;
        self.work.wait_while_for(&mut queue, gathering, GATHER);
        std::mem::swap(&mut queue.pending, batch);
        queue.taken_bytes = batch.len();
        queue.taken_lines = std::mem::take(&mut queue.pending_lines);
        queue.urgent = false;
        true
    }
}

/// Writes a batch; yields what was lost of it because the reader has gone, or the disk is full.
fn write_out<'b>(out: &mut dyn Write, mut rest: &'b [u8]) -> &'b [u8] {
    while !rest.is_empty() {
        match out.write(rest) {
            Ok(0) => break,
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // stdout may be a pipe that somebody else made non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(AGAIN),
            Err(_) => break,
        }
    }
    // stdout holds nothing back after a line feed, so that a flush that fails loses nothing.
    let _ = out.flush();
    rest
}

fn origin(hostname: &str) -> Vec<u8> {
    let hostname = serde_json::Value::from(hostname);
    format!(r#","pid":{},"hostname":{hostname},"meta":{{"#, std::process::id()).into_bytes()
}

#[cfg(test)]
pub(crate) mod tests;
