//! The NodeJS gateway's TOML file, read with the place of everything in it.
//!
//! Invariant: every member of the file is either understood, told as one that gateway ignored, or told as unknown.
//! Never does: any IO; judge what a setting becomes; repeat a value.

use std::ops::Range;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, map::Map};

use super::{Finding, Grade};
use crate::config::report::{Problem, shown};

/// What the file says.
#[derive(Debug)]
pub(super) struct Original {
    pub(super) app_port: Placed<u16>,
    pub(super) admin_port: Placed<u16>,
    pub(super) providers: Vec<OldProvider>,
}

/// `[providers.ID]`.
#[derive(Debug)]
pub(super) struct OldProvider {
    /// How the table is called, as it may be shown; it had no meaning.
    pub(super) id: String,
    /// The first segment of its paths, and the stem of its key's variable.
    pub(super) name: Placed<String>,
    pub(super) base_url: Placed<String>,
    /// Method and path, the latter without a slash before it.
    pub(super) routes: Vec<Placed<(String, String)>>,
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) line: usize,
    pub(super) column: usize,
}

type Table<'t> = Map<Spanned<std::borrow::Cow<'t, str>>, Spanned<DeValue<'t>>>;

/// Reads the file; gives what is to be told of members that had no effect, too.
pub(super) fn read(file: &str, text: &str) -> Result<(Original, Vec<Finding>), Vec<Problem>> {
    let mut reader = Reader { file, text, problems: Vec::new(), findings: Vec::new() };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let problem = |error: &toml::de::Error| {
            let (line, column) = reader.place(error.span().unwrap_or_default());
            Problem::of_file(file, format!("is not valid TOML: {}", error.message())).at(line, column)
        };
        return Err(errors.iter().map(problem).collect());
    }
    let original = reader.document(document.get_ref());
    match original {
        Some(original) if reader.problems.is_empty() => Ok((original, reader.findings)),
        _ => Err(reader.problems),
    }
}

struct Reader<'t> {
    file: &'t str,
    text: &'t str,
    problems: Vec<Problem>,
    findings: Vec<Finding>,
}

impl<'t> Reader<'t> {
    fn document(&mut self, document: &Table<'t>) -> Option<Original> {
        self.tell_others(document, "", &["server", "providers"]);
        let whole = 0..0;
        let server = self.table(document, "", "server", &whole);
        let ports = server.and_then(|(server, span)| {
            self.tell_others(server, "server.", &["appPort", "adminPort"]);
            let app_port = self.port(server, "appPort", &span);
            let admin_port = self.port(server, "adminPort", &span);
            Some((app_port?, admin_port?))
        });
        let providers = self.table(document, "", "providers", &whole);
        let providers = providers.map(|(providers, span)| {
            if providers.is_empty() {
                self.refuse(&span, "providers", "expected at least one table [providers.ID]");
            }
            let mut all: Vec<OldProvider> =
                providers.iter().filter_map(|(id, value)| self.provider(id.get_ref(), value)).collect();
            // The parser sorts by name; the file's order is the one that its readers know.
            all.sort_by_key(|provider| (provider.name.line, provider.name.column));
            all
        });
        let (app_port, admin_port) = ports?;
        Some(Original { app_port, admin_port, providers: providers? })
    }

    fn provider(&mut self, id: &str, value: &Spanned<DeValue<'t>>) -> Option<OldProvider> {
        let path = format!("providers.{}", shown(id));
        let span = value.span();
        let Some(table) = value.get_ref().as_table() else {
            self.refuse(&span, &path, "expected a table");
            return None;
        };
        let above = format!("{path}.");
        self.tell_others(table, &above, &["name", "baseUrl", "routes"]);
        let name = self.string(table, &above, "name", &span);
        let base_url = self.string(table, &above, "baseUrl", &span);
        let routes = self.routes(table, &above, &span);
        Some(OldProvider { id: shown(id).to_owned(), name: name?, base_url: base_url?, routes: routes? })
    }

    fn routes(
        &mut self,
        provider: &Table<'t>,
        above: &str,
        span: &Range<usize>,
    ) -> Option<Vec<Placed<(String, String)>>> {
        let path = format!("{above}routes");
        let value = self.member(provider, above, "routes", span)?;
        let Some(items) = value.get_ref().as_array() else {
            self.refuse(&value.span(), &path, "expected tables [[...routes]]");
            return None;
        };
        let mut routes = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}].");
            let Some(table) = item.get_ref().as_table() else {
                self.refuse(&item.span(), path.trim_end_matches('.'), "expected a table with path and method");
                continue;
            };
            self.tell_others(table, &path, &["path", "method"]);
            let target = self.string(table, &path, "path", &item.span());
            let method = self.string(table, &path, "method", &item.span());
            if let (Some(target), Some(method)) = (target, method) {
                let Placed { line, column, .. } = target;
                routes.push(Placed { value: (method.value, target.value), line, column });
            }
        }
        Some(routes)
    }

    fn member<'d>(
        &mut self,
        table: &'d Table<'t>,
        above: &str,
        name: &str,
        span: &Range<usize>,
    ) -> Option<&'d Spanned<DeValue<'t>>> {
        let found = table.get(name);
        if found.is_none() {
            self.refuse(span, &format!("{above}{name}"), "is missing; the NodeJS gateway needed it too");
        }
        found
    }

    fn table<'d>(
        &mut self,
        table: &'d Table<'t>,
        above: &str,
        name: &str,
        span: &Range<usize>,
    ) -> Option<(&'d Table<'t>, Range<usize>)> {
        let value = self.member(table, above, name, span)?;
        let found = value.get_ref().as_table();
        if found.is_none() {
            self.refuse(&value.span(), &format!("{above}{name}"), "expected a table");
        }
        Some((found?, value.span()))
    }

    fn string(&mut self, table: &Table<'t>, above: &str, name: &str, span: &Range<usize>) -> Option<Placed<String>> {
        let value = self.member(table, above, name, span)?;
        match value.get_ref().as_str().filter(|text| !text.is_empty()) {
            Some(text) => Some(self.placed(text.to_owned(), value.span())),
            None => {
                self.refuse(&value.span(), &format!("{above}{name}"), "expected a text that is not empty");
                None
            }
        }
    }

    fn port(&mut self, table: &Table<'t>, name: &str, span: &Range<usize>) -> Option<Placed<u16>> {
        let value = self.member(table, "server.", name, span)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| u16::from_str_radix(number.as_str(), number.radix()).ok());
        match number.filter(|port| *port != 0) {
            Some(port) => Some(self.placed(port, value.span())),
            None => {
                self.refuse(&value.span(), &format!("server.{name}"), "expected a port from 1 to 65535");
                None
            }
        }
    }

    /// Tells of the members that are none of the known ones.
    fn tell_others(&mut self, table: &Table<'t>, above: &str, known: &[&str]) {
        for (name, _) in table.iter().filter(|(name, _)| !known.contains(&&**name.get_ref())) {
            let (line, column) = self.place(name.span());
            let (grade, reason) = match &**name.get_ref() {
                "headers" => (
                    Grade::Exact,
                    "the NodeJS gateway took it and ignored it, so it is left out; `headers` of a provider would really \
                     send them",
                ),
                "tokenCountEnabled" | "auth" => {
                    (Grade::Exact, "the NodeJS gateway took it and ignored it, so it is left out")
                }
                _ => (Grade::Manual, "no setting of the NodeJS gateway that we know of; it is left out"),
            };
            self.findings.push(Finding {
                file: self.file.to_owned(),
                line,
                column,
                setting: format!("{above}{}", shown(name.get_ref())),
                grade,
                becomes: None,
                reason: reason.into(),
            });
        }
    }

    fn placed<T>(&self, value: T, span: Range<usize>) -> Placed<T> {
        let (line, column) = self.place(span);
        Placed { value, line, column }
    }

    fn refuse(&mut self, span: &Range<usize>, path: &str, message: &'static str) {
        let (line, column) = self.place(span.clone());
        let mut problem = Problem::of_file(self.file, message).at(line, column);
        path.clone_into(&mut problem.path);
        self.problems.push(problem);
    }

    /// Line and column of a span's start, both from 1, the latter in characters.
    fn place(&self, span: Range<usize>) -> (usize, usize) {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}
