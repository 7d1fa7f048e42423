//! The worst case of a call, reckoned before it is made: the most tokens that it may use, and the most that it can cost.
//!
//! Invariant: never less than what a call can come to whose cost is known; what has no bound is `None`, never a guess.
//! Never does: decide whether that is too much.

use crate::limit::Ask;
use crate::meter::Scan;
use crate::meter::price::{Mode, Price};

/// Tokens of input that a provider may add of its own: the template around messages. Small beside the bytes of JSON that a
/// message needs, but not where there is one short text (a bare prompt, an embedding).
const TEMPLATE: u64 = 64;

/// Reckons the worst case of a call whose body was read. `default_output` is what the gateway
/// itself sets as the ceiling where the request names none.
///
/// Text is at most a token a byte: byte-level tokens, which all models here have, never stand for less than one byte. A
/// model reads no more than its `max_input_tokens`, and of content that is not in the body that is all that is known. A
/// request for several choices is charged its input once, and its output for each. What a service tier costs that has no
/// price of its own is not known.
pub fn reckon(scan: &Scan<'_>, body: &[u8], price: Option<&Price>, default_output: Option<u64>) -> Ask {
    let most_input = price.and_then(Price::max_input_tokens);
    let extras = scan.extras(body);
    let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX).saturating_add(TEMPLATE + extras.instructions);
    let input_bound = match most_input {
        Some(most) if bytes >= most => Some(most),
        most if extras.is_open_ended => most,
        _ => Some(bytes),
    };
    let ceiling = match price.and_then(Price::mode) {
        Some(Mode::Embedding | Mode::Rerank | Mode::Moderation) => Some(0),
        _ => output_of_one(scan, price, default_output),
    };
    let output_ceiling = ceiling.map(|tokens| tokens.saturating_mul(scan.choices));
    let priced = price.filter(|price| scan.tiers.iter().flatten().all(|tier| price.has_tier(tier)));
    let worst_cost = priced.and_then(|price| Some(price.worst(input_bound?, output_ceiling?)));
    Ask { input_bound, output_ceiling, priced: priced.is_some(), worst_cost }
}

/// The most output of one choice: what the request or the gateway sets, but no more than the model can make.
fn output_of_one(scan: &Scan<'_>, price: Option<&Price>, default_output: Option<u64>) -> Option<u64> {
    scan.max_output_tokens.or(default_output).or_else(|| price.and_then(Price::max_output_tokens))
}

#[cfg(test)]
mod tests;
