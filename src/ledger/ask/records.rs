//! Single calls, newest first, page by page.
//!
//! Invariant: a cursor names the last call that was given, so that new calls and deleted ones move no page.
//! Never does: count what is not shown.

use rusqlite::Row;
use rusqlite::params_from_iter;
use rusqlite::types::Value as Bound;
use serde_json::{Map, Value, json};

use super::{AskError, BadParameter, Question, Reader, span};
use crate::units::{Usage, Usd};

/// Some calls.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The calls as JSON.
    pub data: Vec<Value>,
    /// What asks for the next ones, where there are some.
    pub next: Option<String>,
}

/// The place of a call in the order: its time, then its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor(i64, i64);

impl Reader {
    /// Gives calls, newest first, from behind `cursor` on, at most `limit`.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn records(&self, question: &Question, limit: usize, cursor: Option<[i64; 2]>) -> Result<Page, AskError> {
        let (mut condition, mut values) = question.condition();
        if let Some(place) = cursor {
            condition.push_str(" AND (started_us, id) < (?, ?)");
            values.extend(place.map(Bound::Integer));
        }
        let one_more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        values.push(Bound::Integer(one_more));
        let sql = format!("SELECT * FROM calls WHERE {condition} ORDER BY started_us DESC, id DESC LIMIT ?");
        let mut statement = self.0.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let (mut data, mut last, mut next) = (Vec::new(), None, None);
        while let Some(row) = rows.next()? {
            if data.len() == limit {
                next = last.map(|Cursor(time, id)| format!("{time}-{id}"));
                break;
            }
            last = Some(Cursor(row.get("started_us")?, row.get("id")?));
            data.push(record(row)?);
        }
        Ok(Page { data, next })
    }
}

impl Page {
    /// Reads a cursor of an earlier page.
    ///
    /// # Errors
    /// Where it is none.
    pub fn cursor(text: &str) -> Result<[i64; 2], BadParameter> {
        let parts = text.split_once('-').and_then(|(time, id)| Some([time.parse().ok()?, id.parse().ok()?]));
        let expected = || "the next_cursor of an earlier answer".to_owned();
        parts.ok_or_else(|| BadParameter { name: "cursor".to_owned(), expected: expected() })
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        json!({ "object": "list", "data": self.data, "has_more": self.next.is_some(), "next_cursor": self.next })
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Value> {
    let text = |name: &str| row.get::<_, Option<String>>(name);
    let number = |name: &str| row.get::<_, Option<i64>>(name);
    let mut tokens = Map::new();
    if number("input")?.is_some() {
        for (kind, _) in Usage::default().kinds().into_iter().chain([("audio_ms", 0)]) {
            tokens.insert(kind.to_owned(), number(kind)?.into());
        }
    }
    let cost = number("cost_picos")?.and_then(|picos| u128::try_from(picos).ok());
    Ok(json!({
        "id": text("request_id")?,
        "time": span::told(row.get("started_us")?),
        "state": text("state")?,
        "key": text("key_id")?,
        "user": text("user")?,
        "team": text("team")?,
        "on_behalf_of": text("on_behalf_of")?,
        "route": format!("{} {}", row.get::<_, String>("method")?, row.get::<_, String>("route")?),
        "provider": text("provider")?,
        "model": text("model")?,
        "answered_model": text("answered_model")?,
        "status": number("status")?,
        "error": text("error")?,
        "attempts": number("attempts")?,
        // As the next, what a database of an earlier version lacks.
        "unanswered": number("unanswered").unwrap_or(None),
        "tried": text("tried").unwrap_or(None).and_then(|tried| serde_json::from_str::<Value>(&tried).ok()),
        "tokens": if tokens.is_empty() { Value::Null } else { tokens.into() },
        "cost_usd": cost.map(|picos| Usd::from_picos(picos).to_string()),
        "prices": text("prices")?,
        "service_tier": text("service_tier")?,
        "duration_us": number("duration_us")?,
        "upstream_us": number("upstream_us")?,
        "first_token_us": number("first_token_us")?,
        "overhead_us": number("overhead_us")?,
        "instance": text("instance")?,
    }))
}
