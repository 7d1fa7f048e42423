//! Names that clients ask for, and the targets that serve them.
//!
//! Invariant: a look-up costs the same however many names there are; a name that is spelt out goes before a prefix, a
//! longer prefix before a shorter one.
//! Never does: choose among targets; that is `plan`.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::breaker::Breaker;
use super::budget::RetryBudget;
use super::pool::{Kept, bit, by_weight};
use super::{Kind, Provider, RouteTable};
use crate::units::ProviderId;

/// One place that can serve a model: a target as it is configured.
#[derive(Debug)]
pub struct Deployment {
    /// Who is asked.
    pub provider: Arc<Provider>,
    /// The model to ask for; absent: the one that the client asks for.
    pub model: Option<Arc<str>>,
    /// How often it is taken, compared with others of its rank. At least 1.
    pub weight: u32,
    /// Whether it takes what was too long for another one.
    pub larger_context: bool,
    /// Those of a lower rank go first.
    pub rank: u16,
    pub(super) state: Kept<TargetState>,
    /// How the model's limits stand for each key of the provider.
    pub(super) lanes: Box<[Kept<Breaker>]>,
}

/// What is remembered of a target beyond one call.
#[derive(Debug, Default)]
pub(super) struct TargetState {
    pub(super) breaker: Breaker,
    pub(super) budget: RetryBudget,
}

/// The targets of a name with those of its fallbacks, each once, by rank. Never empty.
#[derive(Debug)]
pub struct Routing(Box<[Deployment]>);

/// All names.
#[derive(Debug, Default)]
pub struct ModelTable {
    exact: HashMap<Box<str>, Arc<Routing>, RandomState>,
    /// Without their `*`.
    prefixes: HashMap<Box<str>, Arc<Routing>, RandomState>,
    /// The lengths that prefixes have, longest first.
    lengths: Vec<usize>,
    /// Where names go that are not listed.
    direct: HashMap<ProviderId, Arc<Routing>, RandomState>,
    only_listed: bool,
}

impl Deployment {
    /// A target of the first rank. Its state is its own until [`super::Health`] hands over what is known already.
    pub fn new(provider: Arc<Provider>, model: Option<Arc<str>>) -> Self {
        let lanes = provider.keys.keys().iter().map(|_| Kept::default()).collect();
        Self { provider, model, weight: 1, larger_context: false, rank: 0, state: Kept::default(), lanes }
    }

    /// Whether calls for models that the configuration does not name share its limits: one model's 429 says nothing of
    /// another's then.
    pub fn is_shared(&self) -> bool {
        self.model.is_none()
    }

    /// Tells whether it is the same place as another one.
    pub fn is_like(&self, other: &Self) -> bool {
        self.provider.id == other.provider.id && self.model == other.model
    }
}

impl Routing {
    /// Puts targets into the order of their ranks; absent where there is none, or more than fit.
    pub fn new(mut targets: Vec<Deployment>) -> Option<Self> {
        targets.sort_by_key(|target| target.rank);
        (!targets.is_empty() && targets.len() <= super::pool::MOST).then(|| Self(targets.into()))
    }

    /// The targets by rank.
    pub fn targets(&self) -> &[Deployment] {
        &self.0
    }

    /// The targets whose provider has no JSON route for this call, as bits by their places. `below` is the path behind
    /// the provider's name: `/v1/chat/completions`. The route's own provider has one, or the call would not be here. One of
    /// another dialect has none, whatever its paths: nothing is translated.
    pub fn unserved(&self, routes: &RouteTable, own: &Provider, method: &http::Method, below: &str) -> u64 {
        let serves = |provider: &Provider| {
            let speaks_alike = provider.dialect.name() == own.dialect.name();
            provider.id == own.id
                || speaks_alike && {
                    let path = format!("/{}{below}", provider.id);
                    routes.find(method, &path).is_some_and(|found| found.route.kind == Kind::Json)
                }
        };
        let unserved = self.0.iter().enumerate().filter(|(_, target)| !serves(&target.provider));
        unserved.fold(0, |set, (index, _)| set | bit(index))
    }

    /// Picks one of the first rank that has any left, by weight. `out` are those to leave out, as bits by their places.
    pub(super) fn pick(&self, out: u64, only_larger: bool, random: u64) -> Option<usize> {
        let left =
            |(index, target): &(usize, &Deployment)| out & bit(*index) == 0 && (target.larger_context || !only_larger);
        let (first, Deployment { rank, .. }) = self.0.iter().enumerate().find(left)?;
        let same = self.0.iter().enumerate().skip(first).take_while(|(_, target)| target.rank == *rank);
        by_weight(same.filter(left).map(|(index, target)| (index, target.weight)), random)
    }
}

impl ModelTable {
    /// A table without names: calls go to the provider in their path.
    pub fn new(providers: &[Arc<Provider>], only_listed: bool) -> Self {
        let direct = |provider: &Arc<Provider>| {
            let targets = Box::new([Deployment::new(Arc::clone(provider), None)]);
            (provider.id.clone(), Arc::new(Routing(targets)))
        };
        Self { direct: providers.iter().map(direct).collect(), only_listed, ..Self::default() }
    }

    /// Adds a name, or a prefix that ends in `*`. One that is there already is replaced.
    pub fn add(&mut self, name: &str, routing: Routing) {
        let routing = Arc::new(routing);
        match name.strip_suffix('*') {
            Some(prefix) => {
                self.prefixes.insert(prefix.into(), routing);
                if let Err(at) = self.lengths.binary_search_by(|length| prefix.len().cmp(length)) {
                    self.lengths.insert(at, prefix.len());
                }
            }
            None => {
                self.exact.insert(name.into(), routing);
            }
        }
    }

    /// The targets of a name that is listed.
    pub fn find(&self, name: &str) -> Option<&Arc<Routing>> {
        let prefix = |length: &usize| self.prefixes.get(name.get(..*length)?);
        self.exact.get(name).or_else(|| self.lengths.iter().find_map(prefix))
    }

    /// The targets of a call: those of the model where it is listed, else the provider in the path. Absent where only
    /// listed models may be asked for, and this one is not. Calls without a model are the provider's.
    pub fn of_call(&self, provider: &ProviderId, model: Option<&str>) -> Option<&Arc<Routing>> {
        let listed = model.and_then(|name| self.find(name));
        listed.or_else(|| self.direct.get(provider).filter(|_| model.is_none() || !self.only_listed))
    }

    /// All names in alphabetical order, prefixes with their `*`.
    pub fn listed(&self) -> Vec<(String, &Arc<Routing>)> {
        let exact = self.exact.iter().map(|(name, routing)| (name.to_string(), routing));
        let prefixes = self.prefixes.iter().map(|(prefix, routing)| (format!("{prefix}*"), routing));
        let mut listed: Vec<_> = exact.chain(prefixes).collect();
        listed.sort_by(|(one, _), (other, _)| one.cmp(other));
        listed
    }

    /// The names that are spelt out, in alphabetical order.
    pub fn names(&self) -> Vec<(&str, &Routing)> {
        let mut names: Vec<_> = self.exact.iter().map(|(name, routing)| (&**name, &**routing)).collect();
        names.sort_by_key(|(name, _)| *name);
        names
    }

    /// The targets of a name that is spelt out.
    pub fn named(&self, name: &str) -> Option<&Routing> {
        self.exact.get(name).map(|routing| &**routing)
    }

    /// Whether there is neither a name nor a prefix.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// Whether names that are not listed are refused.
    pub fn only_listed(&self) -> bool {
        self.only_listed
    }

    /// All targets of all names, and of the providers as such.
    pub(super) fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        let routings = self.direct.values().chain(self.exact.values()).chain(self.prefixes.values());
        routings.flat_map(|routing| routing.targets())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::provider;
    use super::*;

    fn routing(model: &str) -> Routing {
        Routing::new(vec![Deployment::new(provider("openai"), Some(model.into()))]).expect("a target")
    }

    fn found<'t>(table: &'t ModelTable, name: &str) -> Option<&'t str> {
        table.find(name)?.targets()[0].model.as_deref()
    }

    #[test]
    fn an_exact_name_goes_before_the_longest_prefix() {
        let mut table = ModelTable::new(&[], false);
        for name in ["gpt-4o", "gpt-*", "gpt-4*", "ft:*", "é*"] {
            table.add(name, routing(name));
        }
        assert_eq!(found(&table, "gpt-4o"), Some("gpt-4o"));
        assert_eq!(found(&table, "gpt-4o-mini"), Some("gpt-4*"));
        assert_eq!(found(&table, "gpt-4"), Some("gpt-4*"), "a prefix stands for itself too");
        assert_eq!(found(&table, "gpt-5"), Some("gpt-*"));
        assert_eq!(found(&table, "GPT-5"), None, "names have a case");
        assert_eq!(found(&table, "\u{20ac}"), None, "cut in the middle of a letter");
        assert_eq!(found(&table, "é"), Some("é*"));
        assert_eq!(found(&table, ""), None);
        table.add("*", routing("*"));
        assert_eq!(found(&table, "anything"), Some("*"));
        assert_eq!(found(&table, "gpt-5"), Some("gpt-*"));
    }

    #[test]
    fn a_name_that_is_not_listed_goes_to_the_provider_in_the_path() {
        let providers = [provider("openai"), provider("azure")];
        let azure = ProviderId::new("azure");
        let mut table = ModelTable::new(&providers, false);
        table.add("gpt-4o", routing("gpt-4o"));
        let of = |table: &ModelTable, model| {
            table.of_call(&azure, model).map(|routing| routing.targets()[0].provider.id.to_string())
        };
        assert_eq!(of(&table, Some("gpt-4o")).as_deref(), Some("openai"));
        assert_eq!(of(&table, Some("other")).as_deref(), Some("azure"));
        assert_eq!(of(&table, None).as_deref(), Some("azure"));
        let table = ModelTable::new(&providers, true);
        assert_eq!(of(&table, Some("other")), None);
        assert_eq!(of(&table, None).as_deref(), Some("azure"), "lists of models and other calls without one");
    }

    #[test]
    fn a_thousand_names_are_found_like_one() {
        let mut table = ModelTable::new(&[], false);
        for index in 0..1000 {
            table.add(&format!("model-{index}"), routing("x"));
            table.add(&format!("prefix-{index}-*"), routing("y"));
        }
        assert_eq!(found(&table, "model-999"), Some("x"));
        assert_eq!(found(&table, "prefix-7-a"), Some("y"));
        assert_eq!(table.lengths, [11, 10, 9], "as many look-ups as there are lengths, not names");
        assert_eq!(table.listed().len(), 2000);
    }

    #[test]
    fn a_rank_is_used_up_before_the_next_one() {
        let target = |rank, weight, larger_context| Deployment {
            weight,
            rank,
            larger_context,
            ..Deployment::new(provider("openai"), None)
        };
        let routing = Routing::new(vec![target(1, 9, false), target(0, 1, false), target(0, 3, true)]).expect("some");
        let counts = |out, larger| {
            let mut counts = [0; 3];
            for step in 0..8_u64 {
                counts[routing.pick(out, larger, step << 61).expect("one")] += 1;
            }
            counts
        };
        assert_eq!(counts(0, false), [2, 6, 0]);
        assert_eq!(counts(0b010, false), [8, 0, 0]);
        assert_eq!(counts(0b011, false), [0, 0, 8]);
        assert_eq!(counts(0, true), [0, 8, 0]);
        assert_eq!(routing.pick(0b010, true, 0), None);
        assert_eq!(routing.pick(0b111, false, 0), None);
        assert!(Routing::new(Vec::new()).is_none());
    }
}
