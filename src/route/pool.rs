//! The keys of a provider: which one a call takes.
//!
//! Invariant: a key is shown by its place and by a piece of its hash, never itself; of keys that do not rest each is
//! taken as often as its weight says.
//! Never does: know the time or draw a random number; both are arguments.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use http::HeaderValue;
use sha2::{Digest as _, Sha256};

use super::breaker::{Breaker, Cause, Rest};
use crate::units::{Mask, ProviderId};

/// The keys of a provider. Never empty: a provider that needs none has one entry without a credential.
#[derive(Debug)]
pub struct Pool(Box<[ProviderKey]>);

/// One of a provider's keys.
#[derive(Debug)]
pub struct ProviderKey {
    /// The whole value of the header that carries it (`Bearer ...`), marked sensitive; absent where none is needed.
    pub credential: Option<HeaderValue>,
    /// How often it is taken, compared with the others. At least 1.
    pub weight: u32,
    /// Finds the key in what the provider answers.
    pub mask: Option<Mask>,
    /// What tells it from others.
    pub mark: KeyMark,
    /// Rests where the provider refused the key as such, whatever the model.
    pub(super) breaker: Kept<Breaker>,
}

/// What tells a key from others without being it: a piece of a hash of the provider's name and the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyMark([u8; 16]);

/// State that outlives the configuration it belongs to: handed over by [`super::Health`], or else made where it is first
/// asked for.
#[derive(Debug)]
pub(super) struct Kept<T>(OnceLock<Arc<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Default> Kept<T> {
    /// The state.
    pub(super) fn get(&self) -> &Arc<T> {
        self.0.get_or_init(Arc::default)
    }

    /// Takes over what is known already, or else becomes what is known.
    pub(super) fn share(&self, known: &mut Weak<T>) {
        let own = self.0.get_or_init(|| known.upgrade().unwrap_or_default());
        if known.strong_count() == 0 {
            *known = Arc::downgrade(own);
        }
    }
}

impl Pool {
    /// The pool of these keys with their weights; without any, of the one entry without a credential.
    pub fn new(provider: &ProviderId, keys: Vec<(HeaderValue, u32)>) -> Self {
        let key = |mut credential: Option<HeaderValue>, weight| {
            credential.iter_mut().for_each(|value| value.set_sensitive(true));
            let mark = KeyMark::of(provider, credential.as_ref());
            let mask = credential.as_ref().and_then(|value| Mask::of(key_in(value)));
            ProviderKey { credential, weight, mask, mark, breaker: Kept::default() }
        };
        if keys.is_empty() {
            return Self(Box::new([key(None, 1)]));
        }
        Self(keys.into_iter().map(|(credential, weight)| key(Some(credential), weight)).collect())
    }

    /// Whether there is a key.
    pub fn is_needed(&self) -> bool {
        self.0.iter().any(|key| key.credential.is_some())
    }

    /// All keys in their order.
    pub fn keys(&self) -> &[ProviderKey] {
        &self.0
    }

    /// Picks a key that `may` be used, by weight.
    ///
    /// # Errors
    /// The [`Rest`] that is over first where none may; absent where all are among those to leave `out`.
    pub(super) fn pick(
        &self,
        out: u64,
        random: u64,
        may: impl Fn(usize, &ProviderKey) -> Result<(), Rest>,
    ) -> Result<usize, Option<Rest>> {
        if let [only] = &*self.0
            && out == 0
        {
            return may(0, only).map(|()| 0).map_err(Some);
        }
        let (mut soonest, mut fit) = (None, 0_u64);
        for (index, key) in self.0.iter().enumerate().filter(|(index, _)| out & bit(*index) == 0) {
            match may(index, key) {
                Ok(()) => fit |= bit(index),
                Err(rest) => soonest = sooner(soonest, rest),
            }
        }
        let weights = self.0.iter().enumerate().filter(|(index, _)| fit & bit(*index) != 0);
        by_weight(weights.map(|(index, key)| (index, key.weight)), random).ok_or(soonest)
    }
}

/// The key in the value of a header.
fn key_in(credential: &HeaderValue) -> &[u8] {
    let value = credential.as_bytes();
    value.strip_prefix(b"Bearer ").unwrap_or(value)
}

impl KeyMark {
    fn of(provider: &ProviderId, credential: Option<&HeaderValue>) -> Self {
        let mut hash = Sha256::new();
        hash.update(provider.as_str().as_bytes());
        hash.update([0]);
        hash.update(credential.map_or(&[][..], HeaderValue::as_bytes));
        let hash: [u8; 32] = hash.finalize().into();
        let mut mark = [0; 16];
        mark.copy_from_slice(&hash[..16]);
        Self(mark)
    }
}

impl fmt::Display for KeyMark {
    /// Eight hex digits: enough to find a key again, too few to guess one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The bit of a place in a set of at most 64.
pub(super) fn bit(index: usize) -> u64 {
    1 << (index % 64)
}

/// The end of two rests: that of the one which is over first. Of two causes neither is the reason for all: that is trouble, as
/// failures are.
pub(super) fn sooner(one: Option<Rest>, other: Rest) -> Option<Rest> {
    let Some(one) = one else { return Some(other) };
    let cause = if one.cause == other.cause { one.cause } else { Cause::Failures };
    Some(Rest { until: one.until.min(other.until), cause })
}

/// Picks by weight: `random` is a point between 0 and 2^64 on the line on which the weights lie side by side.
pub(super) fn by_weight(weights: impl Iterator<Item = (usize, u32)> + Clone, random: u64) -> Option<usize> {
    let total: u64 = weights.clone().map(|(_, weight)| u64::from(weight)).sum();
    let mut point = u64::try_from((u128::from(random) * u128::from(total)) >> 64).unwrap_or_default();
    for (index, weight) in weights {
        match point.checked_sub(weight.into()) {
            Some(rest) => point = rest,
            None => return Some(index),
        }
    }
    None
}

/// Another random number from one that was used: a pick that is repeated among fewer must not favour a neighbour.
/// SplitMix64, by Steele, Lea and Flood (OOPSLA 2014).
pub(super) fn another(random: u64) -> u64 {
    let mixed = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The most keys that a provider may have, and targets that a model may have with its fallbacks.
pub const MOST: usize = 64;

/// When a key may be used by a call, whatever its model.
pub(super) fn may_use(key: &ProviderKey, lane: &Breaker, now: Instant) -> Result<(), Rest> {
    key.breaker.get().is_open_to(now)?;
    lane.is_open_to(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(weights: &[u32]) -> Pool {
        let key = |(index, weight): (usize, &u32)| {
            (HeaderValue::from_str(&format!("Bearer sk-canary-{index}")).expect("a value"), *weight)
        };
        Pool::new(&ProviderId::new("openai"), weights.iter().enumerate().map(key).collect())
    }

    /// How often each key is picked over a cycle that visits each point of the line once.
    fn picks(pool: &Pool, out: u64) -> Vec<u64> {
        let total: u64 = pool.keys().iter().map(|key| u64::from(key.weight)).sum();
        let mut picks = vec![0; pool.keys().len()];
        for step in 0..total * 10 {
            let random = u64::try_from((u128::from(2 * step + 1) << 63) / u128::from(total * 10)).expect("it fits");
            picks[pool.pick(out, random, |_, _| Ok(())).expect("a key")] += 1;
        }
        picks
    }

    #[test]
    fn keys_are_taken_as_their_weights_say() {
        assert_eq!(picks(&pool(&[1]), 0), [10]);
        assert_eq!(picks(&pool(&[2, 1, 7]), 0), [20, 10, 70]);
        assert_eq!(picks(&pool(&[3, 1, 1]), 0b001), [0, 25, 25]);
        assert_eq!(pool(&[1, 1]).pick(0b11, 0, |_, _| Ok(())), Err(None));
    }

    #[test]
    fn a_resting_key_is_left_out_and_the_soonest_end_is_told() {
        let (pool, now) = (pool(&[1, 1, 1]), Instant::now());
        let rest = |seconds| Rest { until: now + std::time::Duration::from_secs(seconds), cause: Cause::RateLimit };
        let may = |index: usize, _: &ProviderKey| if index == 1 { Ok(()) } else { Err(rest(9)) };
        for random in [0, u64::MAX / 2, u64::MAX] {
            assert_eq!(pool.pick(0, random, may), Ok(1));
        }
        let none = |index: usize, _: &ProviderKey| Err(rest([5, 3, 9][index]));
        assert_eq!(pool.pick(0, 0, none), Err(Some(rest(3))));
        let refused = |index: usize, _: &ProviderKey| {
            Err(Rest { cause: if index == 0 { Cause::Refused } else { Cause::RateLimit }, ..rest(5) })
        };
        assert_eq!(pool.pick(0, 0, refused), Err(Some(Rest { cause: Cause::Failures, ..rest(5) })), "of two causes");
    }

    #[test]
    fn the_numbers_drawn_anew_are_even() {
        let mut counts = [0_u32; 3];
        let mut random = 1;
        for _ in 0..30_000 {
            random = another(random);
            counts[by_weight([(0, 1), (1, 1), (2, 1)].into_iter(), random).expect("one")] += 1;
        }
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 300), "{counts:?}");
    }

    #[test]
    fn a_key_is_known_by_a_hash_and_never_shown() {
        let shown = format!("{:?} {}", pool(&[1, 2]), pool(&[1]).keys()[0].mark);
        assert!(!shown.contains("canary"), "{shown}");
        let mark = |provider: &str, key: &'static str| {
            Pool::new(&ProviderId::new(provider), vec![(HeaderValue::from_static(key), 1)]).keys()[0].mark
        };
        assert_eq!(mark("a", "Bearer x"), mark("a", "Bearer x"));
        assert_ne!(mark("a", "Bearer x"), mark("b", "Bearer x"));
        assert_ne!(mark("a", "Bearer x"), mark("a", "Bearer y"));
        assert_eq!(mark("a", "Bearer x").to_string().len(), 8);
    }
}
