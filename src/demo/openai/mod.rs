//! OpenAI's API as its clients see it: routes, credentials, error objects and headers.
//!
//! Sources: platform.openai.com/docs/api-reference and .../guides/error-codes, openai-python's types.
//! Invariant: whatever is wrong with a request gets OpenAI's error object, with its status, type and code.
//! Never does: answer a request that lacks the key, where there is one.

mod chat;
mod completions;
mod embeddings;
mod images;
mod responses;
#[cfg(test)]
mod tests;
pub(super) mod tools;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::ProviderOptions;
use super::answer::Answer;
use super::request::Head;
use super::seed::{self, Seed};

/// A request's JSON object.
type Object = Map<String, Value>;

/// Answers a request. `words` is how long an answer is to be, where a script says so.
pub(super) fn answer(head: &Head, body: &Bytes, words: Option<usize>, options: &ProviderOptions) -> Answer {
    let mut answer = served(head, body, words, options).unwrap_or_else(|fault| fault.answer());
    let seed = Seed::of_text(&format!("{} {} {}", head.method, head.target, body.len()));
    answer.headers.extend(headers(seed, &answer));
    answer
}

fn served(head: &Head, body: &Bytes, words: Option<usize>, options: &ProviderOptions) -> Result<Answer, Fault> {
    authenticate(head, options)?;
    let (method, path) = (head.method.as_str(), head.path());
    let method = if method == "HEAD" { "GET" } else { method };
    if let Some(model) = path.strip_prefix("/v1/models/").filter(|model| !model.is_empty()) {
        return match method {
            "GET" => one_model(model, options),
            _ => Err(Fault::method(method, path)),
        };
    }
    let serve = match path {
        "/v1/models" if method == "GET" => return Ok(models(options)),
        "/v1/models" => return Err(Fault::method(method, path)),
        "/v1/chat/completions" => chat::answer,
        "/v1/completions" => completions::answer,
        "/v1/embeddings" => embeddings::answer,
        "/v1/images/generations" => images::answer,
        "/v1/responses" => responses::answer,
        _ => return Err(Fault::unknown_url(method, path)),
    };
    if method != "POST" {
        return Err(Fault::method(method, path));
    }
    let Ok(Value::Object(request)) = serde_json::from_slice(body) else {
        return Err(Fault::new(400, BAD_JSON));
    };
    let Some(model) = request.get("model").and_then(Value::as_str).filter(|model| !model.is_empty()) else {
        return Err(Fault::new(400, "you must provide a model parameter"));
    };
    if !options.models.iter().any(|known| known == model) {
        let text = format!("The model `{model}` does not exist or you do not have access to it.");
        return Err(Fault::new(404, text).code("model_not_found"));
    }
    serve(&Call { seed: Seed::of(&request), model, request: &request, words })
}

/// A request for a model that exists.
struct Call<'a> {
    seed: Seed,
    model: &'a str,
    request: &'a Object,
    words: Option<usize>,
}

impl Call<'_> {
    fn flag(&self, name: &str) -> bool {
        self.request.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A member that is a count.
    fn count(&self, name: &str) -> Option<usize> {
        self.request.get(name).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok())
    }

    /// How many choices are asked for: 1 to 128.
    fn choices(&self) -> Result<usize, Fault> {
        match self.request.get("n").filter(|n| !n.is_null()) {
            None => Ok(1),
            Some(n) => match n.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n @ 1..=128) => Ok(n),
                _ => Err(Fault::new(400, "Invalid value for 'n': must be between 1 and 128.").param("n")),
            },
        }
    }

    /// Whether a stream is to end with its usage.
    fn includes_usage(&self) -> bool {
        let options = self.request.get("stream_options");
        options.and_then(|options| options.get("include_usage")).and_then(Value::as_bool).unwrap_or_default()
    }

    /// A member that must be there.
    fn required(&self, name: &'static str) -> Result<&Value, Fault> {
        self.request.get(name).filter(|value| !value.is_null()).ok_or_else(|| {
            let text = format!("Missing required parameter: '{name}'.");
            Fault::new(400, text).param(name).code("missing_required_parameter")
        })
    }
}

/// OpenAI writes whole answers with line breaks and two spaces.
fn pretty(body: &impl serde::Serialize) -> Answer {
    let body = serde_json::to_string_pretty(body).unwrap_or_default();
    Answer::whole(200, "application/json", body + "\n")
}

/// A stream of events, each `data: JSON`, and the end.
fn stream(events: impl Iterator<Item = Value>) -> Answer {
    let mut pieces: Vec<Bytes> = events.map(|event| format!("data: {event}\n\n").into()).collect();
    pieces.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Answer::events(pieces)
}

/// What is wrong with a request.
#[derive(Debug)]
struct Fault {
    status: u16,
    message: String,
    param: Option<&'static str>,
    code: Option<&'static str>,
}

impl Fault {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code: None }
    }

    fn method(method: &str, path: &str) -> Self {
        let hint = "(HINT: Perhaps you meant to use a different HTTP method?)";
        Self::new(405, format!("Not allowed to {method} on {path}. {hint}")).code("method_not_supported")
    }

    fn unknown_url(method: &str, path: &str) -> Self {
        Self::new(404, format!("Invalid URL ({method} {path})"))
    }

    fn param(self, param: &'static str) -> Self {
        Self { param: Some(param), ..self }
    }

    fn code(self, code: &'static str) -> Self {
        Self { code: Some(code), ..self }
    }

    fn answer(&self) -> Answer {
        let error = json!({"error": {
            "message": self.message, "type": "invalid_request_error", "param": self.param, "code": self.code,
        }});
        let body = serde_json::to_string_pretty(&error).unwrap_or_default();
        let mut answer = Answer::whole(self.status, "application/json; charset=utf-8", body + "\n");
        if self.status == 401 {
            answer.headers.push(("www-authenticate".to_string(), "Bearer realm=\"OpenAI API\"".to_string()));
        }
        answer
    }
}

fn authenticate(head: &Head, options: &ProviderOptions) -> Result<(), Fault> {
    let Some(key) = &options.api_key else {
        return Ok(());
    };
    let mut given = head.all("authorization").filter_map(|value| std::str::from_utf8(value).ok());
    match (given.next().and_then(|value| value.trim().strip_prefix("Bearer ")), given.next()) {
        (Some(given), None) if given == key => Ok(()),
        (Some(given), None) => {
            let text = format!("Incorrect API key provided: {}. {FIND_KEY}", masked(given));
            Err(Fault::new(401, text).code("invalid_api_key"))
        }
        _ => Err(Fault::new(401, NO_KEY)),
    }
}

/// A key as OpenAI shows it: the first eight characters and the last four.
fn masked(key: &str) -> String {
    let chars: Vec<char> = key.chars().collect();
    match chars.as_slice() {
        [first @ .., _, _, _, _] if first.len() > 8 => {
            let shown = |(index, char): (usize, &char)| if index < 8 || index >= first.len() { *char } else { '*' };
            chars.iter().enumerate().map(shown).collect()
        }
        short => "*".repeat(short.len()),
    }
}

fn models(options: &ProviderOptions) -> Answer {
    let data: Vec<Value> = options.models.iter().map(|model| model_object(model)).collect();
    pretty(&json!({ "object": "list", "data": data }))
}

fn one_model(model: &str, options: &ProviderOptions) -> Result<Answer, Fault> {
    if options.models.iter().any(|known| known == model) {
        return Ok(pretty(&model_object(model)));
    }
    Err(Fault::new(404, format!("The model '{model}' does not exist")).param("model").code("model_not_found"))
}

fn model_object(model: &str) -> Value {
    json!({ "id": model, "object": "model", "created": Seed::of_text(model).time(), "owned_by": "system" })
}

/// The headers that come with each of OpenAI's answers, as seen from outside Cloudflare.
fn headers(mut seed: Seed, answer: &Answer) -> Vec<(String, String)> {
    let mut headers = vec![
        ("openai-organization", "demo-organization".to_string()),
        ("openai-processing-ms", seed.below(400).to_string()),
        ("openai-version", "2020-10-01".to_string()),
        ("x-request-id", seed.id("req_", 32)),
        ("strict-transport-security", "max-age=31536000; includeSubDomains; preload".to_string()),
        ("x-content-type-options", "nosniff".to_string()),
        ("set-cookie", format!("{}; path=/; HttpOnly; Secure; SameSite=None", seed.id("__cf_bm=", 43))),
        ("server", "cloudflare".to_string()),
        ("alt-svc", "h3=\":443\"; ma=86400".to_string()),
    ];
    if answer.status == 200 {
        headers.extend([
            ("x-ratelimit-limit-requests", "10000".to_string()),
            ("x-ratelimit-limit-tokens", "200000".to_string()),
            ("x-ratelimit-remaining-requests", "9999".to_string()),
            ("x-ratelimit-remaining-tokens", (199_000 + seed.below(1000)).to_string()),
            ("x-ratelimit-reset-requests", "8.64s".to_string()),
            ("x-ratelimit-reset-tokens", "6ms".to_string()),
        ]);
    }
    headers.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}

const BAD_JSON: &str = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your \
    HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have \
    trouble figuring out how to fix this, please contact us through our help center at help.openai.com.)";
const FIND_KEY: &str = "You can find your API key at https://platform.openai.com/account/api-keys.";
const NO_KEY: &str = "You didn't provide an API key. You need to provide your API key in an Authorization header using \
    Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're \
    accessing the API from your browser and are prompted for a username and password. You can obtain an API key from \
    https://platform.openai.com/account/api-keys.";
