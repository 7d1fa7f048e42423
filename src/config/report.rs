//! What is wrong with a configuration, told all at once: where, what was expected, and how to mend it.
//!
//! Invariant: a problem holds names and positions, never a value, so that a report can be pasted anywhere.
//! Never does: any IO; deciding what is wrong.

use std::borrow::Cow;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named to us; `environment` where the fault is in a variable.
    pub file: String,
    /// The field, `providers.openai.timeouts.idle`, or the variable; empty where it is the file as a whole.
    pub path: String,
    /// Line of the file from 1; 0 where there is none.
    pub line: usize,
    /// Column of that line in characters, from 1; 0 where there is none.
    pub column: usize,
    /// What was expected, or what is missing.
    pub message: Cow<'static, str>,
    /// How to mend it, where that is not plain from the message.
    pub hint: Option<Cow<'static, str>>,
}

/// All problems of a configuration, by file and position. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
}

/// The place of a field in the tree of the YAML file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FieldPath(Vec<Step>);

/// One step of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list, counted from 0.
    Item(usize),
}

/// How a configuration without a file is called, and what a file leaves to the defaults.
pub(super) const BUILT_IN: &str = "built-in defaults";

/// What [`Problem::file`] says of a fault in the environment.
pub(super) const ENVIRONMENT: &str = "environment";

impl Problem {
    /// A problem with a file as a whole.
    pub(crate) fn of_file(file: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { file: file.to_owned(), path: String::new(), line: 0, column: 0, message: message.into(), hint: None }
    }

    /// A problem with a variable of the environment.
    pub(super) fn of_variable(name: &str, message: impl Into<Cow<'static, str>>) -> Self {
        let mut problem = Self::of_file(ENVIRONMENT, message);
        name.clone_into(&mut problem.path);
        problem
    }

    /// The same problem at a line and column.
    pub(super) fn at(mut self, line: usize, column: usize) -> Self {
        (self.line, self.column) = (line, column);
        self
    }

    /// The same problem with a hint.
    pub(super) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl Report {
    /// Puts problems in the order in which a reader meets them; `None` where there are none.
    pub(super) fn of(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        problems.dedup();
        (!problems.is_empty()).then_some(Self { problems })
    }

    /// The problems in order.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<Problem> for Report {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for Report {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for problem in &self.problems {
            write!(f, "{separator}{problem}")?;
            separator = "\n";
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl FieldPath {
    /// The path of a field that is spelt with dots and has no list on its way.
    pub(super) fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(|name| Step::Key(name.to_owned())).collect())
    }

    /// The path of a member of this mapping.
    pub(super) fn key(&self, name: &str) -> Self {
        self.then(Step::Key(name.to_owned()))
    }

    /// The path of an item of this list.
    pub(super) fn item(&self, index: usize) -> Self {
        self.then(Step::Item(index))
    }

    fn then(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// Adds a step at the end.
    pub(super) fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    /// The steps from the root.
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The path itself and all paths above it, the root left out.
    pub(super) fn and_above(&self) -> impl Iterator<Item = Self> {
        (1..=self.0.len()).map(|length| Self(self.0[..length].to_vec()))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for step in &self.0 {
            match step {
                Step::Key(name) => write!(f, "{separator}{}", shown(name))?,
                Step::Item(index) => write!(f, "[{index}]")?,
            }
            separator = ".";
        }
        Ok(())
    }
}

/// A name as it may be shown. What does not look like a name may be a secret in the wrong place.
pub(super) fn shown(name: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.len() <= 40 && !name.starts_with("sk-") && name.bytes().all(plain) { name } else { "?" }
}
