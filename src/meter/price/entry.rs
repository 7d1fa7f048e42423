//! The picture of a model's prices, as `conf/prices.json` and `prices.models` of the YAML spell it. These docs are the
//! reference of the format.
//!
//! Invariant: a price is read from its decimal text, never from a binary fraction; a name that is not known is refused.
//! Never does: checks that need more than one field; that is `Price::new`.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};

use crate::units::Usd;

/// The prices of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// What tokens cost. `input` is needed, and `output` unless the mode says that there is none.
    #[serde(deserialize_with = "only")]
    pub usd_per_million_tokens: Rates,
    /// What they cost where the answer's `service_tier` has this name: `batch`, `flex`, `priority`. A tier that is not
    /// here has no known price.
    #[serde(deserialize_with = "named")]
    pub service_tiers: BTreeMap<String, Rates>,
    /// What all tokens of a call cost whose whole input is more than so many tokens.
    #[serde(deserialize_with = "named")]
    pub above_input_tokens: BTreeMap<String, Rates>,
    /// Both together, by tier and then by tokens. Calls of a tier above a number of tokens that only
    /// `above_input_tokens` has have no known price.
    #[serde(deserialize_with = "named")]
    pub service_tiers_above_input_tokens: BTreeMap<String, ByTokens>,
    /// Further names of models that cost the same, where they have no entry of their own: `snapshots`, `fine_tunes`.
    pub covers: Vec<String>,
    /// Most tokens of input.
    pub max_input_tokens: Option<u64>,
    /// Most tokens of output.
    pub max_output_tokens: Option<u64>,
    /// What the model is for.
    pub mode: Option<Mode>,
}

/// The entries of a section, by model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Entries(#[serde(deserialize_with = "named")] pub BTreeMap<String, Entry>);

/// Rates by a number of input tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ByTokens(#[serde(deserialize_with = "named")] pub BTreeMap<String, Rates>);

/// USD per million tokens by kind. A kind that is not given is charged as the kind that it is a part of, but for images
/// that come out, which then have no known price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Input that is nothing of what follows.
    pub input: Option<Rate>,
    /// Input that the provider had in its cache. Part of input.
    pub cache_read: Option<Rate>,
    /// Audio that it had in its cache. Part of `cache_read` and of `input_audio`: without a price, the dearer of them.
    pub cache_read_audio: Option<Rate>,
    /// Input that was put into its cache. Part of input.
    pub cache_write: Option<Rate>,
    /// The same for an hour. Part of `cache_write`.
    pub cache_write_1h: Option<Rate>,
    /// Audio. Part of input.
    pub input_audio: Option<Rate>,
    /// Images. Part of input.
    pub input_image: Option<Rate>,
    /// Output that is nothing of what follows.
    pub output: Option<Rate>,
    /// Reasoning. Part of output.
    pub reasoning: Option<Rate>,
    /// Audio that comes out. Part of output.
    pub output_audio: Option<Rate>,
    /// Images that come out. Part of output, but never at its price.
    pub output_image: Option<Rate>,
}

/// Names that an entry stands for beside its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cover {
    /// `NAME-2026-11-30` and `NAME-20261130`.
    Snapshots,
    /// `ft:NAME:...`, where the entry is `ft:NAME`.
    FineTunes,
}

impl Cover {
    /// By its name in the format.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "snapshots" => Some(Self::Snapshots),
            "fine_tunes" => Some(Self::FineTunes),
            _ => None,
        }
    }
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Chat completions.
    Chat,
    /// The Responses API alone.
    Responses,
    /// Completions of a text.
    Completion,
    /// Embeddings.
    Embedding,
    /// Realtime.
    Realtime,
    /// From speech to text.
    AudioTranscription,
    /// From text to speech.
    AudioSpeech,
    /// Images.
    ImageGeneration,
    /// The order of documents.
    Rerank,
    /// Moderation.
    Moderation,
}

impl Mode {
    /// Tells whether what comes out is no text and costs nothing.
    pub(super) fn has_no_output(self) -> bool {
        matches!(self, Self::Embedding | Self::Rerank | Self::Moderation)
    }

    /// As the format spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses => "responses",
            Self::Completion => "completion",
            Self::Embedding => "embedding",
            Self::Realtime => "realtime",
            Self::AudioTranscription => "audio_transcription",
            Self::AudioSpeech => "audio_speech",
            Self::ImageGeneration => "image_generation",
            Self::Rerank => "rerank",
            Self::Moderation => "moderation",
        }
    }
}

/// A price per million tokens, as what one token costs in pico-dollars: 0 to a dollar a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(u64);

const MILLION: u128 = 1_000_000;

impl Rate {
    /// What one token costs, in pico-dollars.
    pub(super) const fn picos(self) -> u64 {
        self.0
    }

    /// Reads dollars per million tokens. What one token costs has to come out even: six decimals.
    fn parse(text: &str) -> Option<Self> {
        let million: Usd = text.parse().ok()?;
        let even = million.picos().is_multiple_of(MILLION);
        let token = u64::try_from(million.picos() / MILLION).ok()?;
        (even && token <= Self::MOST).then_some(Self(token))
    }

    const MOST: u64 = 1_000_000_000_000;
}

struct RateVisitor;

impl Visitor<'_> for RateVisitor {
    type Value = Rate;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("USD per million tokens such as \"2.5\": at most six decimals, up to 1000000")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Rate, E> {
        Rate::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Other("this"), &self))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(RateVisitor)
    }
}

/// A struct that is read from a mapping only: those that serde derives take a list too, field by field.
struct Only<T>(T);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<PhantomData<T>> {
    type Value = Only<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Only<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Only)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Only<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Only(PhantomData))
    }
}

/// Reads a struct from a mapping only.
pub(super) fn only<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Only::deserialize(deserializer).map(|Only(value)| value)
}

/// A mapping of names that are each there once.
struct Named<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping with each name once")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all = BTreeMap::new();
        while let Some((name, Only(value))) = map.next_entry()? {
            if all.insert(name, value).is_some() {
                return Err(A::Error::invalid_value(Unexpected::Other("this"), &self));
            }
        }
        Ok(all)
    }
}

fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error> {
    deserializer.deserialize_map(Named(PhantomData))
}
