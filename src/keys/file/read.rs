//! The reader of the key file's entries: field by field, noting each problem and going on.
//!
//! Invariant: an entry with any problem makes the whole file unreadable; there is no half-read file.
//! Never does: quadratic work, or parse twice what many entries share (scopes, names, salts).

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde_json::value::RawValue;

use super::fields::{CREATED_AT, EXPIRES_AT, Fields, ID, KNOWN, REVOKED_AT, short};
use super::seen::Seen;
use super::{Entry, KeyFile, MAX_PROBLEMS, SaltText, place, whole};
use crate::keys::json::{Member, Problem, each_member, nearest};
use crate::keys::scope::Scope;
use crate::keys::token::{Digest, HexFault};
use crate::keys::{Allowance, KeyRecord};
use crate::units::{KeyId, Secret};

/// How the entries of a file are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// As if nothing stood twice that may not.
    Trusting,
    /// With all that can be told of its problems.
    Careful,
}

/// Reads the entries of one file, one after another.
pub(super) struct Reader<'t> {
    pub(super) text: &'t str,
    pub(super) env_salt: Option<SaltText>,
    pub(super) file: KeyFile,
    problems: Vec<Problem>,
    further_problems: usize,
    seen: usize,
    digests: Seen<Digest, ()>,
    /// Each with whether the file chose it.
    pub(super) ids: Seen<KeyId, bool>,
    /// Names that keys share, but for those of very many.
    pub(super) names: HashSet<Arc<str>, RandomState>,
    pub(super) salts: HashMap<SaltText, u8, RandomState>,
    /// Decoded salts by their spelling in the file.
    pub(super) salt_fields: HashMap<&'t str, SaltText, RandomState>,
    /// Scope lists by their spelling in the file: most keys share one of a few.
    pub(super) scope_lists: HashMap<&'t str, Arc<[Scope]>, RandomState>,
    /// The last one of them, so that a file of equal lists is not hashed as a whole.
    pub(super) last_scopes: Option<(&'t str, Arc<[Scope]>)>,
    pub(super) scopes: HashSet<Scope, RandomState>,
    /// What keys may use of which the file says nothing.
    pub(super) no_allowance: Arc<Allowance>,
    pub(super) too_many_salts: bool,
}

impl<'t> Reader<'t> {
    /// Prepares for a file of so many entries.
    pub(super) fn new(text: &'t str, env_salt: Option<&Secret>, entries: usize, care: Care) -> Self {
        let env_salt = env_salt
            .map(|salt| salt.expose().as_bytes())
            .filter(|salt| !salt.is_empty())
            .map(|salt| SaltText(salt.into()));
        Self {
            text,
            env_salt,
            file: KeyFile { entries: Vec::with_capacity(entries), ..KeyFile::default() },
            problems: Vec::new(),
            further_problems: 0,
            seen: 0,
            digests: if care == Care::Careful { Seen::careful() } else { Seen::trusting(entries) },
            ids: if care == Care::Careful { Seen::careful() } else { Seen::trusting(entries) },
            names: HashSet::default(),
            salts: HashMap::default(),
            salt_fields: HashMap::default(),
            scope_lists: HashMap::default(),
            last_scopes: None,
            scopes: HashSet::default(),
            no_allowance: Arc::default(),
            too_many_salts: false,
        }
    }

    /// Reads one entry into the file; where that fails, its problems are noted.
    pub(super) fn entry(&mut self, member: &Member<'t>) {
        self.seen += 1;
        let at = match &member.name {
            Cow::Borrowed(name) => *name,
            Cow::Owned(_) => member.value.get(),
        };
        let digest = self.digest(&member.name, at);
        let path = match digest {
            Some(_) => short(&member.name).to_owned(),
            None => format!("entry {}", self.seen),
        };
        let Some(fields) = self.fields(member.value, path) else {
            return;
        };
        let username = self.username(&fields);
        let scopes = self.scope_list(&fields);
        let id = self.id(&fields, digest.is_some());
        let salt = self.salt(&fields, fields.get(ID).is_some());
        let created_at = self.time(&fields, CREATED_AT);
        let expires_at = self.time(&fields, EXPIRES_AT);
        let revoked_at = self.time(&fields, REVOKED_AT);
        let disabled = self.disabled(&fields);
        let team = self.team(&fields);
        let models = self.models(&fields);
        let allowance = self.allowance(&fields);
        let (Some(digest), Some(username), Some(scopes), Some(id), Some(salt)) = (digest, username, scopes, id, salt)
        else {
            return;
        };
        self.file.entries.push(Entry {
            digest,
            salt,
            has_id: fields.get(ID).is_some(),
            record: KeyRecord {
                id,
                username,
                scopes,
                created_at,
                expires_at,
                revoked_at,
                disabled,
                team,
                models,
                allowance,
            },
        });
    }

    /// Ends a trusting reading: the file, where it certainly has no problem.
    pub(super) fn into_file(mut self) -> Option<KeyFile> {
        let is_fine = self.problems.is_empty() && !self.digests.may_be_wrong() && !self.ids.may_be_wrong();
        is_fine.then_some(self.file)
    }

    /// Ends a careful reading.
    pub(super) fn finish(mut self) -> Result<KeyFile, Vec<Problem>> {
        if self.further_problems > 0 {
            let message = format!("and {} further problems", self.further_problems);
            self.problems.push(whole(1, 1, message, None));
        }
        if self.problems.is_empty() { Ok(self.file) } else { Err(self.problems) }
    }

    fn digest(&mut self, name: &str, at: &str) -> Option<Digest> {
        let path = format!("entry {}", self.seen);
        match Digest::from_hex(name) {
            Ok(digest) if self.digests.insert(&digest, ()).is_none() => Some(digest),
            Ok(_) => {
                self.note(
                    at,
                    short(name).to_owned(),
                    "this digest stands twice in the file",
                    Some("remove one of the two entries"),
                );
                None
            }
            Err(HexFault::UpperCase) => {
                let hint = "write the digest in lower case";
                self.note(at, path, "the digest has upper-case hex digits", Some(hint));
                None
            }
            Err(HexFault::NotHex) => {
                let hint = "the name of each entry is the HMAC-SHA256 of a key, never the key; `ai-gateway keys create` makes one";
                self.note(at, path, "expected a digest of 64 lower-case hex digits", Some(hint));
                None
            }
        }
    }

    fn fields(&mut self, value: &'t RawValue, path: String) -> Option<Fields<'t>> {
        let mut fields = Fields { path, whole: value.get(), ..Fields::default() };
        let read = each_member(value.get(), |member| match KNOWN.iter().position(|known| *known == member.name) {
            Some(known) if fields.values[known].is_none() => fields.values[known] = Some(member.value),
            Some(known) => {
                self.note(member.value.get(), fields.sub(known), "this field stands twice in its entry", None);
            }
            None => self.unknown_field(&fields, &member),
        });
        // It is JSON, so it is no object, or the name of a member is no text.
        if read.is_err() {
            self.note(value.get(), fields.path, "expected an object with username and scopes", None);
            return None;
        }
        Some(fields)
    }

    fn unknown_field(&mut self, fields: &Fields<'t>, member: &Member<'t>) {
        // A name is repeated only where it can hardly be a secret that slipped into the wrong place.
        let name = &*member.name;
        let harmless = name.len() <= 24 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let path = if harmless { format!("{}.{name}", fields.path) } else { fields.path.clone() };
        let hint = match nearest(name, &KNOWN) {
            Some(known) => format!("did you mean {known}?"),
            None => format!("the fields of an entry are {}", KNOWN.join(", ")),
        };
        self.note(member.value.get(), path, "unknown field", Some(&hint));
    }

    /// Notes a problem of the piece `at` of the text.
    pub(super) fn note(&mut self, at: &str, path: String, message: &str, hint: Option<&str>) {
        if self.problems.len() == MAX_PROBLEMS {
            self.further_problems += 1;
            return;
        }
        let (line, column) = place(self.text, at);
        self.problems.push(Problem { line, column, path, message: message.to_owned(), hint: hint.map(str::to_owned) });
    }
}
