//! `models`: from names as they are written to targets by rank.
//!
//! Invariant: each target of a name stands once, its own ones before those of its fallbacks, in the order in which a call
//! tries them; models that are each other's fallbacks are no circle then.
//! Never does: choose a target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use super::compile::Check;
use super::file::{self, Dialect, Order};
use super::report::FieldPath;
use crate::route::{Deployment, Kind, MOST, ModelTable, Provider, RouteTable, Routing};

/// What models are compiled from.
pub(super) struct Sources<'f> {
    pub(super) file: &'f file::File,
    pub(super) providers: &'f [Arc<Provider>],
    pub(super) routes: &'f RouteTable,
}

/// Compiles all models.
pub(super) fn compile(check: &mut Check<'_>, sources: &Sources<'_>) -> ModelTable {
    let models = &sources.file.models;
    let path = FieldPath::of("models");
    let mut table = ModelTable::new(sources.providers, sources.file.only_listed_models);
    if models.is_empty() && sources.file.only_listed_models {
        check.warn("only_listed_models is true and models lists none: every call that names a model is refused");
    }
    let mut gaps = BTreeMap::new();
    for (name, written) in models {
        let path = path.key(name);
        check_name(check, &path, name);
        check_targets(check, &path, written, sources);
        check_fallbacks(check, &path, name, written, models);
        let targets = flatten(name, sources);
        check_dialects(check, &path, name, sources);
        note_gaps(&mut gaps, name, &targets, sources.routes);
        match Routing::new(targets) {
            Some(routing) => table.add(name, routing),
            None if written.targets.is_empty() => {}
            None => check.refuse(&path, format!("expected from 1 to {MOST} targets, with those of the fallbacks")),
        }
    }
    for ((provider, route), (name, others)) in gaps {
        let more = if others == 0 { String::new() } else { format!(" and {others} more") };
        check.warn(format!(
            "providers.{provider} has no route \"{route}\", which another target of models.{name}{more} has: such calls \
             leave it out"
        ));
    }
    table
}

/// A name has a `*` at its end at most.
fn check_name(check: &mut Check<'_>, path: &FieldPath, name: &str) {
    let stem = name.strip_suffix('*').unwrap_or(name);
    if name.is_empty() || name.len() > 256 || stem.contains(|c: char| c == '*' || c.is_whitespace() || c.is_control()) {
        check.refuse_with(
            path,
            "expected the name of a model, up to 256 bytes without blanks, or the beginning of one with \"*\" behind it",
            "such as \"gpt-4o\" or \"gpt-*\"",
        );
    }
}

fn check_targets(check: &mut Check<'_>, path: &FieldPath, written: &file::Model, sources: &Sources<'_>) {
    let path = path.key("targets");
    if written.targets.is_empty() {
        check.refuse_with(&path, "expected at least one target", "such as [ { provider: openai } ]");
    }
    for (index, target) in written.targets.iter().enumerate() {
        let own = path.item(index);
        if check.tree.is_told(&own) {
            continue;
        }
        if target.provider.is_empty() {
            check.refuse_with(&own.key("provider"), "provider is needed", "it is one of the names under providers");
        } else if find(sources.providers, &target.provider).is_none() {
            let message = "there is no provider of this name";
            check.refuse_with(&own.key("provider"), message, "it is one of the names under providers");
        }
        if target.model.as_deref().is_some_and(|model| model.is_empty() || model.len() > 256) {
            check.refuse_with(
                &own.key("model"),
                "expected a name of up to 256 bytes",
                "leave it out for the same name",
            );
        }
        check.number(&own.key("weight"), target.weight, 1, 1000);
        let same = |other: &file::Target| (&other.provider, &other.model) == (&target.provider, &target.model);
        if !check.tree.is_told_below(&path) && written.targets[..index].iter().any(same) {
            check.refuse_with(&own, "this target stands twice", "give one of them a larger weight");
        }
    }
}

fn check_fallbacks(
    check: &mut Check<'_>,
    path: &FieldPath,
    name: &str,
    written: &file::Model,
    models: &BTreeMap<String, file::Model>,
) {
    for (index, fallback) in written.fallbacks.iter().enumerate() {
        let path = path.key("fallbacks").item(index);
        if fallback == name {
            check.refuse(&path, "a model cannot be its own fallback");
        } else if fallback.ends_with('*') {
            check.refuse_with(&path, "expected the name of one model", "a name with \"*\" stands for many");
        } else if listed(models, fallback).is_none() {
            check.refuse_with(&path, "there is no model of this name", "list it under models, with its targets");
        } else if written.fallbacks[..index].contains(fallback) {
            check.refuse(&path, "this fallback stands twice");
        }
    }
}

/// Bodies pass as they are, so that all targets have to understand the same ones.
fn check_dialects(check: &mut Check<'_>, path: &FieldPath, name: &str, sources: &Sources<'_>) {
    let dialect = |target: &file::Target| sources.file.providers.get(&target.provider).map(|provider| provider.dialect);
    let models = &sources.file.models;
    let Some(written) = models.get(name) else { return };
    let Some(own) = written.targets.iter().find_map(dialect) else { return };
    let differs = |model: &file::Model, own: Dialect| {
        model.targets.iter().position(|t| dialect(t).is_some_and(|other| other != own))
    };
    let message = "expected targets of one dialect";
    let hint = "requests are passed on as they are, never translated";
    if let Some(index) = differs(written, own) {
        check.refuse_with(&path.key("targets").item(index), message, hint);
    }
    for (index, fallback) in written.fallbacks.iter().enumerate() {
        if listed(models, fallback).is_some_and(|(_, model)| differs(model, own).is_some()) {
            check.refuse_with(&path.key("fallbacks").item(index), message, hint);
        }
    }
}

/// The targets of a name, then those of its fallbacks, each once.
fn flatten(name: &str, sources: &Sources<'_>) -> Vec<Deployment> {
    let mut targets: Vec<Deployment> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![name];
    let mut rank = 0;
    while let Some(name) = waiting.pop() {
        let Some((_, model)) = listed(&sources.file.models, name).filter(|_| seen.insert(name)) else { continue };
        for target in &model.targets {
            let Some(provider) = find(sources.providers, &target.provider) else { continue };
            // A prefix asks for what the client asks for; a fallback that is found by one, for its own name.
            let own = if name.ends_with('*') { None } else { Some(name) };
            let model_name = target.model.as_deref().or(own).map(Arc::from);
            let mut deployment = Deployment::new(Arc::clone(provider), model_name);
            deployment.weight = target.weight;
            deployment.larger_context = target.larger_context;
            deployment.rank = rank;
            if !targets.iter().any(|other| other.is_like(&deployment)) {
                targets.push(deployment);
            }
            rank += u16::from(model.order == Order::Ordered);
        }
        rank += 1;
        waiting.extend(model.fallbacks.iter().rev().map(String::as_str));
    }
    targets
}

/// Where a target's provider lacks a route that another target's has: the first model that is concerned, and how many more.
type Gaps<'f> = BTreeMap<(String, String), (&'f str, usize)>;

fn note_gaps<'f>(gaps: &mut Gaps<'f>, name: &'f str, targets: &[Deployment], routes: &RouteTable) {
    let providers: BTreeSet<&str> = targets.iter().map(|target| target.provider.id.as_str()).collect();
    if providers.len() < 2 {
        return;
    }
    let posts = routes.iter().filter(|route| route.kind == Kind::Json && route.method == Some(Method::POST));
    let offered = posts.filter(|route| providers.contains(route.provider.id.as_str()));
    let offered: BTreeSet<&str> =
        offered.filter_map(|route| route.pattern.get(1 + route.provider.id.as_str().len()..)).collect();
    for provider in &providers {
        for below in &offered {
            let path = format!("/{provider}{below}");
            if !routes.find(&Method::POST, &path).is_some_and(|found| found.route.kind == Kind::Json) {
                let gap = ((*provider).to_owned(), format!("post {below}"));
                gaps.entry(gap).and_modify(|(_, others)| *others += 1).or_insert((name, 0));
            }
        }
    }
}

fn find<'f>(providers: &'f [Arc<Provider>], name: &str) -> Option<&'f Arc<Provider>> {
    providers.iter().find(|provider| provider.id.as_str() == name)
}

/// The entry of a name: its own, or the longest one with `*` that it begins like.
fn listed<'f>(models: &'f BTreeMap<String, file::Model>, name: &str) -> Option<(&'f String, &'f file::Model)> {
    let prefix = |(key, _): &(&String, &file::Model)| key.strip_suffix('*').is_some_and(|stem| name.starts_with(stem));
    models.get_key_value(name).or_else(|| models.iter().filter(prefix).max_by_key(|(key, _)| key.len()))
}
