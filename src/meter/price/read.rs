//! From the text of `prices.json` to entries, with the place of all that is wrong.
//!
//! Invariant: a name that stands twice or is not known is refused; all entries are looked at before any fault is told.
//! Never does: any IO.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_path_to_error::Segment;

use super::entry::{Entry, only};
use super::fault::Fault;
use super::model::Price;

/// What a book holds.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) as_of: String,
    /// Section, model, price; each pair once.
    pub(super) prices: Vec<(String, String, Price)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'t> {
    as_of: Cow<'t, str>,
    currency: Cow<'t, str>,
    unit: Cow<'t, str>,
    /// Where the figures come from, for people.
    #[serde(default, rename = "source")]
    _source: Cow<'t, str>,
    #[serde(borrow)]
    providers: Members<'t, Members<'t, &'t RawValue>>,
}

/// The members of an object as they stand there.
struct Members<'t, T>(Vec<(Cow<'t, str>, T)>);

struct MembersVisitor<'t, T>(PhantomData<(&'t str, T)>);

impl<'de: 't, 't, T: Deserialize<'de>> Visitor<'de> for MembersVisitor<'t, T> {
    type Value = Members<'t, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry()? {
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

impl<'de: 't, 't, T: Deserialize<'de>> Deserialize<'de> for Members<'t, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'t>(#[serde(borrow)] Cow<'t, str>);

#[derive(Deserialize)]
#[serde(transparent)]
struct OnlyEntry(#[serde(deserialize_with = "only")] Entry);

const UNIT: &str = "per 1,000,000 tokens, decimal strings";

/// Reads a book.
pub(super) fn read(text: &str) -> Result<Written, Vec<Fault>> {
    let document: Document<'_> = parse(text).map_err(|fault| vec![placed(text, fault)])?;
    let mut faults = header_faults(&document);
    let (mut prices, mut sections) = (Vec::new(), HashSet::new());
    for (section, models) in &document.providers.0 {
        if !sections.insert(section) {
            faults.push(Fault::new(&["providers", section], "this section stands twice").hint("keep one of them"));
        }
        let mut names = HashSet::new();
        for (model, raw) in &models.0 {
            let path = ["providers", section, model];
            if !names.insert(model) {
                faults.push(Fault::new(&path, "this model stands twice").hint("keep one of them"));
            }
            let price = parse::<OnlyEntry>(raw.get()).map_err(|fault| vec![fault]);
            match price.and_then(|OnlyEntry(entry)| Price::new(&entry)) {
                Ok(price) => prices.push((section.clone().into_owned(), model.clone().into_owned(), price)),
                Err(found) => faults.extend(found.into_iter().map(|fault| fault.below(&path))),
            }
        }
    }
    if faults.is_empty() {
        return Ok(Written { as_of: document.as_of.into_owned(), prices });
    }
    Err(faults.into_iter().map(|fault| placed(text, fault)).collect())
}

fn header_faults(document: &Document<'_>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let as_of = &document.as_of;
    if !(4..=10).contains(&as_of.len()) || !as_of.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        faults.push(Fault::new(&["as_of"], "expected a date such as \"2026-11\" or \"2026-11-30\""));
    }
    if document.currency != "USD" {
        faults.push(Fault::new(&["currency"], "expected \"USD\""));
    }
    if document.unit != UNIT {
        faults.push(Fault::new(&["unit"], format!("expected \"{UNIT}\"")));
    }
    faults
}

/// Reads a piece of the text. Only where that fails it is read again in a way that knows the field.
fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, Fault> {
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let names = error.path().iter().filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let (path, inner) = (names.collect::<Vec<_>>(), error.inner());
        let mut fault = told(inner);
        if inner.is_data() {
            fault.path = path;
        } else {
            fault = fault.at(place(inner));
        }
        fault
    })?;
    deserializer.end().map(|()| value).map_err(|error| told(&error).at(place(&error)))
}

/// Where the parser stood.
fn place(error: &serde_json::Error) -> (usize, usize) {
    (error.line(), error.column().max(1))
}

/// The parser's words but for those that it quotes from the text: what was expected stands behind them.
fn told(error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = text.strip_suffix(&place).unwrap_or(&text);
    let plain = |text: &str| text.replace('`', "\"");
    if !error.is_data() {
        return Fault::new(&[], format!("this is not JSON: {text}"));
    }
    let quoted = |begin: &str| text.strip_prefix(begin)?.split('`').next();
    if text.starts_with("unknown field") {
        let known = text.rsplit_once(", expected ").map_or("", |(_, known)| known.trim_start_matches("one of "));
        return Fault::new(&[], "unknown field").hint(format!("there are {}", known.replace('`', "")));
    }
    if let Some(name) = quoted("missing field `") {
        return Fault::new(&[], format!("{name} is needed"));
    }
    if let Some(name) = quoted("duplicate field `") {
        return Fault::new(&[], format!("the field {name} stands twice")).hint("keep one of them");
    }
    match text.rsplit_once(", expected ") {
        Some((_, "u64")) => Fault::new(&[], "expected a whole number"),
        Some((_, "a sequence")) => Fault::new(&[], "expected a list"),
        Some((_, "a string")) => Fault::new(&[], "expected a text"),
        Some((_, what)) if what.starts_with("struct ") || what == "a map" => Fault::new(&[], "expected a mapping"),
        Some((_, what)) => Fault::new(&[], format!("expected {}", plain(what))),
        None => Fault::new(&[], "not a value that this field takes"),
    }
}

/// Puts a fault at its field, or at the last of the names to it that are there.
fn placed(text: &str, fault: Fault) -> Fault {
    if fault.line > 0 {
        return fault;
    }
    let mut at = text.trim_start();
    for name in &fault.path {
        let Some(next) = member(at, name) else {
            break;
        };
        at = next;
    }
    let offset = (at.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let lines = before.matches('\n').count();
    fault.at((lines + 1, before[line_start..].chars().count() + 1))
}

/// A member of an object or an item of an array; of several the last, which is the one that is too many.
fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let found = match serde_json::from_str::<Members<'t, &'t RawValue>>(text) {
        Ok(Members(members)) => members.into_iter().rfind(|(own, _)| own == name).map(|(_, value)| value),
        Err(_) => serde_json::from_str::<Vec<&'t RawValue>>(text).ok()?.get(name.parse::<usize>().ok()?).copied(),
    };
    found.map(RawValue::get)
}
