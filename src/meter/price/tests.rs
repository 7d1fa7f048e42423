//! Facts about the price book. Amounts are worked out by hand, from prices on the providers' public pages.
//!
//! Never does: work an amount out the way the code does.

mod amounts;
mod formats;
mod properties;

use super::*;
use crate::units::{Usage, Usd};

/// The price of `prices.json`'s entry with these fields.
fn price(entry: &str) -> Price {
    let book = book(&format!("\"m\": {{{entry}}}")).unwrap_or_else(|faults| panic!("{entry}: {faults:?}"));
    book.find("s", "m").expect("the model").clone()
}

/// A book with these entries in the section `s`.
fn book(entries: &str) -> Result<PriceBook, Vec<Fault>> {
    let head = "\"as_of\": \"2026-11\", \"currency\": \"USD\", \"unit\": \"per 1,000,000 tokens, decimal strings\"";
    PriceBook::parse(format!("{{{head},\n\"providers\": {{\"s\": {{{entries}}}}}}}").as_bytes())
}

fn usd(text: &str) -> Usd {
    text.parse().expect(text)
}

fn shipped() -> Arc<PriceBook> {
    PriceBook::built_in().expect("fine")
}

#[test]
fn nothing_in_the_shipped_book_is_free_by_mistake() {
    let text: serde_json::Value = serde_json::from_str(SHIPPED).expect("JSON");
    let mut free = Vec::new();
    for (section, models) in text["providers"].as_object().expect("sections") {
        for (model, entry) in models.as_object().expect("models") {
            let price = shipped().find(section, model).cloned().expect("each is read");
            let used = Usage { input: 1_000_000, ..Usage::default() };
            let output = price.mode().is_none_or(|mode| !mode.has_no_output());
            let used = Usage { output: if output { 1_000_000 } else { 0 }, ..used };
            if price.cost(&used, None) == Some(Usd::ZERO) {
                free.push(format!("{section} {model}"));
            } else if output {
                let input = Usage { output: 0, ..used };
                assert!(price.cost(&used, None) > price.cost(&input, None), "{section} {model} answers for nothing");
            }
            let prices = entry["usd_per_million_tokens"].as_object().expect("prices");
            let zero = prices.iter().filter(|(kind, price)| *kind != "output" && price.as_str() == Some("0"));
            assert!(zero.count() == 0 || free.last().is_some_and(|last| last.ends_with(model)), "{section} {model}");
        }
    }
    // OpenAI: "omni-moderation models are free of charge"; Google: Gemma is "free of charge" with no paid tier.
    let known = ["gemini gemma-3-27b-it", "gemini gemma-4-26b-a4b-it", "gemini gemma-4-31b-it"];
    let known = known.into_iter().chain(["openai omni-moderation-2024-09-26", "openai omni-moderation-latest"]);
    assert_eq!(free, known.collect::<Vec<_>>());
}

#[test]
fn finds_by_exact_name_only() {
    let book = shipped();
    let found = |section, model| book.find(section, model).is_some();
    assert!(found("openai", "gpt-4o") && found("openai", "gpt-4o-2024-08-06") && found("azure", "eu/gpt-4o"));
    for (section, model) in [
        ("openai", "gpt-4o-2031-01-01"),
        ("openai", "GPT-4o"),
        ("openai", ""),
        ("openai", "openai/gpt-4o"),
        ("OpenAI", "gpt-4o"),
        ("", "gpt-4o"),
    ] {
        assert!(!found(section, model), "{section} {model}");
    }
}

#[test]
fn a_fine_tune_costs_what_the_book_says_of_its_base() {
    let book = shipped();
    let of = |model| book.find("openai", model).and_then(|price| price.cost(&one_and_one(), None));
    assert_eq!(of("ft:gpt-4o-mini-2024-07-18:acme::9aB"), of("ft:gpt-4o-mini-2024-07-18"));
    assert!(of("ft:gpt-4o-mini-2024-07-18") > of("gpt-4o-mini-2024-07-18"));
    for model in
        ["ft:gpt-4o-mini-2024-07-18x:acme::9aB", "gpt-4o-mini-2024-07-18:acme::9aB", "ft::x", "ft:", "ft:gpt-6"]
    {
        assert_eq!(of(model), None, "{model}");
    }
}

fn one_and_one() -> Usage {
    Usage { input: 1_000_000, output: 1_000_000, ..Usage::default() }
}

#[test]
fn a_snapshot_is_its_family_where_the_book_says_so() {
    let prices = "\"usd_per_million_tokens\": { \"input\": \"1\", \"output\": \"2\" }";
    let own = "\"usd_per_million_tokens\": { \"input\": \"3\", \"output\": \"4\" }";
    let entries = format!(
        "\"gpt-x\": {{ {prices}, \"covers\": [\"snapshots\"] }}, \"gpt-x-2024-05-13\": {{ {own} }}, \"gpt-y\": {{ {prices} }}"
    );
    let book = book(&entries).expect("fine");
    let of =
        |model| book.find("s", model).and_then(|price| price.cost(&one_and_one(), None)).map(|cost| cost.to_string());
    let family = Some("3".to_owned());
    for model in ["gpt-x", "gpt-x-2026-11-30", "gpt-x-20261130"] {
        assert_eq!(of(model), family, "{model}");
    }
    assert_eq!(of("gpt-x-2024-05-13").as_deref(), Some("7"), "its own entry goes first");
    for model in [
        "gpt-y-2026-11-30",
        "gpt-x-2026-13-30",
        "gpt-x-2026-11-32",
        "gpt-x-2026-1-30",
        "gpt-x-2026-11-30-preview",
        "gpt-x-mini-2026-11-30",
        "gpt-x2026-11-30",
        "gpt-x-2026113",
        "gpt-x-2026-113",
        "-2026-11-30",
        "gpt-x-é026-11-3",
        "2026-11-30",
    ] {
        assert_eq!(of(model), None, "{model}");
    }
}

#[test]
fn the_version_follows_the_content() {
    let entry = |price: &str| {
        format!("\"m\": {{ \"usd_per_million_tokens\": {{ \"input\": \"1\", \"output\": \"{price}\" }} }}")
    };
    let version = |price: &str| book(&entry(price)).expect("fine").version().to_string();
    assert!(version("2").starts_with("2026-11-") && version("2").len() == "2026-11-".len() + 12, "{}", version("2"));
    assert_eq!(version("2.50"), version("2.5"), "how a price is written makes no difference");
    assert_ne!(version("2.5"), version("2.500001"));
    let built_in = shipped();
    let gpt = built_in.find("openai", "gpt-4o").expect("it").clone();
    let same = built_in.with([("openai".to_owned(), "gpt-4o".to_owned(), gpt.clone())]);
    assert_eq!(same.version(), built_in.version());
    let more = built_in.with([("mine".to_owned(), "gpt-4o".to_owned(), gpt)]);
    assert_ne!(more.version(), built_in.version());
    assert_eq!((more.models("mine"), built_in.models("mine")), (Some(1), None));
    assert_eq!(more.models("openai"), built_in.models("openai"));
    assert!(more.sections().contains(&"mine") && more.sections().is_sorted());
    assert_eq!(format!("{built_in:?}"), format!("PriceBook({})", built_in.version()));
}
