//! Sums of many calls, in all and by groups.
//!
//! Invariant: money is summed exactly: SQLite adds the upper and the lower half of each amount apart, so that no sum leaves
//! its integers, and they are put together here. What has no known cost is counted, never taken for nothing.
//! Never does: hold more groups than were asked for.

use rusqlite::{Row, params_from_iter};
use serde_json::{Map, Value, json};

use super::{AskError, Dimension, Question, Reader};
use crate::units::{Usage, Usd};

/// The sums of some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls.
    pub requests: u64,
    /// Of these: answered with a status of 400 or more, or broken on the way.
    pub failed: u64,
    /// Of these: what they used is an estimate.
    pub estimated: u64,
    /// Of these: they used something, and nobody knows what that cost. The cost is without them.
    pub unknown_cost: u64,
    /// Of these: not over, as far as is known.
    pub open: u64,
    /// Tokens by kind.
    pub tokens: Usage,
    /// Of these: they used something, and it is known what that cost.
    pub known_cost: u64,
    /// What they cost, as far as that is known.
    pub cost: Usd,
}

/// The sums of the calls that have something in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common, in the order of the question; `None` where they have none of it.
    pub values: Vec<Option<String>>,
    /// The sums.
    pub tally: Tally,
}

/// The answer to a question by groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReport {
    /// What makes a group.
    pub by: Vec<Dimension>,
    /// From when to when.
    pub span: [Option<String>; 2],
    /// Dearest first; where a time is among what makes them, in its order.
    pub groups: Vec<Group>,
    /// Groups that there was no room for.
    pub more: u64,
    /// The sums of all, also of what there was no room for.
    pub total: Tally,
}

/// Sums that are no tokens and no money.
const COUNTS: &str = "count(*), sum(coalesce(status >= 400 OR error IS NOT NULL, 0)), sum(state = 'estimated'),
    sum(cost_picos IS NULL AND state IN ('settled', 'estimated', 'unknown')), sum(state = 'intent')";

const MONEY: &str = "coalesce(sum(cost_picos >> 32), 0), coalesce(sum(cost_picos & 4294967295), 0)";

/// Calls that used something whose cost is known. A price may be 0.
const KNOWN: &str =
    "sum(cost_picos IS NOT NULL AND coalesce(input, 0) + coalesce(output, 0) + coalesce(audio_ms, 0) > 0)";

/// How many columns [`COUNTS`] has.
const COUNTED: usize = 5;

impl Reader {
    /// Sums calls by groups, of which at most `limit` are given.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn groups(&self, question: &Question, limit: usize) -> Result<UsageReport, AskError> {
        let by = question.by().to_vec();
        let (condition, values) = question.condition();
        let mut statement = self.0.prepare(&sql(&by, &condition))?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut groups, mut more, mut total) = (Vec::new(), 0, Tally::default());
        while let Some(row) = rows.next()? {
            let tally = tally(row, by.len())?;
            total = total.plus(&tally);
            if groups.len() < limit {
                let values = (0..by.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?;
                groups.push(Group { values, tally });
            } else {
                more += 1;
            }
        }
        Ok(UsageReport { by, span: question.span(), groups, more, total })
    }
}

fn sql(by: &[Dimension], condition: &str) -> String {
    let dimensions: String = by.iter().map(|dimension| format!("{}, ", dimension.sql())).collect();
    let tokens: String = kinds().map(|kind| format!("coalesce(sum({kind}), 0), ")).collect();
    let select = format!("SELECT {dimensions}{COUNTS}, {tokens}{MONEY}, {KNOWN} FROM calls WHERE {condition}");
    if by.is_empty() {
        return select;
    }
    let places: Vec<String> = (1..=by.len()).map(|place| place.to_string()).collect();
    let places = places.join(", ");
    let first =
        if by.iter().any(|dimension| dimension.is_time()) { "" } else { "total(cost_picos) DESC, count(*) DESC, " };
    format!("{select} GROUP BY {places} ORDER BY {first}{places}")
}

fn kinds() -> impl Iterator<Item = &'static str> {
    Usage::default().kinds().into_iter().map(|(kind, _)| kind).chain(["audio_ms"])
}

fn tally(row: &Row<'_>, from: usize) -> rusqlite::Result<Tally> {
    let number = |at: usize| -> rusqlite::Result<u64> {
        let number: Option<i64> = row.get(from + at)?;
        Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    };
    let token = |at: usize| number(COUNTED + at);
    let money = COUNTED + kinds().count();
    Ok(Tally {
        requests: number(0)?,
        failed: number(1)?,
        estimated: number(2)?,
        unknown_cost: number(3)?,
        open: number(4)?,
        tokens: Usage {
            input: token(0)?,
            cached_input: token(1)?,
            cache_write: token(2)?,
            cache_write_1h: token(3)?,
            input_audio: token(4)?,
            cached_audio: token(5)?,
            input_image: token(6)?,
            output: token(7)?,
            reasoning: token(8)?,
            output_audio: token(9)?,
            output_image: token(10)?,
            audio_ms: token(11)?,
        },
        known_cost: number(money + 2)?,
        cost: Usd::from_picos((u128::from(number(money)?) << 32) + u128::from(number(money + 1)?)),
    })
}

impl Tally {
    fn plus(&self, other: &Self) -> Self {
        let (own, more) = (&self.tokens, &other.tokens);
        Self {
            requests: self.requests + other.requests,
            failed: self.failed + other.failed,
            estimated: self.estimated + other.estimated,
            unknown_cost: self.unknown_cost + other.unknown_cost,
            open: self.open + other.open,
            tokens: Usage {
                input: own.input.saturating_add(more.input),
                cached_input: own.cached_input.saturating_add(more.cached_input),
                cache_write: own.cache_write.saturating_add(more.cache_write),
                cache_write_1h: own.cache_write_1h.saturating_add(more.cache_write_1h),
                input_audio: own.input_audio.saturating_add(more.input_audio),
                cached_audio: own.cached_audio.saturating_add(more.cached_audio),
                input_image: own.input_image.saturating_add(more.input_image),
                output: own.output.saturating_add(more.output),
                reasoning: own.reasoning.saturating_add(more.reasoning),
                output_audio: own.output_audio.saturating_add(more.output_audio),
                output_image: own.output_image.saturating_add(more.output_image),
                audio_ms: own.audio_ms.saturating_add(more.audio_ms),
            },
            known_cost: self.known_cost + other.known_cost,
            cost: self.cost.plus(other.cost),
        }
    }

    /// What they cost; absent where nobody knows it of any that used something. A sum of nothing known is not 0.
    pub fn known(&self) -> Option<Usd> {
        (self.known_cost > 0 || self.unknown_cost == 0).then_some(self.cost)
    }

    /// The numbers with their names, money apart: as JSON and CSV have them.
    pub fn numbers(&self) -> Vec<(&'static str, u64)> {
        let counts = [
            ("requests", self.requests),
            ("failed", self.failed),
            ("estimated", self.estimated),
            ("unknown_cost", self.unknown_cost),
            ("open", self.open),
        ];
        let tokens = self.tokens.kinds().into_iter().chain([("audio_ms", self.tokens.audio_ms)]);
        counts.into_iter().chain(tokens).collect()
    }

    /// As JSON. Money is a text, because JSON's numbers are not exact.
    fn fields(&self) -> Map<String, Value> {
        let numbers = self.numbers();
        let (counts, tokens) = numbers.split_at(COUNTED);
        let object = |numbers: &[(&str, u64)]| -> Map<String, Value> {
            numbers.iter().map(|(name, number)| ((*name).to_owned(), Value::from(*number))).collect()
        };
        let mut fields = object(counts);
        fields.insert("tokens".to_owned(), object(tokens).into());
        fields.insert("cost_usd".to_owned(), self.known().map(|cost| cost.to_string()).into());
        fields
    }
}

impl UsageReport {
    /// As JSON, as the command and the admin API give it.
    pub fn json(&self) -> Value {
        let names: Vec<&str> = self.by.iter().map(|dimension| dimension.name()).collect();
        let group = |group: &Group| -> Value {
            let values = names.iter().zip(&group.values);
            let mut fields: Map<String, Value> =
                values.map(|(name, value)| ((*name).to_owned(), Value::from(value.clone()))).collect();
            fields.extend(group.tally.fields());
            fields.into()
        };
        json!({
            "object": "usage",
            "since": self.span[0],
            "until": self.span[1],
            "by": names,
            "data": self.groups.iter().map(group).collect::<Vec<_>>(),
            "more": self.more,
            "total": self.total.fields(),
        })
    }
}
