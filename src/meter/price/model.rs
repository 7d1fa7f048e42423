//! The price of a model: which table holds for a call, and what the call cost.
//!
//! Invariant: a cost is exact, or it is not known; it is never a guess.
//! Never does: find the model; that is the book.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::entry::{Cover, Entry, Mode, Rates};
use super::fault::Fault;
use super::table::Table;
use crate::units::{Usage, Usd};

/// What a model's calls cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    usual: Tier,
    tiers: Vec<(Box<str>, Tier)>,
    covers: Vec<Cover>,
    max_input_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    mode: Option<Mode>,
}

/// Prices of a service tier.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tier {
    table: Table,
    /// The same where the whole input is more than so many tokens, fewest first.
    above: Vec<(u64, Table)>,
}

/// What providers call the tier that has no price of its own. OpenAI: `default` (`auto` asks for whichever; an answer names
/// what it was), Anthropic: `standard` (`standard_only` asks for it), Groq: `on_demand`. From their API references, 2026-11.
const USUAL: [&str; 6] = ["", "default", "standard", "standard_only", "auto", "on_demand"];

impl Price {
    /// Makes a price of what is written.
    ///
    /// # Errors
    /// All that does not fit together, by the field within the entry.
    pub fn new(entry: &Entry) -> Result<Self, Vec<Fault>> {
        let has_output = !entry.mode.is_some_and(Mode::has_no_output);
        let mut check = Check { faults: Vec::new(), usual: &entry.usd_per_million_tokens, has_output };
        check.usual();
        let table = Table::base(check.usual);
        let above = check.above(&["above_input_tokens"], &entry.above_input_tokens, &table);
        let usual = Tier { table, above };
        let mut tiers = Vec::new();
        for (name, rates) in &entry.service_tiers {
            let above = entry.service_tiers_above_input_tokens.get(name).map(|by| &by.0);
            tiers.push((name.as_str().into(), check.tier(name, rates, above, &usual)));
        }
        for name in entry.service_tiers_above_input_tokens.keys() {
            if !entry.service_tiers.contains_key(name) {
                check.fault(&[COMBINED, name], "expected the name of a tier that service_tiers has too");
            }
        }
        let mut covers: Vec<_> = entry.covers.iter().filter_map(|name| Cover::named(name)).collect();
        if covers.len() < entry.covers.len() {
            check.fault(&["covers"], "expected a list of \"snapshots\" and \"fine_tunes\", of one or both");
        }
        covers.sort_unstable();
        covers.dedup();
        if !check.faults.is_empty() {
            return Err(check.faults);
        }
        let (max_input_tokens, max_output_tokens) = (entry.max_input_tokens, entry.max_output_tokens);
        Ok(Self { usual, tiers, covers, max_input_tokens, max_output_tokens, mode: entry.mode })
    }

    /// What a call cost, exactly; `None` where that is not known. `service_tier` is what the answer says of itself: without
    /// one, or with the name of a usual one, the usual prices hold, and a tier that is not priced has no known cost. Where
    /// the whole input passes a number of tokens that has prices of its own, all tokens of the call cost those.
    /// Audio that is charged by time has no known cost.
    pub fn cost(&self, usage: &Usage, service_tier: Option<&str>) -> Option<Usd> {
        if usage.audio_ms > 0 {
            return None;
        }
        self.tier(service_tier)?.table_for(usage.input).cost(usage)
    }

    /// Whether it is known what a call of this service tier costs.
    pub fn has_tier(&self, name: &str) -> bool {
        self.tier(Some(name)).is_some()
    }

    /// The most that a call can cost with so many tokens of input and of output at most, whatever their kinds and its
    /// service tier. Holds for each call whose cost is known, where no part of its usage is more than the whole.
    pub fn worst(&self, input: u64, output: u64) -> Usd {
        let tiers = std::iter::once(&self.usual).chain(self.tiers.iter().map(|(_, tier)| tier));
        let tables = tiers.flat_map(|tier| tier.tables_up_to(input)).map(Table::dearest);
        let [input_price, output_price] = tables.fold([0, 0], |[a, b], [c, d]| [a.max(c), b.max(d)]);
        let all = |price: u64, count| Usd::from_picos(price.into()).times(count);
        all(input_price, input).plus(all(output_price, output))
    }

    /// Most tokens of input, where the book says so.
    pub fn max_input_tokens(&self) -> Option<u64> {
        self.max_input_tokens
    }

    /// Most tokens of output, where the book says so.
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.max_output_tokens
    }

    /// What the model is for, where the book says so.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// Tells whether the entry stands for such names too.
    pub(super) fn covers(&self, cover: Cover) -> bool {
        self.covers.contains(&cover)
    }

    /// Writes all that makes a difference, for the version of a book.
    pub(super) fn describe(&self, text: &mut String) {
        let mut tier = |name: &str, tier: &Tier| {
            let tables = std::iter::once((0, &tier.table)).chain(tier.above.iter().map(|(over, table)| (*over, table)));
            for (over, table) in tables {
                // Writing to a text does not fail.
                let _ = write!(text, "{name}>{over}");
                for price in table.prices() {
                    let _ = match price {
                        Some(price) => write!(text, " {price}"),
                        None => write!(text, " ?"),
                    };
                }
                text.push('\n');
            }
        };
        tier("", &self.usual);
        self.tiers.iter().for_each(|(name, table)| tier(name, table));
        let (input, output) = (self.max_input_tokens, self.max_output_tokens);
        let _ = writeln!(text, "{:?} {input:?} {output:?} {:?}", self.covers, self.mode);
    }

    fn tier(&self, name: Option<&str>) -> Option<&Tier> {
        let name = name.unwrap_or_default();
        match self.tiers.iter().find(|(own, _)| **own == *name) {
            Some((_, tier)) => Some(tier),
            None => USUAL.contains(&name).then_some(&self.usual),
        }
    }
}

impl Tier {
    /// The prices of a call with so much input, cache included: "a prompt of more than 200k tokens" is one whose input as a
    /// whole is more, and all its tokens are then charged so, those of the answer too (Anthropic's page on pricing, "Long
    /// context pricing"; Google's, "prompts > 200k tokens"; OpenAI's, "prompts with > 272K input tokens ... for the full
    /// session"; 2026-11).
    fn table_for(&self, input: u64) -> &Table {
        let passed = self.above.iter().rev().find(|(tokens, _)| input > *tokens);
        passed.map_or(&self.table, |(_, table)| table)
    }

    /// The prices that a call with at most so much input can meet.
    fn tables_up_to(&self, input: u64) -> impl Iterator<Item = &Table> {
        let passed = self.above.iter().filter(move |(tokens, _)| input > *tokens);
        std::iter::once(&self.table).chain(passed.map(|(_, table)| table))
    }
}

/// Collects what is wrong with an entry.
struct Check<'e> {
    faults: Vec<Fault>,
    usual: &'e Rates,
    has_output: bool,
}

const COMBINED: &str = "service_tiers_above_input_tokens";

impl Check<'_> {
    fn fault(&mut self, path: &[&str], message: &'static str) {
        self.faults.push(Fault::new(path, message));
    }

    fn usual(&mut self) {
        if self.usual.input.is_none() {
            self.fault(&["usd_per_million_tokens"], "input is needed");
        }
        if self.usual.output.is_none() && self.has_output {
            let fault = Fault::new(&["usd_per_million_tokens"], "output is needed");
            self.faults.push(fault.hint("unless mode is embedding, rerank or moderation"));
        }
    }

    /// What has prices of its own needs the price of all that is not told apart.
    fn special(&mut self, path: &[&str], rates: &Rates) {
        if rates.input.is_none() && self.usual.input.is_some() {
            self.fault(path, "input is needed");
        }
        if rates.output.is_none() && self.usual.output.is_some() && self.has_output {
            self.fault(path, "output is needed");
        }
    }

    fn above(&mut self, path: &[&str], written: &BTreeMap<String, Rates>, usual: &Table) -> Vec<(u64, Table)> {
        let mut above = Vec::new();
        for (text, rates) in written {
            let path = [path, &[text.as_str()]].concat();
            match text.parse::<u64>() {
                Ok(tokens) if tokens > 0 && tokens.to_string() == *text => {
                    self.special(&path, rates);
                    above.push((tokens, Table::special(rates, usual)));
                }
                _ => self.fault(&path, "expected a whole number of tokens, more than 0, in plain digits"),
            }
        }
        above.sort_by_key(|(tokens, _)| *tokens);
        above
    }

    fn tier(&mut self, name: &str, rates: &Rates, above: Option<&BTreeMap<String, Rates>>, usual: &Tier) -> Tier {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if USUAL.contains(&name) {
            let fault = Fault::new(&["service_tiers", name], "this tier is the usual one");
            self.faults.push(fault.hint("usd_per_million_tokens has its prices"));
        } else if !name.bytes().all(plain) {
            self.fault(&["service_tiers", name], "expected the name of a tier, such as batch, flex or priority");
        }
        self.special(&["service_tiers", name], rates);
        let mut above = above.map_or_else(Vec::new, |above| self.above(&[COMBINED, name], above, &usual.table));
        for (tokens, _) in &usual.above {
            if !above.iter().any(|(own, _)| own == tokens) {
                above.push((*tokens, Table::UNKNOWN));
            }
        }
        above.sort_by_key(|(tokens, _)| *tokens);
        Tier { table: Table::special(rates, &usual.table), above }
    }
}
