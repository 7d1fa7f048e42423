//! `${VAR}`, `${VAR:-default}` and `${file:/path}` within one text.
//!
//! Invariant: what was put in is not read again, so a variable cannot hold YAML or a further variable.
//! Never does: tell what a variable or a file holds.

use std::borrow::Cow;
use std::io;

use super::report::shown;

/// Where the values come from.
pub(super) trait Values {
    /// The variable of this name.
    fn variable(&self, name: &str) -> Option<&str>;
    /// The content of a file.
    fn file(&self, path: &str) -> io::Result<String>;
}

/// Why a text could not be completed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What is wrong.
    pub(super) message: Cow<'static, str>,
    /// How to mend it.
    pub(super) hint: Cow<'static, str>,
    /// Whether a value was missing, rather than the text being wrong.
    pub(super) missing: bool,
}

/// Tells whether a text as a whole is a variable as a shell spells it: `$NAME`, which is not completed.
pub(super) fn is_bare_variable(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(is_name)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Completes a text; `None` where there was nothing to complete.
pub(super) fn fill_in(text: &str, values: &dyn Values) -> Result<Option<String>, Fault> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut done = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            done.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let (inner, after) = after.split_once('}').ok_or_else(unclosed)?;
            done.push_str(&value_of(inner, values)?);
            after
        } else {
            done.push('$');
            after
        };
    }
    done.push_str(rest);
    Ok(Some(done))
}

fn value_of<'a>(inner: &'a str, values: &'a dyn Values) -> Result<Cow<'a, str>, Fault> {
    if let Some(path) = inner.strip_prefix("file:") {
        return content_of(path, values).map(Cow::Owned);
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    if !is_name(name) {
        return Err(Fault {
            message: "expected a variable's name after \"${\"".into(),
            hint: "${NAME}, ${NAME:-default} or ${file:/path}; a literal $ is written $$".into(),
            missing: false,
        });
    }
    match (values.variable(name).filter(|value| !value.is_empty()), default) {
        (Some(value), _) => Ok(Cow::Borrowed(value)),
        (None, Some(default)) => Ok(Cow::Borrowed(default)),
        (None, None) => Err(Fault {
            message: format!("the variable {} is not set or empty", shown(name)).into(),
            hint: format!(
                "set it in the environment or in .env, or write ${{{}:-}} where it may be empty",
                shown(name)
            )
            .into(),
            missing: true,
        }),
    }
}

fn content_of(path: &str, values: &dyn Values) -> Result<String, Fault> {
    let fault = |message: String| Fault {
        message: message.into(),
        hint: "the path stands between \"${file:\" and \"}\"".into(),
        missing: true,
    };
    let content =
        values.file(path).map_err(|error| fault(format!("the file cannot be read: {}", reason(error.kind()))))?;
    let content = content.trim_end_matches(['\r', '\n']);
    match content {
        "" => Err(fault("the file is empty".to_owned())),
        _ => Ok(content.to_owned()),
    }
}

fn unclosed() -> Fault {
    Fault {
        message: "expected a closing brace after \"${\"".into(),
        hint: "within { } a value with ${...} needs quotes; a literal $ is written $$".into(),
        missing: false,
    }
}

/// Why a file could not be read, without its name.
pub(super) fn reason(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::NotFound => "there is none of this name",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::IsADirectory => "it is a directory",
        io::ErrorKind::InvalidData => "it is not UTF-8 text",
        io::ErrorKind::FileTooLarge => "it is too large",
        _ => "input/output error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Some2;

    impl Values for Some2 {
        fn variable(&self, name: &str) -> Option<&str> {
            match name {
                "A" => Some("${B}"),
                "EMPTY" => Some(""),
                _ => None,
            }
        }

        fn file(&self, path: &str) -> io::Result<String> {
            match path {
                "/key" => Ok("sk-1\n".to_owned()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    #[test]
    fn completes_and_never_twice() {
        let filled = |text| fill_in(text, &Some2).expect("complete");
        assert_eq!(filled("plain"), None);
        assert_eq!(filled("x${A}y").as_deref(), Some("x${B}y"));
        assert_eq!(filled("${NO:-d:-e}").as_deref(), Some("d:-e"));
        assert_eq!(filled("${EMPTY:-d}").as_deref(), Some("d"));
        assert_eq!(filled("${NO:-}").as_deref(), Some(""));
        assert_eq!(filled("${file:/key}").as_deref(), Some("sk-1"));
        assert_eq!(filled("$$1 $2 $${A} $").as_deref(), Some("$1 $2 ${A} $"));
    }

    #[test]
    fn a_variable_without_braces_is_seen() {
        for (text, bare) in
            [("$A", true), ("$_A1", true), ("$", false), ("$1", false), ("$$A", false), ("x$A", false), ("$A b", false)]
        {
            assert_eq!(is_bare_variable(text), bare, "{text}");
        }
    }

    #[test]
    fn names_what_is_missing() {
        let fault = |text| fill_in(text, &Some2).expect_err("a fault");
        assert!(fault("${NO}").message.contains("NO is not set"));
        assert!(fault("${EMPTY}").missing);
        assert!(!fault("${A").missing);
        for bad in ["${}", "${1A}", "${A-b}", "${ A }"] {
            assert!(fault(bad).message.starts_with("expected a variable's name"), "{bad}");
        }
        assert!(fault("${file:/nothing}").message.contains("there is none"));
    }
}
