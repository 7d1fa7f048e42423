//! Reads the counts of a `usage` object, whatever else stands in it.
//!
//! Invariant: what is no count reads as absent: another type, a negative number, a fraction, more than 2^53.
//! Never does: fail for one bad member; look deeper than two objects inside another.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Tells each number of an object, by the name of the object that it stands in (empty: the outermost) and its own. Of
/// two members of one name the later is told later.
pub(super) fn counts(object: &[u8], mut told: impl FnMut(&str, &str, Number)) {
    let mut reader = serde_json::Deserializer::from_slice(object);
    let value = Value { outer: "", name: "", depth: 0, told: &mut told };
    // What came before a fault was told; the walk already saw that brackets match.
    let _ = value.deserialize(&mut reader);
}

/// A number that is not negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Fraction(f64),
}

impl Number {
    /// As a count of things.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Whole(count) => Some(count).filter(|count| *count <= MAX),
            Self::Fraction(_) => None,
        }
    }

    /// As seconds, in milliseconds, rounded up.
    pub(super) fn milliseconds(self) -> Option<u64> {
        let seconds = match self {
            Self::Whole(seconds) => return seconds.checked_mul(1000).filter(|ms| *ms <= MAX),
            Self::Fraction(seconds) => seconds,
        };
        let ms = (seconds * 1000.0).ceil();
        (0.0..=MAX as f64).contains(&ms).then_some(ms as u64)
    }
}

/// The largest number that JSON's readers agree on (RFC 8259, section 6).
const MAX: u64 = 1 << 53;

struct Value<'a, F> {
    outer: &'a str,
    name: &'a str,
    depth: u8,
    told: &'a mut F,
}

impl<'de, F: FnMut(&str, &str, Number)> DeserializeSeed<'de> for Value<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(&str, &str, Number)> Visitor<'de> for Value<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        (self.told)(self.outer, self.name, Number::Whole(number));
        Ok(())
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        if number >= 0.0 {
            (self.told)(self.outer, self.name, Number::Fraction(number));
        }
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            if self.depth < 3 {
                let inner = Value { outer: self.name, name: &key, depth: self.depth + 1, told: &mut *self.told };
                map.next_value_seed(inner)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a JSON string of at most so many bytes that says something.
pub(super) fn text(raw: &[u8], max: usize) -> Option<Cow<'_, str>> {
    let Key(text) = serde_json::from_slice(raw).ok()?;
    (1..=max).contains(&text.len()).then_some(text)
}
