//! From the tree to the picture of the file, with all that is wrong on the way and not only the first.
//!
//! Invariant: serde's words never reach a report, because they quote values; only what was expected does.
//! Never does: checks of what the values mean; that is `compile`.

use std::borrow::Cow;

use marked_yaml::spanned_serde::{Error, NodeDeserializer};
use serde::Deserialize as _;
use serde_path_to_error::Segment;

use super::file::{File, Provider};
use super::report::{FieldPath, Problem, Step, shown};
use super::tree::Tree;

/// Problems after which we give up looking for more.
const MAX_PROBLEMS: usize = 100;

/// Reads the tree. Serde stops at the first error, so what was wrong is taken out of the tree and the rest is read again.
/// `None` where that does not come to an end.
pub(super) fn read(tree: &mut Tree, problems: &mut Vec<Problem>) -> Option<File> {
    for _ in 0..MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize::<_, File>(NodeDeserializer::new(&tree.root)) {
            Ok(file) => return Some(file),
            Err(error) => error,
        };
        let path = path_of(error.path());
        let mut problem = tell(tree, &path, error.inner());
        if is_out_of_place(&path) {
            problem = problem.hint("the provider's name comes first: indent this below it, as in \"openai:\"");
        }
        problems.push(problem);
        if !tree.remove(&path) {
            break;
        }
    }
    None
}

fn path_of(path: &serde_path_to_error::Path) -> FieldPath {
    let mut own = FieldPath::default();
    for segment in path {
        match segment {
            Segment::Map { key } => own.push(Step::Key(key.clone())),
            Segment::Seq { index } => own.push(Step::Item(*index)),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    own
}

/// Tells whether a path leads to what is a provider's field but stands where the provider's name should be.
pub(super) fn is_out_of_place(path: &FieldPath) -> bool {
    let [Step::Key(first), Step::Key(name), ..] = path.steps() else {
        return false;
    };
    first == "providers" && fields_of_a_provider().contains(&name.as_str())
}

/// Serde names all fields when it meets one that is unknown, so that there is no second list of them.
fn fields_of_a_provider() -> &'static [&'static str] {
    let tree = Tree::built_in("unknown: 0");
    let error = tree.ok().and_then(|tree| Provider::deserialize(NodeDeserializer::new(&tree.root)).err());
    match error {
        Some(Error::UnknownFieldError(_, known, _)) => known,
        _ => &[],
    }
}

fn tell(tree: &Tree, path: &FieldPath, error: &Error) -> Problem {
    match error {
        Error::UnknownFieldError(name, known, _) => {
            let problem = tree.problem(path, format!("unknown field {}", shown(name)));
            let problem = match tree.name_position(path).filter(|_| problem.line > 0) {
                Some(mark) => problem.at(mark.line(), mark.column()),
                None => problem,
            };
            match nearest(name, known) {
                Some(nearest) => problem.hint(format!("did you mean {nearest}?")),
                None => problem.hint(format!("there are {}", known.join(", "))),
            }
        }
        Error::IntegerParseFailure(..) => tree.problem(path, "expected a whole number"),
        Error::FloatParseFailure(..) => tree.problem(path, "expected a number"),
        Error::NotBoolean(_) => tree.problem(path, "expected true or false"),
        Error::Other(words, _) => tree.problem(path, expected(words)),
    }
}

/// What serde expected. The text before it may quote a value, and that may hold the same word, so the last one counts.
fn expected(words: &str) -> Cow<'static, str> {
    let Some((_, expected)) = words.rsplit_once(", expected ") else {
        return "not a value that this field takes".into();
    };
    match expected {
        "a sequence" => "expected a list".into(),
        "a string" => "expected a text".into(),
        "a map" => "expected a mapping".into(),
        _ if expected.starts_with("struct ") => "expected a mapping".into(),
        _ => format!("expected {}", expected.replace('`', "\"")).into(),
    }
}

/// The known name that a misspelt one is closest to: about one change in three letters.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let distance = |known: &&str| distance(&name.to_ascii_lowercase(), known);
    let best = known.iter().copied().min_by_key(distance)?;
    (distance(&best) <= name.len().div_ceil(3)).then_some(best)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_only_what_was_expected() {
        let words = "invalid type: string \"sk-1, expected sk-2\", expected u16";
        assert_eq!(expected(words), "expected u16");
        assert_eq!(expected("sk-secret"), "not a value that this field takes");
    }

    #[test]
    fn finds_the_nearest_name() {
        assert_eq!(nearest("base_ur", &["api_key", "base_url"]), Some("base_url"));
        assert_eq!(nearest("Listen", &["listen", "threads"]), Some("listen"));
        assert_eq!(nearest("entirely_else", &["listen", "threads"]), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
