//! Amounts worked out by hand, in exact decimals.
//!
//! Never does: arithmetic.

use super::*;

/// What a call to a model of the shipped book cost.
fn cost(section: &str, model: &str, usage: Usage, tier: Option<&str>) -> Option<String> {
    shipped().find(section, model).expect(model).cost(&usage, tier).map(|cost| cost.to_string())
}

fn tokens(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

/// Each from the price pages of the providers, November 2026; the sum is beside it, per million tokens.
#[test]
fn calls_cost_what_the_price_pages_say() {
    let cached = |input, cached_input, output| Usage { cached_input, ..tokens(input, output) };
    let cases = [
        // 1000 x 2.50 + 500 x 10.00
        ("openai", "gpt-4o", tokens(1_000, 500), None, "0.0075"),
        // 200 x 2.50 + 800 x 1.25 + 500 x 10.00
        ("openai", "gpt-4o", cached(1_000, 800, 500), None, "0.0065"),
        // 9 x 0.15 + 12 x 0.60
        ("openai", "gpt-4o-mini", tokens(9, 12), None, "0.00000855"),
        // 1000 x 4.25 + 500 x 17.00
        ("openai", "gpt-4o", tokens(1_000, 500), Some("priority"), "0.01275"),
        // 900 x 0.625 + 100 x 0.0625 + 7 x 5.00
        ("openai", "gpt-5", cached(1_000, 100, 7), Some("flex"), "0.00060375"),
        // 1 x 2.00
        ("openai", "o3", tokens(1, 0), Some("default"), "0.000002"),
        // 7 x 0.02
        ("openai", "text-embedding-3-small", tokens(7, 0), None, "0.00000014"),
        // 5000 x 5 + 2000 x 0.50 + 2000 x 6.25 + 1000 x 10 + 700 x 25
        (
            "anthropic",
            "claude-opus-4-5",
            Usage { cache_write: 3_000, cache_write_1h: 1_000, ..cached(10_000, 2_000, 700) },
            Some("standard"),
            "0.066",
        ),
        // 200000 x 1.25 + 100 x 10: not more than 200k tokens
        ("gemini", "gemini-2.5-pro", tokens(200_000, 100), None, "0.251"),
        // 200001 x 2.50 + 100 x 15: one more, and all of them cost more
        ("gemini", "gemini-2.5-pro", tokens(200_001, 100), None, "0.5015025"),
        // 1 x 2.50 + 200000 x 0.25 + 1 x 15: the cache counts to the size
        ("gemini", "gemini-2.5-pro", cached(200_001, 200_000, 1), None, "0.0500175"),
        // 272001 x 5 + 1000 x 22.50
        ("openai", "gpt-5.4", tokens(272_001, 1_000), None, "1.382505"),
        // 1000 x 2 + 500 x 8 + 1500 x 3: reasoning has a price of its own
        ("perplexity", "sonar-deep-research", Usage { reasoning: 1_500, ..tokens(1_000, 2_000) }, None, "0.0105"),
        // 1000 x 1.25 + 2000 x 10: reasoning costs what output does
        ("openai", "gpt-5", Usage { reasoning: 1_500, ..tokens(1_000, 2_000) }, None, "0.02125"),
        // 250 x 4 + 100 x 0.40 + 200 x 0.40 + 400 x 32 + 50 x 5 + 100 x 16 + 400 x 64
        (
            "openai",
            "gpt-realtime",
            Usage {
                input_audio: 600,
                cached_audio: 200,
                input_image: 50,
                output_audio: 400,
                ..cached(1_000, 300, 500)
            },
            None,
            "0.04137",
        ),
    ];
    for (section, model, usage, tier, expected) in cases {
        assert_eq!(
            cost(section, model, usage, tier).as_deref(),
            Some(expected),
            "{section} {model} {usage:?} {tier:?}"
        );
    }
}

#[test]
fn what_is_not_known_has_no_cost() {
    let audio_by_time = Usage { audio_ms: 1, ..Usage::default() };
    let image = Usage { output_image: 1, ..tokens(10, 10) };
    let written = Usage { cache_write: 5, cache_write_1h: 5, ..tokens(10, 10) };
    for (section, model, usage, tier) in [
        ("openai", "gpt-4o-transcribe", audio_by_time, None),
        ("openai", "gpt-5", image, None),
        ("openai", "gpt-4o", tokens(1, 1), Some("scale")),
        ("openai", "gpt-4o", tokens(1, 1), Some("Default")),
        ("openai", "gpt-4o", tokens(1, 1), Some("flex")),
        ("openai", "text-embedding-ada-002", tokens(1, 1), Some("priority")),
        // Long input and a tier: the book has prices of each, not of both.
        ("openai", "gpt-5.4", tokens(272_001, 1), Some("flex")),
        ("anthropic", "claude-opus-4-5", written, Some("batch")),
        ("mistral", "mistral-embed", tokens(1, 1), None),
    ] {
        assert_eq!(cost(section, model, usage, tier), None, "{section} {model} {usage:?} {tier:?}");
    }
    assert!(cost("openai", "gpt-5.4", tokens(272_000, 1), Some("flex")).is_some());
    assert!(cost("mistral", "mistral-embed", tokens(1, 0), None).is_some());
}

#[test]
fn usual_tiers_have_the_usual_prices() {
    let usual = cost("openai", "gpt-4o", tokens(10, 10), None);
    for name in ["default", "standard", "auto", "on_demand", ""] {
        assert_eq!(cost("openai", "gpt-4o", tokens(10, 10), Some(name)), usual, "{name}");
    }
}

#[test]
fn a_kind_without_a_price_costs_what_it_is_a_part_of() {
    let plain = price("\"usd_per_million_tokens\": { \"input\": \"3\", \"output\": \"7\" }");
    let all = Usage {
        cached_input: 10,
        cached_audio: 5,
        cache_write: 20,
        cache_write_1h: 10,
        input_audio: 15,
        input_image: 5,
        reasoning: 10,
        output_audio: 10,
        ..tokens(1_000_000, 1_000_000)
    };
    assert_eq!(plain.cost(&all, None), Some(usd("10")));
    let audio = price(
        "\"usd_per_million_tokens\": { \"input\": \"3\", \"cache_read\": \"1\", \"input_audio\": \"9\", \"output\": \"7\" }",
    );
    let cached =
        Usage { cached_input: 1_000_000, cached_audio: 1_000_000, input_audio: 1_000_000, ..tokens(1_000_000, 0) };
    assert_eq!(audio.cost(&cached, None), Some(usd("9")), "the dearer of the two that it is a part of");
    let hour = price("\"usd_per_million_tokens\": { \"input\": \"3\", \"cache_write\": \"4\", \"output\": \"7\" }");
    let written = Usage { cache_write: 1_000_000, cache_write_1h: 1_000_000, ..tokens(1_000_000, 0) };
    assert_eq!(hour.cost(&written, None), Some(usd("4")));
}

#[test]
fn a_tier_keeps_discounts_to_itself_and_does_not_make_dear_kinds_cheap() {
    let entry = "\"usd_per_million_tokens\": { \"input\": \"2\", \"cache_read\": \"1\", \"input_audio\": \"9\", \"output\": \"4\" },
        \"service_tiers\": { \"batch\": { \"input\": \"1\", \"output\": \"2\" } },
        \"above_input_tokens\": { \"1000\": { \"input\": \"4\", \"output\": \"8\" }, \"5000\": { \"input\": \"6\", \"output\": \"9\" } },
        \"service_tiers_above_input_tokens\": { \"batch\": { \"1000\": { \"input\": \"3\", \"output\": \"5\" } } }";
    let price = price(entry);
    let cost = |usage: Usage, tier| price.cost(&usage, tier).map(|cost| cost.to_string());
    let cached = Usage { cached_input: 100, ..tokens(100, 0) };
    assert_eq!(cost(cached, Some("batch")).as_deref(), Some("0.0001"), "OpenAI's batches have no cached input");
    assert_eq!(cost(Usage { input_audio: 1, ..tokens(100, 0) }, Some("batch")), None);
    assert_eq!(cost(tokens(1_000, 0), Some("batch")).as_deref(), Some("0.001"));
    assert_eq!(cost(tokens(1_001, 1), Some("batch")).as_deref(), Some("0.003008"));
    assert_eq!(cost(tokens(5_001, 0), Some("batch")), None, "the book has no price of a batch above 5000");
    assert_eq!(cost(tokens(5_001, 1), None).as_deref(), Some("0.030015"));
    assert_eq!(cost(tokens(5_000, 1), None).as_deref(), Some("0.020008"));
}

#[test]
fn parts_beyond_the_whole_are_charged_and_nothing_wraps() {
    let price = price(
        "\"usd_per_million_tokens\": { \"input\": \"2\", \"cache_read\": \"1\", \"output\": \"4\", \"reasoning\": \"5\" }",
    );
    let odd = Usage { cached_input: 30, reasoning: 7, ..tokens(10, 5) };
    assert_eq!(price.cost(&odd, None), Some(usd("0.000065")));
    let odd = Usage { cached_audio: 10, cache_write_1h: 10, ..tokens(0, 0) };
    assert_eq!(price.cost(&odd, None), Some(usd("0.00004")));
    let most = u64::MAX;
    let huge =
        Usage { cached_input: most, cache_write: most, input_audio: most, reasoning: most, ..tokens(most, most) };
    assert!(price.cost(&huge, None) > price.cost(&tokens(most, 0), None));
    assert!(price.worst(most, most) > price.worst(most, 0));
}

#[test]
fn the_worst_counts_only_what_so_much_input_can_meet() {
    let book = shipped();
    let worst = |model, input, output| book.find("openai", model).expect(model).worst(input, output).to_string();
    // Priority: 5 and 30. Above 272000 tokens: 5 and 22.50.
    assert_eq!(worst("gpt-5.4", 272_000, 1_000), "1.39");
    assert_eq!(worst("gpt-5.5", 1_000, 1_000), "0.0875", "priority: 12.50 and 75");
    assert_eq!(worst("gpt-5.4-pro", 272_000, 0), "8.16", "30");
    assert_eq!(worst("gpt-5.4-pro", 272_001, 0), "16.32006", "60");
    assert_eq!(worst("gpt-realtime", 1_000, 1_000), "0.096", "all of it audio: 32 and 64");
    assert_eq!(worst("text-embedding-3-small", 1_000_000, 1_000), "0.02");
}

#[test]
fn the_book_tells_the_sizes_of_a_model() {
    let book = shipped();
    let price = book.find("openai", "gpt-4o").expect("it");
    let sizes = (price.max_input_tokens(), price.max_output_tokens(), price.mode().map(Mode::name));
    assert_eq!(sizes, (Some(128_000), Some(16_384), Some("chat")));
}
