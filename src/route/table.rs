//! The table that finds a route by method and path.
//!
//! Invariant: a look-up costs the length of the path, however many routes there are, and allocates nothing; a route that
//! names the path goes before one that stands for all below another path.
//! Never does: normalise a path; what is not spelt as configured is unknown.

use std::sync::Arc;

use http::Method;

use super::Route;

/// All routes of a snapshot.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    by_path: matchit::Router<Vec<Arc<Route>>>,
    /// Patterns that end in `/*`. A table of their own, because a path that is named for one method only is still theirs
    /// for all others.
    by_rest: matchit::Router<Vec<Arc<Route>>>,
    has_native: bool,
}

/// A route that was found, and what its variable segment holds.
#[derive(Debug)]
pub struct Match<'t, 'p> {
    /// The route.
    pub route: &'t Arc<Route>,
    /// The method that it was found by: `GET` for a `HEAD`.
    pub method: Method,
    /// What `{model}` stands for in this path, where the pattern has it.
    pub model: Option<&'p str>,
}

/// Why a set of routes is no table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// The same method and path twice.
    #[error("this method and path stand twice")]
    Twice,
    /// Two patterns that differ only in the name of a variable segment, or a pattern with broken braces.
    #[error("the pattern is broken or conflicts with another one")]
    Pattern,
}

impl RouteTable {
    /// Adds a route; its `id` must be the number of routes added before it.
    ///
    /// # Errors
    /// [`TableError`] where the table could not tell it from another one.
    pub fn add(&mut self, route: Route) -> Result<(), TableError> {
        let route = Arc::new(route);
        if self.routes.iter().any(|other| other.method == route.method && other.pattern == route.pattern) {
            return Err(TableError::Twice);
        }
        let (table, pattern) = match route.rest() {
            Some(above) => (&mut self.by_rest, format!("{above}/{{*rest}}")),
            None => (&mut self.by_path, route.pattern.clone()),
        };
        match table.at_mut(&pattern) {
            Ok(found) if found.value.iter().any(|other| other.pattern == route.pattern) => {
                found.value.push(Arc::clone(&route));
            }
            _ => table.insert(pattern, vec![Arc::clone(&route)]).map_err(|_| TableError::Pattern)?,
        }
        self.has_native |= route.kind.is_native();
        self.routes.push(route);
        Ok(())
    }

    /// Finds the route of a request. `path` is the request's path without its query.
    pub fn find<'t, 'p>(&'t self, method: &Method, path: &'p str) -> Option<Match<'t, 'p>> {
        if !is_plain(path) {
            return None;
        }
        let path = match path.strip_suffix('/') {
            Some(shorter) if !shorter.is_empty() => shorter,
            _ => path,
        };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let named = self.by_path.at(path).ok().and_then(|found| {
            let route = of_method(found.value, wanted)?;
            Some(Match { route, method: wanted.clone(), model: found.params.get("model") })
        });
        named.or_else(|| Some(Match { route: self.above(wanted, path)?, method: wanted.clone(), model: None }))
    }

    /// The route of the nearest `/*` above a path that has the method. Bytes outside of ASCII, and percent signs that are
    /// encoded themselves, have no one spelling; a path that nobody has named is not to have several.
    fn above(&self, wanted: &Method, path: &str) -> Option<&Arc<Route>> {
        if !path.is_ascii() || path.contains("%25") {
            return None;
        }
        let mut from = path;
        while let Ok(found) = self.by_rest.at(from) {
            if let Some(route) = of_method(found.value, wanted) {
                return Some(route);
            }
            from = found.value.first()?.rest()?;
        }
        None
    }

    /// Whether any route is native.
    pub fn has_native(&self) -> bool {
        self.has_native
    }

    /// All routes, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
}

/// The route of a method among those of one path, else the one of any method. `TRACE` and `CONNECT` are none: the first
/// would tell the provider's key, the second is no request for a path.
fn of_method<'t>(routes: &'t [Arc<Route>], wanted: &Method) -> Option<&'t Arc<Route>> {
    let own = routes.iter().find(|route| route.method.as_ref() == Some(wanted));
    let known =
        [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS].contains(wanted);
    own.or_else(|| routes.iter().find(|route| known && route.method.is_none()))
}

/// Tells whether a path has nothing that two readers could understand differently: no empty or dot segment, no encoded
/// slash, dot or backslash, no control byte (design.md section 3.2).
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut previous = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let odd = match byte {
            b'/' => previous == b'/',
            b'.' => previous == b'/',
            b'%' => encodes_a_separator(bytes, at),
            b'\\' | 0..=0x1f | 0x7f => true,
            _ => false,
        };
        if odd {
            return false;
        }
        previous = byte;
    }
    true
}

/// Or a control byte: those below a blank, and DEL.
fn encodes_a_separator(bytes: &[u8], at: usize) -> bool {
    let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
        return true;
    };
    matches!((high, low.to_ascii_lowercase()), (b'2', b'e' | b'f') | (b'5', b'c') | (b'7', b'f')) || high < b'2'
}
