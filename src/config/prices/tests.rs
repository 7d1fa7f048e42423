//! Which prices are in force, and who is charged by which.
//!
//! Never does: look at amounts; they are `meter::price`'s.

use std::path::Path;

use super::super::{Loaded, Report, Sources, load, load_again};
use super::*;
use crate::units::{Usage, Usd};

/// Loads a file in a directory.
fn load_in(directory: &Path, yaml: &str) -> Result<Loaded, Report> {
    std::fs::write(directory.join("g.yaml"), yaml).expect("written");
    load(&sources(directory))
}

fn sources(directory: &Path) -> Sources {
    let environment = [("OPENAI_API_KEY", "k"), ("PRICE", "0.1"), ("SECTION", "openai")].into_iter().collect();
    Sources { file: Some("g.yaml".into()), yaml: None, directory: directory.to_owned(), environment }
}

fn loaded(yaml: &str) -> Loaded {
    let directory = tempfile::tempdir().expect("a directory");
    load_in(directory.path(), yaml).unwrap_or_else(|report| panic!("{yaml}: {report}"))
}

/// What a million tokens of input cost.
fn million(book: &PriceBook, section: &str, model: &str) -> Option<Usd> {
    book.find(section, model)?.cost(&Usage { input: 1_000_000, ..Usage::default() }, None)
}

fn usd(text: &str) -> Option<Usd> {
    text.parse().ok()
}

/// The section of a provider with these fields, and the warnings about it.
fn section_of_provider(id: &str, fields: &str) -> (Option<String>, Vec<String>) {
    let loaded = loaded(&format!("providers: {{ {id}: {{ api_key: k, {fields} }} }}"));
    let warnings = loaded.warnings.into_iter().filter(|warning| warning.contains("price")).collect();
    (loaded.snapshot.providers[0].prices.as_deref().map(str::to_owned), warnings)
}

#[test]
fn a_provider_is_priced_by_its_name_or_its_host() {
    for (id, host, expected) in [
        ("openai", "api.openai.com", Some("openai")),
        ("openai", "127.0.0.1:1", Some("openai")),
        ("main", "eu.api.openai.com", Some("openai")),
        ("eu", "acme.openai.azure.com", Some("azure")),
        ("g", "generativelanguage.googleapis.com/v1beta/openai", Some("gemini")),
        ("fast", "api.groq.com/openai/v1", Some("groq")),
        ("m", "API.Mistral.AI", Some("mistral")),
        ("vllm", "vllm.internal", None),
        ("a", "openai.azure.com", None),
        ("a", "api.openai.com.example.org", None),
        ("a", "notapi.openai.com", None),
    ] {
        let (section, warnings) = section_of_provider(id, &format!("base_url: 'https://{host}'"));
        assert_eq!(section.as_deref(), expected, "{id} {host}");
        let told = warnings.iter().any(|warning| warning.starts_with(&format!("providers.{id} has no prices: ")));
        assert_eq!((told, warnings.len()), (expected.is_none(), usize::from(expected.is_none())), "{warnings:?}");
    }
}

#[test]
fn priced_as_goes_before_both() {
    let of =
        |fields: &str| section_of_provider("openai", &format!("base_url: 'https://acme.openai.azure.com', {fields}"));
    assert_eq!(of("priced_as: azure"), (Some("azure".to_owned()), Vec::new()));
    assert_eq!(of("priced_as: '${SECTION}'"), (Some("openai".to_owned()), Vec::new()));
    assert_eq!(of("priced_as: ''"), (None, Vec::new()));
    let (section, warnings) = of("dialect: openai");
    assert_eq!(section.as_deref(), Some("openai"));
    assert!(matches!(&warnings[..], [warning] if warning.contains("its base_url is one of azure")), "{warnings:?}");
}

#[test]
fn own_prices_stand_over_the_book_and_are_exact() {
    let yaml = "providers: { openai: { base_url: 'https://api.openai.com' }, vllm: { base_url: 'http://127.0.0.1:1', api_key: '' } }
prices:
  models:
    openai:
      gpt-4o: { usd_per_million_tokens: { input: 0.1, output: \"9\" }, covers: [snapshots] }
    vllm:
      \"Qwen/Qwen3:32B\": { usd_per_million_tokens: { input: 0.100001, output: 1 } }
      env: { usd_per_million_tokens: { input: '${PRICE}', output: 1 } }
";
    let loaded = loaded(yaml);
    let book = &loaded.snapshot.prices;
    assert_eq!(million(book, "openai", "gpt-4o"), usd("0.1"));
    assert_eq!(million(book, "openai", "gpt-4o-2031-01-31"), usd("0.1"));
    assert_eq!(million(book, "openai", "gpt-4o-2024-08-06"), usd("2.5"), "the book's own entry");
    assert_eq!(million(book, "vllm", "Qwen/Qwen3:32B"), usd("0.100001"));
    assert_eq!(million(book, "vllm", "env"), usd("0.1"));
    let cached = Usage { input: 1_000_000, cached_input: 1_000_000, ..Usage::default() };
    let replaced = book.find("openai", "gpt-4o").and_then(|price| price.cost(&cached, None));
    assert_eq!(replaced, usd("0.1"), "the book's price of the cache went with its entry");
    assert!(loaded.warnings.iter().all(|warning| !warning.contains("price")), "{:?}", loaded.warnings);
    assert_eq!(loaded.snapshot.providers[1].prices.as_deref(), Some("vllm"));
}

#[test]
fn prices_that_nobody_pays_are_warned_of() {
    let entry = "{ m: { usd_per_million_tokens: { input: 1, output: 1 } } }";
    let loaded = loaded(&format!("prices: {{ models: {{ opnai: {entry}, openai: {entry} }} }}"));
    let told: Vec<_> = loaded.warnings.iter().filter(|warning| warning.contains("prices.models")).collect();
    assert_eq!(told, ["prices.models.opnai prices no provider"]);
}

const HEAD: &str =
    "{\"as_of\": \"2027-01\", \"currency\": \"USD\", \"unit\": \"per 1,000,000 tokens, decimal strings\",\n";

#[test]
fn a_file_takes_the_place_of_the_book_and_is_read_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |price: &str| {
        let model = format!("{{\"usd_per_million_tokens\": {{\"input\": \"{price}\", \"output\": \"1\"}}}}");
        let text = format!("{HEAD}\"providers\": {{\"openai\": {{\"m\": {model}}}}}}}");
        std::fs::write(directory.path().join("mine.json"), text).expect("written");
    };
    write("3");
    let first = load_in(directory.path(), "prices: { file: mine.json }").expect("fine");
    let book = &first.snapshot.prices;
    assert!(book.version().starts_with("2027-01-"), "{book:?}");
    assert_eq!((million(book, "openai", "m"), million(book, "openai", "gpt-4o")), (usd("3"), None));
    write("4");
    let second = load_again(&sources(directory.path()), &first.snapshot).expect("fine");
    assert_eq!(million(&second.snapshot.prices, "openai", "m"), usd("4"));
    assert_ne!(second.snapshot.prices.version(), book.version());
    write("4,0");
    let report = load_again(&sources(directory.path()), &second.snapshot).expect_err("refused").to_string();
    assert_eq!(
        report,
        "mine.json:2:68 providers.openai.m.usd_per_million_tokens.input: expected USD per million tokens such as \"2.5\": \
         at most six decimals, up to 1000000"
    );
}

#[test]
fn the_built_in_book_is_read_once() {
    let [first, second] = ["server: { threads: 1 }", "server: { threads: 2 }"].map(|yaml| loaded(yaml).snapshot);
    assert!(Arc::ptr_eq(&first.prices, &second.prices));
}

#[test]
fn usage_is_injected_for_openais_dialect_unless_the_file_says_otherwise() {
    for (field, expected) in
        [("", true), (", inject_usage: auto", true), (", inject_usage: on", true), (", inject_usage: off", false)]
    {
        let loaded = loaded(&format!("providers: {{ openai: {{ base_url: 'https://a', api_key: k{field} }} }}"));
        assert_eq!(loaded.snapshot.providers[0].inject_usage, expected, "{field}");
    }
}

#[test]
fn mistral_is_not_asked() {
    for (provider, expected) in [
        ("mistral: { api_key: k }", false),
        ("mistral: { api_key: k, inject_usage: auto }", false),
        ("mistral: { api_key: k, inject_usage: on }", true),
        ("mine: { preset: mistral, base_url: 'https://a', api_key: k }", false),
        ("mistral: { base_url: 'https://a', api_key: k }", true),
        ("groq: { api_key: k }", true),
    ] {
        let loaded = loaded(&format!("providers: {{ {provider} }}"));
        assert_eq!(loaded.snapshot.providers[0].inject_usage, expected, "{provider}");
    }
}
