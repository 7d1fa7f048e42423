//! Facts about the worst case of a call.
//!
//! Never does: ask a provider.

use proptest::prelude::*;

use super::*;
use crate::meter::price::{Entry, PriceBook};
use crate::meter::scan;
use crate::units::{Usage, Usd};

fn price(entry: &str) -> Price {
    let entry = entry_of(entry);
    Price::new(&entry).expect("a price")
}

/// Entries as the book has them.
fn entry_of(entry: &str) -> Entry {
    serde_json::from_str(entry).expect("an entry")
}

const PRICE: &str =
    r#"{"usd_per_million_tokens": {"input": "2", "output": "8"}, "max_input_tokens": 1000, "max_output_tokens": 500}"#;

fn asked(body: &str, price: Option<&Price>, default: Option<u64>) -> (Option<u64>, Option<u64>) {
    let ask = reckon(&scan(body.as_bytes()).expect(body), body.as_bytes(), price, default);
    (ask.input_bound, ask.output_ceiling)
}

#[test]
fn input_is_bounded_by_the_bytes_or_by_the_model() {
    let price = price(PRICE);
    let text = r#"{"messages":[{"content":"hi"}],"max_tokens":7}"#;
    let bytes = text.len() as u64 + TEMPLATE;
    assert_eq!(asked(text, Some(&price), None), (Some(bytes), Some(7)));
    assert_eq!(asked(text, None, None), (Some(bytes), Some(7)));
    let long = format!(r#"{{"messages":[{{"content":"{}"}}],"max_tokens":7}}"#, "x".repeat(5000));
    assert_eq!(asked(&long, Some(&price), None), (Some(1000), Some(7)));
    let tool = r#"{"messages":[],"tools":[{"name":"f","input_schema":{}}],"max_tokens":7}"#;
    assert_eq!(asked(tool, None, None), (Some(tool.len() as u64 + TEMPLATE + 2048), Some(7)), "Anthropic adds some");
    assert_eq!(asked(tool, Some(&price), None), (Some(1000), Some(7)));
    let image = r#"{"messages":[{"content":[{"type":"image_url","image_url":{}}]}],"max_tokens":7}"#;
    assert_eq!(asked(image, Some(&price), None), (Some(1000), Some(7)));
    assert_eq!(asked(image, None, None), (None, Some(7)));
}

#[test]
fn output_is_bounded_by_the_request_the_key_or_the_model_for_each_choice() {
    let price = price(PRICE);
    let output = |body: &str, price: Option<&Price>, default| asked(body, price, default).1;
    assert_eq!(output(r#"{"max_completion_tokens":7,"n":3}"#, Some(&price), Some(5)), Some(21));
    assert_eq!(output(r#"{"n":3}"#, Some(&price), Some(5)), Some(15));
    assert_eq!(output(r#"{"n":3}"#, Some(&price), None), Some(1500));
    assert_eq!(output(r#"{"n":3}"#, None, None), None);
    assert_eq!(output(r#"{"n":18446744073709551615}"#, Some(&price), None), Some(u64::MAX));
    let embedding = self::price(r#"{"usd_per_million_tokens": {"input": "2"}, "mode": "embedding"}"#);
    assert_eq!(output(r#"{"input":["a","b"]}"#, Some(&embedding), None), Some(0));
}

#[test]
fn the_cost_is_known_where_all_bounds_are() {
    let price = price(PRICE);
    let cost = |body: &str, price: Option<&Price>| {
        let ask = reckon(&scan(body.as_bytes()).expect(body), body.as_bytes(), price, None);
        (ask.priced, ask.worst_cost)
    };
    let body = r#"{"max_tokens":10}"#;
    let tokens = body.len() as u64 + TEMPLATE;
    let worst = Usd::from_picos(2_000_000).times(tokens).plus(Usd::from_picos(8_000_000).times(10));
    assert_eq!(cost(body, Some(&price)), (true, Some(worst)));
    assert_eq!(cost(body, None), (false, None));
    let unbounded = self::price(r#"{"usd_per_million_tokens": {"input": "2", "output": "8"}}"#);
    assert_eq!(cost("{}", Some(&unbounded)), (true, None));
}

#[test]
fn a_service_tier_without_a_price_has_no_known_cost() {
    let entry = PRICE.replacen('{', r#"{"service_tiers": {"flex": {"input": "1", "output": "4"}},"#, 1);
    let price = price(&entry);
    let known = |member: &str| {
        let body = format!(r#"{{"max_tokens":10,{member}}}"#);
        let ask = reckon(&scan(body.as_bytes()).expect("a body"), body.as_bytes(), Some(&price), None);
        assert!(ask.input_bound.is_some() && ask.output_ceiling == Some(10), "tokens are known anyhow");
        assert_eq!(ask.priced, ask.worst_cost.is_some());
        ask.priced
    };
    for usual in ["auto", "default", "standard", "standard_only", "flex"] {
        assert!(known(&format!(r#""service_tier":"{usual}""#)), "{usual}");
    }
    for other in [r#""speed":"standard""#, r#""speed":1.25"#, r#""service_tier":null"#, r#""tools":[{"speed":"fast"}]"#]
    {
        assert!(known(other), "{other}");
    }
    for unknown in [r#""speed":"fast""#, r#""service_tier":"priority""#, r#""service_tier":"prio\u0072ity""#] {
        assert!(!known(unknown), "{unknown}");
    }
}

proptest! {
    #[test]
    fn no_call_within_its_bounds_costs_more(
        text in "[a-z ]{0,2000}",
        max in 1_u64..2000,
        choices in 1_u64..4,
        share in 0_u64..=100,
        model in proptest::sample::select(vec!["gpt-4o", "gpt-4o-mini", "o3", "gpt-4.1"]),
    ) {
        let book = PriceBook::built_in().expect("the book");
        let price = book.find("openai", model).expect("a price");
        let body = format!(r#"{{"model":"{model}","messages":[{{"content":"{text}"}}],"max_tokens":{max},"n":{choices}}}"#);
        let ask = reckon(&scan(body.as_bytes()).expect("a body"), body.as_bytes(), Some(price), None);
        let input = (text.len() as u64 + 7) * share / 100;
        let usage = Usage { input, cached_input: input / 2, output: max * choices * share / 100, ..Usage::default() };
        prop_assert!(price.cost(&usage, None) <= ask.worst_cost, "{usage:?} {ask:?}");
        prop_assert!(Some(usage.total()) <= ask.tokens());
    }
}
