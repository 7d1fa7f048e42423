//! A store of budgets for tests: what it has leased is never more than the budget.
//!
//! Never does: wait.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::*;

/// What is gone of budgets, by budget and window.
#[derive(Debug, Default)]
pub(super) struct Bank {
    books: Mutex<HashMap<(BudgetId, i64), Book>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Book {
    /// With the limiter.
    pub(super) leased: u128,
    /// For good.
    pub(super) spent: u128,
    /// With others.
    pub(super) others: u128,
}

impl Bank {
    pub(super) fn lease_now(&self, wanted: &Wanted) -> Grant {
        let mut books = self.books.lock();
        let book = books.entry((wanted.budget.clone(), wanted.window.start)).or_default();
        let amount = wanted.amount.min(wanted.value.saturating_sub(book.leased + book.spent + book.others));
        book.leased += amount;
        Grant { amount, spent_elsewhere: book.spent, held_elsewhere: book.others }
    }

    pub(super) fn give_back_now(&self, returned: &[Returned]) {
        let mut books = self.books.lock();
        for back in returned {
            let book = books.entry((back.budget.clone(), back.window.start)).or_default();
            book.leased = book.leased.checked_sub(back.unused + back.spent).expect("was leased");
            book.spent += back.spent;
        }
    }

    /// Sets what is gone without the limiter.
    pub(super) fn set(&self, budget: BudgetId, window: i64, book: Book) {
        self.books.lock().insert((budget, window), book);
    }

    /// All that is gone, the most of any budget and window.
    pub(super) fn most(&self) -> u128 {
        self.books.lock().values().map(|book| book.leased + book.spent + book.others).max().unwrap_or(0)
    }

    /// The books of a budget, in the order of windows.
    pub(super) fn books(&self) -> Vec<Book> {
        let books = self.books.lock();
        let mut all: Vec<_> = books.iter().map(|((_, start), book)| (*start, *book)).collect();
        all.sort_by_key(|(start, _)| *start);
        all.into_iter().map(|(_, book)| book).collect()
    }

    /// Reserves, leasing what it takes: as the exchange does it.
    pub(super) fn reserve(
        &self,
        limiter: &dyn Limiter,
        bounds: &[&[Bound]],
        ask: &Ask,
        now: Now,
    ) -> Result<Reservation, Denied> {
        loop {
            match limiter.reserve(bounds, ask, now) {
                Err(Denied::NeedsLease(all)) => {
                    for wanted in &all {
                        let back = limiter.granted(wanted, self.lease_now(wanted), now);
                        self.give_back_now(back.as_slice());
                    }
                }
                other => return other,
            }
        }
    }
}
