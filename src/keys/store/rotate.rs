//! A key replaced by a new one, while the old one lives on for a while.
//!
//! Invariant: both changes are one replacement of the file; the old key never lives longer than it would have.
//! Never does: give an entry an `id` that has none, which would change the salt that it counts under.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Created, NewKey, StoreError, added, disk, edit, make, position, update};
use crate::error::Refusal;
use crate::keys::{Allowance, KeyRecord};
use crate::units::Secret;

/// A key that was replaced.
#[derive(Debug)]
pub struct Rotated {
    /// The new key, for its owner.
    pub created: Created,
    /// What it was made of.
    pub new: NewKey,
    /// What the file says of the old one now.
    pub old: KeyRecord,
}

/// Makes a key for the same user, scopes, models, team, limits and end as the one that has this id, or whose id alone begins
/// like this. That one lives on for `overlap`, in whole seconds rounded up, but not beyond its own end; none revokes it
/// at once.
///
/// # Errors
/// Any but `Conflicts`.
pub fn rotate(
    path: &Path,
    env_salt: Option<&Secret>,
    id: &str,
    overlap: Duration,
    now: SystemTime,
) -> Result<Rotated, StoreError> {
    disk::must_exist(path)?;
    update(path, env_salt, |text, file| {
        let index = position(file, id)?;
        let mut old = file.entries[index].record.clone();
        if let Err(refusal) = old.usable(now) {
            let state = if matches!(refusal, Refusal::ExpiredKey) { "has expired" } else { "is revoked" };
            return Err(StoreError::NotUsable { id: old.id, state });
        }
        let new = NewKey {
            username: old.username.to_string(),
            scopes: old.scopes.to_vec(),
            expires_at: old.expires_at,
            models: old.models.clone(),
            team: old.team.as_deref().map(str::to_owned),
            allowance: Allowance::clone(&old.allowance),
            now,
        };
        let (created, record) = make(new.clone())?;
        let no_json = |error| disk::no_json(path, error);
        let text = if overlap.is_zero() {
            (old.disabled, old.revoked_at) = (true, Some(now));
            edit::revoke(text, index, now).map_err(no_json)?
        } else {
            match end_of(overlap, now) {
                Some(end) if old.expires_at.is_none_or(|own| end < own) => {
                    old.expires_at = Some(end);
                    edit::expire(text, index, end).map_err(no_json)?
                }
                _ => text.to_owned(),
            }
        };
        let text = added(path, &text, file, (&created, &record))?;
        Ok((Some(text), Rotated { created, new, old }))
    })
}

/// The end of the overlap in whole seconds, as the file writes times; `None` where it is too far away to be one.
fn end_of(overlap: Duration, now: SystemTime) -> Option<SystemTime> {
    let since = now.checked_add(overlap)?.duration_since(UNIX_EPOCH).ok()?;
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::super::{create, load};
    use super::*;
    use crate::keys::{Allowance, KeyRing};
    use crate::units::RouteSet;

    /// The key `fake` under the salt `fake`, which the entry does not name.
    const OLD: &str = r#"{
  "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69": {
    "username": "test", "salt": "d3Jvbmc=",
    "scopes": [ { "method": "get", "path": "/openai/v1/models" } ]
  }
}"#;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    const DAY: Duration = Duration::from_secs(86_400);

    fn find(path: &Path, env_salt: Option<&Secret>, key: &str) -> Option<KeyRecord> {
        let ring = KeyRing::build(load(path, env_salt).unwrap(), |_| RouteSet::default());
        ring.find(key.as_bytes()).ok().map(|key| key.record.clone())
    }

    #[test]
    fn an_entry_of_the_original_ends_and_keeps_its_salt() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, OLD).unwrap();
        let salt = Secret::new("fake".to_owned());
        let now = at(0) + Duration::from_millis(1);
        let rotated = rotate(&path, Some(&salt), "ebc5", DAY, now).unwrap();
        let old = find(&path, Some(&salt), "fake").unwrap();
        assert_eq!((old.expires_at, &old), (Some(at(86_401)), &rotated.old));
        assert_eq!(old.usable(at(86_400)), Ok(()));
        assert_eq!(old.usable(at(86_401)), Err(Refusal::ExpiredKey));
        let new = find(&path, None, rotated.created.token.expose()).unwrap();
        assert_eq!((&*new.username, new.expires_at, &new.scopes), ("test", None, &old.scopes));
        let file: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let entry = &file["ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69"];
        assert!(entry.get("id").is_none() && entry["salt"] == "d3Jvbmc=", "{entry}");
    }

    #[test]
    fn the_old_key_never_lives_longer_than_it_would_have() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        let new = NewKey {
            username: "a".to_owned(),
            scopes: vec!["get:/openai/v1/models".parse().unwrap()],
            expires_at: Some(at(60)),
            models: Some(vec!["gpt-*".to_owned()]),
            team: Some("blue".to_owned()),
            allowance: Allowance { default_max_output_tokens: Some(7), ..Allowance::default() },
            now: at(0),
        };
        let created = create(&path, None, new).unwrap();
        let rotated = rotate(&path, None, created.id.as_str(), DAY, at(0)).unwrap();
        assert_eq!(rotated.old.expires_at, Some(at(60)));
        let record = find(&path, None, rotated.created.token.expose()).unwrap();
        assert_eq!((record.expires_at, record.team.as_deref()), (Some(at(60)), Some("blue")));
        assert_eq!(record.models, Some(vec!["gpt-*".to_owned()]));
        assert_eq!(record.allowance.default_max_output_tokens, Some(7));
        let error = rotate(&path, None, created.id.as_str(), DAY, at(60)).unwrap_err();
        assert!(error.to_string().contains("has expired, so there is nothing to replace"), "{error}");
    }

    #[test]
    fn no_overlap_revokes_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.json");
        std::fs::write(&path, OLD).unwrap();
        let rotated = rotate(&path, None, "ebc5f4226c40", Duration::ZERO, at(0)).unwrap();
        assert_eq!(rotated.old.usable(at(0)), Err(Refusal::RevokedKey));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"revoked_at\": \"2027-01-15T08:00:00Z\""), "{text}");
        let error = rotate(&path, None, "ebc5f4226c40", Duration::ZERO, at(0)).unwrap_err();
        assert!(error.to_string().contains("is revoked, so there is nothing to replace"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        let missing = folder.path().join("none.json");
        assert!(matches!(rotate(&missing, None, "a", DAY, at(0)), Err(StoreError::Io { .. })));
        assert!(!missing.exists());
    }
}
