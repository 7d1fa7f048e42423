//! What an entry of the key file may say of limits: `limits`, and `default_max_output_tokens`.
//!
//! Invariant: what is written and cannot be enforced as it stands is a problem; nothing is ignored.
//! Never does: repeat a value in a problem.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::fields::{DEFAULT_MAX_OUTPUT_TOKENS, Fields, LIMITS};
use super::read::Reader;
use crate::keys::Allowance;
use crate::keys::json::{is_null, items, members, nearest, string};
use crate::units::{Amount, Budget, Limits, OwnLimits, Per, is_limitable_model};

const NAMES: [&str; 6] =
    ["requests_per_minute", "tokens_per_minute", "concurrent_requests", "budgets", "shadow", "models"];
const OF_BUDGET: [&str; 3] = ["usd", "tokens", "per"];
const COUNT: &str = "expected a whole number of at least 1";
const MONEY: &str = "expected an amount in USD such as 12.5, more than 0 and up to 1000000000";
const EXAMPLE: &str = r#"{"requests_per_minute": 60, "budgets": [{"usd": 100, "per": "month"}]}"#;

impl<'t> Reader<'t> {
    pub(super) fn allowance(&mut self, fields: &Fields<'t>) -> Arc<Allowance> {
        if fields.get(LIMITS).is_none() && fields.get(DEFAULT_MAX_OUTPUT_TOKENS).is_none() {
            return Arc::clone(&self.no_allowance);
        }
        let default_max_output_tokens = fields.get(DEFAULT_MAX_OUTPUT_TOKENS).and_then(|value| {
            let tokens = count(value);
            if tokens.is_none() {
                self.note(value.get(), fields.sub(DEFAULT_MAX_OUTPUT_TOKENS), COUNT, None);
            }
            tokens
        });
        let limits = fields.get(LIMITS).map(|value| self.own_limits(value, &fields.sub(LIMITS))).unwrap_or_default();
        Arc::new(Allowance { limits, default_max_output_tokens })
    }

    fn own_limits(&mut self, value: &'t RawValue, path: &str) -> OwnLimits {
        let members = self.members_of(value, path, &NAMES, EXAMPLE);
        let (models, members): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| *name == "models");
        let mut own = OwnLimits { all: self.limits(members, path), ..OwnLimits::default() };
        for (_, value) in models {
            self.limited_models(value, &format!("{path}.models"), &mut own);
        }
        own
    }

    fn limited_models(&mut self, value: &'t RawValue, path: &str, own: &mut OwnLimits) {
        let Ok(models) = members(value.get()) else {
            self.note(value.get(), path.to_owned(), "expected an object", Some(r#"{"gpt-4o": {"budgets": []}}"#));
            return;
        };
        for (index, model) in models.into_iter().enumerate() {
            // A name may be what was meant to be a value.
            let path = format!("{path}[{index}]");
            if !is_limitable_model(&model.name) {
                self.note(model.value.get(), path, "expected the whole name of a model, without a *", None);
                continue;
            }
            let members = self.members_of(model.value, &path, &NAMES[..NAMES.len() - 1], EXAMPLE);
            let limits = self.limits(members, &path);
            if own.models.insert(model.name.into(), limits).is_some() {
                self.note(model.value.get(), path, "this model stands twice", None);
            }
        }
    }

    fn limits(&mut self, members: Vec<(&'static str, &'t RawValue)>, path: &str) -> Limits {
        let mut limits = Limits::default();
        for (name, value) in members {
            let path = format!("{path}.{name}");
            let field = match name {
                "requests_per_minute" => &mut limits.requests_per_minute,
                "tokens_per_minute" => &mut limits.tokens_per_minute,
                "concurrent_requests" => &mut limits.concurrent_requests,
                "budgets" => {
                    self.budgets(value, &path, &mut limits);
                    continue;
                }
                _ => {
                    match serde_json::from_str(value.get()) {
                        Ok(shadow) => limits.shadow = shadow,
                        Err(_) => self.note(value.get(), path, "expected true or false", None),
                    }
                    continue;
                }
            };
            *field = count(value);
            if field.is_none() {
                self.note(value.get(), path, COUNT, None);
            }
        }
        limits
    }

    fn budgets(&mut self, value: &'t RawValue, path: &str, limits: &mut Limits) {
        let Some(items) = items(value) else {
            self.note(value.get(), path.to_owned(), "expected a list of budgets", Some(EXAMPLE));
            return;
        };
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Some(budget) = self.budget(item, &path)
                && let Err(twice) = limits.add(budget)
            {
                self.note(item.get(), path, twice, None);
            }
        }
    }

    fn budget(&mut self, item: &'t RawValue, path: &str) -> Option<Budget> {
        let (mut amounts, mut per, mut wrong) = (Vec::new(), None, false);
        for (name, value) in self.members_of(item, path, &OF_BUDGET, EXAMPLE) {
            let expected = match name {
                "usd" => {
                    amounts.push(money(value).map(Amount::Usd));
                    amounts.last().is_some_and(Option::is_none).then_some(MONEY)
                }
                "tokens" => {
                    amounts.push(count(value).map(Amount::Tokens));
                    amounts.last().is_some_and(Option::is_none).then_some(COUNT)
                }
                _ => {
                    per = string(value).and_then(|name| Per::named(&name));
                    per.is_none().then_some("expected \"day\", \"week\", \"month\" or \"total\"")
                }
            };
            if let Some(expected) = expected {
                self.note(value.get(), format!("{path}.{name}"), expected, None);
                wrong = true;
            }
        }
        match (&amounts[..], per) {
            ([Some(amount)], Some(per)) => Some(Budget { amount: *amount, per }),
            _ => {
                if !wrong {
                    let message = "expected usd or tokens, one of them, and per";
                    self.note(item.get(), path.to_owned(), message, Some(r#"{"usd": 100, "per": "month"}"#));
                }
                None
            }
        }
    }

    /// The members of an object that are known and not null, each once; what else is there is noted.
    fn members_of(
        &mut self,
        value: &'t RawValue,
        path: &str,
        known: &[&'static str],
        example: &str,
    ) -> Vec<(&'static str, &'t RawValue)> {
        let Ok(members) = members(value.get()) else {
            self.note(value.get(), path.to_owned(), "expected an object", Some(example));
            return Vec::new();
        };
        let mut found: Vec<(&'static str, &'t RawValue)> = Vec::new();
        for member in members {
            match known.iter().find(|known| **known == member.name) {
                Some(name) if found.iter().any(|(other, _)| other == name) => {
                    self.note(member.value.get(), format!("{path}.{name}"), "this field stands twice", None);
                }
                Some(name) => found.push((*name, member.value)),
                None => {
                    let hint = match nearest(&member.name, known) {
                        Some(known) => format!("did you mean {known}?"),
                        None => format!("there are {}", known.join(", ")),
                    };
                    self.note(member.value.get(), path.to_owned(), "unknown field in here", Some(&hint));
                }
            }
        }
        found.retain(|(_, value)| !is_null(value));
        found
    }
}

fn count(value: &RawValue) -> Option<u64> {
    value.get().parse().ok().filter(|count| *count > 0)
}

/// A number, or a text that holds one.
fn money(value: &RawValue) -> Option<crate::units::Usd> {
    match string(value) {
        Some(text) => Limits::money(&text),
        None => Limits::money(value.get()),
    }
}
