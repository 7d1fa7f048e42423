//! Costs against a reference that is worked out another way: in whole numbers of the smallest unit, kind by kind.
//!
//! Never does: use the code's own tables.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Prices in millionths of a dollar per million tokens, which is a pico-dollar per token.
type Rates = BTreeMap<&'static str, i128>;

const PARTS: [&str; 9] = [
    "cache_read",
    "cache_read_audio",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "input_image",
    "reasoning",
    "output_audio",
    "output_image",
];

fn rates() -> impl Strategy<Value = Rates> {
    let price = || 0..2_000_000_000_i128;
    let part = proptest::option::of(price());
    (price(), price(), proptest::collection::vec(part, PARTS.len())).prop_map(|(input, output, parts)| {
        let parts = PARTS.into_iter().zip(parts).filter_map(|(name, price)| Some((name, price?)));
        parts.chain([("input", input), ("output", output)]).collect()
    })
}

fn decimal(millionths: i128) -> String {
    format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000)
}

fn written(rates: &Rates) -> String {
    let fields: Vec<_> = rates.iter().map(|(name, price)| format!("\"{name}\": \"{}\"", decimal(*price))).collect();
    format!("{{{}}}", fields.join(", "))
}

/// A usage whose parts fit into their wholes.
fn usage() -> impl Strategy<Value = Usage> {
    let part = || 0..200_000_u64;
    let optional = || prop_oneof![Just(0), 0..200_000_u64];
    let input = (part(), part(), optional(), optional(), optional(), optional(), optional());
    let output = (part(), part(), optional(), prop_oneof![4 => Just(0), 1 => 0..1_000_u64]);
    (input, output).prop_map(|((text, cached, both, audio, short, hour, image), (plain, reasoning, sound, picture))| {
        Usage {
            input: text + cached + both + audio + short + hour + image,
            cached_input: cached + both,
            cached_audio: both,
            input_audio: audio + both,
            cache_write: short + hour,
            cache_write_1h: hour,
            input_image: image,
            output: plain + reasoning + sound + picture,
            reasoning,
            output_audio: sound,
            output_image: picture,
            audio_ms: 0,
        }
    })
}

/// The price of a kind: its own, else that of the first of those that has one.
fn first(rates: &Rates, kinds: &[&str]) -> Option<i128> {
    kinds.iter().find_map(|kind| rates.get(kind).copied())
}

/// What a usage costs at these prices, in pico-dollars.
fn reference(rates: &Rates, usage: &Usage) -> Option<i128> {
    let cached_audio = rates
        .get("cache_read_audio")
        .copied()
        .or_else(|| first(rates, &["cache_read", "input"]).max(first(rates, &["input_audio", "input"])));
    let [both, hour] = [usage.cached_audio, usage.cache_write_1h].map(i128::from);
    let [cached, audio, write] = [usage.cached_input, usage.input_audio, usage.cache_write].map(i128::from);
    let image = i128::from(usage.input_image);
    let lines = [
        (i128::from(usage.input) - cached - (audio - both) - write - image, first(rates, &["input"])),
        (cached - both, first(rates, &["cache_read", "input"])),
        (audio - both, first(rates, &["input_audio", "input"])),
        (both, cached_audio),
        (write - hour, first(rates, &["cache_write", "input"])),
        (hour, first(rates, &["cache_write_1h", "cache_write", "input"])),
        (image, first(rates, &["input_image", "input"])),
        (
            i128::from(usage.output) - i128::from(usage.reasoning + usage.output_audio + usage.output_image),
            first(rates, &["output"]),
        ),
        (usage.reasoning.into(), first(rates, &["reasoning", "output"])),
        (usage.output_audio.into(), first(rates, &["output_audio", "output"])),
        (usage.output_image.into(), first(rates, &["output_image"])),
    ];
    lines.into_iter().filter(|(count, _)| *count != 0).map(|(count, price)| Some(count * price?)).sum()
}

fn picos(cost: Option<Usd>) -> Option<i128> {
    cost.map(|cost| i128::try_from(cost.picos()).expect("it fits"))
}

proptest! {
    #[test]
    fn a_cost_is_exactly_the_sum_of_its_kinds(rates in rates(), usage in usage()) {
        let price = price(&format!("\"usd_per_million_tokens\": {}", written(&rates)));
        prop_assert_eq!(picos(price.cost(&usage, None)), reference(&rates, &usage));
    }

    #[test]
    fn the_dearest_threshold_that_was_passed_holds(
        rates in proptest::array::uniform3(rates()),
        usage in usage(),
        mut over in proptest::array::uniform2(1..1_400_000_u64),
    ) {
        over.sort_unstable();
        prop_assume!(over[0] != over[1]);
        // All kinds have prices of their own, so that nothing is inherited.
        let full = |rates: &Rates| -> Rates { PARTS.into_iter().map(|part| (part, 7)).chain(rates.clone()).collect() };
        let [usual, first, second] = rates.map(|rates| full(&rates));
        let entry = format!(
            "\"usd_per_million_tokens\": {}, \"above_input_tokens\": {{\"{}\": {}, \"{}\": {}}}",
            written(&usual), over[0], written(&first), over[1], written(&second)
        );
        let expected = match usage.input {
            input if input > over[1] => &second,
            input if input > over[0] => &first,
            _ => &usual,
        };
        let price = price(&entry);
        prop_assert_eq!(picos(price.cost(&usage, None)), reference(expected, &usage));
    }

    #[test]
    fn nothing_costs_more_than_the_worst(
        rates in proptest::array::uniform4(rates()),
        usage in usage(),
        more in (0..1_000_u64, 0..1_000_u64),
        over in 1..1_400_000_u64,
        tier in proptest::sample::select(vec![None, Some("flex"), Some("default")]),
    ) {
        let [usual, above, flex, both] = rates.map(|rates| written(&rates));
        let price = price(&format!(
            "\"usd_per_million_tokens\": {usual}, \"above_input_tokens\": {{\"{over}\": {above}}}, \
             \"service_tiers\": {{\"flex\": {flex}}}, \
             \"service_tiers_above_input_tokens\": {{\"flex\": {{\"{over}\": {both}}}}}"
        ));
        let worst = price.worst(usage.input + more.0, usage.output + more.1);
        prop_assert!(price.cost(&usage, tier).is_none_or(|cost| cost <= worst));
        prop_assert!(worst >= price.worst(usage.input, usage.output));
    }

    #[test]
    fn a_malformed_usage_never_costs_less_than_a_part_of_it(
        counts in proptest::array::uniform11(0..50_u64),
        price_of_all in 0..1_000_i128,
    ) {
        let [input, cached_input, cache_write, cache_write_1h, input_audio, cached_audio, input_image, output, reasoning, output_audio, _] = counts;
        let usage = Usage {
            input, cached_input, cache_write, cache_write_1h, input_audio, cached_audio, input_image, output, reasoning,
            output_audio, output_image: 0, audio_ms: 0,
        };
        let price = price(&format!("\"usd_per_million_tokens\": {}", written(&[("input", price_of_all), ("output", price_of_all)].into())));
        let cost = picos(price.cost(&usage, None)).expect("it is known");
        prop_assert!(cost >= i128::from(usage.total()) * price_of_all);
        for (_, count) in usage.kinds() {
            prop_assert!(cost >= i128::from(count) * price_of_all);
        }
    }

    #[test]
    fn any_text_is_a_book_or_has_faults_with_places(text in "[\\[\\]{}:,\"0-9a-z_. \\n\u{e9}-]{0,60}") {
        if let Err(faults) = PriceBook::parse(text.as_bytes()) {
            prop_assert!(!faults.is_empty() && faults.iter().all(|fault| fault.line > 0));
        }
    }
}
