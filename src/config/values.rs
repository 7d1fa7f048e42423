//! The kinds of values that the YAML file holds: sizes, durations, secrets, switches.
//!
//! Invariant: an error says what was expected and nothing of what was there.
//! Never does: ranges; they are checked where the field is known, in `compile`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use crate::units::{Limits, Secret, Usd};

/// Bytes: a whole number, alone or with one of `KB MB GB KiB MiB GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// A duration such as `30s`, `15m` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

/// A [`Size`], or `auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoSize {
    /// The gateway chooses.
    #[default]
    Auto,
    /// This size.
    Bytes(Size),
}

/// A [`Period`], or `off`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeriodOrOff(pub Option<Period>);

/// A share: `20%`, from 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub u8);

/// Text that must not be seen.
#[derive(Clone, Debug)]
pub struct Hidden(pub Secret);

/// A whole number of at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// Money: more than 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money(pub Usd);

/// A switch that the gateway sets itself where nobody does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Switch {
    /// The gateway chooses.
    #[default]
    Auto,
    /// On.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// Whether it is on, where the gateway's own choice is this.
    pub(super) fn or(self, auto: bool) -> bool {
        match self {
            Self::Auto => auto,
            Self::On => true,
            Self::Off => false,
        }
    }
}

impl PartialEq for Hidden {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose() == other.0.expose()
    }
}

/// Reads a scalar by a function; `expecting` ends serde's sentence "expected ...".
struct Scalar<T> {
    expecting: &'static str,
    read: fn(&str) -> Option<T>,
}

impl<T> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).ok_or_else(|| E::invalid_value(Unexpected::Other("this"), &self))
    }
}

const A_SIZE: &str = "a size such as \"32MiB\"";
const A_SIZE_OR_AUTO: &str = "\"auto\" or a size such as \"512MiB\"";
const A_PERIOD: &str = "a duration such as \"30s\"";
const A_PERIOD_OR_OFF: &str = "\"off\" or a duration such as \"30s\"";
const A_SHARE: &str = "a share from 0% to 100% such as \"20%\"";

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Scalar { expecting: A_SIZE, read: parse_size })
    }
}

impl<'de> Deserialize<'de> for AutoSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Scalar {
            expecting: A_SIZE_OR_AUTO,
            read: |text| match text {
                "auto" => Some(Self::Auto),
                _ => parse_size(text).map(Self::Bytes),
            },
        })
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Scalar {
            expecting: A_PERIOD,
            read: |text| humantime::parse_duration(text).ok().map(Self),
        })
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Scalar {
            expecting: "a whole number of at least 1",
            read: |text| text.parse().ok().filter(|count| *count > 0).map(Self),
        })
    }
}

impl<'de> Deserialize<'de> for PeriodOrOff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Scalar {
            expecting: A_PERIOD_OR_OFF,
            read: |text| match text {
                "off" => Some(Self(None)),
                _ => humantime::parse_duration(text).ok().map(|period| Self(Some(Period(period)))),
            },
        })
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Scalar {
            expecting: "an amount in USD such as \"12.5\", more than 0 and up to 1000000000",
            read: |text| Limits::money(text).map(Self),
        })
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Scalar { expecting: A_SHARE, read: parse_percent })
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_str(Scalar { expecting: "a text", read: |text| Some(Self(Secret::new(text.to_owned()))) })
    }
}

/// A struct that is read from a mapping only. Those that serde derives take a list too, field by field, which nobody
/// who writes YAML expects.
struct Mapping<T>(T);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Mapping<PhantomData<T>> {
    type Value = Mapping<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Mapping<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Mapping)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Mapping<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Mapping(PhantomData))
    }
}

/// Reads a struct from a mapping only.
pub(super) fn mapping<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Mapping::deserialize(deserializer).map(|Mapping(value)| value)
}

/// Reads a struct that need not be there from a mapping only.
pub(super) fn some_mapping<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    mapping(deserializer).map(Some)
}

/// Reads a struct from a mapping, or `off`.
struct UnlessOff<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for UnlessOff<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or \"off\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Option<T>, E> {
        match text {
            "off" => Ok(None),
            _ => Err(E::invalid_value(Unexpected::Other("this"), &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

/// Reads a struct from a mapping; `off` is none.
pub(super) fn unless_off<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(UnlessOff(PhantomData))
}

/// Reads a list of structs, each from a mapping only.
pub(super) fn mapping_items<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items: Vec<Mapping<T>> = Vec::deserialize(deserializer)?;
    Ok(items.into_iter().map(|Mapping(value)| value).collect())
}

/// Reads a mapping of names to structs, each from a mapping only.
pub(super) fn mappings<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let named: BTreeMap<String, Mapping<T>> = BTreeMap::deserialize(deserializer)?;
    Ok(named.into_iter().map(|(name, Mapping(value))| (name, value)).collect())
}

/// Reads a list of structs, each from a mapping only.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items: Vec<Mapping<T>> = Vec::deserialize(deserializer)?;
    Ok(items.into_iter().map(|Mapping(value)| value).collect())
}

fn parse_percent(text: &str) -> Option<Percent> {
    let digits = text.strip_suffix('%')?.trim_end();
    let share: u8 = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    (share <= 100).then_some(Percent(share))
}

fn parse_size(text: &str) -> Option<Size> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).map(Size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_both_kinds_of_units() {
        let size = |text| parse_size(text).map(|size| size.0);
        assert_eq!(size("65536"), Some(65536));
        assert_eq!(size("64KiB"), Some(65536));
        assert_eq!(size("64 KiB"), Some(65536));
        assert_eq!(size("10MB"), Some(10_000_000));
        assert_eq!(size("2GiB"), Some(2 << 30));
        for bad in ["", "MiB", "1.5MiB", "-1", "10m", "10 bytes", "99999999999GiB", "0x10"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
