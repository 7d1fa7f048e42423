//! `/api/usage`: the ledger's answers over HTTP.
//!
//! Invariant: a question runs on a thread of its own, few at once and for a few seconds at most, whatever it asks for.
//! Never does: hold up the runtime; show what another gateway's ledger holds.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::AdminState;
use super::health::{self, refuse};
use crate::ledger::{AskError, BadParameter, Page, Question, Reader};

/// Questions at once; more wait.
pub(super) const AT_ONCE: usize = 2;
/// How long a question may take, and how long it waits for its turn.
const AT_MOST: Duration = Duration::from_secs(10);
/// Calls of a page, and groups: unless told, and at most.
const CALLS: [usize; 2] = [100, 1_000];
const GROUPS: [usize; 2] = [1_000, 10_000];

/// What is asked, beside the question itself.
struct Asked {
    question: Question,
    limit: usize,
    cursor: Option<[i64; 2]>,
}

/// With `by`: sums by groups. Without: single calls, newest first.
pub(super) async fn usage(State(state): State<Arc<AdminState>>, request: Request, asking: Arc<Semaphore>) -> Response {
    let asked = match Asked::read(request.uri().query().unwrap_or_default(), SystemTime::now()) {
        Ok(asked) => asked,
        Err(bad) => return wrong(&bad),
    };
    let Some(path) = state.ledger.path().map(Path::to_owned) else {
        return refuse(
            404,
            "ledger_off",
            "This gateway keeps no record of calls: the configuration says `ledger: off`",
        );
    };
    let Ok(Ok(turn)) = timeout(AT_MOST, asking.acquire_owned()).await else {
        return refuse(503, "overloaded", "Other questions to the ledger are being answered; try again");
    };
    let answer = tokio::task::spawn_blocking(move || {
        let answer = asked.answer(&path);
        drop(turn);
        answer
    });
    match answer.await {
        Ok(Ok(answer)) => health::json(200, answer.to_string()),
        Ok(Err(AskError::TooLong)) => refuse(503, "usage_timeout", &AskError::TooLong.to_string()),
        Ok(Err(error)) => {
            log::warn!("a question to the ledger has no answer: {error}");
            refuse(503, "ledger_unavailable", "The ledger cannot be read now; the log says why")
        }
        Err(_) => refuse(500, "internal_error", "The question was not answered"),
    }
}

impl Asked {
    fn read(query: &str, now: SystemTime) -> Result<Self, BadParameter> {
        let (mut question, mut limit, mut cursor) = (Question::default(), None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name, "a query string in UTF-8")?, decoded(value, "a value in UTF-8")?);
            match &*name {
                "limit" => limit = Some(value),
                "cursor" => cursor = Some(Page::cursor(&value)?),
                _ => question = question.with(&name, &value, now)?,
            }
        }
        let of_groups = !question.by().is_empty();
        let [usual, most] = if of_groups { GROUPS } else { CALLS };
        let bad = |name: &str, expected: String| BadParameter { name: name.to_owned(), expected };
        if of_groups && cursor.is_some() {
            return Err(bad("cursor", "to be left out, where there is a by".to_owned()));
        }
        let limit = match limit {
            None => usual,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=most).contains(limit))
                .ok_or_else(|| bad("limit", format!("a number from 1 to {most}")))?,
        };
        if of_groups && question.span()[0].is_none() {
            question = question.with("since", "30d", now)?;
        }
        Ok(Self { question, limit, cursor })
    }

    fn answer(&self, path: &Path) -> Result<Value, AskError> {
        let reader = Reader::open(path, Some(AT_MOST))?;
        match self.question.by().is_empty() {
            true => Ok(reader.records(&self.question, self.limit, self.cursor)?.json()),
            false => Ok(reader.groups(&self.question, self.limit)?.json()),
        }
    }
}

/// A name or value of a query string, as forms write them.
fn decoded(text: &str, expected: &str) -> Result<String, BadParameter> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let decoded = percent_decode_str(&spaced).decode_utf8().map(Cow::into_owned);
    decoded.map_err(|_| BadParameter { name: text.to_owned(), expected: expected.to_owned() })
}

fn wrong(bad: &BadParameter) -> Response {
    let message = format!("Parameter {}", bad);
    let (kind, code) = ("invalid_request_error", "invalid_parameter");
    health::json(400, json!({"error": {"message": message, "type": kind, "param": bad.name, "code": code}}).to_string())
}
