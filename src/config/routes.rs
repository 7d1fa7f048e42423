//! Lines of `providers.*.routes`: `method path [kind]`.
//!
//! Invariant: a route that no request could reach, or that reaches more than it says, is refused.
//! Never does: find a route; that is the table's.

use std::sync::Arc;

use http::Method;

use super::compile::Check;
use super::report::FieldPath;
use super::values::NOT_YET;
use crate::route::{Provider, Route, RouteTable, TableError};
use crate::units::RouteId;

/// A line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'t> {
    pub(super) method: Method,
    /// The path below the provider: `/v1/models/{model}`.
    pub(super) path: &'t str,
}

/// What is wrong with a line, and how to mend it.
type Fault = (&'static str, &'static str);

/// Routes of all providers together; a set of routes of a key is a bit set.
const MAX_ROUTES: usize = 4096;

const EXAMPLE: &str = "such as \"post /v1/chat/completions\"";
const METHODS: &str = "get, post, put, patch or delete";

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
    let (Some(method), Some(path), kind, None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(("expected a method and a path", EXAMPLE));
    };
    let method = match method.to_ascii_lowercase().as_str() {
        "get" => Method::GET,
        "post" => Method::POST,
        "put" => Method::PUT,
        "patch" => Method::PATCH,
        "delete" => Method::DELETE,
        "any" => return Err((NOT_YET, "the method \"any\" comes with a later version")),
        "head" => return Err(("expected a method", "HEAD is served by the route of GET")),
        _ => return Err(("expected a method", METHODS)),
    };
    match kind {
        None | Some("json") => {}
        Some("stream" | "websocket" | "opaque") => {
            return Err((NOT_YET, "this kind of route comes with a later version; so far there is json"));
        }
        Some(_) => return Err(("expected no kind of route other than json", EXAMPLE)),
    }
    if path.ends_with("/*") {
        return Err((NOT_YET, "paths with /* come with a later version; list the paths"));
    }
    check_path(path)?;
    Ok(Line { method, path })
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
        let read = |text| parse(text).map(|line| (line.method.to_string(), line.path));
        assert_eq!(read("get  /v1/models"), Ok(("GET".to_owned(), "/v1/models")));
        assert_eq!(read("POST /v1/x json"), Ok(("POST".to_owned(), "/v1/x")));
        assert_eq!(read("get /v1/models/{model}"), Ok(("GET".to_owned(), "/v1/models/{model}")));
    }

    #[test]
    fn refuses_what_is_not_there_yet() {
        for text in ["any /v1/x", "get /v1/* opaque", "get /v1/*", "post /v1/x stream", "get /v1/x websocket"] {
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
        ] {
            assert!(parse(text).is_err_and(|fault| fault.0 != NOT_YET), "{text}");
        }
    }
}
