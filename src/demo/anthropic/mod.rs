//! Anthropic's API as its clients see it: routes, credentials, error objects and headers.
//!
//! Sources: platform.claude.com/docs/en/api/messages, .../messages-count-tokens, .../models-list, .../errors and
//! .../rate-limits, read 2026-11; the texts of errors are as people quote them.
//! Invariant: whatever is wrong with a request gets Anthropic's error object, with its status and type.
//! Never does: answer a request that lacks the key, where there is one.

mod messages;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::ProviderOptions;
use super::answer::Answer;
use super::request::Head;
use super::seed::Seed;

/// Whether a request is one for this API: by its path, or where both have that, by the header that this one wants.
pub(super) fn is_asked(head: &Head) -> bool {
    let path = head.path();
    let is_of_both = path == MODELS || path.starts_with("/v1/models/");
    path == MESSAGES || path.starts_with("/v1/messages/") || (is_of_both && head.first(VERSION).is_some())
}

/// Answers a request. `words` is how long an answer is to be, where a script says so.
pub(super) fn answer(head: &Head, body: &Bytes, words: Option<usize>, options: &ProviderOptions) -> Answer {
    let mut seed = Seed::of_text(&format!("{} {} {}", head.method, head.target, body.len()));
    let id = seed.id("req_", 24);
    let mut answer = served(head, body, words, options).unwrap_or_else(|fault| fault.answer(&id));
    answer.headers.extend(headers(id, &answer));
    answer
}

fn served(head: &Head, body: &Bytes, words: Option<usize>, options: &ProviderOptions) -> Result<Answer, Fault> {
    authenticate(head, options)?;
    if head.first(VERSION).is_none() {
        return Err(Fault::invalid("anthropic-version: header is required"));
    }
    let models = models(options);
    let (method, path) = (head.method.as_str(), head.path());
    let counts = path == COUNT;
    match (method, path) {
        ("GET" | "HEAD", MODELS) => return Ok(list(&models)),
        ("GET" | "HEAD", _) if path.strip_prefix("/v1/models/").is_some_and(|model| models.contains(&model)) => {
            return Ok(Answer::json(200, &model_object(&path["/v1/models/".len()..])));
        }
        ("POST", MESSAGES | COUNT) => {}
        (_, MESSAGES | COUNT | MODELS) => return Err(Fault::new(405, "invalid_request_error", "Method Not Allowed")),
        _ => return Err(Fault::new(404, NOT_FOUND, "Not found")),
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return Err(Fault::invalid("The request body is not valid JSON"));
    };
    let Some(model) = request.get("model").and_then(Value::as_str) else {
        return Err(Fault::invalid("model: Field required"));
    };
    if !models.contains(&model) {
        return Err(Fault::new(404, NOT_FOUND, format!("model: {model}")));
    }
    let call = Call { seed: Seed::of(&request), model, request: &request, words };
    if counts { messages::count(&call) } else { messages::answer(&call) }
}

/// A request for a model that exists.
struct Call<'a> {
    seed: Seed,
    model: &'a str,
    request: &'a Map<String, Value>,
    words: Option<usize>,
}

/// What is wrong with a request.
#[derive(Debug)]
struct Fault {
    status: u16,
    kind: &'static str,
    message: String,
}

impl Fault {
    fn new(status: u16, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into() }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", message)
    }

    fn answer(&self, id: &str) -> Answer {
        let error = json!({ "type": self.kind, "message": self.message });
        Answer::json(self.status, &json!({ "type": "error", "error": error, "request_id": id }))
    }
}

/// Anthropic takes a key in `x-api-key`, and a token in `authorization`; this one has keys only.
fn authenticate(head: &Head, options: &ProviderOptions) -> Result<(), Fault> {
    let Some(key) = &options.api_key else {
        return Ok(());
    };
    let mut given = head.all("x-api-key");
    match (given.next(), given.next()) {
        (Some(given), None) if given == key.as_bytes() => Ok(()),
        (Some(_), _) => Err(Fault::new(401, "authentication_error", "invalid x-api-key")),
        (None, _) => Err(Fault::new(401, "authentication_error", "x-api-key header is required")),
    }
}

/// The models that exist here: those that begin like Anthropic's, or two of its own.
fn models(options: &ProviderOptions) -> Vec<&str> {
    let own: Vec<&str> = options.models.iter().map(String::as_str).filter(|name| name.starts_with("claude")).collect();
    if own.is_empty() { CLAUDES.to_vec() } else { own }
}

fn list(models: &[&str]) -> Answer {
    let data: Vec<Value> = models.iter().map(|model| model_object(model)).collect();
    let list = json!({ "data": data, "has_more": false, "first_id": models.first(), "last_id": models.last() });
    Answer::json(200, &list)
}

fn model_object(model: &str) -> Value {
    json!({ "type": "model", "id": model, "display_name": model, "created_at": "2026-02-19T00:00:00Z" })
}

/// The headers that come with each of Anthropic's answers, as seen from outside Cloudflare.
fn headers(id: String, answer: &Answer) -> Vec<(String, String)> {
    let mut limits = Vec::new();
    let headers = [
        ("request-id", id),
        ("anthropic-organization-id", "demo-organization".to_string()),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload".to_string()),
        ("server", "cloudflare".to_string()),
    ];
    if answer.status == 200 {
        // No clock is read here: the time has passed, as it has where nothing is used up.
        let limit = |kind: &str, limit: &str| {
            [("limit", limit), ("remaining", limit), ("reset", "2026-11-01T00:00:00Z")]
                .map(|(what, value)| (format!("anthropic-ratelimit-{kind}-{what}"), value.to_string()))
        };
        limits.extend(limit("requests", "4000").into_iter().chain(limit("tokens", "2400000")));
    }
    headers.into_iter().map(|(name, value)| (name.to_string(), value)).chain(limits).collect()
}

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";
const MODELS: &str = "/v1/models";
const VERSION: &str = "anthropic-version";
const NOT_FOUND: &str = "not_found_error";

/// The models where none are named.
const CLAUDES: [&str; 2] = ["claude-haiku-4-5", "claude-sonnet-4-5"];
