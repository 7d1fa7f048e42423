//! What may be limited, for whom, and how it is spelt: the words that the key file, the configuration, the limiter and its
//! refusals share.
//!
//! Invariant: a [`Limit`] has one name, in texts, metrics and on the command line.
//! Never does: count anything, or decide whether something is too much.

use std::fmt;
use std::sync::Arc;

use super::{KeyId, Usd};

/// All limits of one subject. What is `None`, or not in `budgets`, is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Calls in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens of calls that begin in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Calls at once.
    pub concurrent_requests: Option<u64>,
    /// Budgets; each measure and window once.
    pub budgets: Vec<Budget>,
    /// Whether these limits only count and report what they would have refused.
    pub shadow: bool,
}

/// So much in a window of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How much.
    pub amount: Amount,
    /// In which window.
    pub per: Per,
}

/// How much, of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// Money.
    Usd(Usd),
    /// Tokens, of input and output together.
    Tokens(u64),
}

/// What a budget counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Measure {
    /// Pico-dollars.
    Usd,
    /// Tokens.
    Tokens,
}

/// The window of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// From midnight to midnight.
    Day,
    /// From Monday to Monday.
    Week,
    /// A month of the calendar.
    Month,
    /// For ever.
    Total,
}

/// One of the limits of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Limit {
    /// `requests_per_minute`
    RequestsPerMinute,
    /// `tokens_per_minute`
    TokensPerMinute,
    /// `concurrent_requests`
    ConcurrentRequests,
    /// A budget.
    Budget(Measure, Per),
}

/// Whose limits: of somebody, and there of one model where it says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Whose.
    pub owner: Owner,
    /// Of calls for this model alone.
    pub model: Option<Arc<str>>,
}

/// Somebody who has limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// All calls.
    Gateway,
    /// The calls of a key.
    Key(KeyId),
    /// The calls of all keys of a user.
    User(Arc<str>),
    /// The calls of all keys of a team.
    Team(Arc<str>),
}

impl Amount {
    /// What is counted.
    pub const fn measure(self) -> Measure {
        match self {
            Self::Usd(_) => Measure::Usd,
            Self::Tokens(_) => Measure::Tokens,
        }
    }

    /// How many pico-dollars or tokens.
    pub const fn count(self) -> u128 {
        match self {
            Self::Usd(amount) => amount.picos(),
            Self::Tokens(count) => count as u128,
        }
    }
}

impl Budget {
    /// The limit that it is.
    pub const fn limit(self) -> Limit {
        Limit::Budget(self.amount.measure(), self.per)
    }
}

impl Per {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// By its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|per| per.name() == name)
    }
}

impl Limit {
    /// As metrics, texts and the command line name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::ConcurrentRequests => "concurrent_requests",
            Self::Budget(Measure::Usd, Per::Day) => "usd/day",
            Self::Budget(Measure::Usd, Per::Week) => "usd/week",
            Self::Budget(Measure::Usd, Per::Month) => "usd/month",
            Self::Budget(Measure::Usd, Per::Total) => "usd/total",
            Self::Budget(Measure::Tokens, Per::Day) => "tokens/day",
            Self::Budget(Measure::Tokens, Per::Week) => "tokens/week",
            Self::Budget(Measure::Tokens, Per::Month) => "tokens/month",
            Self::Budget(Measure::Tokens, Per::Total) => "tokens/total",
        }
    }

    /// Spells an amount of it: `12.5 USD`, `800 tokens`, `3`.
    pub fn spell(self, count: u128) -> String {
        match self {
            Self::Budget(Measure::Usd, _) => format!("{} USD", Usd::from_picos(count)),
            Self::Budget(Measure::Tokens, _) | Self::TokensPerMinute => format!("{count} tokens"),
            Self::RequestsPerMinute | Self::ConcurrentRequests => count.to_string(),
        }
    }
}

impl Limits {
    /// Tells whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Each limit that there is, with its value.
    pub fn all(&self) -> impl Iterator<Item = (Limit, u128)> {
        let plain = [
            (Limit::RequestsPerMinute, self.requests_per_minute),
            (Limit::TokensPerMinute, self.tokens_per_minute),
            (Limit::ConcurrentRequests, self.concurrent_requests),
        ];
        let plain = plain.into_iter().filter_map(|(limit, value)| Some((limit, u128::from(value?))));
        plain.chain(self.budgets.iter().map(|budget| (budget.limit(), budget.amount.count())))
    }

    /// Takes in one limit as the command line spells it: `requests_per_minute=60`, `usd/month=12.5`, `shadow`.
    ///
    /// # Errors
    /// What is wrong with it; never the text itself.
    pub fn set(&mut self, text: &str) -> Result<(), &'static str> {
        if text == "shadow" {
            self.shadow = true;
            return Ok(());
        }
        let (name, value) = text.split_once('=').ok_or(FORM)?;
        let count = || value.parse::<u64>().ok().filter(|count| *count > 0);
        let field = match name {
            "requests_per_minute" => &mut self.requests_per_minute,
            "tokens_per_minute" => &mut self.tokens_per_minute,
            "concurrent_requests" => &mut self.concurrent_requests,
            _ => {
                let (measure, per) = name.split_once('/').ok_or(FORM)?;
                let per = Per::named(per).ok_or(FORM)?;
                let amount = match measure {
                    "usd" => Self::money(value).map(Amount::Usd).ok_or(MONEY)?,
                    "tokens" => count().map(Amount::Tokens).ok_or(COUNT)?,
                    _ => return Err(FORM),
                };
                return self.add(Budget { amount, per });
            }
        };
        let count = count().ok_or(COUNT)?;
        if field.replace(count).is_some() { Err(TWICE) } else { Ok(()) }
    }

    /// Takes in one budget.
    ///
    /// # Errors
    /// There is one of the same measure and window.
    pub fn add(&mut self, budget: Budget) -> Result<(), &'static str> {
        if self.budgets.iter().any(|other| other.limit() == budget.limit()) {
            return Err(TWICE);
        }
        self.budgets.push(budget);
        Ok(())
    }

    /// Each of them as the command line spells it, and whether they are in shadow.
    pub(super) fn spelt(&self) -> impl Iterator<Item = String> {
        let value = |limit, count| match limit {
            Limit::Budget(Measure::Usd, _) => Usd::from_picos(count).to_string(),
            _ => count.to_string(),
        };
        let all = self.all().map(move |(limit, count)| format!("{}={}", limit.name(), value(limit, count)));
        all.chain(self.shadow.then(|| "shadow".to_owned()))
    }

    /// Reads the money of a budget: more than nothing, up to a billion dollars.
    pub fn money(text: &str) -> Option<Usd> {
        let amount: Usd = text.parse().ok()?;
        (amount > Usd::ZERO && amount <= MOST_MONEY).then_some(amount)
    }
}

const FORM: &str = "expected requests_per_minute=N, tokens_per_minute=N, concurrent_requests=N, usd/PER=AMOUNT, \
                    tokens/PER=N (PER is day, week, month or total), or shadow";
const COUNT: &str = "expected a whole number of at least 1";
const MONEY: &str = "expected an amount in USD such as 12.5, more than 0 and up to 1000000000";
const TWICE: &str = "this limit stands twice";
const MOST_MONEY: Usd = Usd::from_picos(1_000_000_000_000_000_000_000);

impl fmt::Display for Limits {
    /// As `keys create --limit` takes them, with commas between: `requests_per_minute=60, usd/month=12.5, shadow`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelt().collect::<Vec<_>>().join(", "))
    }
}

impl Subject {
    /// All calls of somebody.
    pub const fn of(owner: Owner) -> Self {
        Self { owner, model: None }
    }

    /// The kind of it, for metrics: `gateway`, `key`, `user`, `team`, `model`, and `key_model` where it is both.
    pub const fn kind(&self) -> &'static str {
        match (&self.owner, &self.model) {
            (Owner::Gateway, None) => "gateway",
            (Owner::Gateway, Some(_)) => "model",
            (Owner::Key(_), None) => "key",
            (Owner::Key(_), Some(_)) => "key_model",
            (Owner::User(_), None) => "user",
            (Owner::User(_), Some(_)) => "user_model",
            (Owner::Team(_), None) => "team",
            (Owner::Team(_), Some(_)) => "team_model",
        }
    }

    /// The name within its kind; empty for the gateway.
    pub fn name(&self) -> &str {
        match &self.owner {
            Owner::Gateway => self.model.as_deref().unwrap_or_default(),
            Owner::Key(id) => id.as_str(),
            Owner::User(name) | Owner::Team(name) => name,
        }
    }
}

impl fmt::Display for Subject {
    /// As the client reads it, who holds the key: `this API key`, `the user ann for the model gpt-4o`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Owner::Gateway => f.write_str("this gateway")?,
            Owner::Key(_) => f.write_str("this API key")?,
            Owner::User(name) => write!(f, "the user {name}")?,
            Owner::Team(name) => write!(f, "the team {name}")?,
        }
        match &self.model {
            Some(model) => write!(f, " for the model {model}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str]) -> Result<Limits, &'static str> {
        let mut limits = Limits::default();
        texts.iter().try_for_each(|text| limits.set(text))?;
        Ok(limits)
    }

    #[test]
    fn limits_are_written_as_they_are_read() {
        let texts = ["requests_per_minute=60", "concurrent_requests=5", "usd/month=12.5", "tokens/day=1000", "shadow"];
        let limits = read(&texts).expect("limits");
        assert_eq!(limits.to_string(), texts.join(", "));
        assert_eq!(limits.requests_per_minute, Some(60));
        assert_eq!(limits.budgets[0].amount, Amount::Usd(Usd::from_picos(12_500_000_000_000)));
        assert!(!limits.is_empty() && Limits::default().is_empty());
        for (limit, _) in limits.all() {
            assert!(texts.iter().any(|text| text.starts_with(limit.name())));
        }
    }

    #[test]
    fn what_cannot_be_a_limit_is_refused() {
        for text in ["", "x=1", "requests_per_minute", "usd=1", "usd/year=1", "eur/day=1", "shadow=1", "usd/=1"] {
            assert_eq!(read(&[text]), Err(FORM), "{text}");
        }
        for text in ["requests_per_minute=0", "tokens_per_minute=-1", "tokens/day=1.5", "concurrent_requests="] {
            assert_eq!(read(&[text]), Err(COUNT), "{text}");
        }
        for text in ["usd/day=0", "usd/day=-1", "usd/day=1e3", "usd/day=1000000001", "usd/day="] {
            assert_eq!(read(&[text]), Err(MONEY), "{text}");
        }
        assert_eq!(read(&["usd/day=1", "usd/day=2"]), Err(TWICE));
        assert_eq!(read(&["requests_per_minute=1", "requests_per_minute=2"]), Err(TWICE));
        assert!(read(&["usd/day=1", "usd/week=2", "tokens/day=3"]).is_ok());
    }

    #[test]
    fn a_subject_is_told_to_the_one_who_holds_the_key() {
        let told = |owner, model: Option<&str>| Subject { owner, model: model.map(Arc::from) }.to_string();
        assert_eq!(told(Owner::Gateway, None), "this gateway");
        assert_eq!(told(Owner::Key(KeyId::new("key_1")), Some("m")), "this API key for the model m");
        assert_eq!(told(Owner::Team("blue".into()), None), "the team blue");
    }
}
