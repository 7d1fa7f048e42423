//! The price book: what the tokens of each provider's models cost, and the version that a record names.
//!
//! Invariant: a model is priced by an entry with its name, or one that says that it stands for such names; nothing is
//! guessed, and what is not known is `None`, never 0.
//! Never does: any IO; choose the section of a provider, which is `config`'s.

mod entry;
mod fault;
mod model;
mod read;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock};

use foldhash::fast::RandomState;
use sha2::{Digest, Sha256};

use entry::Cover;
pub use entry::{ByTokens, Entries, Entry, Mode, Rate, Rates};
pub use fault::Fault;
pub use model::Price;

/// Prices by section and model. A section is what one provider charges: `openai`, `azure`.
#[derive(Clone, Default)]
pub struct PriceBook {
    as_of: String,
    version: Arc<str>,
    sections: HashMap<String, Models, RandomState>,
}

type Models = HashMap<String, Arc<Price>, RandomState>;

/// The book that the binary brings.
const SHIPPED: &str = include_str!("../../conf/prices.json");

static BUILT_IN: LazyLock<Result<Arc<PriceBook>, Vec<Fault>>> =
    LazyLock::new(|| PriceBook::parse(SHIPPED.as_bytes()).map(Arc::new));

impl PriceBook {
    /// The book that the binary brings, `conf/prices.json`. It is read once.
    ///
    /// # Errors
    /// None; a test reads it.
    pub fn built_in() -> Result<Arc<Self>, Vec<Fault>> {
        BUILT_IN.clone()
    }

    /// Reads a book in the format of `conf/prices.json`.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<Fault>> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            vec![Fault::new(&[], "not UTF-8 text from here").at((before.matches('\n').count() + 1, column))]
        })?;
        let written = read::read(text)?;
        let mut sections: HashMap<String, Models, RandomState> = HashMap::default();
        for (section, model, price) in written.prices {
            sections.entry(section).or_default().insert(model, Arc::new(price));
        }
        Ok(Self { version: version(&written.as_of, &sections), as_of: written.as_of, sections })
    }

    /// The same book with these prices in place of its own, or beside them: section, model, price.
    #[must_use]
    pub fn with(&self, own: impl IntoIterator<Item = (String, String, Price)>) -> Self {
        let mut sections = self.sections.clone();
        for (section, model, price) in own {
            sections.entry(section).or_default().insert(model, Arc::new(price));
        }
        Self { version: version(&self.as_of, &sections), as_of: self.as_of.clone(), sections }
    }

    /// Names the book by its date and all that it holds: two books of one version have the same prices.
    pub fn version(&self) -> &Arc<str> {
        &self.version
    }

    /// Finds the price of a model in a section.
    pub fn find(&self, section: &str, model: &str) -> Option<&Price> {
        let models = self.sections.get(section)?;
        let covered = |name: &str, cover| models.get(name).filter(|price| price.covers(cover));
        let price = models.get(model).or_else(|| {
            let snapshot = family_of_snapshot(model).and_then(|name| covered(name, Cover::Snapshots));
            snapshot.or_else(|| covered(base_of_fine_tune(model)?, Cover::FineTunes))
        });
        price.map(AsRef::as_ref)
    }

    /// How many models a section prices; `None` where there is no such section.
    pub fn models(&self, section: &str) -> Option<usize> {
        self.sections.get(section).map(HashMap::len)
    }

    /// The names of all sections in alphabetical order.
    pub fn sections(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.sections.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

impl fmt::Debug for PriceBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PriceBook({})", self.version)
    }
}

/// The name without the date of a snapshot: `-2026-11-30` as OpenAI writes it, `-20261130` as Anthropic does.
fn family_of_snapshot(model: &str) -> Option<&str> {
    let cut = |length: usize| {
        let (name, date) = model.split_at_checked(model.len().checked_sub(length)?)?;
        Some((name.strip_suffix('-')?, date))
    };
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let is_date = |year: &str, month: &str, day: &str| {
        [year, month, day].iter().all(|part| part.bytes().all(is_digit))
            && ("01"..="12").contains(&month)
            && ("01"..="31").contains(&day)
    };
    let long = |date: &str| {
        let (year, rest) = date.split_once('-')?;
        let (month, day) = rest.split_once('-')?;
        (year.len() == 4 && month.len() == 2 && is_date(year, month, day)).then_some(())
    };
    let short = |date: &str| is_date(date.get(..4)?, date.get(4..6)?, date.get(6..)?).then_some(());
    let dashed = cut(10).filter(|(_, date)| long(date).is_some());
    dashed.or_else(|| cut(8).filter(|(_, date)| short(date).is_some())).map(|(name, _)| name)
}

/// `ft:gpt-4o-2024-08-06` of `ft:gpt-4o-2024-08-06:organisation:suffix:id`, as OpenAI names fine-tuned models.
fn base_of_fine_tune(model: &str) -> Option<&str> {
    let base = model.strip_prefix("ft:")?.split_once(':')?.0;
    model.get(.."ft:".len() + base.len())
}

/// The date and the beginning of a hash over all prices in order.
fn version(as_of: &str, sections: &HashMap<String, Models, RandomState>) -> Arc<str> {
    let mut text = String::new();
    let sections: BTreeMap<_, _> = sections.iter().collect();
    for (section, models) in sections {
        let models: BTreeMap<_, _> = models.iter().collect();
        for (model, price) in models {
            text.push_str(&format!("{section:?} {model:?}\n"));
            price.describe(&mut text);
        }
    }
    let hash = Sha256::digest(text.as_bytes());
    let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{as_of}-{hash}").into()
}

#[cfg(test)]
mod tests;
