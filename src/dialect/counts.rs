//! Reads the counts of a `usage` object, whatever else stands in it.
//!
//! Invariant: what is no count reads as absent: another type, a negative number, a fraction, more than 2^53.
//! Never does: fail for one bad member; look deeper than two objects inside another.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Tells each number of an object, by the name of the object that it stands in (empty: the outermost) and its own. Of
/// two members of one name the later is told later.
pub(super) fn counts(object: &[u8], mut told: impl FnMut(&str, &str, Number)) {
    // What came before a fault was told; the walk already saw that brackets match.
    let _ = serde_json::Deserializer::from_slice(object).deserialize_map(Members { of: "", depth: 0, told: &mut told });
}

/// Reads a JSON string of at most so many bytes that says something.
pub fn text(raw: &[u8], max: usize) -> Option<Cow<'_, str>> {
    let Text(text) = serde_json::from_slice(raw).ok()?;
    (1..=max).contains(&text.len()).then_some(text)
}

/// A number that is not negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Fraction(f64),
}

impl Number {
    fn read(raw: &str) -> Option<Self> {
        match raw.parse() {
            Ok(whole) => Some(Self::Whole(whole)),
            Err(_) => raw.parse().ok().filter(|number| *number >= 0.0).map(Self::Fraction),
        }
    }

    /// As a count of things.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Whole(count) => Some(count).filter(|count| *count <= MAX),
            Self::Fraction(_) => None,
        }
    }

    /// As seconds, in milliseconds, rounded up.
    pub(super) fn milliseconds(self) -> Option<u64> {
        match self {
            Self::Whole(seconds) => seconds.checked_mul(1000).filter(|ms| *ms <= MAX),
            Self::Fraction(seconds) => {
                let ms = (seconds * 1000.0).ceil();
                (ms <= MAX as f64).then_some(ms as u64)
            }
        }
    }
}

/// The largest number that JSON's readers agree on (RFC 8259, section 6).
const MAX: u64 = 1 << 53;

/// A JSON string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Members<'a> {
    of: &'a str,
    depth: u8,
    told: &'a mut dyn FnMut(&str, &str, Number),
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((Text(name), raw)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            match raw.get().as_bytes().first() {
                Some(b'{') if self.depth < 2 => {
                    let inner = Members { of: &name, depth: self.depth + 1, told: &mut *self.told };
                    // A fault in it would have been one out here.
                    let _ = serde_json::Deserializer::from_str(raw.get()).deserialize_map(inner);
                }
                Some(b'0'..=b'9') => {
                    if let Some(number) = Number::read(raw.get()) {
                        (self.told)(self.of, &name, number);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
