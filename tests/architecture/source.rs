//! The rules as they meet one source file.
//!
//! Invariant: what is found follows from the file's path and text alone.
//! Never does: read a file.

use std::fmt;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::Visit;

use super::tokens::{Functions, contains_call, drop_tests, each_attribute, is_test, paths};
use super::{ALONE, CLOCKS, FENCES, MAX_EXAMPLE_LINES, MAX_FILE_LINES, MAX_FUNCTION_LINES, RING, ROWS};

#[derive(Debug, PartialEq)]
pub(super) struct Violation {
    file: String,
    line: usize,
    what: String,
}

impl Violation {
    /// What is wrong where, without the line, which moves.
    pub(super) fn text(&self) -> String {
        format!("{}: {}", self.file, self.what)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A source file: its path within the repository, its text, and what was found wrong with it.
pub(super) struct Source<'s> {
    file: &'s str,
    text: &'s str,
    found: Vec<Violation>,
}

impl Source<'_> {
    /// All that is wrong with a file. `src/` is held to every rule, its tests and `tests/` to the form alone.
    pub(super) fn check(file: &str, text: &str) -> Vec<Violation> {
        let mut source = Source { file, text, found: Vec::new() };
        source.header();
        let lines = text.lines().count();
        let most = if file.starts_with("examples/") { MAX_EXAMPLE_LINES } else { MAX_FILE_LINES };
        if lines > most {
            source.note(lines, format!("the file has {lines} lines, more than {most}"));
        }
        match syn::parse_file(text) {
            Ok(parsed) => source.code(parsed),
            Err(error) => source.note(error.span().start().line, format!("cannot be parsed: {error}")),
        }
        source.found.dedup();
        source.found
    }

    fn note(&mut self, line: usize, what: impl Into<String>) {
        self.found.push(Violation { file: self.file.to_owned(), line, what: what.into() });
    }

    fn header(&mut self) {
        let header: Vec<_> = self.text.lines().take_while(|line| line.starts_with("//!")).collect();
        let whole = header.len() >= 2 && header.iter().any(|line| line.contains("Never does"));
        let fine = match self.file {
            "src/main.rs" => !header.is_empty(),
            // Its table says it of every layer.
            "src/lib.rs" => header.iter().any(|line| line.contains("never does")),
            file if file.starts_with("src/") => whole,
            _ => !header.is_empty(),
        };
        if !fine {
            self.note(1, "the file has no header (`//!`) of at least two lines that says what it `Never does`");
        }
    }

    fn code(&mut self, mut parsed: syn::File) {
        self.allows(parsed.to_token_stream());
        let place = self.file.strip_prefix("src/").unwrap_or_default();
        let is_test = place.ends_with("tests.rs") || place.contains("tests/");
        if place.is_empty() || is_test {
            return;
        }
        self.test_modules(&parsed.items);
        drop_tests(&mut parsed.items);
        let mut functions = Functions(Vec::new());
        functions.visit_file(&parsed);
        for (name, line, lines) in functions.0.into_iter().filter(|(_, _, lines)| *lines > MAX_FUNCTION_LINES) {
            self.note(line, format!("the function {name} has {lines} lines, more than {MAX_FUNCTION_LINES}"));
        }
        for (path, line) in paths(parsed.to_token_stream()) {
            self.import(place, &path, line);
            self.fences(place, &path, line);
        }
    }

    fn allows(&mut self, tokens: TokenStream) {
        each_attribute(tokens, &mut |attribute, line| {
            if contains_call(attribute, "allow") {
                self.note(line, "a lint is silenced by `allow`; write #[expect(..., reason = \"...\")]");
            }
        });
    }

    /// What counts as test code is told by its file's name, so that name and attribute must agree.
    fn test_modules(&mut self, items: &[syn::Item]) {
        for item in items {
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
                && is_test(item) != (module.ident == "tests")
            {
                self.note(module.span().start().line, "a module is `tests` where it is #[cfg(test)], and only there");
            }
        }
    }

    fn import(&mut self, place: &str, path: &[String], line: usize) {
        let own = layer(place);
        if matches!(own, "lib" | "main") {
            return;
        }
        let depth = place.split('/').filter(|part| *part != "mod.rs").count();
        let climbed = path.iter().take_while(|part| *part == "super").count();
        if climbed >= depth {
            return self.note(line, "`super` leads to the crate's root; write `crate::`");
        }
        let ["crate", other, ..] = path.iter().map(String::as_str).collect::<Vec<_>>()[..] else { return };
        if other == own {
            return;
        }
        let allowed = match (row(own), row(other)) {
            (Some(own_row), Some(other_row)) => other_row < own_row && !ALONE.contains(&own),
            _ => false,
        };
        if !allowed {
            self.note(line, format!("{own} imports crate::{other}, which is not below it"));
        }
    }

    fn fences(&mut self, place: &str, path: &[String], line: usize) {
        let clock = path.windows(2).any(|pair| CLOCKS.contains(&pair[0].as_str()) && pair[1] == "now");
        if clock && !at_home(place, RING) {
            self.note(line, format!("{} is read outside {}", path.join("::"), RING.join(", ")));
        }
        for (fence, homes) in FENCES {
            if begins(path, fence) && !at_home(place, homes) {
                self.note(line, format!("{fence} is used outside {}", homes.join(", ")));
            }
        }
    }
}

/// `keys` for `keys/mod.rs`, `server` for `server.rs`.
pub(super) fn layer(place: &str) -> &str {
    let first = place.split('/').next().unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first)
}

pub(super) fn row(layer: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&layer))
}

pub(super) fn at_home(place: &str, homes: &[&str]) -> bool {
    homes.iter().any(|home| if home.ends_with('/') { place.starts_with(home) } else { place == *home })
}

pub(super) fn begins(path: &[String], fence: &str) -> bool {
    let parts: Vec<_> = fence.split("::").collect();
    path.len() >= parts.len()
        && parts.iter().zip(path).all(|(part, own)| match part.strip_suffix('*') {
            Some(stem) => own.starts_with(stem),
            None => own == part,
        })
}
