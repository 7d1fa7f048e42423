//! The end of a value, beside what `serde_json` says of the same bytes.
//!
//! Never does: test what a member means.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

/// What ends where we say is a value, and what is one by `serde_json`, which reads it without building anything, ends there.
fn agrees(text: &str) {
    let is_json = |text: &str| serde_json::from_str::<IgnoredAny>(text).is_ok();
    let start = space(text.as_bytes(), 0);
    let end = end(text.as_bytes(), start);
    assert_eq!(end.is_some_and(|end| space(text.as_bytes(), end) == text.len()), is_json(text), "{text:?}");
    assert!(end.is_none_or(|end| is_json(&text[start..end])), "{text:?}");
}

#[test]
fn texts_end_where_serde_json_says_wherever_their_escapes_stand() {
    for before in 0..70 {
        let plain = "x".repeat(before);
        for part in [
            "",
            "\\\"",
            "\\\\",
            "\\n\\t\\r\\b\\f\\/",
            "\\u00e9",
            "\\u12",
            "\\uGGGG",
            "\\ud83d",
            "\\x",
            "\\",
            "\u{1f}",
            "\n",
            "\0",
            "\u{7f}",
            "\u{80}",
            "\u{fe}\u{dc}\u{a2}",
            "\u{1f600}",
            "\\\\\\\"\\\\",
            "!#[]",
        ] {
            for behind in ["", "\"", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\"", "\" ,\"\\\""] {
                agrees(&format!("\"{plain}{part}{behind}"));
                agrees(&format!("\"{plain}{part}{plain}{part}{behind}"));
            }
        }
    }
}

#[test]
fn numbers_end_where_serde_json_says() {
    for text in [
        "0",
        "-0",
        "00",
        "01",
        "-01",
        "1.",
        "1.e5",
        "1.5",
        "-",
        "+1",
        ".5",
        "1e",
        "1e+",
        "1e-7",
        "1E400",
        "-1.25e-400",
        "12345678",
        "123456789012345678901234567890",
        "1234567.12345678",
        "0.0023064255e+00",
        "1x",
        "1 2",
        "1,2",
        "0x10",
        "Infinity",
        "NaN",
        "1e5.5",
        "--1",
        "1-",
        "12345678/",
        "1234567:",
    ] {
        agrees(text);
    }
    for end_of_digits in u8::MIN..=0x7f {
        agrees(&format!("1234{}5678", char::from(end_of_digits)));
    }
}

#[test]
fn lists_of_numbers_end_as_serde_json_says_however_they_are_spelt() {
    let numbers = [
        "0",
        "7",
        "15339",
        "01",
        "00",
        "-3",
        "1.5",
        "",
        " 4 ",
        "1 2",
        "123456789012345678901",
        "2e3",
        "\"a\"",
        "[8,9]",
    ];
    let separators = [",", ", ", " ,", ",\n", ",,", " ", ",  "];
    for filling in 0..9 {
        for separator in separators {
            for (first, second) in numbers.iter().flat_map(|first| numbers.iter().map(move |second| (first, second))) {
                let before = vec!["12"; filling].join(separator);
                let parts = [&before, *first, "345", *second, "6789", "10", "11", "12"];
                let parts = &parts[usize::from(filling == 0)..];
                for end in ["]", ",]", "", "}"] {
                    agrees(&format!("[{}{end}", parts.join(separator)));
                }
            }
        }
    }
}

#[test]
fn containers_end_where_serde_json_says() {
    for text in [
        "[]",
        "{}",
        "[ ]",
        "{ }",
        "[1]",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1",
        "[",
        "{",
        "]",
        "}",
        "[}",
        "{]",
        "{\"a\":1]",
        "[1}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{1:2}",
        "{\"a\" : [ { } , [ ] , true , null ] , \"b\":false}",
        "tru",
        "true",
        "truex",
        "nul",
        "fals",
        "False",
        "[true,false,null]",
        "{\"a\":tru}",
        "\u{b}1",
        "[\u{a0}1]",
        "",
        " ",
    ] {
        agrees(text);
    }
    for depth in [1, 63, 64, 65, 127, 128, 129, 200] {
        let (open, close): (String, String) =
            (0..depth).map(|at| if at % 3 == 0 { ("{\"a\":", "}") } else { ("[", "]") }).unzip();
        let close: String = close.chars().rev().collect();
        agrees(&format!("{open}1{close}"));
        agrees(&format!("{open}1{close}]"));
        agrees(&format!("{open}1{}", &close[1..]));
        agrees(&format!("{open}1]{close}"));
    }
}

proptest! {
    #[test]
    fn each_byte_of_a_word_is_judged_by_itself(bytes in any::<[u8; 8]>()) {
        let word = u64::from_le_bytes(bytes);
        for (at, byte) in bytes.iter().enumerate() {
            let told = |hits: u64| hits >> (8 * at) & 0xff;
            let expected = |is: bool| if is { 0x80 } else { 0 };
            prop_assert_eq!(told(stops(word)), expected(matches!(byte, b'"' | b'\\' | 0..0x20)));
            prop_assert_eq!(told(others(word)), expected(!byte.is_ascii_digit()));
            prop_assert_eq!(told(equal(word, bytes[0])), expected(*byte == bytes[0]));
        }
    }

    #[test]
    fn agrees_with_serde_json_on_what_is_nearly_json(
        parts in prop::collection::vec(prop::sample::select(&[
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", " ", "\n", "1", "0", "-", ".", "e", "E+", "true", "null", "\\",
            "\\\"", "\\u", "00e9", "text without an end", "\u{e9}", "\u{1}", "12345678", "{\"a\":[", "]}",
        ][..]), 0..24),
    ) {
        agrees(&parts.concat());
    }
}
