//! What each field of an entry of the key file may hold.
//!
//! Invariant: a field is either understood or noted as a problem; `null` counts as absent.
//! Never does: repeat a value in a problem.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::value::RawValue;

use super::read::Reader;
use super::{MAX_SALTS, NamedScope, Salt, SaltText, decode_base64, place};
use crate::keys::is_model_pattern;
use crate::keys::json::{is_null, items, members, string};
use crate::keys::scope::{Scope, ScopeError};
use crate::keys::token::KeyedHash;
use crate::units::KeyId;

/// The members of one entry by name, and where it is.
#[derive(Default)]
pub(super) struct Fields<'t> {
    pub(super) path: String,
    pub(super) whole: &'t str,
    pub(super) values: [Option<&'t RawValue>; KNOWN.len()],
}

impl<'t> Reader<'t> {
    pub(super) fn username(&mut self, fields: &Fields<'t>) -> Option<Arc<str>> {
        let Some(value) = fields.get(USERNAME) else {
            self.note(fields.whole, fields.path.clone(), "username is missing", Some("whom was the key issued to?"));
            return None;
        };
        self.name(fields, USERNAME, value)
    }

    pub(super) fn team(&mut self, fields: &Fields<'t>) -> Option<Arc<str>> {
        let value = fields.get(TEAM)?;
        self.name(fields, TEAM, value)
    }

    fn name(&mut self, fields: &Fields<'t>, field: usize, value: &'t RawValue) -> Option<Arc<str>> {
        match string(value) {
            Some(name) if !name.is_empty() => Some(match self.names.get(&*name) {
                Some(known) => Arc::clone(known),
                None => {
                    let name: Arc<str> = name.into();
                    if self.names.len() < SHARED {
                        self.names.insert(Arc::clone(&name));
                    }
                    name
                }
            }),
            _ => {
                self.note(value.get(), fields.sub(field), "expected a text that is not empty", None);
                None
            }
        }
    }

    /// The id; that of an entry without one is the path of its problems. Without a digest it has none.
    pub(super) fn id(&mut self, fields: &Fields<'t>, has_digest: bool) -> Option<KeyId> {
        let Some(value) = fields.get(ID) else {
            let id = has_digest.then(|| KeyId::new(&*fields.path))?;
            // Two digests that begin alike are no fault of the file; only a chosen id can be.
            if self.ids.insert(&id, false) == Some(true) {
                self.note(fields.whole, fields.path.clone(), TAKEN, None);
            }
            return Some(id);
        };
        let text = string(value).filter(|text| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            (1..=64).contains(&text.len()) && text.bytes().all(plain)
        });
        let Some(text) = text else {
            let message = "expected 1 to 64 letters, digits, dots, underscores or hyphens";
            self.note(value.get(), fields.sub(ID), message, None);
            return None;
        };
        let id = KeyId::new(&*text);
        if self.ids.insert(&id, true).is_some() {
            self.note(value.get(), fields.sub(ID), TAKEN, None);
        }
        Some(id)
    }

    pub(super) fn salt(&mut self, fields: &Fields<'t>, has_id: bool) -> Option<u8> {
        let salt = match &self.env_salt {
            Some(env_salt) if !has_id => env_salt.clone(),
            _ => self.own_salt(fields)?,
        };
        if let Some(index) = self.salts.get(&salt) {
            return Some(*index);
        }
        let index = self.file.salts.len();
        if index == MAX_SALTS {
            if !self.too_many_salts {
                self.too_many_salts = true;
                let at = fields.get(SALT).map_or(fields.whole, RawValue::get);
                let message = format!("the file has more than {MAX_SALTS} different salts");
                let hint = "each costs time on every request; issue these keys anew with `ai-gateway keys create`, which shares one salt";
                self.note(at, fields.sub(SALT), &message, Some(hint));
            }
            return None;
        }
        self.file.salts.push(Salt { hash: KeyedHash::new(&salt.0), text: salt.clone() });
        let index = u8::try_from(index).ok()?;
        self.salts.insert(salt, index);
        Some(index)
    }

    fn own_salt(&mut self, fields: &Fields<'t>) -> Option<SaltText> {
        let Some(value) = fields.get(SALT) else {
            let hint = if fields.get(ID).is_some() {
                "an entry with an id needs its own salt"
            } else {
                "add the salt, or set HASH_AUTH_SALT to the salt of the original gateway"
            };
            self.note(fields.whole, fields.path.clone(), "salt is missing", Some(hint));
            return None;
        };
        if let Some(salt) = self.salt_fields.get(value.get()) {
            return Some(salt.clone());
        }
        let salt = string(value).and_then(|text| decode_base64(text.as_bytes())).filter(|salt| !salt.is_empty());
        let Some(salt) = salt else {
            let hint = "it is the URL-safe base64 of the salt's text, so the salt `fake` is written ZmFrZQ==";
            self.note(value.get(), fields.sub(SALT), "expected a text in URL-safe base64", Some(hint));
            return None;
        };
        let salt = SaltText(salt.into());
        self.salt_fields.insert(value.get(), salt.clone());
        Some(salt)
    }

    pub(super) fn scope_list(&mut self, fields: &Fields<'t>) -> Option<Arc<[Scope]>> {
        let Some(value) = fields.get(SCOPES) else {
            let hint = r#"add "scopes": [{"method": "get", "path": "/openai/v1/models"}]"#;
            self.note(fields.whole, fields.path.clone(), "scopes is missing", Some(hint));
            return None;
        };
        let text = value.get();
        if let Some((last, list)) = &self.last_scopes
            && *last == text
        {
            return Some(Arc::clone(list));
        }
        if let Some(list) = self.scope_lists.get(text) {
            self.last_scopes = Some((text, Arc::clone(list)));
            return Some(Arc::clone(list));
        }
        let Some(items) = items(value) else {
            let hint = r#"[{"method": "get", "path": "/openai/v1/models"}]"#;
            self.note(value.get(), fields.sub(SCOPES), "expected a list of scopes", Some(hint));
            return None;
        };
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}[{index}]", fields.sub(SCOPES));
            let Some(scope) = self.scope(item, &path) else {
                continue;
            };
            if self.scopes.insert(scope.clone()) {
                let (line, column) = place(self.text, item.get());
                self.file.scopes.push(NamedScope { scope: scope.clone(), line, column, path });
            }
            list.push(scope);
        }
        if list.len() < items.len() {
            return None;
        }
        let list: Arc<[Scope]> = list.into();
        self.scope_lists.insert(text, Arc::clone(&list));
        Some(list)
    }

    fn scope(&mut self, item: &'t RawValue, path: &str) -> Option<Scope> {
        let members = members(item.get()).unwrap_or_default();
        let part = |name: &str| members.iter().find(|member| member.name == name).map(|found| found.value);
        let (Some(method), Some(target), 2) = (part("method"), part("path"), members.len()) else {
            let hint = r#"{"method": "get", "path": "/openai/v1/models"}"#;
            self.note(item.get(), path.to_owned(), "expected exactly method and path", Some(hint));
            return None;
        };
        let (Some(method_text), Some(target_text)) = (string(method), string(target)) else {
            self.note(item.get(), path.to_owned(), "expected method and path to be texts", None);
            return None;
        };
        Scope::new(&method_text, &target_text)
            .map_err(|error| {
                let (at, part) = match error {
                    ScopeError::Method { .. } => (method, "method"),
                    _ => (target, "path"),
                };
                self.note(at.get(), format!("{path}.{part}"), &error.to_string(), None);
            })
            .ok()
    }

    pub(super) fn time(&mut self, fields: &Fields<'t>, field: usize) -> Option<SystemTime> {
        let value = fields.get(field)?;
        let time = string(value).and_then(|text| humantime::parse_rfc3339(&text).ok());
        if time.is_none() {
            let message = "expected a time in UTC such as \"2027-01-31T00:00:00Z\"";
            self.note(value.get(), fields.sub(field), message, None);
        }
        time
    }

    pub(super) fn disabled(&mut self, fields: &Fields<'t>) -> bool {
        match fields.get(DISABLED) {
            None => false,
            Some(value) => serde_json::from_str(value.get()).unwrap_or_else(|_| {
                self.note(value.get(), fields.sub(DISABLED), "expected true or false", None);
                true
            }),
        }
    }

    pub(super) fn models(&mut self, fields: &Fields<'t>) -> Option<Vec<String>> {
        let value = fields.get(MODELS)?;
        let models: Option<Vec<String>> = serde_json::from_str(value.get()).ok();
        match models {
            Some(models) if models.iter().all(|model| is_model_pattern(model)) => Some(models),
            _ => {
                let message = "expected a list of model names, of which each may end in *";
                self.note(value.get(), fields.sub(MODELS), message, Some(r#"["gpt-4o", "text-embedding-*"]"#));
                None
            }
        }
    }
}

impl<'t> Fields<'t> {
    /// The value of a field; `null` counts as absent.
    pub(super) fn get(&self, field: usize) -> Option<&'t RawValue> {
        self.values[field].filter(|value| !is_null(value))
    }

    pub(super) fn sub(&self, field: usize) -> String {
        format!("{}.{}", self.path, KNOWN[field])
    }
}

/// The part of a digest that may be shown.
pub(super) fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or_default()
}

pub(super) const KNOWN: [&str; 12] = [
    "username",
    "salt",
    "scopes",
    "id",
    "created_at",
    "expires_at",
    "disabled",
    "revoked_at",
    "team",
    "models",
    "limits",
    "default_max_output_tokens",
];
const USERNAME: usize = 0;
const SALT: usize = 1;
const SCOPES: usize = 2;
pub(super) const ID: usize = 3;
pub(super) const CREATED_AT: usize = 4;
pub(super) const EXPIRES_AT: usize = 5;
const DISABLED: usize = 6;
pub(super) const REVOKED_AT: usize = 7;
const TEAM: usize = 8;
const MODELS: usize = 9;
pub(super) const LIMITS: usize = 10;
pub(super) const DEFAULT_MAX_OUTPUT_TOKENS: usize = 11;
/// Names that are looked for before one is kept anew. A table of all would take longer than it saves.
const SHARED: usize = 10_000;
const TAKEN: &str = "this id belongs to another entry as well";
