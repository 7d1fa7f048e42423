//! A scope: the method and path that a key opens, and what each reaches among the configured routes.
//!
//! Invariant: a scope reaches only what it spells; `*` counts as a method, or as the last segment of a path, and is an
//! ordinary character elsewhere.
//! Never does: normalise a path, decode an escape, guess at a spelling.

use std::fmt;
use std::str::FromStr;

use super::json::{edits, nearest};

/// One method and path that a key may use, as clients send the path: `get:/openai/v1/models`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    method: Box<str>,
    path: Box<str>,
}

/// Why a text is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// There is no `:` between method and path.
    #[error("a scope is METHOD:PATH, such as get:/openai/v1/models")]
    NoColon,
    /// The method is none that a route can have.
    #[error("the method is one of get, post, put, patch, delete in lower case, or *{}", meant(.nearest))]
    Method {
        /// The known method that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The path does not begin with a slash and the provider's name.
    #[error("the path begins with a slash and the provider's name, such as /openai/v1/models")]
    Path,
    /// The path has a blank, a control character, a query or a fragment.
    #[error("the path holds no blanks, no query and no fragment")]
    PathCharacter,
}

impl Scope {
    /// Makes a scope of its two parts, as the key file spells them.
    ///
    /// # Errors
    /// [`ScopeError`] where no request could ever match.
    pub fn new(method: &str, path: &str) -> Result<Self, ScopeError> {
        if method != ANY && !METHODS.contains(&method) {
            let lower = method.to_ascii_lowercase();
            let nearest = if lower == "any" || lower == "all" { Some(ANY) } else { nearest(&lower, &METHODS) };
            return Err(ScopeError::Method { nearest });
        }
        if !path.starts_with('/') || path.len() < 2 {
            return Err(ScopeError::Path);
        }
        if path.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#')) {
            return Err(ScopeError::PathCharacter);
        }
        Ok(Self { method: method.into(), path: path.into() })
    }

    /// The method in lower case, or `*`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path, provider first.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Tells whether the scope opens every path of a configured route, such as `get` `/openai/v1/models/{model}`. A route
    /// of any method is `any`, which only a scope of any method opens as a whole.
    ///
    /// The scope of the list of models opens the route of a single one as well: the list has told it already.
    pub fn permits_route(&self, method_lower: &str, pattern: &str) -> bool {
        self.permits_method(method_lower) && (self.covers(pattern) || self.lists(method_lower, pattern))
    }

    /// Tells whether the scope opens this path of a client, for routes with a variable segment, of which a scope may
    /// name single paths. The method counts in any case; one slash at the path's end is ignored, as the route table
    /// does.
    pub fn permits_path(&self, method: &str, path: &str) -> bool {
        let path = path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path);
        self.permits_method(method) && self.covers(path)
    }

    /// Tells whether the scope opens at least one path of a configured route. One that does so for no route at all is
    /// worth a warning.
    pub fn touches_route(&self, method_lower: &str, pattern: &str) -> bool {
        let method_fits = method_lower == "any" || self.permits_method(method_lower);
        self.permits_route(method_lower, pattern) || (method_fits && self.overlaps(pattern))
    }

    /// Tells whether the path has a `*` that stands for itself only: any but one that is the last segment.
    pub fn has_literal_star(&self) -> bool {
        self.path.strip_suffix("/*").unwrap_or(&self.path).contains(ANY)
    }

    /// The configured path that a scope without a route was probably meant to name; with its method where only that
    /// differs. `routes` are methods in lower case and patterns.
    pub fn nearest_route<'r>(&self, routes: impl Iterator<Item = (&'r str, &'r str)> + Clone) -> Option<String> {
        let own = &*self.path;
        if let Some((method, path)) = routes.clone().find(|(_, path)| *path == own) {
            return Some(format!("{method}:{path}"));
        }
        let distance = |path: &str| {
            let shared = own.bytes().zip(path.bytes()).take_while(|(a, b)| a == b).count();
            let from = own.as_bytes()[..shared].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            let (own, other) = (own.get(from..).unwrap_or(own), path.get(from..).unwrap_or(path));
            let reach = own.len().div_ceil(3).clamp(3, 4);
            match path.ends_with(self.path()) {
                true => Some(0),
                false => Some(edits(own, other, reach)).filter(|edits| *edits <= reach),
            }
        };
        let found = routes.filter_map(|(_, path)| Some((distance(path)?, path)));
        found.min_by_key(|(distance, _)| *distance).map(|(_, path)| path.to_owned())
    }

    fn permits_method(&self, method: &str) -> bool {
        &*self.method == ANY || self.method.eq_ignore_ascii_case(method)
    }

    fn covers(&self, path: &str) -> bool {
        match self.path.strip_suffix("/*") {
            Some(prefix) => path.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/')),
            None => *self.path == *path,
        }
    }

    /// Only for reading and only for `models`: a list of files must not open each file, nor `*` a deletion.
    fn lists(&self, method_lower: &str, pattern: &str) -> bool {
        method_lower == "get"
            && self.path.ends_with("/models")
            && pattern
                .strip_prefix(&*self.path)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|segment| is_variable(segment) && !segment.contains('/'))
    }

    fn overlaps(&self, pattern: &str) -> bool {
        let mut wanted = self.path.split('/').peekable();
        let mut segments = pattern.split('/');
        loop {
            match (wanted.next(), segments.next()) {
                (None, None) => return true,
                (Some(_), Some(segment)) if is_rest(segment) => return true,
                (Some(ANY), Some(_)) if wanted.peek().is_none() => return true,
                (Some(own), Some(segment)) if own == segment || is_variable(segment) => {}
                _ => return false,
            }
        }
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (method, path) = text.split_once(':').ok_or(ScopeError::NoColon)?;
        Self::new(method, path)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.method, self.path)
    }
}

fn is_variable(segment: &str) -> bool {
    segment.starts_with('{') && !is_rest(segment)
}

/// The two spellings of "and all below" in a route: the configuration's and the route table's.
fn is_rest(segment: &str) -> bool {
    segment == ANY || segment.starts_with("{*")
}

fn meant(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}

const ANY: &str = "*";
/// What a route can be configured with. `HEAD` is served by the route of `GET`, `OPTIONS` by the gateway itself.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().unwrap()
    }

    #[test]
    fn a_scope_reaches_the_routes_that_it_spells() {
        let table = [
            ("get:/openai/v1/models", "get", "/openai/v1/models", true),
            ("get:/openai/v1/models", "post", "/openai/v1/models", false),
            ("get:/openai/v1/models", "get", "/openai/v1/models/{model}", true),
            ("get:/openai/v1/models", "get", "/openai/v1/models/{id}", true),
            ("get:/openai/v1/models", "get", "/openai/v1/models/{model}/x", false),
            ("get:/openai/v1/models", "get", "/openai/v1/models/{*rest}", false),
            ("get:/openai/v1/models", "get", "/openai/v1/modelsx", false),
            ("*:/openai/v1/models", "delete", "/openai/v1/models/{model}", false),
            ("*:/openai/v1/models", "get", "/openai/v1/models/{model}", true),
            ("get:/openai/v1/files", "get", "/openai/v1/files/{file}", false),
            ("get:/openai/v1/models/gpt-4o", "get", "/openai/v1/models/{model}", false),
            ("get:/openai/v1/models/{model}", "get", "/openai/v1/models/{model}", true),
            ("*:/openai/v1/models", "put", "/openai/v1/models", true),
            ("post:/openai/*", "post", "/openai/v1/chat/completions", true),
            ("post:/openai/v1/*", "post", "/openai/v1/{*rest}", true),
            ("post:/openai/v1/files/*", "post", "/openai/v1/{*rest}", false),
            ("post:/openai/v1/*", "post", "/openai/v1", false),
            ("post:/openai/*", "post", "/openaix/v1/embeddings", false),
            ("*:/*", "get", "/openai/v1/models", true),
            ("get:/openai/*/models", "get", "/openai/v1/models", false),
            ("get:/openai/v1/mod*", "get", "/openai/v1/models", false),
            ("*:/openai/v1/*", "any", "/openai/v1/*", true),
            ("*:/openai/*", "any", "/openai/v1/*", true),
            ("get:/openai/v1/*", "any", "/openai/v1/*", false),
            ("*:/openai/v1/files/*", "any", "/openai/v1/*", false),
        ];
        for (text, method, pattern, expected) in table {
            let found = scope(text).permits_route(method, pattern);
            assert_eq!(found, expected, "{text} on {method} {pattern}");
        }
    }

    #[test]
    fn a_scope_may_name_single_paths_of_a_variable_route() {
        let table = [
            ("get:/openai/v1/models/gpt-4o", "GET", "/openai/v1/models/gpt-4o", true),
            ("get:/openai/v1/models/gpt-4o", "get", "/openai/v1/models/gpt-4o/", true),
            ("get:/openai/v1/models/gpt-4o", "get", "/openai/v1/models/gpt-4o//", false),
            ("get:/openai/v1/models/gpt-4o", "get", "/openai/v1/models/gpt-4o-mini", false),
            ("get:/openai/v1/models/gpt-4o", "get", "/openai/v1/models/gpt%2d4o", false),
            ("post:/openai/v1/models/gpt-4o", "get", "/openai/v1/models/gpt-4o", false),
            ("*:/openai/v1/files/*", "DELETE", "/openai/v1/files/a/b", true),
            ("*:/openai/v1/files/*", "GET", "/openai/v1/files", false),
            ("*:/openai/v1/files/*", "GET", "/openai/v1/files/", false),
            ("*:/*", "GET", "/", false),
        ];
        for (text, method, path, expected) in table {
            assert_eq!(scope(text).permits_path(method, path), expected, "{text} on {method} {path}");
        }
    }

    #[test]
    fn a_scope_without_any_route_is_told() {
        let table = [
            ("get:/openai/v1/models/gpt-4o", "/openai/v1/models/{model}", true),
            ("get:/openai/v1/files/x", "/openai/v1/{*rest}", true),
            ("get:/openai/v1/files/*", "/openai/v1/*", true),
            ("get:/openai/*", "/openai/v1/{*rest}", true),
            ("get:/openai/v1/models/a/b", "/openai/v1/models/{model}", false),
            ("get:/openai/v1", "/openai/v1/*", false),
            ("post:/openai/v1/models", "/openai/v1/models", false),
        ];
        for (text, pattern, expected) in table {
            assert_eq!(scope(text).touches_route("get", pattern), expected, "{text} on {pattern}");
        }
        assert!(scope("delete:/openai/v1/files/x").touches_route("any", "/openai/v1/*"));
    }

    #[test]
    fn refuses_what_could_never_match() {
        let parse = |text: &str| text.parse::<Scope>().unwrap_err();
        assert_eq!(parse("/openai/v1/models"), ScopeError::NoColon);
        assert_eq!(parse("GET:/a/b"), ScopeError::Method { nearest: Some("get") });
        assert_eq!(parse("pots:/a/b"), ScopeError::Method { nearest: Some("post") });
        assert_eq!(parse("any:/a/b"), ScopeError::Method { nearest: Some("*") });
        assert_eq!(parse(":/a/b"), ScopeError::Method { nearest: None });
        assert_eq!(parse("get:openai/v1/models"), ScopeError::Path);
        assert_eq!(parse("get:/"), ScopeError::Path);
        assert_eq!(parse("get:/a b"), ScopeError::PathCharacter);
        assert_eq!(parse("get:/a?b=c"), ScopeError::PathCharacter);
        assert!(parse("pots:/a/b").to_string().ends_with("did you mean post?"));
    }

    #[test]
    fn a_misspelt_path_has_a_nearest_route() {
        let routes = [("get", "/openai/v1/models"), ("post", "/openai/v1/embeddings"), ("get", "/vllm/v1/models")];
        let nearest = |text: &str| scope(text).nearest_route(routes.into_iter());
        assert_eq!(nearest("get:/openai/v1/moddels").as_deref(), Some("/openai/v1/models"));
        assert_eq!(nearest("get:/openia/v1/models").as_deref(), Some("/openai/v1/models"));
        assert_eq!(nearest("get:/v1/models").as_deref(), Some("/openai/v1/models"));
        assert_eq!(nearest("get:/openai/models").as_deref(), Some("/openai/v1/models"));
        assert_eq!(nearest("get:/openai/v1/embeddings").as_deref(), Some("post:/openai/v1/embeddings"));
        assert_eq!(nearest("post:/openai/v1/responses"), None);
        assert_eq!(nearest("get:/é/é"), None);
    }

    #[test]
    fn a_star_that_counts_for_nothing_is_told() {
        for (text, literal) in [
            ("get:/openai/*", false),
            ("*:/*", false),
            ("get:/openai/v1/models", false),
            ("get:/openai/*/models", true),
            ("get:/openai/v1/mod*", true),
            ("get:/openai/*/*", true),
        ] {
            assert_eq!(scope(text).has_literal_star(), literal, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_and_matching_never_panic(text in ".{0,60}", method in "[a-z*]{0,6}", path in ".{0,40}") {
            for scope in [text.parse::<Scope>(), Scope::new("*", &text), Scope::new(&method, &path)].into_iter().flatten() {
                let again: Scope = scope.to_string().parse().unwrap();
                prop_assert_eq!(&again, &scope);
                scope.permits_path(&method, &path);
                scope.touches_route(&method, &path);
                scope.nearest_route([(&*method, &*path)].into_iter());
            }
        }
    }
}
