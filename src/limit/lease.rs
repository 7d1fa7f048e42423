//! Leases: parts of a budget that this process may spend without asking, taken out of a store that outlives it.
//!
//! Invariant: what all processes have leased of a budget in a window, and not given back, is never more than the budget.
//! Never does: know what the store is.

use std::fmt::Debug;

use async_trait::async_trait;

use super::Window;
use crate::units::{Measure, Per, Subject};

/// A budget of a subject. Its value is no part of it: that may change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BudgetId {
    /// Whose.
    pub subject: Subject,
    /// Of what.
    pub measure: Measure,
    /// In which windows.
    pub per: Per,
}

/// What has to be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of which budget.
    pub budget: BudgetId,
    /// In which window.
    pub window: Window,
    /// The budget's value, in pico-dollars or tokens as all amounts here.
    pub value: u128,
    /// How much is wanted. Less helps too, unless it is less than `least`.
    pub amount: u128,
    /// How much is needed for the call that asks.
    pub least: u128,
}

/// What was leased, and how the budget stands beside that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// How much: up to what was wanted. Less means that there is no more for now.
    pub amount: u128,
    /// What is spent of the budget in the window and is no part of this process's leases: before it began, or by others.
    pub spent_elsewhere: u128,
    /// What others have leased and may give back; what was lost with one that crashed too, until it is reconciled.
    pub held_elsewhere: u128,
}

/// What is left of the leases of a window, to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Of which budget.
    pub budget: BudgetId,
    /// Of which window.
    pub window: Window,
    /// How much of it was not spent, and is free again.
    pub unused: u128,
    /// How much of it was spent.
    pub spent: u128,
}

/// The store cannot be asked, or cannot be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store of budgets cannot be used")]
pub struct LeaseFault;

/// The store that budgets are leased from.
#[async_trait]
pub trait Leases: Send + Sync + Debug {
    /// Leases a part of a budget: as much as is wanted, or as there is. What it grants is durable when it answers.
    ///
    /// # Errors
    /// Nothing was leased.
    async fn lease(&self, wanted: &Wanted) -> Result<Grant, LeaseFault>;

    /// Takes back what is left. What is lost on this way counts as spent until it is reconciled.
    fn give_back(&self, returned: Vec<Returned>);
}
