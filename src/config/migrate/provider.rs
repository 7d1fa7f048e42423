//! A provider of the NodeJS gateway as one of ours.
//!
//! Invariant: each route asks the provider for the URL that the NodeJS gateway asked for, or is graded as one that does
//! not.
//! Never does: touch a provider's key; it stays in its variable.

use std::borrow::Cow;
use std::collections::HashSet;

use super::original::{OldProvider, Placed};
use super::{Finding, Grade};
use crate::config::report::Problem;
use crate::config::routes;
use crate::config::upstream::{id_fault, parse_base, prefixes_of};

/// A provider as the YAML is to describe it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewProvider {
    pub(super) id: String,
    pub(super) base_url: String,
    pub(super) version_path: Option<&'static str>,
    /// The variable of its key in the NodeJS gateway.
    pub(super) old_variable: String,
    /// The variable of its key from now on.
    pub(super) variable: String,
    /// Lines of `routes`.
    pub(super) routes: Vec<String>,
}

/// What is told while a provider is carried over.
pub(super) struct Desk<'f> {
    pub(super) file: &'f str,
    pub(super) problems: Vec<Problem>,
    pub(super) findings: Vec<Finding>,
}

impl Desk<'_> {
    pub(super) fn grade<T>(
        &mut self,
        at: &Placed<T>,
        setting: String,
        grade: Grade,
        (becomes, reason): (String, impl Into<Cow<'static, str>>),
    ) {
        let becomes = Some(becomes).filter(|text| !text.is_empty());
        let (line, column) = (at.line, at.column);
        let file = self.file.to_owned();
        self.findings.push(Finding { file, line, column, setting, grade, becomes, reason: reason.into() });
    }

    fn refuse<T>(&mut self, at: &Placed<T>, setting: String, message: &'static str, hint: Option<&'static str>) {
        let mut problem = Problem::of_file(self.file, message).at(at.line, at.column);
        problem.hint = hint.map(Cow::Borrowed);
        problem.path = setting;
        self.problems.push(problem);
    }
}

/// Carries a provider over; `None` where a problem was noted.
pub(super) fn carry_over(desk: &mut Desk<'_>, old: &OldProvider) -> Option<NewProvider> {
    let above = format!("providers.{}", old.id);
    let id = id(desk, &above, &old.name);
    let base = parse_base(&old.base_url.value);
    if let Err(message) = base {
        desk.refuse(&old.base_url, format!("{above}.baseUrl"), message, Some("such as \"https://api.openai.com\""));
    }
    let (id, base) = (id?, base.ok()?);
    let (version_path, exact) = version_path(&base.path, &old.routes);
    let becomes = format!("providers.{id}.base_url");
    match version_path {
        Some(version) => {
            let becomes = format!("{becomes} and version_path: {version:?}");
            let reason = "version_path keeps the provider's paths as they were";
            desk.grade(&old.base_url, format!("{above}.baseUrl"), Grade::Exact, (becomes, reason));
        }
        None => desk.grade(&old.base_url, format!("{above}.baseUrl"), Grade::Exact, (becomes, "")),
    }
    let routes = route_lines(desk, &above, (&id, old), exact);
    if routes.is_empty() {
        desk.refuse(&old.name, format!("{above}.routes"), "none of the routes can be carried over", None);
        return None;
    }
    let stem = old.name.value.to_uppercase();
    Some(NewProvider {
        variable: format!("{}_API_KEY", id.to_ascii_uppercase().replace(['-', '.'], "_")),
        old_variable: format!("{stem}_API_KEY"),
        id,
        base_url: old.base_url.value.trim_end_matches('/').to_owned(),
        version_path,
        routes,
    })
}

fn id(desk: &mut Desk<'_>, above: &str, name: &Placed<String>) -> Option<String> {
    let setting = format!("{above}.name");
    let id = name.value.to_ascii_lowercase();
    if let Some((message, hint)) = id_fault(&id) {
        desk.refuse(name, setting, message, hint);
        return None;
    }
    let becomes = format!("providers.{id}");
    if id == name.value {
        desk.grade(name, setting, Grade::Exact, (becomes, "the first segment of its paths"));
    } else {
        let reason = "names are lower case: change the paths that clients call and the scopes of the key file";
        desk.grade(name, setting, Grade::Manual, (becomes, reason));
    }
    Some(id)
}

/// The `version_path` under which most routes ask for the URL that the NodeJS gateway asked for, which is the base URL,
/// a slash and the path; and which of them do.
fn version_path(base: &str, routes: &[Placed<(String, String)>]) -> (Option<&'static str>, Vec<bool>) {
    let of = |version: Option<&'static str>| {
        let (base_prefix, version_prefix) = prefixes_of(base, version);
        let same = routes.iter().map(|route| {
            let path = format!("/{}", route.value.1);
            let ours = match path.strip_prefix("/v1") {
                Some(rest) if rest.starts_with('/') => format!("{version_prefix}{rest}"),
                _ => format!("{base_prefix}{path}"),
            };
            ours == format!("{base}{path}")
        });
        (version, same.collect::<Vec<bool>>())
    };
    let count = |same: &[bool]| same.iter().filter(|same| **same).count();
    let mut best = of(None);
    for version in ["/v1", ""] {
        let other = of(Some(version));
        if count(&other.1) > count(&best.1) {
            best = other;
        }
    }
    best
}

fn route_lines(desk: &mut Desk<'_>, above: &str, (id, old): (&str, &OldProvider), exact: Vec<bool>) -> Vec<String> {
    let mut lines = Vec::with_capacity(old.routes.len());
    let mut seen = HashSet::new();
    for (index, (route, exact)) in old.routes.iter().zip(exact).enumerate() {
        let (method, path) = &route.value;
        let setting = format!("{above}.routes[{index}]");
        let line = format!("{method} /{path}");
        if let Err((message, _)) = routes::parse(&line) {
            let reason = format!("left out, since a route here cannot be so: {message}");
            desk.grade(route, setting, Grade::Manual, (String::new(), reason));
            continue;
        }
        let becomes = format!("providers.{id}.routes: {line}");
        if !seen.insert(line.clone()) {
            desk.grade(route, setting, Grade::Exact, (String::new(), "stands twice in the file; once is enough"));
            continue;
        }
        if !matches!(method.as_str(), "get" | "post") {
            let reason = "the NodeJS gateway knew get and post only; see whether anybody calls it";
            desk.grade(route, setting, Grade::Manual, (becomes, reason));
        } else if exact {
            desk.grade(route, setting, Grade::Exact, (becomes, ""));
        } else {
            let reason = "a version at the end of base_url is not doubled, so the provider is asked for another path: \
                          see what `ai-gateway check` shows";
            desk.grade(route, setting, Grade::Approximate, (becomes, reason));
        }
        lines.push(line);
    }
    lines
}
