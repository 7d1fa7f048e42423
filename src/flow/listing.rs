//! The list of models as one key may see it: the provider's own entries, and the names that the configuration has.
//!
//! Invariant: a name that the key may not use is in no list; an entry of the provider's keeps its bytes, but for `owned_by`
//! where the configuration says who serves its name.
//! Never does: ask a provider; show a pattern such as `gpt-*`, which is no name.

use std::borrow::Cow;

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Underway;
use crate::config::Snapshot;
use crate::dialect::OPENAI;
use crate::keys::Key;
use crate::meter::{Splice, spliced, values_of};
use crate::route::{Kind, Route, Routing};

/// What a list of models shows to one key.
#[derive(Debug)]
pub struct Listing<'s> {
    snapshot: &'s Snapshot,
    key: &'s Key,
    /// Names of the configuration that it shows, in alphabetical order.
    names: Vec<(&'s str, &'s Routing)>,
    /// Whether the configuration's names have anything to do with it.
    is_routed: bool,
    /// Whether there may be entries that are not shown.
    hides: bool,
}

/// What of a provider's entry is looked at.
#[derive(Deserialize)]
struct Entry<'e> {
    #[serde(borrow)]
    id: Cow<'e, str>,
}

impl<'s> Listing<'s> {
    /// How the list of models is shown to the key of a call; absent where the call is for something else, and where the
    /// provider's own list is shown as it is.
    pub fn of(snapshot: &'s Snapshot, underway: &'s Underway) -> Option<Self> {
        if !underway.route.lists_models() {
            return None;
        }
        let (key, models) = (&*underway.key, &snapshot.models);
        let is_routed = is_routed(underway);
        let hides = key.record.models.is_some() || (is_routed && models.only_listed());
        if !hides && (!is_routed || models.is_empty()) {
            return None;
        }
        let mut names = if is_routed { models.names() } else { Vec::new() };
        names.retain(|(name, routing)| key.permits_model(Some(name)).is_ok() && is_served(snapshot, underway, routing));
        Some(Self { snapshot, key, names, is_routed, hides })
    }

    /// Whether the provider's own list may be shown as it is where it cannot be read.
    pub fn may_stay_unread(&self) -> bool {
        !self.hides && self.names.is_empty()
    }

    /// Whether there is something to show without the provider's own list.
    pub fn has_names(&self) -> bool {
        !self.names.is_empty()
    }

    /// The list without the provider's own.
    pub fn alone(&self) -> String {
        let names: Vec<String> = self.names.iter().map(|(name, routing)| entry(name, routing)).collect();
        format!("{{\"object\":\"list\",\"data\":[{}]}}", names.join(","))
    }

    /// The provider's list with the configuration's names, those that it has itself in their places; absent where this is no
    /// list of models. A bare array, as Together AI answers (docs.together.ai/reference/models, read 2026-11), becomes
    /// OpenAI's object.
    pub fn merged(&self, theirs: &[u8]) -> Option<String> {
        let whole = serde_json::from_slice::<&RawValue>(theirs).ok()?.get();
        let (before, data, after) = if whole.starts_with('[') {
            ("{\"object\":\"list\",\"data\":", whole, "}")
        } else {
            let [at] = <[_; 1]>::try_from(values_of(whole.as_bytes(), "data")).ok()?;
            (&whole[..at.start], &whole[at.clone()], &whole[at.end..])
        };
        let theirs: Vec<&RawValue> = serde_json::from_str(data).ok()?;
        let mut listed = vec![false; self.names.len()];
        let mut entries: Vec<Cow<'_, str>> = theirs.iter().filter_map(|raw| self.theirs(raw, &mut listed)).collect();
        let missing = self.names.iter().zip(listed).filter(|(_, is_listed)| !is_listed);
        entries.extend(missing.map(|((name, routing), _)| Cow::Owned(entry(name, routing))));
        Some(format!("{before}[{}]{after}", entries.join(",")))
    }

    /// An entry of the provider's as it is shown, where it is. `listed` are those of our names that were met.
    fn theirs<'e>(&self, raw: &'e RawValue, listed: &mut [bool]) -> Option<Cow<'e, str>> {
        let models = &self.snapshot.models;
        let Ok(Entry { id }) = serde_json::from_str::<Entry<'_>>(raw.get()) else {
            return (!self.hides).then(|| raw.get().into());
        };
        self.key.permits_model(Some(&id)).ok()?;
        let Some(routing) = models.find(&id).filter(|_| self.is_routed) else {
            return (!self.is_routed || !models.only_listed()).then(|| raw.get().into());
        };
        if models.named(&id).is_some() {
            let at = self.names.binary_search_by(|(name, _)| (*name).cmp(&*id)).ok()?;
            // Of one that stands twice one is enough.
            if std::mem::replace(&mut listed[at], true) {
                return None;
            }
        }
        Some(Cow::Owned(owned_by(raw.get(), &owners(routing))))
    }
}

/// The entry of a name that the configuration has, where a call asks for it alone; absent where that is not for the
/// configuration to answer.
pub fn listed_model(snapshot: &Snapshot, underway: &Underway) -> Option<String> {
    let name = underway.model.as_deref().filter(|_| underway.route.tells_a_model() && is_routed(underway))?;
    let routing = snapshot.models.named(name)?;
    is_served(snapshot, underway, routing).then(|| entry(name, routing))
}

/// Whether the configuration's names are what a call is about: they are told in OpenAI's words only, and a policy that chose
/// a provider asks that one.
fn is_routed(underway: &Underway) -> bool {
    !underway.target.is_chosen && underway.target.provider.dialect.name() == OPENAI.name()
}

/// Whether some target of a name can be asked for something under the provider in the path.
fn is_served(snapshot: &Snapshot, underway: &Underway, routing: &Routing) -> bool {
    let own = &*underway.route.provider;
    let asks = |route: &Route| {
        let can_ask = route.method.as_ref().is_none_or(|method| *method == Method::POST);
        route.provider.id == own.id && route.kind == Kind::Json && can_ask
    };
    let serves = |route: &Route| {
        let below = route.below_provider(&route.pattern);
        let unserved = routing.unserved(&snapshot.routes, own, &Method::POST, below);
        (unserved.count_ones() as usize) < routing.targets().len()
    };
    snapshot.routes.iter().any(|route| asks(route) && serves(route))
}

/// OpenAI's model object. When a name was made is not known, and SDKs want a number.
/// Source: OpenAI's API reference, "The model object", read 2026-11.
fn entry(name: &str, routing: &Routing) -> String {
    serde_json::json!({ "id": name, "object": "model", "created": 0, "owned_by": owners(routing) }).to_string()
}

/// The providers that serve a name, in the order in which they are tried.
fn owners(routing: &Routing) -> String {
    let mut owners: Vec<&str> = Vec::new();
    for target in routing.targets() {
        let provider = target.provider.id.as_str();
        if !owners.contains(&provider) {
            owners.push(provider);
        }
    }
    owners.join(", ")
}

/// A provider's entry that tells who serves it.
fn owned_by(entry: &str, owners: &str) -> String {
    let owners = serde_json::Value::from(owners).to_string();
    let told = values_of(entry.as_bytes(), "owned_by");
    if told.is_empty() {
        let end = entry.len().saturating_sub(1);
        return format!("{},\"owned_by\":{owners}{}", &entry[..end], &entry[end..]);
    }
    let splices = told.into_iter().map(|at| Splice { at, with: owners.clone() }).collect();
    String::from_utf8_lossy(&spliced(&Bytes::copy_from_slice(entry.as_bytes()), splices)).into_owned()
}

#[cfg(test)]
mod tests;
