//! The picture of the key file: its JSON read, checked, and every problem of it told at once.
//!
//! Invariant: files of the original gateway load unchanged (`keyfile.md`); what cannot be understood or enforced is
//! refused, never ignored.
//! Never does: any IO; put a salt, a name or more than 12 digits of a digest into a problem.

mod fields;
mod limits;
mod read;
mod seen;

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use self::read::Care;
use super::KeyRecord;
use super::json::{Problem, line_and_column, members, offset, syntax_message};
use super::scope::Scope;
use super::token::{Digest, KeyedHash};
use crate::units::Secret;

/// A key file that was understood as a whole.
#[derive(Debug, Default)]
pub struct KeyFile {
    pub(super) salts: Vec<Salt>,
    pub(super) entries: Vec<Entry>,
    scopes: Vec<NamedScope>,
}

/// A salt that entries of the file share.
#[derive(Debug)]
pub(super) struct Salt {
    /// The HMAC's key: the salt's text as bytes.
    pub(super) text: SaltText,
    /// The HMAC, keyed.
    pub(super) hash: KeyedHash,
}

/// The bytes of a salt; they never print.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct SaltText(pub(super) Arc<[u8]>);

impl std::fmt::Debug for SaltText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[salt]")
    }
}

/// One key of the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    /// The index of its salt.
    pub(super) salt: u8,
    /// Whether the file gives it an `id`, which marks it as one of ours: its own salt counts, not `HASH_AUTH_SALT`.
    pub(super) has_id: bool,
    pub(super) record: KeyRecord,
}

/// A scope, and where the file names it first.
#[derive(Debug)]
struct NamedScope {
    scope: Scope,
    line: usize,
    column: usize,
    path: String,
}

impl KeyFile {
    /// Reads a key file. `env_salt` is `HASH_AUTH_SALT`: where it is set and not empty, it is the salt of all entries
    /// that have no `id`, whose own `salt` is then not looked at, as in the original.
    ///
    /// # Errors
    /// Every problem of the file, in its order, at most [`MAX_PROBLEMS`] of them and then one that says how many more.
    pub fn parse(bytes: &[u8], env_salt: Option<&Secret>) -> Result<Self, Vec<Problem>> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let (line, column) = line_and_column(&valid, valid.len());
                return Err(vec![whole(line, column, "is not UTF-8 here".to_owned(), None)]);
            }
        };
        let members = members(text).map_err(|error| vec![syntax_problem(&error)])?;
        let read = |care| {
            let mut reader = read::Reader::new(text, env_salt, members.len(), care);
            members.iter().for_each(|member| reader.entry(member));
            reader
        };
        // Nearly every file is as it should be; what is wrong with another is found out the second time.
        match read(Care::Trusting).into_file() {
            Some(file) => Ok(file),
            None => read(Care::Careful).finish(),
        }
    }

    /// Reads the value of `HASHED_API_KEYS`: the whole file in base64. Either alphabet, padding or none, and white
    /// space anywhere are accepted; unlike in the original, UTF-8 survives. Places refer to the decoded JSON.
    ///
    /// # Errors
    /// As [`KeyFile::parse`], or one problem without a place where it is not the base64 of an object.
    pub fn from_env(value: &str, env_salt: Option<&Secret>) -> Result<Self, Vec<Problem>> {
        Self::parse(&json_of_variable(value.as_bytes())?, env_salt)
    }

    /// How many keys the file holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether the file holds no key at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What the file says of each key, in its order.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.entries.iter().map(|entry| &entry.record)
    }

    /// The scopes that no route can satisfy, each once, where it is first named. They are worth a warning, not a
    /// refusal: a route may be switched off for a while. `names_a_route` says whether a scope has one
    /// ([`Scope::touches_route`]).
    pub fn warnings(&self, names_a_route: impl Fn(&Scope) -> bool) -> Vec<Problem> {
        let idle = self.scopes.iter().filter(|named| !names_a_route(&named.scope));
        idle.map(|named| Problem {
            line: named.line,
            column: named.column,
            path: named.path.clone(),
            message: format!("no route is configured for the scope {}", named.scope),
            hint: Some("add the route to gateway.yaml, or issue a key without this scope".to_owned()),
        })
        .collect()
    }
}

/// The key file's JSON that the value of `HASHED_API_KEYS` stands for.
///
/// # Errors
/// One problem, where it is no base64.
pub(super) fn json_of_variable(value: &[u8]) -> Result<Vec<u8>, Vec<Problem>> {
    // Nearly any word is base64 of something.
    let object = |json: &Vec<u8>| json.trim_ascii_start().first() == Some(&b'{');
    decode_base64(value).filter(object).ok_or_else(|| {
        let hint = if value.trim_ascii_start().starts_with(b"{") {
            "this is the JSON itself; the variable holds its base64: base64 -w0 < FILE"
        } else {
            "make the value with: base64 -w0 < FILE"
        };
        vec![whole(0, 0, "is not the base64 of a key file".to_owned(), Some(hint.to_owned()))]
    })
}

/// Decodes base64 as Node does: both alphabets, padding or none.
pub(super) fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let plain: Vec<u8> = text
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    LENIENT.decode(plain).ok()
}

fn syntax_problem(error: &serde_json::Error) -> Problem {
    if error.is_data() {
        let message = "expected an object of digests, such as {\"ebc5…\": {\"username\": …}}".to_owned();
        return whole(1, 1, message, None);
    }
    let message = format!("is not valid JSON: {}", syntax_message(error));
    let empty = error.is_eof() && error.line() <= 1 && error.column() == 0;
    let hint = empty.then(|| "a key file without keys is {}".to_owned());
    whole(error.line().max(1), error.column().max(1), message, hint)
}

fn whole(line: usize, column: usize, message: String, hint: Option<String>) -> Problem {
    Problem { line, column, path: String::new(), message, hint }
}

/// Where a piece of the text stands, as line and column.
fn place(text: &str, piece: &str) -> (usize, usize) {
    line_and_column(text, offset(text, piece))
}

/// Distinct salts that a file may have. Each costs one HMAC a look-up.
pub const MAX_SALTS: usize = 8;
/// Problems that are told of one file.
pub const MAX_PROBLEMS: usize = 100;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

#[cfg(test)]
mod tests;
