//! Where the members of one name stand in a JSON object, so that they can be changed by splices.
//!
//! Invariant: names are compared after unescaping, and a name that stands twice is found twice: what is taken out is gone,
//! whichever of them a provider reads.
//! Never does: look below the first level.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Where the values of this name stand in a body, each from its first byte to behind its last one. Empty where there is
/// none, or where the body is no JSON object.
pub fn values_of(body: &[u8], name: &str) -> Vec<Range<usize>> {
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    let mut reader = serde_json::Deserializer::from_str(text);
    let found = Named(name).deserialize(&mut reader).unwrap_or_default();
    let at = |raw: &RawValue| raw.get().as_ptr() as usize - text.as_ptr() as usize;
    found.into_iter().map(|raw| at(raw)..at(raw) + raw.get().len()).collect()
}

struct Named<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Named<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(is_it) = map.next_key_seed(Is(self.0))? {
            if is_it {
                found.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a member has this name.
struct Is<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_value_of_a_name_however_it_is_spelt() {
        let body = r#" { "user" : "a b" , "x": {"user": 1}, "us\u0065r":[1, 2],"User":3 }"#;
        let found =
            |name: &str| -> Vec<&str> { values_of(body.as_bytes(), name).into_iter().map(|at| &body[at]).collect() };
        assert_eq!(found("user"), [r#""a b""#, "[1, 2]"]);
        assert_eq!(found("x"), [r#"{"user": 1}"#]);
        assert_eq!(found("y"), [""; 0]);
        for body in ["", "[]", "{", r#"{"user":1"#, "\u{feff}{}"] {
            assert!(values_of(body.as_bytes(), "user").is_empty(), "{body}");
        }
    }
}
