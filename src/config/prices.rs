//! The price book: the binary's or a file, the operator's own prices over it, and which section prices a provider.
//!
//! Invariant: a book with a problem is refused whole; an entry of the operator's replaces the book's whole.
//! Never does: work out a cost; guess a section from a name that is only alike.

use std::collections::HashSet;
use std::sync::Arc;

use super::compile::Check;
use super::environment::read_bytes;
use super::file;
use super::interpolate::reason;
use super::report::{FieldPath, Problem, shown};
use crate::meter::price::{Fault, Price, PriceBook};
use crate::route::Provider;

/// Files of this size are no price book.
const MAX_BOOK: u64 = 16 << 20;

/// What is read where the binary's book cannot be, which a test keeps from happening.
const BUILT_IN: &str = "built-in prices";

/// Sections of the shipped book by the host of the API: the name itself, and with a dot in front all names below it.
const HOSTS: [(&str, &str); 17] = [
    ("api.openai.com", "openai"),
    (".api.openai.com", "openai"),
    (".openai.azure.com", "azure"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "gemini"),
    ("api.mistral.ai", "mistral"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "xai"),
    (".api.x.ai", "xai"),
    ("api.together.xyz", "together"),
    ("api.together.ai", "together"),
    ("api.fireworks.ai", "fireworks"),
    ("api.cerebras.ai", "cerebras"),
    ("api.perplexity.ai", "perplexity"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
];

/// Reads the book and puts the operator's prices over it. Where something is wrong, which is told, some book.
pub(super) fn read(check: &mut Check<'_>, written: &file::Prices) -> Arc<PriceBook> {
    let book = book(check, written);
    let above = FieldPath::of("prices.models");
    let mut own = Vec::new();
    for (section, models) in &written.models {
        for (model, entry) in &models.0 {
            let path = above.key(section).key(model);
            match Price::new(entry) {
                Ok(price) => own.push((section.clone(), model.clone(), price)),
                Err(faults) => faults.into_iter().for_each(|fault| tell(check, &path, fault)),
            }
        }
    }
    if own.is_empty() { book } else { Arc::new(book.with(own)) }
}

fn tell(check: &mut Check<'_>, entry: &FieldPath, fault: Fault) {
    let path = fault.path.iter().fold(entry.clone(), |path, name| path.key(name));
    // What was taken out because it is wrong is not missing.
    if check.tree.is_told(&path) || check.tree.is_told_below(&path) {
        return;
    }
    let mut problem = check.tree.problem(&path, fault.message);
    problem.hint = fault.hint;
    check.problems.push(problem);
}

fn book(check: &mut Check<'_>, written: &file::Prices) -> Arc<PriceBook> {
    let name = written.file.display().to_string();
    let book = if written.file.as_os_str().is_empty() {
        PriceBook::built_in()
    } else {
        match read_bytes(&check.directory.join(&written.file), MAX_BOOK) {
            Ok(bytes) => PriceBook::parse(&bytes).map(Arc::new),
            Err(error) => {
                let path = FieldPath::of("prices.file");
                check.refuse(&path, format!("the file cannot be read: {}", reason(error.kind())));
                return Arc::default();
            }
        }
    };
    book.unwrap_or_else(|faults| {
        let name = if name.is_empty() { BUILT_IN } else { &name };
        check.problems.extend(faults.into_iter().map(|fault| problem(name, fault)));
        Arc::default()
    })
}

fn problem(file: &str, fault: Fault) -> Problem {
    let mut problem = Problem::of_file(file, fault.message).at(fault.line, fault.column);
    problem.path = fault.path.iter().fold(FieldPath::default(), |path, name| path.key(name)).to_string();
    problem.hint = fault.hint;
    problem
}

/// The section that prices a provider: the one that `priced_as` names, else that of the provider's own name, else that of
/// a well-known host.
pub(super) fn section(
    check: &mut Check<'_>,
    path: &FieldPath,
    provider: &Provider,
    priced_as: Option<&str>,
    book: &PriceBook,
) -> Option<Arc<str>> {
    let id = provider.id.as_str();
    let has = |section: &&str| book.models(section).is_some();
    if let Some(name) = priced_as {
        if !name.is_empty() && !has(&name) {
            let sections = book.sections().into_iter().map(shown).collect::<Vec<_>>().join(", ");
            check.refuse(path, format!("the price book has no such section; it has {sections}"));
        }
        return Some(name).filter(|name| !name.is_empty()).map(Arc::from);
    }
    let of_name = Some(id).filter(has);
    let of_host = section_of(&provider.host).filter(has);
    match (of_name, of_host) {
        (Some(name), Some(host)) if name != host => check.warn(format!(
            "providers.{id} is priced by the section of its name, though its base_url is one of {host}: priced_as says \
             which it is"
        )),
        (None, None) => check.warn(format!(
            "providers.{id} has no prices: what its calls cost is unknown (prices.models.{id} sets them, priced_as names \
             others, and priced_as: \"\" ends this warning)"
        )),
        _ => {}
    }
    of_name.or(of_host).map(Arc::from)
}

fn section_of(host: &str) -> Option<&'static str> {
    let is = |name: &str| if name.starts_with('.') { host.ends_with(name) } else { host == name };
    HOSTS.into_iter().find(|(name, _)| is(name)).map(|(_, section)| section)
}

/// Warns of prices that no provider is charged by: a misspelt section would otherwise be silent.
pub(super) fn warn_of_idle(check: &mut Check<'_>, written: &file::Prices, providers: &[Arc<Provider>]) {
    let used: HashSet<_> = providers.iter().filter_map(|provider| provider.prices.as_deref()).collect();
    for section in written.models.keys().filter(|section| !used.contains(section.as_str())) {
        check.warn(format!("prices.models.{} prices no provider", shown(section)));
    }
}

#[cfg(test)]
mod tests;
