//! Entries of `providers.*.routes`: `method path [kind]`, and what tells the model.
//!
//! Invariant: a route that no request could reach, or that reaches more than it says, is refused.
//! Never does: find a route; that is the table's.

use std::sync::Arc;

use http::Method;

use super::compile::Check;
use super::entries::RouteEntry;
use super::report::FieldPath;
use crate::route::{Kind, ModelSource, Provider, QUERY, Route, RouteTable, TableError, may_be_model};
use crate::units::{RouteId, Usd};

/// A line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'t> {
    /// Absent: any.
    pub(super) method: Option<Method>,
    /// The path below the provider: `/v1/models/{model}`, `/v1/*`.
    pub(super) path: &'t str,
    pub(super) kind: Kind,
}

impl Line<'_> {
    /// The method in lower case, or `any`.
    pub(super) fn method_name(&self) -> String {
        self.method.as_ref().map_or("any", Method::as_str).to_ascii_lowercase()
    }
}

/// What is wrong with a line, and how to mend it.
type Fault = (&'static str, &'static str);

/// Routes of all providers together; a set of routes of a key is a bit set.
const MAX_ROUTES: usize = 4096;
/// Longest name of a model, in bytes: what a record keeps.
const MAX_MODEL: usize = 256;

const EXAMPLE: &str = "such as \"post /v1/chat/completions\"";
const MAPPING: &str = "write { route: \"get /v1/realtime websocket\", model: query }";
const METHODS: &str = "get, post, put, patch or delete";
const KINDS: &str = "json, stream, websocket or opaque";

/// Adds a provider's routes to the table.
pub(super) fn compile(
    check: &mut Check<'_>,
    path: &FieldPath,
    entries: &[RouteEntry],
    provider: &Arc<Provider>,
    table: &mut RouteTable,
) {
    if entries.is_empty() {
        check.refuse_with(path, "expected at least one route", "leave the field out for the default");
    }
    for (index, entry) in entries.iter().enumerate() {
        let item = path.item(index);
        let path = entry.place(item.clone());
        let line = match parse(&entry.route) {
            Ok(line) => line,
            Err((message, hint)) => {
                check.refuse_with(&path, message, hint);
                continue;
            }
        };
        warn_of_dialect(check, &path, line.path, provider);
        let model = model_source(entry.model.as_deref(), &line, provider).unwrap_or_else(|(message, hint)| {
            check.refuse_with(&item.key("model"), message, hint);
            ModelSource::Unseen
        });
        let price = price(entry, line.kind).unwrap_or_else(|(message, hint)| {
            check.refuse_with(&item.key("price_per_request"), message, hint);
            None
        });
        let count = table.iter().count();
        let id = match u16::try_from(count) {
            Ok(id) if count < MAX_ROUTES => RouteId(id),
            _ => {
                check.refuse(&path, format!("expected no more than {MAX_ROUTES} routes in all"));
                return;
            }
        };
        let route = Route {
            id,
            method: line.method,
            pattern: format!("/{}{}", provider.id, line.path),
            kind: line.kind,
            model,
            price,
            provider: Arc::clone(provider),
        };
        match table.add(route) {
            Ok(()) => {}
            Err(TableError::Twice) => check.refuse_with(&path, "this route stands twice", "keep one of them"),
            Err(TableError::Pattern) => check.refuse_with(
                &path,
                "this path cannot be told from another one",
                "a variable segment has one name, {model}, in all routes",
            ),
        }
    }
}

fn warn_of_dialect(check: &mut Check<'_>, at: &FieldPath, path: &str, provider: &Provider) {
    if let Some(other) = of_another_dialect(path, provider) {
        check.warn(format!(
            "{at}: this path is of the dialect {other}, and the provider's is {}: what its calls use may not be known, and \
             errors have the other's shape; let a second provider have it",
            provider.dialect.name()
        ));
    }
}

/// What each call costs, where that is said.
fn price(entry: &RouteEntry, kind: Kind) -> Result<Option<Usd>, Fault> {
    match entry.price {
        Some(_) if !kind.is_unread() => {
            Err(("the calls of a json route cost what they use", "leave it out, and see `prices`"))
        }
        price => Ok(price.map(|money| money.0)),
    }
}

/// The dialect of a path that is known as another one's than the provider's.
fn of_another_dialect(path: &str, provider: &Provider) -> Option<&'static str> {
    // Behind a variable there are other messages: OpenAI's of a thread.
    let known = [("/v1/chat/completions", "openai"), ("/v1/responses", "openai"), ("/v1/messages", "anthropic")];
    let (_, dialect) = known.into_iter().find(|(known, _)| path == *known)?;
    (dialect != provider.dialect.name()).then_some(dialect)
}

/// Reads a line.
pub(super) fn parse(text: &str) -> Result<Line<'_>, Fault> {
    let mut words = text.split_ascii_whitespace();
    let (Some(method), Some(path), kind, more) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(("expected a method and a path", EXAMPLE));
    };
    let method = match method.to_ascii_lowercase().as_str() {
        "get" => Some(Method::GET),
        "post" => Some(Method::POST),
        "put" => Some(Method::PUT),
        "patch" => Some(Method::PATCH),
        "delete" => Some(Method::DELETE),
        "any" => None,
        "head" => return Err(("expected a method", "HEAD is served by the route of GET")),
        _ => return Err(("expected a method", METHODS)),
    };
    let kind = match kind {
        None | Some("json") => Kind::Json,
        Some("stream") => Kind::Stream,
        Some("websocket") => Kind::Websocket,
        Some("opaque") => Kind::Opaque,
        Some(_) => return Err(("expected a kind of route", KINDS)),
    };
    match more {
        None => {}
        Some(more) if more.starts_with("model:") => {
            return Err(("expected nothing behind the kind of route", MAPPING));
        }
        Some(_) => return Err(("expected nothing behind the kind of route", EXAMPLE)),
    }
    let above = path.strip_suffix("/*");
    if kind != Kind::Opaque && (method.is_none() || above.is_some()) {
        return Err(("only an opaque route may have the method any, or a path that ends in /*", "any /v1/* opaque"));
    }
    if kind == Kind::Websocket && method != Some(Method::GET) {
        return Err(("a WebSocket begins with a get", "such as \"get /v1/realtime websocket\""));
    }
    match above {
        Some(above) if !above.is_empty() => check_path(above)?,
        Some(_) => {}
        None => check_path(path)?,
    }
    Ok(Line { method, path, kind })
}

/// What tells the model of a route's calls.
fn model_source(written: Option<&str>, line: &Line<'_>, provider: &Provider) -> Result<ModelSource, Fault> {
    let Some(written) = written else {
        return Ok(ModelSource::Unseen);
    };
    if !line.kind.is_unread() {
        return Err(("the calls of a json route name their model in the body", "leave it out"));
    }
    if line.path.contains("{model}") {
        return Err(("this route's path names the model", "leave it out"));
    }
    if written == QUERY {
        // The provider's own parameters go in place of the client's.
        let is_set = provider.query.iter().any(|(name, _)| may_be_model(name));
        let fault = ("the provider's own query sets the model of all calls", "name that model here");
        return if is_set { Err(fault) } else { Ok(ModelSource::Query) };
    }
    let plain = written.chars().all(|character| !character.is_whitespace() && !character.is_control());
    if written.is_empty() || !plain || written.len() > MAX_MODEL {
        return Err(("expected \"query\" or the name of a model", "such as \"whisper-1\""));
    }
    Ok(ModelSource::Always(written.to_owned()))
}

fn check_path(path: &str) -> Result<(), Fault> {
    let Some(path) = path.strip_prefix('/') else {
        return Err(("expected a path that begins with \"/\"", EXAMPLE));
    };
    for segment in path.split('/') {
        let variable = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let name = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let literal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':');
        let fine = match variable {
            Some(variable) => !variable.is_empty() && variable.bytes().all(name),
            None => !segment.is_empty() && !segment.starts_with('.') && segment.bytes().all(literal),
        };
        if !fine {
            return Err((
                "expected a path of plain segments",
                "letters, digits and - _ . ~ :, or {model} as a whole segment; no query, no \"/\" at the end",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_methods_and_paths() {
        let read = |text| parse(text).map(|line| (line.method_name(), line.path, line.kind));
        let line = |method: &str, path, kind| Ok((method.to_owned(), path, kind));
        assert_eq!(read("get  /v1/models"), line("get", "/v1/models", Kind::Json));
        assert_eq!(read("POST /v1/x json"), line("post", "/v1/x", Kind::Json));
        assert_eq!(read("get /v1/models/{model}"), line("get", "/v1/models/{model}", Kind::Json));
        assert_eq!(read("post /v1/audio/speech stream"), line("post", "/v1/audio/speech", Kind::Stream));
        assert_eq!(read("get /v1/realtime websocket"), line("get", "/v1/realtime", Kind::Websocket));
        assert_eq!(read("any /v1/* opaque"), line("any", "/v1/*", Kind::Opaque));
        assert_eq!(read("get /* opaque"), line("get", "/*", Kind::Opaque));
        assert_eq!(read("delete /v1/files/{id} opaque"), line("delete", "/v1/files/{id}", Kind::Opaque));
    }

    #[test]
    fn the_model_is_told_where_calls_are_not_read() {
        let told = |text, model| {
            let line = parse(text).expect("a line");
            model_source(Some(model), &line, &crate::route::tests::provider("openai")).ok()
        };
        assert_eq!(told("get /v1/realtime websocket", "query"), Some(ModelSource::Query));
        let always = |model: &str| Some(ModelSource::Always(model.to_owned()));
        assert_eq!(told("post /v1/audio/transcriptions stream", "whisper-1"), always("whisper-1"));
        assert_eq!(told("any /v1/* opaque", "Query"), always("Query"));
        for (text, model) in [
            ("post /v1/chat/completions", "gpt-4o"),
            ("get /v1/models", "query"),
            ("delete /v1/models/{model} stream", "query"),
            ("post /v1/x stream", ""),
            ("post /v1/x stream", "a b"),
            ("post /v1/x stream", "a\n"),
            ("post /v1/x stream", &"a".repeat(257)),
        ] {
            assert_eq!(told(text, model), None, "{text} {model}");
        }
    }

    #[test]
    fn refuses_what_nobody_could_reach() {
        for text in [
            "",
            "get",
            "/v1/models",
            "get v1",
            "get /",
            "get /v1/",
            "get //v1",
            "get /../x",
            "get /v1/a%20b",
            "get /v1/x?a=1",
            "get /v1/{}",
            "get /v1/x{model}",
            "get /v1/{*rest}",
            "get /v1/x other",
            "get /v1/x websocket model:query",
            "get /a json b",
            "head /v1/x",
            "trace /v1/x",
            "get /v1/m*",
            "any /v1/x",
            "any /v1/x stream",
            "get /v1/*",
            "get /v1/* stream",
            "any /v1/*/x opaque",
            "any /v1/m* opaque",
            "any * opaque",
            "any //* opaque",
            "post /v1/realtime websocket",
            "any /v1/realtime websocket",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
