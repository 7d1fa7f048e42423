//! Fields that have a short form beside the mapping: an entry of `server.listen`, and `auth`.
//!
//! Never does: checks; the picture alone.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use super::super::values::some_mapping;
use super::{Auth, Listen, Tls};

/// The mapping that an entry of `server.listen` may be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListenMapping {
    address: String,
    #[serde(deserialize_with = "some_mapping")]
    tls: Option<Tls>,
}

struct ListenVisitor;

impl<'de> Visitor<'de> for ListenVisitor {
    type Value = Listen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address such as \"[::]:8080\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Listen, E> {
        Ok(Listen { address: text.to_owned(), tls: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Listen, A::Error> {
        let ListenMapping { address, tls } = ListenMapping::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Listen { address, tls })
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenVisitor)
    }
}

/// The mapping that `auth` may be.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AuthMapping {
    header: String,
}

struct AuthVisitor;

impl<'de> Visitor<'de> for AuthVisitor {
    type Value = Auth;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"bearer\" or { header: NAME }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Auth, E> {
        match text {
            "bearer" => Ok(Auth::Bearer),
            _ => Err(E::invalid_value(Unexpected::Other("this"), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Auth, A::Error> {
        let AuthMapping { header } = AuthMapping::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Auth::Header(header))
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AuthVisitor)
    }
}
