//! What a book may not look like, and where the fault is told.
//!
//! Never does: accept a message by its sense; it is compared to the letter.

use super::*;

/// The faults of a book with these entries, as text. The entries begin in line 2, column 21.
fn faults(entries: &str) -> Vec<String> {
    book(entries).expect_err(entries).iter().map(shown).collect()
}

fn shown(fault: &Fault) -> String {
    let hint = fault.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    format!("{}:{} {}: {}{hint}", fault.line, fault.column, fault.path.join("."), fault.message)
}

const FINE: &str = "\"usd_per_million_tokens\": {\"input\": \"1\", \"output\": \"2\"}";
const A_PRICE: &str = "expected USD per million tokens such as \"2.5\": at most six decimals, up to 1000000";

#[test]
fn a_price_is_a_decimal_text() {
    for bad in [
        "1",
        "1.5",
        "\"1e3\"",
        "\"-1\"",
        "\"\"",
        "\".5\"",
        "\"1.\"",
        "\"0.0000001\"",
        "\"1000000.000001\"",
        "[]",
        "true",
    ] {
        let entry = format!("\"m\": {{\"usd_per_million_tokens\": {{\"input\": {bad}, \"output\": \"2\"}}}}");
        assert_eq!(faults(&entry), [format!("2:63 providers.s.m.usd_per_million_tokens.input: {A_PRICE}")], "{bad}");
    }
    for fine in ["0", "0.000001", "1000000", "1000000.000000", "007.50"] {
        let entry = format!("\"m\": {{\"usd_per_million_tokens\": {{\"input\": \"{fine}\", \"output\": \"2\"}}}}");
        assert!(book(&entry).is_ok(), "{fine}");
    }
}

#[test]
fn all_entries_are_looked_at() {
    let entries = format!(
        "\"a\": {{{FINE}, \"max_input\": 3}},\n\"b\": {{{FINE}}},\n\"b\": {{{FINE}}},\n  \"c\": {{{FINE}, \"mode\": \"chatt\"}},\n\
         \"d\": [],\n\"e\": {{\"usd_per_million_tokens\": [\"1\", \"2\"]}}"
    );
    let told = faults(&entries);
    assert!(
        told[0].starts_with("2:97 providers.s.a.max_input: unknown field (there are usd_per_million_tokens, "),
        "{told:?}"
    );
    assert_eq!(told[1], "4:6 providers.s.b: this model stands twice (keep one of them)");
    assert!(told[2].starts_with("5:74 providers.s.c.mode: expected one of \"chat\", \"responses\""), "{told:?}");
    assert_eq!(
        told[3..],
        ["6:6 providers.s.d: expected a mapping", "7:33 providers.s.e.usd_per_million_tokens: expected a mapping"]
    );
}

#[test]
fn what_does_not_fit_together_is_told_by_its_field() {
    let told = |more: &str| {
        let all = faults(&format!("\"m\": {{{FINE}, {more}}}"));
        all.into_iter()
            .map(|told| told.split_once("providers.s.m").expect("the path").1.trim_start_matches('.').to_owned())
            .collect::<Vec<_>>()
    };
    let rates = "{\"input\": \"1\", \"output\": \"1\"}";
    for (more, expected) in [
        ("\"service_tiers\": {\"flex\": {\"input\": \"1\"}}".to_owned(), "service_tiers.flex: output is needed"),
        ("\"service_tiers\": {\"flex\": {\"output\": \"1\"}}".to_owned(), "service_tiers.flex: input is needed"),
        (
            format!("\"service_tiers\": {{\"default\": {rates}}}"),
            "service_tiers.default: this tier is the usual one (usd_per_million_tokens has its prices)",
        ),
        (
            format!("\"service_tiers\": {{\"Flex\": {rates}}}"),
            "service_tiers.Flex: expected the name of a tier, such as batch, flex or priority",
        ),
        (
            format!("\"service_tiers\": {{\"flex\": {rates}, \"flex\": {rates}}}"),
            "service_tiers: expected a mapping with each name once",
        ),
        (
            format!("\"above_input_tokens\": {{\"200k\": {rates}}}"),
            "above_input_tokens.200k: expected a whole number of tokens, more than 0, in plain digits",
        ),
        (
            format!("\"above_input_tokens\": {{\"0200\": {rates}}}"),
            "above_input_tokens.0200: expected a whole number of tokens, more than 0, in plain digits",
        ),
        (
            format!("\"service_tiers_above_input_tokens\": {{\"flex\": {{\"200\": {rates}}}}}"),
            "service_tiers_above_input_tokens.flex: expected the name of a tier that service_tiers has too",
        ),
        (
            "\"covers\": [\"snapshot\"]".to_owned(),
            "covers: expected a list of \"snapshots\" and \"fine_tunes\", of one or both",
        ),
        ("\"max_input_tokens\": -1".to_owned(), "max_input_tokens: expected a whole number"),
        ("\"max_input_tokens\": 1.5".to_owned(), "max_input_tokens: expected a whole number"),
        ("\"mode\": \"chat\", \"mode\": \"chat\"".to_owned(), ": the field mode stands twice (keep one of them)"),
    ] {
        assert_eq!(told(&more), [expected], "{more}");
    }
    let none = faults("\"m\": {}");
    assert_eq!(none.len(), 2, "{none:?}");
    let embedding = "\"m\": {\"usd_per_million_tokens\": {\"input\": \"1\"}, \"mode\": \"embedding\"}";
    assert!(book(embedding).is_ok());
}

#[test]
fn the_head_of_a_book_is_checked() {
    let told = |text: &str| PriceBook::parse(text.as_bytes()).expect_err(text).iter().map(shown).collect::<Vec<_>>();
    let unit = "per 1,000,000 tokens, decimal strings";
    assert_eq!(told("{"), ["1:1 : this is not JSON: EOF while parsing an object"]);
    assert_eq!(told(""), ["1:1 : this is not JSON: EOF while parsing a value"]);
    assert_eq!(told("[]"), ["1:1 : expected a mapping"]);
    assert_eq!(told("{}"), ["1:1 : as_of is needed"]);
    let text =
        "{\"as_of\": \"now\", \"currency\": \"EUR\", \"unit\": \"per token\", \"providers\": {\"s\": {}, \"s\": {}}}";
    assert_eq!(
        told(text),
        [
            "1:11 as_of: expected a date such as \"2026-11\" or \"2026-11-30\"".to_owned(),
            "1:30 currency: expected \"USD\"".to_owned(),
            format!("1:45 unit: expected \"{unit}\""),
            "1:86 providers.s: this section stands twice (keep one of them)".to_owned(),
        ]
    );
    let text = format!("{{\"as_of\": \"2026\", \"currency\": \"USD\", \"unit\": \"{unit}\", \"providers\": {{}}}} x");
    assert_eq!(told(&text), ["1:104 : this is not JSON: trailing characters"]);
    let bad = [b"{\n \"as_of\": \"".as_slice(), &[0xff], b"\"}"].concat();
    assert_eq!(
        PriceBook::parse(&bad).expect_err("bad").iter().map(shown).collect::<Vec<_>>(),
        ["2:12 : not UTF-8 text from here"]
    );
}
