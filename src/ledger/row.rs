//! From what a call handed in to a row of the table.
//!
//! Invariant: what is settled replaces what was intended or unknown; an intent replaces an earlier one
//! of its call, and nothing else.
//! Never does: keep a path, an address or a body.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Method;
use rusqlite::{Connection, params};

use crate::flow::{Record, Reserved, Tried};
use crate::keys::Key;
use crate::route::Route;
use crate::units::Usd;

/// What the queue holds.
#[derive(Debug)]
pub(super) enum Entry {
    /// A call is about to go upstream.
    Intent(Box<Intent>),
    /// A call is over.
    Settled(Box<Record>),
}

/// What is known of a call before it goes upstream.
#[derive(Debug)]
pub(super) struct Intent {
    request_id: String,
    started_at: SystemTime,
    method: Method,
    route: Option<Arc<Route>>,
    key: Arc<Key>,
    model: Option<String>,
    on_behalf_of: Option<String>,
    reserved: Reserved,
    unanswered: u32,
}

impl Intent {
    /// `None` for a call that did not pass authentication.
    pub(super) fn of(record: &Record) -> Option<Self> {
        Some(Self {
            request_id: record.request_id.clone(),
            started_at: record.started_at,
            method: record.method.clone(),
            route: record.route.clone(),
            key: Arc::clone(record.key.as_ref()?),
            model: record.model.clone(),
            on_behalf_of: record.on_behalf_of.clone(),
            reserved: record.reserved,
            unanswered: record.unanswered,
        })
    }
}

impl Entry {
    pub(super) fn request_id(&self) -> &str {
        match self {
            Self::Intent(intent) => &intent.request_id,
            Self::Settled(record) => &record.request_id,
        }
    }

    /// Writes the row. Has to be within a transaction.
    pub(super) fn write(&self, connection: &Connection, instance: &str) -> rusqlite::Result<()> {
        match self {
            Self::Intent(intent) => intent.write(connection, instance),
            Self::Settled(record) => settle(record, connection, instance),
        }
    }
}

/// The state of a call that is not over.
pub(super) const INTENT: &str = "intent";

impl Intent {
    fn write(&self, connection: &Connection, instance: &str) -> rusqlite::Result<()> {
        let key = &self.key.record;
        let route = self.route.as_deref();
        connection.prepare_cached(INTEND)?.execute(params![
            self.request_id,
            INTENT,
            micros_since_1970(self.started_at),
            instance,
            key.id.as_str(),
            &*key.username,
            key.team.as_deref(),
            self.on_behalf_of,
            self.method.as_str(),
            route.map_or("", |route| &route.pattern),
            route.map_or("", |route| route.provider.id.as_str()),
            self.model,
            self.reserved.cost.map(picos),
            self.reserved.tokens.map(count),
            self.unanswered,
        ])?;
        Ok(())
    }
}

fn settle(record: &Record, connection: &Connection, instance: &str) -> rusqlite::Result<()> {
    let Some(key) = record.key.as_ref().map(|key| &key.record) else { return Ok(()) };
    let spent = &record.spent;
    let usage = spent.usage.as_ref();
    let kinds = usage.map(|usage| usage.kinds().map(|(_, tokens)| count(tokens)));
    let kind = |at: usize| kinds.as_ref().map(|kinds| kinds[at]);
    connection.prepare_cached(SETTLE)?.execute(params![
        record.request_id,
        spent.certainty.name(),
        micros_since_1970(record.started_at),
        instance,
        key.id.as_str(),
        &*key.username,
        key.team.as_deref(),
        record.on_behalf_of,
        record.method.as_str(),
        record.route.as_ref().map_or("", |route| &route.pattern),
        record.provider().unwrap_or(""),
        record.model,
        spent.model.as_deref(),
        record.status,
        record.refusal.as_ref().map(|refusal| refusal.code()),
        record.attempts,
        kind(0),
        kind(1),
        kind(2),
        kind(3),
        kind(4),
        kind(5),
        kind(6),
        kind(7),
        kind(8),
        kind(9),
        kind(10),
        usage.map(|usage| count(usage.audio_ms)),
        spent.cost.map(picos),
        spent.prices.as_deref(),
        spent.service_tier.as_deref(),
        micros(record.duration),
        record.upstream_head.map(micros),
        record.pace.first_token.map(micros),
        micros(record.overhead),
        record.reserved.cost.map(picos),
        record.reserved.tokens.map(count),
        tried(record),
        record.unanswered,
    ])?;
    Ok(())
}

/// Each attempt, where the rest of the row does not tell it.
fn tried(record: &Record) -> Option<String> {
    let tried = |tried: &Tried| {
        serde_json::json!({
            "provider": tried.provider.as_str(),
            "model": tried.model.as_deref(),
            "outcome": tried.outcome,
            "status": tried.status,
            "duration_us": micros(tried.duration),
        })
    };
    let told = record.told_attempts();
    (!told.is_empty()).then(|| serde_json::Value::from_iter(told.iter().map(tried)).to_string())
}

/// A time as the table has it.
pub(super) fn micros_since_1970(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => micros(since),
        Err(before) => -micros(before.duration()),
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Money in the database's unit.
fn picos(cost: Usd) -> i64 {
    i64::try_from(cost.picos()).unwrap_or(i64::MAX)
}

/// Tokens of one call, so bounded that the sum of eight million calls at the bound is still one of SQLite's integers: a
/// provider that tells nonsense must not break every report.
fn count(tokens: u64) -> i64 {
    const MOST: u64 = (1 << 40) - 1;
    i64::try_from(tokens.min(MOST)).unwrap_or(i64::MAX)
}

const INTEND: &str = "INSERT INTO calls (
    request_id, state, started_us, instance, key_id, user, team, on_behalf_of, method, route, provider, model,
    reserved_picos, reserved_tokens, unanswered
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15) ON CONFLICT (request_id) DO UPDATE SET
    unanswered = excluded.unanswered WHERE state = 'intent'";

const SETTLE: &str = "INSERT INTO calls (
    request_id, state, started_us, instance, key_id, user, team, on_behalf_of, method, route, provider, model,
    answered_model, status, error, attempts, input, cached_input, cache_write, cache_write_1h, input_audio,
    cached_audio, input_image, output, reasoning, output_audio, output_image, audio_ms, cost_picos, prices,
    service_tier, duration_us, upstream_us, first_token_us, overhead_us, reserved_picos, reserved_tokens, tried, unanswered
) VALUES (
    ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24,
    ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36, ?37, ?38, ?39
) ON CONFLICT (request_id) DO UPDATE SET
    state = excluded.state, provider = excluded.provider, model = excluded.model, answered_model = excluded.answered_model,
    status = excluded.status, error = excluded.error, attempts = excluded.attempts, input = excluded.input,
    cached_input = excluded.cached_input, cache_write = excluded.cache_write,
    cache_write_1h = excluded.cache_write_1h, input_audio = excluded.input_audio,
    cached_audio = excluded.cached_audio, input_image = excluded.input_image, output = excluded.output,
    reasoning = excluded.reasoning, output_audio = excluded.output_audio, output_image = excluded.output_image,
    audio_ms = excluded.audio_ms, cost_picos = excluded.cost_picos, prices = excluded.prices,
    service_tier = excluded.service_tier, duration_us = excluded.duration_us, upstream_us = excluded.upstream_us,
    first_token_us = excluded.first_token_us, overhead_us = excluded.overhead_us, tried = excluded.tried,
    unanswered = excluded.unanswered";
