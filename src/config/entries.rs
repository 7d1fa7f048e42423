//! Entries of `providers.*.routes`: a text, or a mapping that says more.
//!
//! Invariant: both forms come to the same picture, which remembers where its text stands.
//! Never does: read the text; that is `routes`.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::report::FieldPath;
use super::values::Money;

/// An entry of `routes`.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteEntry {
    /// `method path [kind]`
    pub route: String,
    /// Whether that is the field `route` of a mapping.
    pub is_mapping: bool,
    /// What tells the model of the route's calls: `query`, or the model itself.
    pub model: Option<String>,
    /// What each call costs.
    pub price: Option<Money>,
}

/// The mapping that an entry may be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RouteMapping {
    route: String,
    model: Option<String>,
    price_per_request: Option<Money>,
}

impl RouteEntry {
    /// An entry that is a text.
    pub(super) fn line(text: &str) -> Self {
        Self { route: text.to_owned(), is_mapping: false, model: None, price: None }
    }

    /// Where the text of the entry at this path stands.
    pub(super) fn place(&self, entry: FieldPath) -> FieldPath {
        if self.is_mapping { entry.key("route") } else { entry }
    }
}

struct RouteVisitor;

impl<'de> Visitor<'de> for RouteVisitor {
    type Value = RouteEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text such as \"get /v1/models\", or { route: ..., model: ... }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RouteEntry, E> {
        Ok(RouteEntry::line(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RouteEntry, A::Error> {
        let RouteMapping { route, model, price_per_request } =
            RouteMapping::deserialize(MapAccessDeserializer::new(map))?;
        Ok(RouteEntry { route, is_mapping: true, model, price: price_per_request })
    }
}

impl<'de> Deserialize<'de> for RouteEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RouteVisitor)
    }
}
