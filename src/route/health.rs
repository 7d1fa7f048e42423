//! What is remembered of targets and keys beyond a configuration: a registry that lives outside of the snapshot.
//!
//! Invariant: the same target, and the same key, has the same state in each configuration that names it; what no
//! configuration and no call uses any more is forgotten.
//! Never does: hold a key; it knows them by their marks.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use super::breaker::{Breaker, View};
use super::models::{Deployment, ModelTable, TargetState};
use super::pool::KeyMark;
use crate::units::ProviderId;

/// The registry. The server has one for its whole life.
#[derive(Debug, Default)]
pub struct Health(Mutex<Known>);

/// A provider and a model of it; absent: as such.
type Place = (ProviderId, Option<Arc<str>>);

#[derive(Debug, Default)]
struct Known {
    targets: HashMap<Place, Weak<TargetState>>,
    keys: HashMap<(Place, KeyMark), Weak<Breaker>>,
    /// A key as such, whatever the model.
    refused: HashMap<(ProviderId, KeyMark), Weak<Breaker>>,
}

/// How a target stands, for the admin service and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// The provider's name.
    pub provider: ProviderId,
    /// The upstream model; absent: any that the configuration does not name.
    pub model: Option<Arc<str>>,
    /// Its breaker.
    pub breaker: View,
    /// The keys of its provider, in their order.
    pub keys: Vec<KeyView>,
}

/// How a key stands for a target's model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// What it is known by.
    pub mark: KeyMark,
    /// The state that bars its way, that of the key as such before that of the model.
    pub breaker: View,
}

impl Health {
    /// Gives the targets of a configuration the state that they have already. To be called before the configuration comes
    /// into force, while the one before it is still held.
    pub fn attach(&self, models: &ModelTable) {
        let mut known = self.0.lock();
        for target in models.deployments() {
            known.attach(target);
        }
        known.targets.retain(|_, state| state.strong_count() > 0);
        known.keys.retain(|_, state| state.strong_count() > 0);
        known.refused.retain(|_, state| state.strong_count() > 0);
    }

    /// How all targets of a configuration stand, each once, by provider and model.
    pub fn view(models: &ModelTable, now: Instant) -> Vec<TargetView> {
        let mut targets: Vec<&Deployment> = models.deployments().collect();
        targets.sort_by(|one, other| (&one.provider.id, &one.model).cmp(&(&other.provider.id, &other.model)));
        targets.dedup_by(|one, other| one.is_like(other));
        targets.into_iter().map(|target| view(target, now)).collect()
    }
}

fn view(target: &Deployment, now: Instant) -> TargetView {
    let keys = target.provider.keys.keys().iter().zip(&target.lanes).map(|(key, lane)| {
        let own = key.breaker.get().view(now);
        KeyView { mark: key.mark, breaker: if own.cause.is_some() { own } else { lane.get().view(now) } }
    });
    TargetView {
        provider: target.provider.id.clone(),
        model: target.model.clone(),
        breaker: target.state.get().breaker.view(now),
        keys: keys.collect(),
    }
}

impl Known {
    fn attach(&mut self, target: &Deployment) {
        let id = &target.provider.id;
        let place = (id.clone(), target.model.clone());
        for (key, lane) in target.provider.keys.keys().iter().zip(&target.lanes) {
            key.breaker.share(self.refused.entry((id.clone(), key.mark)).or_default());
            lane.share(self.keys.entry((place.clone(), key.mark)).or_default());
        }
        target.state.share(self.targets.entry(place).or_default());
    }
}

#[cfg(test)]
mod tests;
