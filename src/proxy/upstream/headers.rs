//! The headers of an answer: over HTTP/1.1 as the lines that came, which are all that a client over HTTP/1.1 needs; else a map.
//!
//! Invariant: lines were parsed as headers, and are put into a map without a change where somebody needs one.
//! Never does: add a header; drop or change one unasked.

use std::iter;
use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::units::Mask;

/// Room for the headers that the gateway adds, so that the map need not grow.
const ROOM_FOR_OURS: usize = 12;

/// All headers of an answer.
#[derive(Debug)]
pub(in crate::proxy) enum Headers {
    /// As they came.
    Lines(Lines),
    /// By name.
    Map(HeaderMap),
}

/// A head's lines, in the order in which they came.
#[derive(Debug)]
pub(in crate::proxy) struct Lines {
    bytes: Bytes,
    places: Vec<Place>,
}

/// One line.
pub(in crate::proxy) struct Line<'l> {
    /// As it was spelled.
    pub(in crate::proxy) name: &'l [u8],
    pub(in crate::proxy) value: &'l [u8],
    /// The head.
    pub(in crate::proxy) of: &'l [u8],
    /// Where it stands in that with its end, if it came as the gateway itself would write it: with one blank, and a carriage
    /// return before the line feed.
    pub(in crate::proxy) whole: Option<Range<usize>>,
}

/// Where a name and a value stand, and how long they are.
type Place = ((usize, usize), (usize, usize));

impl Headers {
    /// The value of a header, the first where there are several.
    pub(in crate::proxy) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        match self {
            Self::Lines(lines) => lines.all(name).next(),
            Self::Map(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// Takes out a header, wherever it stands.
    pub(in crate::proxy) fn remove(&mut self, name: &HeaderName) {
        match self {
            Self::Lines(Lines { bytes, places }) => {
                let is_it = |(at, length): (usize, usize)| {
                    bytes.get(at..at + length).is_some_and(|found| found.eq_ignore_ascii_case(name.as_str().as_bytes()))
                };
                places.retain(|(found, _)| !is_it(*found));
            }
            Self::Map(map) => drop(map.remove(name)),
        }
    }

    /// Sets a header in place of all of its name.
    pub(in crate::proxy) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        let mut map = std::mem::replace(self, Self::Map(HeaderMap::new())).into_map();
        map.insert(name, value);
        *self = Self::Map(map);
    }

    /// Covers the key of ours that a provider echoes.
    pub(in crate::proxy) fn mask(&mut self, mask: &Mask) {
        match self {
            // The same length, so that all stays in its place.
            Self::Lines(lines) => {
                if let Some(masked) = mask.masked(&lines.bytes) {
                    lines.bytes = masked.into();
                }
            }
            Self::Map(map) => {
                for value in map.values_mut() {
                    let masked = mask.masked(value.as_bytes());
                    if let Some(masked) = masked.and_then(|masked| HeaderValue::from_bytes(&masked).ok()) {
                        *value = masked;
                    }
                }
            }
        }
    }

    /// All of them by name.
    pub(in crate::proxy) fn into_map(self) -> HeaderMap {
        match self {
            Self::Lines(lines) => lines.map(),
            Self::Map(map) => map,
        }
    }

    /// The same for somebody who only looks.
    pub(in crate::proxy) fn map(&self) -> HeaderMap {
        match self {
            Self::Lines(lines) => lines.map(),
            Self::Map(map) => map.clone(),
        }
    }
}

impl Lines {
    /// The lines of a head whose bytes these are. `places` are of slices of it, of names that are tokens, and values that are
    /// values of headers.
    pub(super) fn new(bytes: Bytes, places: Vec<Place>) -> Self {
        Self { bytes, places }
    }

    /// Lines of these names and values.
    #[cfg(test)]
    pub(in crate::proxy) fn of(pairs: &[(&str, &str)]) -> Self {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for (name, value) in pairs {
            let at = bytes.len();
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            places.push(((at, name.len()), (at + name.len() + 2, value.len())));
        }
        Self::new(bytes.into(), places)
    }

    /// How long the head was.
    pub(in crate::proxy) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// All of them, as they came.
    pub(in crate::proxy) fn each(&self) -> impl Iterator<Item = Line<'_>> {
        self.places.iter().map(|&(name, value)| {
            let (behind, end) = (name.0 + name.1, value.0 + value.1);
            let is_plain =
                self.bytes.get(behind..value.0) == Some(b": ") && self.bytes.get(end..end + 2) == Some(b"\r\n");
            let whole = is_plain.then_some(name.0..end + 2);
            Line { name: self.slice(name), value: self.slice(value), of: &self.bytes, whole }
        })
    }

    /// The values of a header.
    pub(in crate::proxy) fn all<'a, 'n>(
        &'a self,
        name: &'n HeaderName,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let mut at = 0;
        iter::from_fn(move || {
            let found = self.next(name.as_str().as_bytes(), at)?;
            at = found + 1;
            self.places.get(found).map(|(_, value)| self.slice(*value))
        })
    }

    /// The next line of a name that is there, from this one on. Not inlined: a head is asked for half a dozen.
    #[inline(never)]
    fn next(&self, name: &[u8], from: usize) -> Option<usize> {
        let is_it =
            |(at, length): (usize, usize)| length == name.len() && self.slice((at, length)).eq_ignore_ascii_case(name);
        (from..self.places.len()).find(|&line| self.places.get(line).is_some_and(|(found, _)| is_it(*found)))
    }

    fn slice(&self, (at, length): (usize, usize)) -> &[u8] {
        self.bytes.get(at..at + length).unwrap_or_default()
    }

    fn map(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.places.len() + ROOM_FOR_OURS);
        for (name, (at, length)) in &self.places {
            let name = HeaderName::from_bytes(self.slice(*name));
            // The value shares the head's bytes.
            let value = HeaderValue::from_maybe_shared(self.bytes.slice(*at..at + length));
            // Both parsers have the same grammar, so that neither can fail.
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        headers
    }
}
