//! What the provider saw: requests, how they ended, and connections.
//!
//! Invariant: a request is in the journal from the moment its head is complete, and each change wakes who waits.
//! Never does: keep more of a body than its cap.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::request::Head;

/// One request, as far as it has come.
#[derive(Clone, Debug)]
pub struct Received {
    /// As it was sent.
    pub method: String,
    /// As it was sent, with its query.
    pub target: String,
    /// As they were sent, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body's first bytes, up to [`super::ProviderOptions::body_cap`].
    pub body: Bytes,
    /// Bytes of the body that have arrived, without its framing.
    pub body_length: u64,
    /// Whether the body has arrived to its end.
    pub body_complete: bool,
    /// SHA-256 of the body in hexadecimal, once all of it has arrived.
    pub body_sha256: Option<String>,
    /// Which connection it came on, counted from 1.
    pub connection_id: u64,
    /// Which request of its connection it is, counted from 1.
    pub request_number: u64,
    /// Whether it came over HTTP/2; its authority then stands as the header `host`.
    pub http2: bool,
    /// When its head had arrived.
    pub arrived_at: Instant,
    /// When the last byte of its answer was handed to the system, whether or not a script cut that answer short.
    pub answered_at: Option<Instant>,
    /// Whether the client closed before the answer was complete.
    pub cancelled: bool,
    /// When that was seen.
    pub aborted_at: Option<Instant>,
}

impl Received {
    /// The first value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// How many times a header was sent.
    pub fn header_count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).count()
    }

    /// From the head's arrival to the client's hanging up.
    pub fn aborted_after(&self) -> Option<Duration> {
        self.aborted_at.map(|at| at - self.arrived_at)
    }
}

/// A connection in the journal.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    control: AtomicUsize,
}

/// A request in the journal. It outlives [`Journal::clear`], after which changes go nowhere.
#[derive(Debug)]
pub(super) struct Entry {
    id: u64,
    body: BytesMut,
    length: u64,
    hash: Sha256,
}

/// The journal.
pub(super) struct Journal {
    body_cap: usize,
    requests: Mutex<Vec<(u64, Received)>>,
    next: AtomicU64,
    accepted: AtomicUsize,
    closed: AtomicUsize,
    /// Connections for control, open ones and all.
    control: (AtomicUsize, AtomicUsize),
    malformed: AtomicUsize,
    changed: watch::Sender<()>,
}

impl Journal {
    pub(super) fn new(body_cap: usize) -> Self {
        Self {
            body_cap,
            requests: Mutex::default(),
            next: AtomicU64::new(1),
            accepted: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            control: (AtomicUsize::new(0), AtomicUsize::new(0)),
            malformed: AtomicUsize::new(0),
            changed: watch::channel(()).0,
        }
    }

    /// Notes a new connection.
    pub(super) fn opened(&self) -> Connection {
        let id = self.accepted.fetch_add(1, Ordering::SeqCst) as u64 + 1;
        self.changed.send_replace(());
        Connection { id, control: AtomicUsize::new(0) }
    }

    /// Notes that a connection carries control requests and so does not count.
    pub(super) fn is_control(&self, connection: &Connection) {
        if connection.control.swap(1, Ordering::SeqCst) == 0 {
            self.control.0.fetch_add(1, Ordering::SeqCst);
            self.control.1.fetch_add(1, Ordering::SeqCst);
            self.changed.send_replace(());
        }
    }

    /// Notes the end of a connection.
    pub(super) fn closed(&self, connection: &Connection) {
        if connection.control.load(Ordering::SeqCst) == 1 {
            self.control.0.fetch_sub(1, Ordering::SeqCst);
        }
        self.closed.fetch_add(1, Ordering::SeqCst);
        self.changed.send_replace(());
    }

    /// Notes that a client sent what is no HTTP.
    pub(super) fn saw_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::SeqCst);
        self.changed.send_replace(());
    }

    /// Notes a request whose head is complete.
    pub(super) fn arrived(&self, head: &Head, connection: &Connection, request_number: u64) -> Entry {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let received = Received {
            method: head.method.clone(),
            target: head.target.clone(),
            headers: head.headers.clone(),
            body: Bytes::new(),
            body_length: 0,
            body_complete: false,
            body_sha256: None,
            connection_id: connection.id,
            request_number,
            http2: head.http2,
            arrived_at: Instant::now(),
            answered_at: None,
            cancelled: false,
            aborted_at: None,
        };
        self.requests.lock().push((id, received));
        self.changed.send_replace(());
        Entry { id, body: BytesMut::new(), length: 0, hash: Sha256::new() }
    }

    /// Notes a piece of a body.
    pub(super) fn body_arrived(&self, entry: &mut Entry, piece: &[u8]) {
        let room = self.body_cap.saturating_sub(entry.body.len()).min(piece.len());
        entry.body.extend_from_slice(piece.get(..room).unwrap_or_default());
        entry.length += piece.len() as u64;
        entry.hash.update(piece);
        let length = entry.length;
        self.change(entry, |received| received.body_length = length);
    }

    /// Notes how much of a body there is to be; also before an answer that does not wait for all of it.
    pub(super) fn body_ended(&self, entry: &Entry, complete: bool) {
        let body = Bytes::copy_from_slice(&entry.body);
        let hash = complete.then(|| hex(&entry.hash.clone().finalize()));
        self.change(entry, |received| {
            received.body = body;
            received.body_complete = complete;
            received.body_sha256 = hash;
        });
    }

    /// Notes that the answer was written.
    pub(super) fn answered(&self, entry: &Entry) {
        self.change(entry, |received| received.answered_at = Some(Instant::now()));
    }

    /// Notes that the client left before that.
    pub(super) fn cancelled(&self, entry: &Entry) {
        self.change(entry, |received| {
            received.cancelled = true;
            received.aborted_at = Some(Instant::now());
        });
    }

    fn change(&self, entry: &Entry, change: impl FnOnce(&mut Received)) {
        if let Some((_, received)) = self.requests.lock().iter_mut().rev().find(|(id, _)| *id == entry.id) {
            change(received);
        }
        self.changed.send_replace(());
    }

    /// Wakes at each change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.requests.lock().iter().map(|(_, received)| received.clone()).collect()
    }

    pub(super) fn clear(&self) {
        self.requests.lock().clear();
        self.changed.send_replace(());
    }

    pub(super) fn open_connections(&self) -> usize {
        // Read in this order, a connection that closes in between is still counted, never one that is not there.
        let closed = self.closed.load(Ordering::SeqCst);
        let open = self.accepted.load(Ordering::SeqCst).saturating_sub(closed);
        open.saturating_sub(self.control.0.load(Ordering::SeqCst))
    }

    pub(super) fn all_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) == self.accepted.load(Ordering::SeqCst)
    }

    pub(super) fn connections_accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst).saturating_sub(self.control.1.load(Ordering::SeqCst))
    }

    pub(super) fn malformed(&self) -> usize {
        self.malformed.load(Ordering::SeqCst)
    }
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
