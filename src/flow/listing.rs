//! The list of models as one key may see it: the provider's own entries, and the names that the configuration has.
//!
//! Invariant: a name that the key may not use is nowhere in a list; an entry of the provider's keeps its bytes, but for
//! `owned_by` where the configuration says who serves its name.
//! Never does: ask a provider; show a pattern such as `gpt-*`, which is no name.

use std::borrow::Cow;
use std::fmt;

use http::Method;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

use super::Underway;
use crate::config::Snapshot;
use crate::dialect::OPENAI;
use crate::meter::values_of;
use crate::route::{Kind, Route, Routing};

/// What a list of models shows to one key.
#[derive(Debug)]
pub struct Listing<'s> {
    snapshot: &'s Snapshot,
    underway: &'s Underway,
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
        Some(Self { snapshot, underway, names, is_routed, hides })
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
        let is_bare = whole.starts_with('[');
        let data = if is_bare {
            0..whole.len()
        } else {
            let [at] = <[_; 1]>::try_from(values_of(whole.as_bytes(), "data")).ok()?;
            at
        };
        let is_anew = is_bare || self.hides;
        let before = match (is_anew, self.is_openais()) {
            (false, _) => &whole[..data.start],
            (true, true) => "{\"object\":\"list\",\"data\":",
            (true, false) => "{\"data\":",
        };
        let mut merging = Merging::of(self, whole.len(), before);
        serde_json::Deserializer::from_str(&whole[data.clone()]).deserialize_seq(&mut merging).ok()?;
        merging.add_missing();
        Some(match (is_anew, self.is_openais()) {
            (false, _) => merging.ended(&whole[data.end..]),
            (true, true) => merging.ended("}"),
            (true, false) => {
                let more = values_of(whole.as_bytes(), "has_more");
                let has_more = more.first().is_some_and(|at| &whole[at.clone()] == "true");
                let [first, last] = [&merging.first, &merging.last].map(|id| serde_json::json!(id));
                let end = format!(",\"has_more\":{has_more},\"first_id\":{first},\"last_id\":{last}}}");
                merging.ended(&end)
            }
        })
    }

    /// Whether lists have OpenAI's form; else they have Anthropic's (platform.claude.com/docs/en/api/models-list, read
    /// 2026-11). What else a provider says around its entries may name what is hidden.
    fn is_openais(&self) -> bool {
        self.underway.target.provider.dialect.name() == OPENAI.name()
    }
}

/// A list that is written while the provider's is read, so that neither is in memory a second time.
struct Merging<'l, 'e> {
    listing: &'l Listing<'l>,
    written: String,
    is_empty: bool,
    /// Which of our names were met.
    listed: Vec<bool>,
    /// The targets of patterns that were met, and whether one of them can be asked.
    patterns: Vec<(&'l Routing, bool)>,
    /// The provider's first and last entries that are shown.
    first: Option<Cow<'e, str>>,
    last: Option<Cow<'e, str>>,
}

impl<'l, 'e> Merging<'l, 'e> {
    fn of(listing: &'l Listing<'_>, bytes: usize, before: &str) -> Self {
        let listed = vec![false; listing.names.len()];
        let mut written = String::with_capacity(bytes + ROOM_FOR_A_NAME * listed.len());
        written.extend([before, "["]);
        Self { listing, written, is_empty: true, listed, patterns: Vec::new(), first: None, last: None }
    }

    /// An entry of the provider's, where it is shown.
    fn add_theirs(&mut self, raw: &'e str) {
        let Ok(Entry { id }) = serde_json::from_str::<Entry<'_>>(raw) else {
            if !self.listing.hides {
                self.add(raw);
            }
            return;
        };
        let Some(routing) = self.shown(&id) else { return };
        match routing {
            Some(routing) => self.add_owned(raw, &owners(routing)),
            None => self.add(raw),
        }
        if self.listing.hides {
            self.first.get_or_insert_with(|| id.clone());
            self.last = Some(id);
        }
    }

    /// Whether a name of the provider's is shown, and where the configuration says who serves it, that.
    fn shown(&mut self, id: &str) -> Option<Option<&'l Routing>> {
        let listing = self.listing;
        let models = &listing.snapshot.models;
        listing.underway.key.permits_model(Some(id)).ok()?;
        let Some(routing) = models.find(id).filter(|_| listing.is_routed) else {
            return (!listing.is_routed || !models.only_listed()).then_some(None);
        };
        if models.named(id).is_some() {
            let at = listing.names.binary_search_by(|(name, _)| (*name).cmp(id)).ok()?;
            // Of one that stands twice one is enough.
            return (!std::mem::replace(&mut self.listed[at], true)).then_some(Some(routing));
        }
        let known = self.patterns.iter().find(|(known, _)| std::ptr::eq(*known, &**routing)).map(|(_, is)| *is);
        let is_served = known.unwrap_or_else(|| {
            let is_served = is_served(listing.snapshot, listing.underway, routing);
            self.patterns.push((routing, is_served));
            is_served
        });
        is_served.then_some(Some(routing))
    }

    /// Our names that the provider does not list.
    fn add_missing(&mut self) {
        let listing = self.listing;
        for (at, (name, routing)) in listing.names.iter().enumerate() {
            if !self.listed[at] {
                self.add(&entry(name, routing));
            }
        }
    }

    fn add(&mut self, entry: &str) {
        self.part();
        self.written.push_str(entry);
    }

    /// A provider's entry that tells who serves it.
    fn add_owned(&mut self, entry: &str, owners: &str) {
        let owners = serde_json::Value::from(owners).to_string();
        self.part();
        let told = values_of(entry.as_bytes(), "owned_by");
        if told.is_empty() {
            let (members, end) = entry.split_at(entry.len().saturating_sub(1));
            return self.written.extend([members, ",\"owned_by\":", &owners, end]);
        }
        let mut done = 0;
        for at in told {
            self.written.extend([&entry[done..at.start], &owners]);
            done = at.end;
        }
        self.written.push_str(&entry[done..]);
    }

    fn part(&mut self) {
        if !std::mem::take(&mut self.is_empty) {
            self.written.push(',');
        }
    }

    fn ended(mut self, after: &str) -> String {
        self.written.extend(["]", after]);
        self.written
    }
}

impl<'e> Visitor<'e> for &mut Merging<'_, 'e> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("entries")
    }

    fn visit_seq<A: SeqAccess<'e>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<&'e RawValue>()? {
            self.add_theirs(entry.get());
        }
        Ok(())
    }
}

/// Bytes of an entry of ours, more or less.
const ROOM_FOR_A_NAME: usize = 96;

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

#[cfg(test)]
mod tests;
