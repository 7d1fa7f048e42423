//! Leases of budgets, kept in the ledger's database by a thread of their own.
//!
//! Invariant: in each window of a budget what was spent, and what all processes hold leased, is never more than its value;
//! a lease that was granted is on the disk. What a process had leased when it was killed counts as spent until its records
//! tell how much of it was.
//! Never does: hold up a call that needs no lease; grant what it could not write.

mod book;
mod records;
mod report;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{Ledger, LedgerError};
use crate::limit::{Grant, LeaseFault, Leases, Returned, Wanted};
use book::Book;

pub use report::{BudgetLine, budgets};

/// How long the records of calls that were admitted before may take to the disk. A lease is granted behind them, so that
/// what a crash loses is of the last lease at most.
const BEHIND: Duration = Duration::from_secs(1);
/// How many times as long, where the ledger is no more than slow: nobody is refused for a busy disk.
const TURNS: usize = 5;

/// The budgets of a ledger.
#[derive(Debug)]
pub struct BudgetStore(Mutex<Sender<Request>>);

#[derive(Debug)]
enum Request {
    Lease(Box<Wanted>, oneshot::Sender<Result<Grant, LeaseFault>>),
    GiveBack(Vec<Returned>),
    /// Tells when all that was asked before is done.
    Flush(Sender<()>),
}

impl BudgetStore {
    /// Starts the thread. `instance` is this process's own number, as the ledger has it. `None` where the ledger is off.
    ///
    /// # Errors
    /// Where the system refuses a thread.
    pub fn open(ledger: &Ledger, instance: u64) -> std::io::Result<Option<Self>> {
        let Some(path) = ledger.path() else { return Ok(None) };
        let (sender, requests) = channel();
        let desk =
            Desk { ledger: ledger.clone(), path: path.to_owned(), instance: format!("{instance:016x}"), book: None };
        std::thread::Builder::new().name("budgets".to_owned()).spawn(move || desk.serve(&requests))?;
        Ok(Some(Self(Mutex::new(sender))))
    }

    /// Waits until what was given back is written, but never longer than `at_most`.
    pub fn flush(&self, at_most: Duration) {
        let (done, is_done) = channel();
        if self.send(Request::Flush(done)) {
            // Too late is no matter: what is not given back counts as spent until the records tell.
            let _ = is_done.recv_timeout(at_most);
        }
    }

    fn send(&self, request: Request) -> bool {
        self.0.lock().send(request).is_ok()
    }
}

#[async_trait]
impl Leases for BudgetStore {
    async fn lease(&self, wanted: &Wanted) -> Result<Grant, LeaseFault> {
        let (answer, answered) = oneshot::channel();
        if !self.send(Request::Lease(Box::new(wanted.clone()), answer)) {
            return Err(LeaseFault);
        }
        answered.await.unwrap_or(Err(LeaseFault))
    }

    fn give_back(&self, returned: Vec<Returned>) {
        if !returned.is_empty() {
            self.send(Request::GiveBack(returned));
        }
    }
}

/// The thread's state.
struct Desk {
    ledger: Ledger,
    path: PathBuf,
    instance: String,
    book: Option<Book>,
}

impl Desk {
    fn serve(mut self, requests: &Receiver<Request>) {
        while let Ok(request) = requests.recv() {
            match request {
                Request::Lease(wanted, answer) => {
                    let granted = self.lease(&wanted);
                    if let Err(error) = &granted {
                        log::error!("a budget cannot be leased from the ledger {}: {error}", self.path.display());
                    }
                    // The call that asked may be gone; the lease stays for the next one.
                    let _ = answer.send(granted.map_err(|_| LeaseFault));
                }
                Request::GiveBack(returned) => {
                    let done = self.with_book(|book, instance| book.give_back(instance, &returned));
                    if let Err(error) = done {
                        log::warn!(
                            "leases could not be given back, and count as spent until the records tell: {error}"
                        );
                    }
                }
                Request::Flush(done) => {
                    let _ = done.send(());
                }
            }
        }
    }

    fn lease(&mut self, wanted: &Wanted) -> Result<Grant, LedgerError> {
        let written = (0..TURNS).any(|turn| (turn == 0 || self.ledger.is_up()) && self.ledger.flush(BEHIND));
        if !written {
            return Err(LedgerError::Behind);
        }
        let now = SystemTime::now();
        self.with_book(|book, instance| book.lease(instance, wanted, now))
    }

    fn with_book<T>(&mut self, work: impl FnOnce(&mut Book, &str) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let book = match &mut self.book {
            Some(book) if book.is_there() => book,
            book => book.insert(Book::open(&self.path)?),
        };
        let done = work(book, &self.instance);
        if done.is_err() {
            self.book = None;
        }
        done
    }
}
