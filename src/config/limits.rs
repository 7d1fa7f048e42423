//! The limits of the configuration and of the key file, put together for each key before any call needs them.
//!
//! Invariant: a call only walks lists that are there already: those of its key, and those of its model. Of one key, what the
//! key file says goes before `limits.keys`, and that before `limits.key`, field by field.
//! Never does: count anything.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::compile::Check;
use super::file::{self, LimitSet};
use super::report::{FieldPath, shown};
use crate::keys::{Key, KeyRing};
use crate::limit::{Bound, Zone};
use crate::units::{Amount, Budget, KeyId, Limits, OwnLimits, Owner, Subject, is_limitable_model};

/// What the configuration says of limits.
#[derive(Default)]
pub struct LimitRules {
    zone: Zone,
    gateway: Limits,
    key: OwnLimits,
    keys: BTreeMap<String, OwnLimits>,
    users: BTreeMap<String, OwnLimits>,
    teams: BTreeMap<String, OwnLimits>,
    models: BTreeMap<String, Limits>,
}

/// The limits of each call, by its key and its model.
#[derive(Default)]
pub struct LimitTable {
    rules: Arc<LimitRules>,
    /// Of keys that are limited, with those of their user, their team and the gateway.
    keys: HashMap<KeyId, OfKey>,
    /// Of all calls for a model.
    models: HashMap<Box<str>, Arc<[Bound]>>,
}

/// What limits the calls of a key.
#[derive(Default)]
struct OfKey {
    all: Vec<Bound>,
    /// Those for a model, beside that.
    models: HashMap<Box<str>, Vec<Bound>>,
}

/// What is said of one key.
struct Sources<'l> {
    /// The nearest first.
    own: [Option<&'l OwnLimits>; 3],
    user: Option<&'l OwnLimits>,
    team: Option<&'l OwnLimits>,
}

impl<'l> Sources<'l> {
    fn all(&self) -> impl Iterator<Item = &'l OwnLimits> {
        self.own.into_iter().chain([self.user, self.team]).flatten()
    }
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
    let mut named = |name: &str, sets: &BTreeMap<String, LimitSet>| -> BTreeMap<String, OwnLimits> {
        let path = path.key(name);
        sets.iter().map(|(name, set)| (name.clone(), own(check, &path.key(name), set))).collect()
    };
    let [keys, users, teams] =
        [named("keys", &written.keys), named("users", &written.users), named("teams", &written.teams)];
    let models = of_models(check, &path.key("models"), &written.models);
    no_models(check, &path.key("gateway"), &written.gateway, "those of all calls for a model are limits.models");
    let gateway = limits(check, &path.key("gateway"), &written.gateway);
    let key = own(check, &path.key("key"), &written.key);
    LimitRules { zone, gateway, key, keys, users, teams, models }
}

fn own(check: &mut Check<'_>, path: &FieldPath, set: &LimitSet) -> OwnLimits {
    OwnLimits { all: limits(check, path, set), models: of_models(check, &path.key("models"), &set.models) }
}

fn of_models(check: &mut Check<'_>, path: &FieldPath, sets: &BTreeMap<String, LimitSet>) -> BTreeMap<String, Limits> {
    let mut all = BTreeMap::new();
    for (name, set) in sets {
        let path = path.key(name);
        if !is_limitable_model(name) {
            check.refuse(&path, "expected the whole name of a model, without a *");
        }
        no_models(check, &path, set, "this is of one model already");
        all.insert(name.clone(), limits(check, &path, set));
    }
    all
}

fn no_models(check: &mut Check<'_>, path: &FieldPath, set: &LimitSet, hint: &'static str) {
    if !set.models.is_empty() {
        check.refuse_with(&path.key("models"), "there are no limits of models in here", hint);
    }
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

/// One rule as the configuration has it.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'l> {
    /// Whose: `gateway`, `key`, `user` or `team`.
    pub kind: &'static str,
    /// Their name; absent for the gateway, and where it is of each key.
    pub name: Option<&'l str>,
    /// Of calls for this model alone.
    pub model: Option<&'l str>,
    /// What is limited.
    pub limits: &'l Limits,
}

impl LimitRules {
    /// By whose midnights budgets are renewed.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Each rule that limits something.
    pub fn each(&self) -> impl Iterator<Item = Rule<'_>> {
        let of_gateway = self.models.iter().map(|(model, limits)| (Some(model.as_str()), limits));
        let of_gateway = std::iter::once((None, &self.gateway)).chain(of_gateway);
        let of_gateway = of_gateway.map(|(model, limits)| Rule { kind: "gateway", name: None, model, limits });
        let named = [("key", &self.keys), ("user", &self.users), ("team", &self.teams)];
        let named = named
            .into_iter()
            .flat_map(|(kind, all)| all.iter().flat_map(move |(name, own)| rules(kind, Some(name.as_str()), own)));
        of_gateway.chain(rules("key", None, &self.key)).chain(named).filter(|rule| !rule.limits.is_empty())
    }

    /// Puts the limits of each key together, and says which rules are for nobody.
    pub(super) fn table(self: &Arc<Self>, ring: &KeyRing) -> (LimitTable, Vec<String>) {
        let mut known: HashMap<Subject, Arc<Limits>> = HashMap::new();
        let mut keys = HashMap::new();
        let any = [&self.keys, &self.users, &self.teams].iter().any(|rules| !rules.is_empty());
        let any = any || !self.key.is_empty() || !self.gateway.is_empty();
        for key in ring.iter().filter(|key| any || !key.record.allowance.limits.is_empty()) {
            let bounds = self.bounds(key, &mut known);
            if !bounds.all.is_empty() || !bounds.models.is_empty() {
                keys.insert(key.record.id.clone(), bounds);
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

    fn bounds(&self, key: &Key, known: &mut HashMap<Subject, Arc<Limits>>) -> OfKey {
        let record = &key.record;
        let sources = Sources {
            own: [Some(&record.allowance.limits), self.keys.get(record.id.as_str()), Some(&self.key)],
            user: self.users.get(&*record.username),
            team: record.team.as_ref().and_then(|team| self.teams.get(&**team)),
        };
        let named: BTreeSet<&str> = sources.all().flat_map(|own| own.models.keys().map(String::as_str)).collect();
        let mut of = |model| self.list(key, &sources, model, known);
        let all = of(None);
        let models = named.into_iter().map(|model| (model.into(), of(Some(model))));
        OfKey { all, models: models.filter(|(_, list): &(_, Vec<_>)| !list.is_empty()).collect() }
    }

    /// What limits the calls of a key, or beside that those for one model.
    fn list(
        &self,
        key: &Key,
        sources: &Sources<'_>,
        model: Option<&str>,
        known: &mut HashMap<Subject, Arc<Limits>>,
    ) -> Vec<Bound> {
        let record = &key.record;
        let subject = |owner| Subject { owner, model: model.map(Arc::from) };
        let bound = |subject, limits| Bound { subject, limits, zone: self.zone.clone() };
        // The nearest first: of equal refusals it is the one that is told.
        let own = layered(sources.own.into_iter().flatten().filter_map(|own| own.of(model)));
        let own = own.into_iter().map(|limits| bound(subject(Owner::Key(record.id.clone())), Arc::new(limits)));
        let mut list: Vec<Bound> = own.collect();
        let user = sources.user.map(|own| (Owner::User(Arc::clone(&record.username)), own.of(model)));
        let team = record.team.as_ref().zip(sources.team);
        let team = team.map(|(team, own)| (Owner::Team(Arc::clone(team)), own.of(model)));
        let gateway = Some((Owner::Gateway, model.is_none().then_some(&self.gateway)));
        for (owner, limits) in [user, team, gateway].into_iter().flatten() {
            let Some(limits) = limits.filter(|limits| !limits.is_empty()) else { continue };
            let subject = subject(owner);
            let limits = known.entry(subject.clone()).or_insert_with(|| Arc::new(limits.clone()));
            list.push(bound(subject, Arc::clone(limits)));
        }
        list
    }

    /// Rules that no key can ever meet: a misspelt name would otherwise be silent.
    fn idle(&self, ring: &KeyRing) -> Vec<String> {
        type Name = fn(&Key) -> Option<&str>;
        let ids: Name = |key| Some(key.record.id.as_str());
        let users: Name = |key| Some(&key.record.username);
        let teams: Name = |key| key.record.team.as_deref();
        let all = [("keys", &self.keys, ids), ("users", &self.users, users), ("teams", &self.teams, teams)];
        let idle = all.iter().flat_map(|(section, rules, name)| {
            // There may be very many keys, and mostly few rules.
            let mut idle: BTreeSet<&str> = rules.keys().map(String::as_str).collect();
            let keys = if idle.is_empty() { None } else { Some(ring.iter()) };
            keys.into_iter().flatten().filter_map(|key| name(key)).for_each(|name| {
                idle.remove(name);
            });
            idle.into_iter().map(move |name| format!("limits.{section}.{}", shown(name)))
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

fn rules<'l>(kind: &'static str, name: Option<&'l str>, own: &'l OwnLimits) -> impl Iterator<Item = Rule<'l>> {
    let models = own.models.iter().map(|(model, limits)| (Some(model.as_str()), limits));
    let all = std::iter::once((None, &own.all)).chain(models);
    all.map(move |(model, limits)| Rule { kind, name, model, limits })
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
    /// What limits a call: what stands for its key, for its key and its model, and for all calls for its model. All empty
    /// where nothing does.
    pub fn of_call(&self, key: &KeyId, model: Option<&str>) -> [&[Bound]; 3] {
        let of_key = if self.keys.is_empty() { None } else { self.keys.get(key) };
        let of_both = of_key.filter(|of| !of.models.is_empty()).and_then(|of| of.models.get(model?));
        let of_model = if self.models.is_empty() { None } else { model.and_then(|model| self.models.get(model)) };
        [of_key.map_or(&[], |of| &of.all), of_both.map_or(&[], |list| list), of_model.map_or(&[], |list| list)]
    }

    /// Tells whether there is any budget.
    pub fn has_budgets(&self) -> bool {
        self.each().any(|bound| !bound.limits.budgets.is_empty())
    }

    /// All that is limited, each subject's limits once: for metrics and reports.
    pub fn all(&self) -> Vec<Bound> {
        let mut seen = HashSet::new();
        let mut all: Vec<Bound> = self.each().cloned().collect();
        all.sort_by(|one, other| one.subject.cmp(&other.subject));
        all.retain(|bound| seen.insert((bound.subject.clone(), bound.limits.to_string())));
        all
    }

    fn each(&self) -> impl Iterator<Item = &Bound> {
        let of_keys = self.keys.values().flat_map(|of| of.all.iter().chain(of.models.values().flatten()));
        of_keys.chain(self.models.values().flat_map(|list| list.iter()))
    }

    /// What the configuration says, for when the keys change.
    pub fn rules(&self) -> &Arc<LimitRules> {
        &self.rules
    }
}

impl fmt::Debug for LimitRules {
    /// Without names: what was meant for another field may have slipped among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, gateway, key, keys, users, teams, models } = self;
        let named = [keys, users, teams].map(|named| named.values().collect::<Vec<_>>());
        let models: Vec<_> = models.values().collect();
        write!(f, "LimitRules({zone:?}, {gateway:?}, {key:?}, {named:?}, {models:?})")
    }
}

impl fmt::Debug for LimitTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LimitTable({:?}, {} keys, {} models)", self.rules, self.keys.len(), self.models.len())
    }
}

#[cfg(test)]
mod tests;
