//! What a call used and cost, judged once from all that is known when it is over.
//!
//! Invariant: what the provider told is never replaced by an estimate that is less; nothing is charged for a call that
//! the provider did not answer, unless it was the client who left; what has no price costs `None`, never zero.
//! Never does: read a clock, look at a body.

use std::sync::Arc;

use super::record::{Certainty, Record, Spent};
use crate::config::Snapshot;
use crate::error::Refusal;
use crate::meter::Metered;
use crate::meter::price::Price;
use crate::route::{Kind, Route};
use crate::units::Usage;

/// Bytes of UTF-8 that an estimate takes for one token. Models need four of English and about three of most other
/// scripts, so that an estimate is rather too high. Source: platform.openai.com/tokenizer, read 2026-11.
pub(super) const BYTES_PER_TOKEN: u64 = 3;

/// What was asked of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether the request was sent, so that the provider may have worked for it.
    pub sent: bool,
    /// Bytes of its body, where it was read.
    pub bytes: u64,
}

/// Judges a call that is over. `metered` is what was seen of the answer, where that was looked at.
pub(super) fn spent(record: &Record, asked: Asked, metered: Option<Metered>, snapshot: &Snapshot) -> Spent {
    let Some(route) = record.route.as_deref() else { return Spent::default() };
    let metered = metered.unwrap_or_default();
    let (certainty, usage) = judge(record, route, asked, &metered);
    let mut spent =
        Spent { certainty, usage, model: metered.model, service_tier: metered.service_tier, ..Spent::default() };
    if certainty == Certainty::Unknown {
        spent.cost = None;
    }
    if let Some(usage) = &spent.usage {
        let price = price(record, &spent, snapshot);
        spent.cost = price.and_then(|price| price.cost(usage, spent.service_tier.as_deref()));
        spent.prices = spent.cost.map(|_| Arc::clone(snapshot.prices.version()));
    }
    spent
}

/// The price of the model that answered; where the book has only the one that was asked for, that.
fn price<'s>(record: &Record, spent: &Spent, snapshot: &'s Snapshot) -> Option<&'s Price> {
    let provider = snapshot.providers.iter().find(|provider| Some(&provider.id) == record.provider.as_ref())?;
    let section = provider.prices.as_deref()?;
    let find = |model: &str| snapshot.prices.find(section, model);
    let asked = record.asked_model.as_deref();
    spent
        .model
        .as_deref()
        .and_then(find)
        .or_else(|| asked.and_then(find))
        .or_else(|| record.model.as_deref().and_then(find))
}

fn judge(record: &Record, route: &Route, asked: Asked, metered: &Metered) -> (Certainty, Option<Usage>) {
    let left = matches!(record.refusal, Some(Refusal::ClientGone | Refusal::ShuttingDown));
    let generates = matches!(record.method, http::Method::POST | http::Method::PUT | http::Method::PATCH);
    match record.upstream_status {
        Some(200..=299) => {}
        // It was at work when its client left: many providers charge for that.
        None if asked.sent && left && generates && route.kind == Kind::Json => {
            return (Certainty::Estimated, Some(estimate(asked, metered)));
        }
        Some(101) => return (Certainty::Unknown, None),
        _ => return (Certainty::Failed, None),
    }
    let cut = record.refusal.is_some();
    match metered.usage {
        // Some tell it in every event, and the last one may be missing.
        Some(told) if cut && !metered.complete => (Certainty::Estimated, Some(at_least(told, visible(metered)))),
        Some(told) => (Certainty::Settled, Some(told)),
        None if !generates => (Certainty::Settled, None),
        None if route.kind == Kind::Json && (cut || metered.visible_bytes > 0) => {
            (Certainty::Estimated, Some(estimate(asked, metered)))
        }
        None => (Certainty::Unknown, None),
    }
}

fn estimate(asked: Asked, metered: &Metered) -> Usage {
    Usage { input: asked.bytes.div_ceil(BYTES_PER_TOKEN), output: visible(metered), ..Usage::default() }
}

fn visible(metered: &Metered) -> u64 {
    metered.visible_bytes.div_ceil(BYTES_PER_TOKEN)
}

fn at_least(told: Usage, output: u64) -> Usage {
    Usage { output: told.output.max(output), ..told }
}
