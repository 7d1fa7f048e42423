//! The limits of the configuration and of the key file, put together for each key before any call needs them.
//!
//! Invariant: a call only walks lists that are there already: those of its key, and those of its model. Of one key, what the
//! key file says goes before `limits.keys`, and that before `limits.key`, field by field.
//! Never does: count anything.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::compile::Check;
use super::file::{self, LimitSet};
use super::report::{FieldPath, shown};
use crate::keys::{Key, KeyRing};
use crate::limit::{Bound, Zone};
use crate::units::{Amount, Budget, KeyId, Limits, Owner, Subject};

/// What the configuration says of limits.
#[derive(Default)]
pub struct LimitRules {
    zone: Zone,
    gateway: Limits,
    key: Limits,
    keys: BTreeMap<String, Limits>,
    users: BTreeMap<String, Limits>,
    teams: BTreeMap<String, Limits>,
    models: BTreeMap<String, Limits>,
}

/// The limits of each call, by its key and its model.
#[derive(Default)]
pub struct LimitTable {
    rules: Arc<LimitRules>,
    /// Of keys that are limited, with those of their user, their team and the gateway.
    keys: HashMap<KeyId, Arc<[Bound]>>,
    /// Of all calls for a model.
    models: HashMap<Box<str>, Arc<[Bound]>>,
}

/// Keys and others without a match that are named in a warning.
const NAMED: usize = 3;

/// Checks the section.
pub(super) fn compile(check: &mut Check<'_>, written: &file::Limits) -> LimitRules {
    let path = FieldPath::of("limits");
    let zone = Zone::named(&written.zone).unwrap_or_else(|| {
        let message = "expected the name of a zone in the IANA database";
        check.refuse_with(&path.key("zone"), message, "such as UTC, Europe/Berlin or America/New_York");
        Zone::UTC
    });
    let mut named = |name: &str, sets: &BTreeMap<String, LimitSet>| -> BTreeMap<String, Limits> {
        let path = path.key(name);
        sets.iter().map(|(name, set)| (name.clone(), limits(check, &path.key(name), set))).collect()
    };
    let [keys, users] = [named("keys", &written.keys), named("users", &written.users)];
    let [teams, models] = [named("teams", &written.teams), named("models", &written.models)];
    let gateway = limits(check, &path.key("gateway"), &written.gateway);
    let key = limits(check, &path.key("key"), &written.key);
    LimitRules { zone, gateway, key, keys, users, teams, models }
}

fn limits(check: &mut Check<'_>, path: &FieldPath, set: &LimitSet) -> Limits {
    let mut limits = Limits {
        requests_per_minute: set.requests_per_minute.map(|count| count.0),
        tokens_per_minute: set.tokens_per_minute.map(|count| count.0),
        concurrent_requests: set.concurrent_requests.map(|count| count.0),
        budgets: Vec::new(),
        shadow: set.shadow,
    };
    for (index, entry) in set.budgets.iter().enumerate() {
        let path = path.key("budgets").item(index);
        // What was taken out because it is wrong is not missing.
        if check.tree.is_told_below(&path) {
            continue;
        }
        let amount = match (entry.usd, entry.tokens) {
            (Some(usd), None) => Some(Amount::Usd(usd.0)),
            (None, Some(tokens)) => Some(Amount::Tokens(tokens.0)),
            _ => None,
        };
        let (Some(amount), Some(per)) = (amount, entry.per) else {
            let message = "expected usd or tokens, one of them, and per";
            check.refuse_with(&path, message, "{ usd: 100, per: month }");
            continue;
        };
        if limits.add(Budget { amount, per: per.into() }).is_err() {
            check.refuse(&path, "there is a budget of this kind and window already");
        }
    }
    if limits.shadow && limits.is_empty() && !check.tree.is_told_below(path) {
        check.warn(format!("{path}.shadow has no effect, because nothing is limited there"));
    }
    limits
}

impl LimitRules {
    /// Puts the limits of each key together, and says which rules are for nobody.
    pub(super) fn table(self: &Arc<Self>, ring: &KeyRing) -> (LimitTable, Vec<String>) {
        let mut known: HashMap<Owner, Arc<Limits>> = HashMap::new();
        let mut keys = HashMap::new();
        for key in ring.iter() {
            let bounds = self.bounds(key, &mut known);
            if !bounds.is_empty() {
                keys.insert(key.record.id.clone(), bounds.into());
            }
        }
        let models = self.models.iter().filter(|(_, limits)| !limits.is_empty()).map(|(model, limits)| {
            let subject = Subject { owner: Owner::Gateway, model: Some(model.as_str().into()) };
            let bound = Bound { subject, limits: Arc::new(limits.clone()), zone: self.zone.clone() };
            (model.as_str().into(), [bound].into())
        });
        let models = models.collect();
        (LimitTable { rules: Arc::clone(self), keys, models }, self.idle(ring))
    }

    fn bounds(&self, key: &Key, known: &mut HashMap<Owner, Arc<Limits>>) -> Vec<Bound> {
        let record = &key.record;
        let mut bounds = Vec::new();
        let mut add = |owner: Owner, limits: Arc<Limits>| {
            bounds.push(Bound { subject: Subject::of(owner), limits, zone: self.zone.clone() });
        };
        // The nearest first: of equal refusals it is the one that is told.
        let own = [Some(&record.allowance.limits), self.keys.get(record.id.as_str()), Some(&self.key)];
        for limits in layered(own.into_iter().flatten()) {
            add(Owner::Key(record.id.clone()), Arc::new(limits));
        }
        let user = self.users.get(&*record.username).map(|limits| (Owner::User(Arc::clone(&record.username)), limits));
        let team =
            record.team.as_ref().and_then(|team| Some((Owner::Team(Arc::clone(team)), self.teams.get(&**team)?)));
        let shared = [user, team, Some((Owner::Gateway, &self.gateway))];
        for (owner, limits) in shared.into_iter().flatten().filter(|(_, limits)| !limits.is_empty()) {
            let limits = known.entry(owner.clone()).or_insert_with(|| Arc::new(limits.clone()));
            add(owner, Arc::clone(limits));
        }
        bounds
    }

    /// Rules that no key can ever meet: a misspelt name would otherwise be silent.
    fn idle(&self, ring: &KeyRing) -> Vec<String> {
        let of = |name: fn(&Key) -> Option<&str>| ring.iter().filter_map(|key| name(key)).collect::<HashSet<&str>>();
        let ids = of(|key| Some(key.record.id.as_str()));
        let users = of(|key| Some(&key.record.username));
        let teams = of(|key| key.record.team.as_deref());
        let all = [("keys", &self.keys, ids), ("users", &self.users, users), ("teams", &self.teams, teams)];
        let idle = all.iter().flat_map(|(section, rules, there)| {
            let idle = rules.keys().filter(|name| !there.contains(name.as_str()));
            idle.map(move |name| format!("limits.{section}.{}", shown(name)))
        });
        let idle: Vec<_> = idle.collect();
        let named = idle.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if idle.len() > NAMED { ", ..." } else { "" };
        match idle.len() {
            0 => Vec::new(),
            _ => vec![format!("no key is limited by {named}{more}")],
        }
    }
}

/// The same limits in as many sets as there are sources of them: each keeps its own `shadow`, and leaves out what an
/// earlier one has.
fn layered<'l>(sources: impl Iterator<Item = &'l Limits>) -> Vec<Limits> {
    let mut sets: Vec<Limits> = Vec::new();
    for source in sources {
        let free = |has: fn(&Limits) -> bool| !sets.iter().any(has);
        let set = Limits {
            requests_per_minute: source.requests_per_minute.filter(|_| free(|set| set.requests_per_minute.is_some())),
            tokens_per_minute: source.tokens_per_minute.filter(|_| free(|set| set.tokens_per_minute.is_some())),
            concurrent_requests: source.concurrent_requests.filter(|_| free(|set| set.concurrent_requests.is_some())),
            budgets: if free(|set| !set.budgets.is_empty()) { source.budgets.clone() } else { Vec::new() },
            shadow: source.shadow,
        };
        if !set.is_empty() {
            sets.push(set);
        }
    }
    sets
}

impl LimitTable {
    /// What limits the calls of a key; empty where nothing does.
    pub fn of_key(&self, key: &KeyId) -> &[Bound] {
        if self.keys.is_empty() {
            return &[];
        }
        self.keys.get(key).map_or(&[], |bounds| bounds)
    }

    /// What limits all calls for a model; empty where nothing does.
    pub fn of_model(&self, model: &str) -> &[Bound] {
        if self.models.is_empty() {
            return &[];
        }
        self.models.get(model).map_or(&[], |bounds| bounds)
    }

    /// Tells whether there is any budget.
    pub fn has_budgets(&self) -> bool {
        self.keys
            .values()
            .chain(self.models.values())
            .flat_map(|list| list.iter())
            .any(|bound| !bound.limits.budgets.is_empty())
    }

    /// All that is limited, each subject's limits once: for metrics and reports.
    pub fn all(&self) -> Vec<Bound> {
        let mut seen = HashSet::new();
        let mut all: Vec<Bound> =
            self.keys.values().chain(self.models.values()).flat_map(|list| list.iter().cloned()).collect();
        all.sort_by(|one, other| one.subject.cmp(&other.subject));
        all.retain(|bound| seen.insert((bound.subject.clone(), bound.limits.to_string())));
        all
    }

    /// What the configuration says, for when the keys change.
    pub(super) fn rules(&self) -> &Arc<LimitRules> {
        &self.rules
    }
}

impl fmt::Debug for LimitRules {
    /// Without names: what was meant for another field may have slipped among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, gateway, key, keys, users, teams, models } = self;
        let named = [keys, users, teams, models].map(|named| named.values().collect::<Vec<_>>());
        write!(f, "LimitRules({zone:?}, {gateway:?}, {key:?}, {named:?})")
    }
}

impl fmt::Debug for LimitTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitTable({:?}, {} keys, {} models)", self.rules, self.keys.len(), self.models.len())
    }
}

#[cfg(test)]
mod tests;
