//! Lines of `providers.*.routes`: `method path [kind]`.
//!
//! Invariant: a route that no request could reach, or that reaches more than it says, is refused.
//! Never does: find a route; that is the table's.

use std::sync::Arc;

use http::Method;

use super::compile::Check;
use super::report::FieldPath;
use super::values::NOT_YET;
use crate::route::{Kind, Provider, Route, RouteTable, TableError};
use crate::units::RouteId;

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

const EXAMPLE: &str = "such as \"post /v1/chat/completions\"";
const METHODS: &str = "get, post, put, patch or delete";
const KINDS: &str = "json, stream, websocket or opaque";

/// Adds a provider's routes to the table.
pub(super) fn compile(
    check: &mut Check<'_>,
    path: &FieldPath,
    lines: &[String],
    provider: &Arc<Provider>,
    table: &mut RouteTable,
) {
    if lines.is_empty() {
        check.refuse_with(path, "expected at least one route", "leave the field out for the default");
    }
    for (index, text) in lines.iter().enumerate() {
        let path = path.item(index);
        let line = match parse(text) {
            Ok(line) => line,
            Err((message, hint)) => {
                check.refuse_with(&path, message, hint);
                continue;
            }
        };
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
            return Err((NOT_YET, "leave the model out; keys with a list of models cannot use this route then"));
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
    fn refuses_what_is_not_there_yet() {
        for text in ["post /v1/x stream model:query", "get /v1/x websocket model:gpt-realtime"] {
            assert_eq!(parse(text).map_err(|fault| fault.0), Err(NOT_YET), "{text}");
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
            assert!(parse(text).is_err_and(|fault| fault.0 != NOT_YET), "{text}");
        }
    }
}
