//! The picture of the section `limits`.
//!
//! Never does: checks that need more than one field; that is `config::limits`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::super::values::{Count, Money, mapping, mapping_items, mappings};
use crate::units::Per;

/// Rate limits and budgets. Of all that apply to a call each has to let it through. `server.limits` is about what a client
/// may send.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Where what is used is kept: `local`, in this process. Default `local`.
    pub store: LimitStore,
    /// The zone by whose midnights budgets are renewed, by its name in the IANA database. Default `UTC`.
    pub zone: String,
    /// Of all calls together. Default: none.
    #[serde(deserialize_with = "mapping")]
    pub gateway: LimitSet,
    /// Of each key on its own, where neither the key file nor `keys` has another value for the field. Default: none.
    #[serde(deserialize_with = "mapping")]
    pub key: LimitSet,
    /// Of single keys by their id, where the key file has no other value for the field. Default: none.
    #[serde(deserialize_with = "mappings")]
    pub keys: BTreeMap<String, LimitSet>,
    /// Of all keys of a user together, by the user's name. Default: none.
    #[serde(deserialize_with = "mappings")]
    pub users: BTreeMap<String, LimitSet>,
    /// Of all keys of a team together, by the team's name. Default: none.
    #[serde(deserialize_with = "mappings")]
    pub teams: BTreeMap<String, LimitSet>,
    /// Of all calls that ask for a model, by the name that they ask for. Default: none.
    #[serde(deserialize_with = "mappings")]
    pub models: BTreeMap<String, LimitSet>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            store: LimitStore::Local,
            zone: "UTC".to_owned(),
            gateway: LimitSet::default(),
            key: LimitSet::default(),
            keys: BTreeMap::new(),
            users: BTreeMap::new(),
            teams: BTreeMap::new(),
            models: BTreeMap::new(),
        }
    }
}

/// Where what is used is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitStore {
    /// In this process.
    #[default]
    Local,
}

/// Limits of somebody. What is left out is not limited.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSet {
    /// Calls in any 60 seconds. Default: no limit.
    pub requests_per_minute: Option<Count>,
    /// Tokens, of input and output, of calls that begin in any 60 seconds. Default: no limit.
    pub tokens_per_minute: Option<Count>,
    /// Calls at once. Default: no limit.
    pub concurrent_requests: Option<Count>,
    /// Budgets, each `{ usd: AMOUNT, per: WINDOW }` or `{ tokens: N, per: WINDOW }`, where the window is a `day`, a `week`
    /// (from Monday), a `month` of the calendar, or `total`. Default: none.
    #[serde(deserialize_with = "mapping_items")]
    pub budgets: Vec<BudgetEntry>,
    /// Whether these limits only count and report what they would have refused. Default false.
    pub shadow: bool,
    /// Of the calls that ask for a model, by the name that they ask for, beside the limits of all calls. For a key, a user or
    /// a team; those of the gateway are `limits.models`. Default: none.
    #[serde(deserialize_with = "mappings")]
    pub models: BTreeMap<String, Self>,
}

/// A budget.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetEntry {
    /// How much money. This or `tokens` is needed.
    pub usd: Option<Money>,
    /// How many tokens, of input and output.
    pub tokens: Option<Count>,
    /// In which window. Needed.
    pub per: Option<PerEntry>,
}

/// The window of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PerEntry {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// A month of the calendar.
    Month,
    /// For ever.
    Total,
}

impl From<PerEntry> for Per {
    fn from(entry: PerEntry) -> Self {
        match entry {
            PerEntry::Day => Self::Day,
            PerEntry::Week => Self::Week,
            PerEntry::Month => Self::Month,
            PerEntry::Total => Self::Total,
        }
    }
}
