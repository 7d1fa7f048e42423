//! What an answer is made of: numbers, identifiers and words that follow from the request alone.
//!
//! Invariant: equal requests give equal seeds. `stream` does not count, so that a stream says what the whole answer says;
//! nor does `stream_options`, because a gateway that asks for a usage on its own must not thereby change the answer.
//! Never does: read a clock or a random source.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A source of numbers.
#[derive(Clone, Debug)]
pub(super) struct Seed(u64);

impl Seed {
    /// The seed of a request.
    pub(super) fn of(request: &Map<String, Value>) -> Self {
        let mut counted = request.clone();
        counted.shift_remove("stream");
        counted.shift_remove("stream_options");
        Self::of_text(&Value::Object(counted).to_string())
    }

    /// The seed of a text.
    pub(super) fn of_text(text: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(text).into();
        Self(digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// Another seed, for a part of the answer.
    pub(super) fn part(&self, index: usize) -> Self {
        Self(self.0 ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next number: splitmix64 (Steele, Lea, Flood 2014).
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a small bound.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// An identifier of letters and digits.
    pub(super) fn id(&mut self, prefix: &str, length: usize) -> String {
        let letters = (0..length).map(|_| pick(&LETTERS, self.next()).copied().map_or('0', char::from));
        prefix.chars().chain(letters).collect()
    }

    /// A time in 2026, in seconds.
    pub(super) fn time(&mut self) -> u64 {
        1_780_000_000 + self.below(10_000_000)
    }

    /// The words of an answer to a text: as many as `count` says, or as come. Each but the first has its space.
    pub(super) fn words(&mut self, text: &str, count: Option<usize>) -> Vec<String> {
        let quoted: String = text.split_whitespace().take(8).collect::<Vec<_>>().join(" ");
        let opening = format!(
            "This is the built-in demo provider. You wrote: “{quoted}”. There is no model here, only words that are hard \
             to carry:"
        );
        let natural = opening.split(' ').count() + 8 + usize::try_from(self.below(24)).unwrap_or_default();
        let opening = opening.split(' ').map(str::to_string).collect::<Vec<_>>();
        let filler = std::iter::repeat_with(|| (*pick(&WORDS, self.next()).unwrap_or(&"and")).to_string());
        let words = opening.into_iter().chain(filler).take(count.unwrap_or(natural));
        words.enumerate().map(|(index, word)| if index == 0 { word } else { format!(" {word}") }).collect()
    }
}

/// How many tokens a text is held to have: its words.
pub(super) fn tokens(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

fn pick<T>(from: &[T], number: u64) -> Option<&T> {
    usize::try_from(number % from.len().max(1) as u64).ok().and_then(|index| from.get(index))
}

const LETTERS: [u8; 62] = *b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Some need escapes in JSON or several bytes in UTF-8, as real answers do.
const WORDS: [&str; 32] = [
    "gateway",
    "river",
    "\"quoted\"",
    "naïve",
    "Straße",
    "日本語",
    "🚣",
    "back\\slash",
    "tab\there",
    "line\nbreak",
    "data:",
    "[DONE]",
    "tokens,",
    "a",
    "the",
    "of",
    "under",
    "lantern",
    "willow",
    "morning;",
    "letter",
    "quiet",
    "bread",
    "ferryman",
    "{brace}",
    "<tag>",
    "100%",
    "e\u{301}",
    "\u{2028}",
    "north",
    "seven",
    "end.",
];
