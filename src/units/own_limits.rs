//! The limits of somebody as a whole: of all their calls, and of their calls for single models beside that.
//!
//! Invariant: they are written as they are read.
//! Never does: count anything; say whose they are.

use std::collections::BTreeMap;
use std::fmt;

use super::Limits;

/// The limits of a key, a user or a team.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct OwnLimits {
    /// Of all calls together.
    pub all: Limits,
    /// Of the calls that ask for a model, by its name. They count for `all`, too.
    pub models: BTreeMap<String, Limits>,
}

impl OwnLimits {
    /// Tells whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.each().all(Limits::is_empty)
    }

    /// Each set of limits.
    pub fn each(&self) -> impl Iterator<Item = &Limits> {
        std::iter::once(&self.all).chain(self.models.values())
    }

    /// Those of all calls, or those of the calls for one model.
    pub fn of(&self, model: Option<&str>) -> Option<&Limits> {
        match model {
            Some(model) => self.models.get(model),
            None => Some(&self.all),
        }
    }

    /// Takes in one limit as the command line spells it: as [`Limits::set`], with the model in front where it is of its calls
    /// alone: `gpt-4o:usd/month=20`. A model's own name may hold colons.
    ///
    /// # Errors
    /// What is wrong with it; never the text itself.
    pub fn set(&mut self, text: &str) -> Result<(), &'static str> {
        let Some((model, limit)) = text.rsplit_once(':') else { return self.all.set(text) };
        if !is_model(model) {
            return Err(MODEL);
        }
        let mut limits = self.models.get(model).cloned().unwrap_or_default();
        limits.set(limit)?;
        self.models.insert(model.to_owned(), limits);
        Ok(())
    }
}

/// Tells whether limits can be for a model of this name: one name, which is never cut in records, and no beginning of names.
pub fn is_model(name: &str) -> bool {
    (1..=MOST).contains(&name.len()) && !name.contains('*') && !name.contains(char::is_control)
}

/// Bytes of a model's name.
const MOST: usize = 256;
const MODEL: &str = "expected MODEL:LIMIT, where MODEL is the whole name of a model, without a *";

impl fmt::Display for OwnLimits {
    /// As `keys create --limit` takes them, with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all: Vec<String> = Vec::new();
        all.extend(Some(self.all.to_string()).filter(|text| !text.is_empty()));
        for (model, limits) in &self.models {
            all.extend(limits.spelt().map(|limit| format!("{model}:{limit}")));
        }
        f.write_str(&all.join(", "))
    }
}

impl fmt::Debug for OwnLimits {
    /// Without names: what was meant for another field may have slipped among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.each()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_models_are_written_as_they_are_read() {
        let texts = ["requests_per_minute=60", "ft:gpt-4o:acme::7:usd/month=5", "gpt-4o:tokens/day=9", "gpt-4o:shadow"];
        let mut limits = OwnLimits::default();
        assert!(limits.is_empty());
        texts.iter().try_for_each(|text| limits.set(text)).expect("limits");
        assert_eq!(limits.to_string(), texts.join(", "));
        assert_eq!(limits.models["ft:gpt-4o:acme::7"].to_string(), "usd/month=5");
        assert!(limits.models["gpt-4o"].shadow && !limits.all.shadow);
        assert!(!format!("{limits:?}").contains("acme"));
    }

    #[test]
    fn what_names_no_model_is_refused() {
        let mut limits = OwnLimits::default();
        for text in [":usd/month=5", "gpt-*:usd/month=5", "a\nb:usd/day=1"] {
            assert_eq!(limits.set(text), Err(MODEL), "{text}");
        }
        assert!(limits.set("gpt-4o:usd/year=5").is_err() && limits.models.is_empty());
        limits.set("gpt-4o:usd/day=5").expect("a limit");
        assert!(limits.set("gpt-4o:usd/day=6").is_err(), "twice");
    }
}
