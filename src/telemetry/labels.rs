//! What of a record may be a label, as text that is at hand and need not be formatted.
//!
//! Invariant: every function here yields a value of a closed set, a configured name, or a model that a provider
//! answered for, of which there are at most [`MAX_MODELS`].
//! Never does: look at a path, a user or a model that a client merely sent.

use std::collections::HashSet;

use http::Method;
use parking_lot::RwLock;

use super::family::OTHER;
use crate::flow::Record;

/// Names of models that have series of their own; the rest is `other`.
pub(super) const MAX_MODELS: usize = 200;

/// Stands for a route, a model or a provider that there was none of.
pub(super) const UNKNOWN: &str = "unknown";

/// The method in upper case; methods outside HTTP's own are one.
pub(super) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "OTHER",
    }
}

/// The pattern of the route that was found.
pub(super) fn route(record: &Record) -> &str {
    record.route.as_ref().map_or(UNKNOWN, |route| &route.pattern)
}

/// The models that have series of their own: the first ones that a provider answered for.
#[derive(Debug, Default)]
pub(super) struct Models(RwLock<HashSet<Box<str>>>);

impl Models {
    /// The model of a call as a label.
    pub(super) fn label<'r>(&self, record: &'r Record) -> &'r str {
        let Some(model) = record.answered_model() else {
            return UNKNOWN;
        };
        {
            let known = self.0.read();
            if known.contains(model) {
                return model;
            }
            if known.len() >= MAX_MODELS {
                return OTHER;
            }
        }
        let mut known = self.0.write();
        if known.len() < MAX_MODELS {
            known.insert(model.into());
        }
        if known.contains(model) { model } else { OTHER }
    }
}
