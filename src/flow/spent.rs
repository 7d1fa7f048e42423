//! What a call used and cost, judged once from all that is known when it is over.
//!
//! Invariant: what the provider told is never replaced by an estimate that is less, and an estimate is never more than the
//! model can take and the request lets it give; nothing is charged for a call that the provider did not answer, or whose
//! answer broke before anything of it went to the client, unless it was this side that left; what has no price costs `None`, never zero;
//! where the route has a price for each call, what is charged for costs that and nothing else.
//! Never does: read a clock, look at a body.

use std::sync::Arc;

use super::record::{Certainty, Record, Spent};
use crate::config::Snapshot;
use crate::error::Refusal;
use crate::meter::Metered;
use crate::meter::price::{Mode, Price};
use crate::route::{Kind, Route};
use crate::units::{Usage, Usd};

/// Bytes of UTF-8 that an estimate takes for one token. Models need four of English and about three of most other
/// scripts, so that an estimate is mostly too high. Source: platform.openai.com/tokenizer, read 2026-11.
pub(super) const BYTES_PER_TOKEN: u64 = 3;

/// The most that a call can cost: what the ledger has room for, nine million USD. Beyond, nobody would know the same.
const MOST: Usd = Usd::from_picos(i64::MAX as u128);

/// What was asked of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether the request was sent, so that the provider may have worked for it.
    pub sent: bool,
    /// Whether the head of its answer went to the client.
    pub relayed: bool,
    /// Bytes of its body, where it was read.
    pub bytes: u64,
    /// The most tokens that one choice may have, where the request says so.
    pub max_output_tokens: Option<u64>,
    /// How many choices it asks for; 0 counts as 1.
    pub choices: u64,
}

/// Judges a call that is over. `metered` is what was seen of the answer, where that was looked at.
pub(super) fn spent(record: &Record, asked: Asked, metered: Option<Metered>, snapshot: &Snapshot) -> Spent {
    let Some(route) = record.route.as_deref() else { return Spent::default() };
    let metered = metered.unwrap_or_default();
    let price = price(record, &metered, snapshot);
    let (certainty, usage) = Judge { record, route, asked, metered: &metered, price }.judge();
    if let Some(each) = route.price.filter(|_| route.may_cost(&record.method)) {
        let (certainty, cost) = match certainty {
            Certainty::Failed => (certainty, Usd::ZERO),
            Certainty::Unknown => (Certainty::Settled, each),
            _ => (certainty, each),
        };
        let (model, service_tier) = (metered.model, metered.service_tier);
        return Spent { certainty, usage, cost: Some(cost), prices: None, model, service_tier };
    }
    let cost = match (certainty, &usage) {
        (_, Some(usage)) => {
            price.and_then(|price| price.cost(usage, metered.service_tier.as_deref())).filter(|cost| *cost <= MOST)
        }
        (Certainty::Unknown, None) => None,
        (_, None) => Some(Usd::ZERO),
    };
    let prices = usage.and(cost).map(|_| Arc::clone(snapshot.prices.version()));
    Spent { certainty, usage, cost, prices, model: metered.model, service_tier: metered.service_tier }
}

/// The price of the model that answered; where the book has only the one that was asked for, that: names of deployments and
/// of one's own are so. But never of a dated snapshot or another version that it does not have, whose price may differ: what
/// such a name is priced by is in the book (`covers`).
fn price<'s>(record: &Record, metered: &Metered, snapshot: &'s Snapshot) -> Option<&'s Price> {
    let provider = snapshot.providers.iter().find(|provider| Some(&provider.id) == record.provider.as_ref())?;
    let section = provider.prices.as_deref()?;
    let find = |model: &str| snapshot.prices.find(section, model);
    let asked = record.asked_model.as_deref().or(record.model.as_deref());
    let Some(answered) = metered.model.as_deref() else { return asked.and_then(find) };
    let is_version = asked.is_some_and(|asked| answered.strip_prefix(asked).is_some_and(|rest| rest.starts_with('-')));
    find(answered).or_else(|| asked.filter(|_| !is_version).and_then(find))
}

struct Judge<'a> {
    record: &'a Record,
    route: &'a Route,
    asked: Asked,
    metered: &'a Metered,
    price: Option<&'a Price>,
}

impl Judge<'_> {
    fn judge(&self) -> (Certainty, Option<Usage>) {
        use Certainty::{Estimated, Failed, Settled, Unknown};
        let generates = self.route.generates(&self.record.method);
        let is_read = self.route.kind == Kind::Json;
        match self.record.upstream_status {
            Some(200..=299) if self.is_lost() => return (Failed, None),
            Some(200..=299) => {}
            // It was at work when its client left: many providers charge for that.
            None if self.asked.sent && self.was_left() && generates => {
                return if is_read { (Estimated, Some(self.estimate())) } else { (Unknown, None) };
            }
            Some(101) => return (Unknown, None),
            _ => return (Failed, None),
        }
        let cut = self.record.refusal.is_some();
        match self.metered.usage {
            // Some tell it in every event, or a part of it in the first one, and the last one may be missing: also where the
            // answer's framing is whole, because somebody on the way has ended it.
            Some(told) if !self.metered.complete => (Estimated, Some(self.completed(told, true))),
            // Some tell a side in a way that is no count, or not at all.
            Some(told) if self.metered.lacks.input || self.lacks_output() => {
                (Estimated, Some(self.completed(told, self.lacks_output())))
            }
            Some(told) => (Settled, Some(told)),
            None if !generates => (Settled, None),
            None if is_read && (cut || self.metered.visible_bytes > 0) => (Estimated, Some(self.estimate())),
            None => (Unknown, None),
        }
    }

    /// Whether the answer broke before anything of it went to the client.
    fn is_lost(&self) -> bool {
        let is_read_on = self.asked.sent && self.was_left();
        !self.asked.relayed && self.record.refusal.is_some() && !is_read_on
    }

    /// Whether it was this side that broke off, and not the provider that failed.
    fn was_left(&self) -> bool {
        matches!(self.record.refusal, Some(Refusal::ClientGone | Refusal::ShuttingDown | Refusal::Bug(_)))
    }

    /// Whether the output is missing from the usage; not where there is none to tell.
    fn lacks_output(&self) -> bool {
        let has_none =
            || matches!(self.price.and_then(Price::mode), Some(Mode::Embedding | Mode::Rerank | Mode::Moderation));
        self.metered.lacks.output && !self.route.embeds() && !has_none()
    }

    /// What was told, with an estimate in place of what was not.
    fn completed(&self, told: Usage, output_too: bool) -> Usage {
        let input = if self.metered.lacks.input { told.input.max(self.input()) } else { told.input };
        let output = if output_too { told.output.max(self.visible()) } else { told.output };
        Usage { input, output, ..told }
    }

    fn estimate(&self) -> Usage {
        Usage { input: self.input(), output: self.visible(), ..Usage::default() }
    }

    /// Tokens of the request, but no more than the model takes.
    fn input(&self) -> u64 {
        let most = self.price.and_then(Price::max_input_tokens).unwrap_or(u64::MAX);
        self.asked.bytes.div_ceil(BYTES_PER_TOKEN).min(most)
    }

    /// Tokens of the text that had come, but no more than the call could have been given.
    fn visible(&self) -> u64 {
        let of_one = self.asked.max_output_tokens.or_else(|| self.price?.max_output_tokens());
        let most = of_one.map_or(u64::MAX, |most| most.saturating_mul(self.asked.choices.max(1)));
        self.metered.visible_bytes.div_ceil(BYTES_PER_TOKEN).min(most)
    }
}

#[cfg(test)]
mod tests;
