//! The YAML file as a tree that knows where each node stands.
//!
//! Invariant: what was taken out because it was wrong is remembered, so that nothing is told of it twice.
//! Never does: know the fields; that is `file`.

use std::borrow::Cow;
use std::collections::HashSet;

use marked_yaml::types::{MarkedScalarNode, Node};
use marked_yaml::{LoadError, LoaderOptions, Marker};

use super::interpolate::{self, Values};
use super::report::{BUILT_IN, FieldPath, Problem, Step, shown};

/// A parsed YAML file.
#[derive(Debug)]
pub(super) struct Tree {
    file: String,
    pub(super) root: Node,
    removed: HashSet<FieldPath>,
    /// Fields whose whole text looks like a variable of a shell: `$NAME`.
    bare_variables: Vec<FieldPath>,
}

/// Marks the nodes of a file, as against those of the built-in defaults, whose positions say nothing to anybody.
const OF_FILE: usize = 1;

/// Indentation and flow brackets beyond which we do not follow: the parser recurses.
const MAX_DEPTH: usize = 100;

impl Tree {
    /// Parses the text of a file.
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, Problem> {
        Self::parse_as(OF_FILE, file, text)
    }

    /// The tree where there is no file: `text` is ours.
    pub(super) fn built_in(text: &str) -> Result<Self, Problem> {
        Self::parse_as(0, BUILT_IN, text)
    }

    fn parse_as(source: usize, file: &str, text: &str) -> Result<Self, Problem> {
        if let Some(line) = text.lines().position(is_too_deep) {
            return Err(Problem::of_file(file, "nested too deeply").at(line + 1, 1));
        }
        let options = LoaderOptions::default().error_on_duplicate_keys(true).prevent_coercion(true);
        let root =
            marked_yaml::parse_yaml_with_options(source, text, options).map_err(|error| told(file, text, &error))?;
        if let Some((line, column)) = rest_after(&root, text) {
            return Err(Problem::of_file(file, "expected the end of the file here")
                .at(line, column)
                .hint("the file is one YAML document: one mapping"));
        }
        // A file of comments has everything as by default. An empty one may be half written.
        if text.trim().is_empty() {
            return Err(Problem::of_file(file, "the file is empty")
                .at(1, 1)
                .hint("write a field or a comment, or remove the file: the gateway runs without one"));
        }
        Ok(Self { file: file.to_owned(), root, removed: HashSet::new(), bare_variables: Vec::new() })
    }

    /// Takes over the fields at the top of another tree that this one does not have.
    pub(super) fn complete_with(&mut self, other: Self) {
        if let (Some(own), Node::Mapping(others)) = (self.root.as_mapping_mut(), other.root) {
            for (key, node) in others.iter() {
                if !own.contains_key(key.as_str()) {
                    own.insert(key.clone(), node.clone());
                }
            }
        }
    }

    /// Puts in the values of variables and files, and takes out what is null. With `lenient`, a field whose value is
    /// missing is taken out too, rather than told.
    pub(super) fn fill_in(&mut self, values: &dyn Values, lenient: bool) -> Vec<Problem> {
        let mut faults = Vec::new();
        let mut gone = Vec::new();
        let mut bare_variables = Vec::new();
        visit(&mut self.root, &FieldPath::default(), &mut |path, scalar| {
            if scalar.may_coerce() && matches!(scalar.as_str(), "" | "~" | "null") {
                gone.push((path.clone(), false));
                return;
            }
            // Quotes keep a text from being null; they need not keep it from being a number.
            scalar.set_coerce(true);
            if interpolate::is_bare_variable(scalar.as_str()) {
                bare_variables.push(path.clone());
            }
            match interpolate::fill_in(scalar.as_str(), values) {
                Ok(None) => {}
                Ok(Some(filled)) => *scalar = MarkedScalarNode::new(*scalar.span(), filled),
                Err(fault) => {
                    gone.push((path.clone(), true));
                    if !(lenient && fault.missing) {
                        faults.push((path.clone(), fault));
                    }
                }
            }
        });
        self.bare_variables.append(&mut bare_variables);
        let problems =
            faults.into_iter().map(|(path, fault)| self.problem(&path, fault.message).hint(fault.hint)).collect();
        for (path, remember) in gone {
            self.take_out(&path);
            if remember {
                self.removed.insert(path);
            }
        }
        problems
    }

    /// Fields whose whole text was `$NAME`, which stands for itself.
    pub(super) fn bare_variables(&self) -> &[FieldPath] {
        &self.bare_variables
    }

    /// A problem with a field; where it is not there, with what it should be in. What the defaults brought is theirs.
    pub(super) fn problem(&self, path: &FieldPath, message: impl Into<Cow<'static, str>>) -> Problem {
        let mut problem = Problem::of_file(&self.file, message);
        problem.path = path.to_string();
        match self.position(path) {
            Some(mark) if mark.source() == OF_FILE => problem.at(mark.line(), mark.column()),
            Some(_) => {
                BUILT_IN.clone_into(&mut problem.file);
                problem
            }
            None => problem,
        }
    }

    /// Tells whether something was told of a field below this one.
    pub(super) fn is_told_below(&self, path: &FieldPath) -> bool {
        self.removed.iter().any(|removed| removed.and_above().any(|above| above == *path))
    }

    /// Tells whether something was already told of this field or of what it is in.
    pub(super) fn is_told(&self, path: &FieldPath) -> bool {
        !self.removed.is_empty() && path.and_above().any(|path| self.removed.contains(&path))
    }

    /// Takes a field out because it is wrong. An item of a list leaves an empty text, so that its neighbours keep
    /// their places. `false` where there is no such field.
    pub(super) fn remove(&mut self, path: &FieldPath) -> bool {
        self.removed.insert(path.clone()) && self.take_out(path)
    }

    fn take_out(&mut self, path: &FieldPath) -> bool {
        let Some((last, above)) = path.steps().split_last() else {
            return false;
        };
        let Some(parent) = above.iter().try_fold(&mut self.root, child_mut) else {
            return false;
        };
        match (parent, last) {
            (Node::Mapping(map), Step::Key(name)) => map.remove(name.as_str()).is_some(),
            (Node::Sequence(list), Step::Item(index)) => match list.get_mut(*index) {
                Some(item) => {
                    let mut nothing = MarkedScalarNode::new(*item.span(), "");
                    nothing.set_coerce(true);
                    *item = Node::Scalar(nothing);
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// Where a field stands: a scalar by itself, a mapping or list by its name, one that is missing by what it should
    /// be in.
    fn position(&self, path: &FieldPath) -> Option<Marker> {
        let mut node = &self.root;
        let mut mark = node.span().start().copied();
        for step in path.steps() {
            let Some(next) = child(node, step) else {
                break;
            };
            let key = match (node, step) {
                (Node::Mapping(map), Step::Key(name)) => map.get_key_value(name.as_str()).map(|(key, _)| *key.span()),
                _ => None,
            };
            let own = *next.span();
            let best = match (next, key) {
                (Node::Mapping(_) | Node::Sequence(_), Some(key)) => key,
                _ => own,
            };
            mark = best.start().copied().or(mark);
            node = next;
        }
        mark
    }

    /// Where the name of a field stands.
    pub(super) fn name_position(&self, path: &FieldPath) -> Option<Marker> {
        let (last, above) = path.steps().split_last()?;
        let parent = above.iter().try_fold(&self.root, child)?;
        match (parent, last) {
            (Node::Mapping(map), Step::Key(name)) => map.get_key_value(name.as_str())?.0.span().start().copied(),
            _ => None,
        }
    }
}

fn child<'n>(node: &'n Node, step: &Step) -> Option<&'n Node> {
    match (node, step) {
        (Node::Mapping(map), Step::Key(name)) => map.get(name.as_str()),
        (Node::Sequence(list), Step::Item(index)) => list.get(*index),
        _ => None,
    }
}

fn child_mut<'n>(node: &'n mut Node, step: &Step) -> Option<&'n mut Node> {
    match (node, step) {
        (Node::Mapping(map), Step::Key(name)) => map.get_mut(name.as_str()),
        (Node::Sequence(list), Step::Item(index)) => list.get_mut(*index),
        _ => None,
    }
}

/// Shows every scalar under a node; its depth is bounded by `is_too_deep`.
fn visit(node: &mut Node, path: &FieldPath, see: &mut dyn FnMut(&FieldPath, &mut MarkedScalarNode)) {
    match node {
        Node::Scalar(scalar) => see(path, scalar),
        Node::Mapping(map) => {
            for (key, value) in map.iter_mut() {
                visit(value, &path.key(key.as_str()), see);
            }
        }
        Node::Sequence(list) => {
            for (index, item) in list.iter_mut().enumerate() {
                visit(item, &path.item(index), see);
            }
        }
    }
}

/// Each level of a block takes at least one column of what a line begins with, `- - - x` included; the parser itself
/// bounds brackets.
fn is_too_deep(line: &str) -> bool {
    line.find(|byte: char| !matches!(byte, ' ' | '-' | '?' | ':')).unwrap_or(line.len()) > MAX_DEPTH
}

/// Where the text goes on after its first document: the parser stops there without a word.
fn rest_after(root: &Node, text: &str) -> Option<(usize, usize)> {
    let end = root.span().end()?;
    let mut rest = text.char_indices().skip(end.character());
    let from = rest.next().map_or(text.len(), |(at, _)| at);
    let rest = text.get(from..)?;
    let (rest, column) = match rest.strip_prefix('}') {
        Some(rest) => (rest, end.column() + 1),
        None => (rest, end.column()),
    };
    let odd =
        |line: &str| !matches!(line.trim_start().as_bytes().first(), None | Some(b'#')) && line.trim_end() != "...";
    let at = rest.lines().position(odd)?;
    Some((end.line() + at, if at == 0 { column } else { 1 }))
}

/// Words for what the parser met. Its own are used where they are fixed texts.
fn told(file: &str, text: &str, error: &LoadError) -> Problem {
    let (mark, message, hint): (Option<Marker>, Cow<'static, str>, Option<&'static str>) = match error {
        LoadError::TopLevelMustBeMapping(mark) | LoadError::TopLevelMustBeSequence(mark) => {
            (Some(*mark), "expected a mapping: lines such as \"server:\"".into(), None)
        }
        LoadError::UnexpectedAnchor(mark) => {
            (Some(*mark), "anchors (&) are not supported".into(), Some("write the value again"))
        }
        LoadError::UnexpectedTag(mark) => {
            (Some(*mark), "tags (!) are not supported".into(), Some("quote a text that begins with !"))
        }
        LoadError::MappingKeyMustBeScalar(mark) => (
            Some(*mark),
            "expected a name".into(),
            Some("a value that begins with { or [ needs quotes, and so does ${...} within { }"),
        ),
        LoadError::DuplicateKey(twice) => {
            let message = format!("the field {} stands twice", shown(twice.key.as_str()));
            (twice.key.span().start().copied(), message.into(), Some("keep one of them"))
        }
        LoadError::ScanError(mark, scan) => {
            let line = text.lines().nth(mark.line().saturating_sub(1)).unwrap_or_default();
            // One of the parser's texts holds what it met; it ends before that.
            let what = scan.info().split(": `").next().unwrap_or_default();
            let quotes = |quote: char| line.chars().filter(|c| *c == quote).count();
            let hint = if what.contains("quoted scalar") {
                Some("is a closing quote missing?")
            } else if line.contains('\t') {
                Some("indent by spaces: YAML does not take tabs")
            } else if line.contains("${") {
                Some("within { } a value with ${...} needs quotes")
            } else if quotes('"') % 2 == 1 || quotes('\'') % 2 == 1 {
                Some("is a closing quote missing?")
            } else {
                None
            };
            (Some(*mark), format!("this is not YAML: {what}").into(), hint)
        }
    };
    let mut problem = Problem::of_file(file, message);
    problem.hint = hint.map(Cow::Borrowed);
    match mark {
        Some(mark) => problem.at(mark.line(), mark.column()),
        None => problem,
    }
}
