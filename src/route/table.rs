//! The table that finds a route by method and path.
//!
//! Invariant: a look-up costs the length of the path, however many routes there are, and allocates nothing.
//! Never does: normalise a path; what is not spelt as configured is unknown.

use std::sync::Arc;

use http::Method;

use super::Route;

/// All routes of a snapshot.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    by_path: matchit::Router<Vec<Arc<Route>>>,
}

/// A route that was found, and what its variable segment holds.
#[derive(Debug)]
pub struct Match<'t, 'p> {
    /// The route.
    pub route: &'t Arc<Route>,
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
        match self.by_path.at_mut(&route.pattern) {
            Ok(found) if found.value.iter().any(|other| other.pattern == route.pattern) => {
                found.value.push(Arc::clone(&route));
            }
            _ => {
                let new = vec![Arc::clone(&route)];
                self.by_path.insert(route.pattern.clone(), new).map_err(|_| TableError::Pattern)?;
            }
        }
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
        let found = self.by_path.at(path).ok()?;
        let route = found.value.iter().find(|route| route.method == wanted)?;
        Some(Match { route, model: found.params.get("model") })
    }

    /// All routes, by their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }
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

fn encodes_a_separator(bytes: &[u8], at: usize) -> bool {
    let Some(&[high, low]) = bytes.get(at + 1..at + 3) else {
        return true;
    };
    matches!((high, low.to_ascii_lowercase()), (b'2', b'e' | b'f') | (b'5', b'c')) || high < b'2'
}
