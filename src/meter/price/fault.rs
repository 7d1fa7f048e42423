//! What is wrong with a price book: the field, and where in the text it stands.
//!
//! Invariant: the message holds nothing of the text.
//! Never does: decide what is wrong.

use std::borrow::Cow;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From 1; 0 where there is no text.
    pub line: usize,
    /// In characters, from 1; 0 where there is no text.
    pub column: usize,
    /// Names from the top to the field.
    pub path: Vec<String>,
    /// What was expected.
    pub message: Cow<'static, str>,
    /// How to mend it.
    pub hint: Option<Cow<'static, str>>,
}

impl Fault {
    /// A fault that has no place yet.
    pub(super) fn new(path: &[&str], message: impl Into<Cow<'static, str>>) -> Self {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        Self { line: 0, column: 0, path, message: message.into(), hint: None }
    }

    /// The same with a hint.
    pub(super) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same below these names.
    pub(super) fn below(mut self, names: &[&str]) -> Self {
        self.path.splice(0..0, names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// The same at a line and column.
    pub(super) fn at(mut self, (line, column): (usize, usize)) -> Self {
        (self.line, self.column) = (line, column);
        self
    }
}
