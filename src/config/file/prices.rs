//! The picture of the section `prices`.
//!
//! Never does: checks; the picture alone. An entry's fields are documented at `meter::price::Entry`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::super::values::mappings;
use crate::meter::price::Entries;

/// What tokens cost.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Prices {
    /// A price book in the format of `conf/prices.json`, in place of the one that the binary brings; relative to the
    /// working directory, read again at each reload. Default: empty, the binary's.
    pub file: PathBuf,
    /// Prices of models in place of the book's, or beside them: by section, then by model, each as an entry of the book.
    /// An entry replaces the book's whole. Default: none.
    #[serde(deserialize_with = "mappings")]
    pub models: BTreeMap<String, Entries>,
}
