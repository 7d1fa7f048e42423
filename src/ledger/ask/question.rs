//! What is asked: from when to when, by what, and of which calls; read from names and values, as both the command line and
//! the admin API have them.
//!
//! Invariant: names become columns by a closed list, values are bound; no text of a question becomes SQL.
//! Never does: ask.

use std::time::SystemTime;

use rusqlite::types::Value;

use super::span;
use crate::flow::Certainty;
use crate::ledger::row::INTENT;

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// From then on, in microseconds since 1970.
    pub(super) since: Option<i64>,
    /// Up to then, which is not in it.
    pub(super) until: Option<i64>,
    /// What makes a group.
    by: Vec<Dimension>,
    filters: Vec<(Dimension, Vec<String>)>,
}

/// A part of a question that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: expected {expected}")]
pub struct BadParameter {
    /// Its name.
    pub name: String,
    /// What would be right.
    pub expected: String,
}

/// The states of calls.
const STATES: [&str; 5] = [
    INTENT,
    Certainty::Settled.name(),
    Certainty::Estimated.name(),
    Certainty::Failed.name(),
    Certainty::Unknown.name(),
];

/// Values of one filter at most.
const MAX_VALUES: usize = 100;

/// What calls can be told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Whom the key was issued to.
    User,
    /// The key's team.
    Team,
    /// The key's id.
    Key,
    /// Whom the client says that it acts for.
    OnBehalfOf,
    /// The provider.
    Provider,
    /// The model that was asked for.
    Model,
    /// The model that answered.
    AnsweredModel,
    /// Method and pattern of the route.
    Route,
    /// The status that the client got.
    Status,
    /// How sure it is what a call used.
    State,
    /// Why a call was refused or broke.
    Error,
    /// The service tier that the answer names.
    ServiceTier,
    /// The month, UTC.
    Month,
    /// The day, UTC.
    Day,
    /// The hour, UTC.
    Hour,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::User,
        Self::Team,
        Self::Key,
        Self::OnBehalfOf,
        Self::Provider,
        Self::Model,
        Self::AnsweredModel,
        Self::Route,
        Self::Status,
        Self::State,
        Self::Error,
        Self::ServiceTier,
        Self::Month,
        Self::Day,
        Self::Hour,
    ];

    /// Its name in questions and answers.
    pub fn name(self) -> &'static str {
        self.row().0
    }

    /// The expression that tells it, which is a text or NULL.
    pub(super) fn sql(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (&'static str, &'static str) {
        match self {
            Self::User => ("user", "user"),
            Self::Team => ("team", "team"),
            Self::Key => ("key", "key_id"),
            Self::OnBehalfOf => ("on_behalf_of", "on_behalf_of"),
            Self::Provider => ("provider", "provider"),
            Self::Model => ("model", "model"),
            Self::AnsweredModel => ("answered_model", "answered_model"),
            Self::Route => ("route", "(method || ' ' || route)"),
            Self::Status => ("status", "CAST(status AS TEXT)"),
            Self::State => ("state", "state"),
            Self::Error => ("error", "error"),
            Self::ServiceTier => ("service_tier", "service_tier"),
            Self::Month => ("month", "strftime('%Y-%m', started_us / 1000000, 'unixepoch')"),
            Self::Day => ("day", "strftime('%Y-%m-%d', started_us / 1000000, 'unixepoch')"),
            Self::Hour => ("hour", "strftime('%Y-%m-%dT%H:00Z', started_us / 1000000, 'unixepoch')"),
        }
    }

    pub(super) fn is_time(self) -> bool {
        matches!(self, Self::Month | Self::Day | Self::Hour)
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.name() == name)
    }
}

impl Question {
    /// Adds a part: `since`, `until`, `by`, or a filter. A filter that comes several times wants any of its values; an
    /// empty one stands for calls that have none.
    ///
    /// # Errors
    /// Where the name or the value is none that can be used.
    pub fn with(mut self, name: &str, value: &str, now: SystemTime) -> Result<Self, BadParameter> {
        let bad = |expected: String| BadParameter { name: name.to_owned(), expected };
        match name {
            "since" => self.since = Some(span::moment(value, now).ok_or_else(|| bad(span::EXPECTED.to_owned()))?),
            "until" => self.until = Some(span::moment(value, now).ok_or_else(|| bad(span::EXPECTED.to_owned()))?),
            "by" => {
                let names = Dimension::ALL.map(Dimension::name).join(", ");
                for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                    let dimension = Dimension::named(name).ok_or_else(|| bad(format!("some of {names}")))?;
                    if !self.by.contains(&dimension) {
                        self.by.push(dimension);
                    }
                }
            }
            _ => match Dimension::named(name) {
                None => return Err(bad("to be left out: there is no such parameter".to_owned())),
                Some(dimension) if dimension.is_time() => return Err(bad("since and until in its place".to_owned())),
                Some(Dimension::Status) if class(value).is_none() && value.parse::<u16>().is_err() => {
                    return Err(bad("a status such as 429, or a class such as 4xx".to_owned()));
                }
                Some(Dimension::State) if !STATES.contains(&value) => {
                    return Err(bad(format!("one of {}", STATES.join(", "))));
                }
                Some(dimension) => match self.filters.iter_mut().find(|(other, _)| *other == dimension) {
                    Some((_, values)) if values.len() >= MAX_VALUES => {
                        return Err(bad(format!("at most {MAX_VALUES} values")));
                    }
                    Some((_, values)) => values.push(value.to_owned()),
                    None => self.filters.push((dimension, vec![value.to_owned()])),
                },
            },
        }
        if self.since.zip(self.until).is_some_and(|(since, until)| since > until) {
            let expected = "a moment before until (where it is left out, it is 30 days ago)".to_owned();
            return Err(BadParameter { name: "since".to_owned(), expected });
        }
        Ok(self)
    }

    /// What makes a group; empty where single calls are asked for.
    pub fn by(&self) -> &[Dimension] {
        &self.by
    }

    /// The span as told in answers: from and to, where they are given.
    pub fn span(&self) -> [Option<String>; 2] {
        [self.since, self.until].map(|end| end.map(span::told))
    }

    /// The condition, and the values in it.
    pub(super) fn condition(&self) -> (String, Vec<Value>) {
        let mut parts = vec!["TRUE".to_owned()];
        let mut values = Vec::new();
        for (end, operator) in [(self.since, ">="), (self.until, "<")] {
            if let Some(end) = end {
                parts.push(format!("started_us {operator} ?"));
                values.push(Value::Integer(end));
            }
        }
        for (dimension, wanted) in &self.filters {
            let (mut any, mut exact) = (Vec::new(), Vec::new());
            for value in wanted {
                match (dimension, class(value)) {
                    (Dimension::Status, Some(class)) => any.push(format!("status BETWEEN {class}00 AND {class}99")),
                    _ if value.is_empty() => any.push(format!("coalesce({}, '') = ''", dimension.sql())),
                    _ => {
                        values.push(Value::Text(value.clone()));
                        exact.push("?");
                    }
                }
            }
            if !exact.is_empty() {
                any.push(format!("{} IN ({})", dimension.sql(), exact.join(", ")));
            }
            any.sort_unstable();
            any.dedup();
            parts.push(format!("({})", any.join(" OR ")));
        }
        (parts.join(" AND "), values)
    }
}

/// The first digit of a class of statuses: 4 of `4xx`.
fn class(value: &str) -> Option<u8> {
    let first = value.strip_suffix("xx")?.parse().ok()?;
    (1..=5).contains(&first).then_some(first)
}
