//! Facts about leases in the database, by hand-set time.
//!
//! Never does: wait.

use super::super::super::tests::{at, sample};
use super::*;
use crate::limit::Zone;
use crate::units::{Measure, Owner, Per, Subject};

const OURS: &str = "a";
const THEIRS: &str = "b";

/// A part of a daily budget in USD of the user ann, or of somebody without a record.
fn wanted(user: &str, day: u64, value: u128, [amount, least]: [u128; 2]) -> Wanted {
    let subject = Subject::of(Owner::User(user.into()));
    let window = Window::around(Per::Day, &Zone::UTC, at(day * 86_400));
    Wanted { budget: BudgetId { subject, measure: Measure::Usd, per: Per::Day }, window, value, amount, least }
}

/// A book of the sample's calls, in which an instance was last heard of at 1000 s.
fn book() -> (tempfile::TempDir, Book) {
    let (folder, path) = sample();
    let book = Book::open(&path).expect("opened");
    heard(&book, THEIRS, 1000);
    (folder, book)
}

fn heard(book: &Book, instance: &str, seconds: u64) {
    let seen = micros_since_1970(at(seconds));
    let insert = "INSERT OR REPLACE INTO instances (id, started_us, seen_us) VALUES (?1, 0, ?2)";
    book.connection.execute(insert, params![instance, seen]).expect("written");
}

#[test]
fn what_is_leased_and_given_back_is_never_more_than_the_budget() {
    let (_folder, mut book) = book();
    let now = at(1001);
    let mut lease = |amount, least| book.lease(OURS, &wanted("eve", 0, 1000, [amount, least]), now).expect("leased");
    let nothing_else = |amount| Grant { amount, spent_elsewhere: 0, held_elsewhere: 0 };
    assert_eq!(lease(100, 10), nothing_else(100));
    assert_eq!(lease(950, 10), nothing_else(900), "what there is");
    assert_eq!(lease(1, 1), nothing_else(0));
    let Wanted { budget, window, .. } = wanted("eve", 0, 1000, [0, 0]);
    let back = Returned { budget, window, unused: 300, spent: 700 };
    book.give_back(OURS, &[back]).expect("given back");
    let mut lease = |amount, least| book.lease(OURS, &wanted("eve", 0, 1000, [amount, least]), now).expect("leased");
    assert_eq!(lease(1000, 301), nothing_else(0), "less than is needed is of no use");
    assert_eq!(lease(1000, 300), nothing_else(300));
}

#[test]
fn two_instances_share_a_budget() {
    let (_folder, mut book) = book();
    heard(&book, OURS, 1000);
    let mut all = 0;
    for round in 0..40 {
        let instance = if round % 3 == 0 { THEIRS } else { OURS };
        let grant = book.lease(instance, &wanted("eve", 0, 1000, [70, 1]), at(1001)).expect("leased");
        all += grant.amount;
        assert!(all <= 1000 && grant.spent_elsewhere == 0 && grant.held_elsewhere <= all);
    }
    assert_eq!(all, 1000);
}

#[test]
fn a_budget_counts_what_was_spent_in_its_window_before() {
    let (_folder, mut book) = book();
    // Two calls of 450 micro-dollars on the first day, one on the second.
    for (day, spent) in [(0, 900_000_000), (1, 450_000_000), (2, 0)] {
        let value = 1_000_000_000;
        let grant = book.lease(OURS, &wanted("ann", day, value, [value, 1]), at(1001)).expect("leased");
        assert_eq!(grant, Grant { amount: value - spent, spent_elsewhere: spent, held_elsewhere: 0 });
    }
}

#[test]
fn what_a_killed_instance_leased_counts_until_its_records_tell() {
    let (_folder, mut book) = book();
    let value = 1_000_000;
    for amount in [500_000, 1000] {
        book.lease(THEIRS, &wanted("eve", 0, value, [amount, 1]), at(1001)).expect("leased");
    }
    let mut lease = |seconds| book.lease(OURS, &wanted("eve", 0, value, [10, 1]), at(seconds)).expect("leased");
    assert_eq!(lease(1014), Grant { amount: 10, spent_elsewhere: 0, held_elsewhere: 501_000 }, "it may be alive");
    // No record of it is there, so that it spent of its last lease at most, and of what was too little before.
    assert_eq!(lease(1016), Grant { amount: 10, spent_elsewhere: 2000, held_elsewhere: 0 });
    assert_eq!(lease(2000), Grant { amount: 10, spent_elsewhere: 2000, held_elsewhere: 0 }, "once");
}

#[test]
fn where_records_of_the_window_are_gone_all_that_was_leased_counts() {
    let (_folder, mut book) = book();
    book.lease(THEIRS, &wanted("eve", 0, 1_000_000, [500_000, 1]), at(1001)).expect("leased");
    book.lease(THEIRS, &wanted("eve", 0, 1_000_000, [1000, 1]), at(1001)).expect("leased");
    let since = micros_since_1970(at(1));
    book.connection.execute("UPDATE kept SET since_us = ?1", [since]).expect("changed");
    let grant = book.lease(OURS, &wanted("eve", 0, 1_000_000, [10, 1]), at(1016)).expect("leased");
    assert_eq!(grant, Grant { amount: 10, spent_elsewhere: 501_000, held_elsewhere: 0 });
}

#[test]
fn the_rows_of_a_window_rest_a_day_behind_its_end() {
    let (_folder, mut book) = book();
    let windows = |book: &Book| -> i64 {
        let count = "SELECT count(DISTINCT window_start) FROM leases";
        book.connection.query_row(count, [], |row| row.get(0)).expect("a number")
    };
    for (day, left) in [(0, 1), (1, 2), (2, 2), (9, 1)] {
        let now = at(day * 86_400 + 10_800);
        book.lease(OURS, &wanted("eve", day, 1000, [10, 1]), now).expect("leased");
        assert_eq!(windows(&book), left, "on day {day}");
    }
}

#[test]
fn a_later_schema_and_a_file_that_is_gone_are_refused() {
    let (folder, path) = sample();
    assert!(Book::open(&folder.path().join("none.db")).is_err(), "it makes none");
    let mut book = Book::open(&path).expect("opened");
    let moved = folder.path().join("moved.db");
    std::fs::rename(&path, &moved).expect("moved");
    assert!(!book.is_there());
    let leased = book.lease(OURS, &wanted("eve", 0, 10, [1, 1]), at(0));
    assert!(matches!(leased, Err(LedgerError::Gone)), "{leased:?}");
    drop(book);
    let later = folder.path().join("later.db");
    let connection = Connection::open(&later).expect("opened");
    connection.execute_batch("CREATE TABLE calls (id INTEGER); PRAGMA user_version = 99").expect("made");
    assert!(matches!(Book::open(&later), Err(LedgerError::Newer { found: 99 })));
}
