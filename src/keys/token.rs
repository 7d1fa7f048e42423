//! The text of a key: how it is made, how a mistyped one is told, and how it is hashed.
//!
//! Invariant: the text of a key never prints, and its HMAC is compared in constant time; nowhere else in the gateway
//! are keys compared.
//! Never does: keep a key's text longer than its maker does; any IO but asking the system for random bytes.

use std::fmt;
use std::hash::{Hash, Hasher};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use subtle::ConstantTimeEq as _;

use crate::units::Secret;

/// What every key of ours begins with, so that scanners of repositories can recognise a leaked one.
pub const PREFIX: &str = "sk-aigw-";

/// A new key as its owner gets it: prefix, 43 base64url characters of 32 random bytes, 6 base62 characters of their
/// CRC-32. It exists once, between its making and the screen.
pub struct PlainToken(Secret);

/// The system has no random bytes to give.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes: {0}")]
pub struct NoRandomness(getrandom::Error);

impl PlainToken {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn make() -> Result<Self, NoRandomness> {
        Ok(Self::of(random()?))
    }

    /// The text, for the one place that shows it to its owner.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    fn of(random: [u8; 32]) -> Self {
        let body = URL_SAFE_NO_PAD.encode(random);
        Self(Secret::new(format!("{PREFIX}{body}{}", checksum(body.as_bytes()))))
    }
}

impl fmt::Debug for PlainToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[key]")
    }
}

/// Tells whether a presented key claims to be ours while its checksum says that it is not: mistyped or cut. Keys
/// without our prefix, such as those of the original's generator, have no checksum and are never called so.
pub(super) fn is_mistyped(presented: &[u8]) -> bool {
    let Some(rest) = presented.strip_prefix(PREFIX.as_bytes()) else {
        return false;
    };
    match rest.split_at_checked(BODY_LENGTH) {
        Some((body, check)) => checksum(body).as_bytes() != check,
        None => true,
    }
}

/// Takes bytes from the system's generator.
///
/// # Errors
/// [`NoRandomness`].
pub(super) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(NoRandomness)?;
    Ok(bytes)
}

/// The HMAC-SHA256 of a key: all that the gateway keeps of it.
#[derive(Clone, Copy)]
pub(super) struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HexFault {
    /// Not 64 characters, or one that is no hex digit.
    NotHex,
    /// Hex digits of which some are upper case.
    UpperCase,
}

impl Digest {
    /// Reads 64 lower-case hex digits.
    pub(super) fn from_hex(text: &str) -> Result<Self, HexFault> {
        let text: &[u8; 64] = text.as_bytes().try_into().map_err(|_| HexFault::NotHex)?;
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            let (Some(high), Some(low)) = (nibble(pair[0]), nibble(pair[1])) else {
                let hex = text.iter().all(u8::is_ascii_hexdigit);
                return Err(if hex { HexFault::UpperCase } else { HexFault::NotHex });
            };
            *byte = high << 4 | low;
        }
        Ok(Self(digest))
    }

    /// The digest as the key file spells it.
    pub(super) fn to_hex(self) -> String {
        hex(&self.0)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    /// The whole of it: a file may hold digests that nobody's HMAC made, and begin alike.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[digest]")
    }
}

/// HMAC-SHA256 under one salt. The salt's share of the work is done once, here, and copied for each key.
#[derive(Clone)]
pub(super) struct KeyedHash(hmac::Key);

impl KeyedHash {
    /// Prepares a salt: the bytes of the salt's *text*, not of what it may decode to (keyfile.md).
    pub(super) fn new(salt: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, salt))
    }

    /// Hashes a key.
    pub(super) fn digest(&self, key: &[u8]) -> Digest {
        let mut digest = [0; 32];
        // As long as SHA-256 makes it.
        digest.copy_from_slice(hmac::sign(&self.0, key).as_ref());
        Digest(digest)
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[salted]")
    }
}

/// Spells bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from(HEX[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn checksum(body: &[u8]) -> String {
    let mut rest = crc32fast::hash(body);
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(rest % 62) as usize];
        rest /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

const BODY_LENGTH: usize = 43;
const HEX: &[u8; 16] = b"0123456789abcdef";
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_has_prefix_body_and_checksum() {
        let token = PlainToken::of([0; 32]);
        // CRC-32/IEEE of 43 times "A", by Python's zlib.crc32, in base62.
        assert_eq!(token.expose(), "sk-aigw-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0DofJ8");
        assert!(!is_mistyped(token.expose().as_bytes()));
        assert_eq!(format!("{token:?}"), "[key]");
        assert_ne!(PlainToken::make().unwrap().expose(), PlainToken::make().unwrap().expose());
    }

    #[test]
    fn the_checksum_is_padded_to_six_digits() {
        assert_eq!(checksum(b""), "000000");
    }

    #[test]
    fn keys_without_our_prefix_are_never_called_mistyped() {
        for key in ["", "fake", "R6XiLWeArUl0UH15y0zynOkUWScYvLDYgD_AOk4JMwc", "sk-aigw", "SK-AIGW-x"] {
            assert!(!is_mistyped(key.as_bytes()), "{key}");
        }
        for key in ["sk-aigw-", "sk-aigw-short", "sk-aigw-\u{e9}"] {
            assert!(is_mistyped(key.as_bytes()), "{key}");
        }
    }

    #[test]
    fn digests_are_read_in_lower_case_only() {
        let text = hex(&[0xab; 32]);
        assert_eq!(Digest::from_hex(&text).unwrap().to_hex(), text);
        assert_eq!(Digest::from_hex(&text.to_uppercase()), Err(HexFault::UpperCase));
        assert_eq!(Digest::from_hex(&text[1..]), Err(HexFault::NotHex));
        assert_eq!(Digest::from_hex(&text.replace("b", "g")), Err(HexFault::NotHex));
        assert_eq!(Digest::from_hex(&"\u{e9}".repeat(32)).map(|_| ()), Err(HexFault::NotHex));
    }

    proptest! {
        #[test]
        fn a_changed_character_is_told(random in any::<[u8; 32]>(), at in 8..57_usize, by in 1..128_u8) {
            let mut key = PlainToken::of(random).expose().as_bytes().to_vec();
            prop_assert!(!is_mistyped(&key));
            prop_assert!(is_mistyped(&key[..at]));
            key[at] ^= by;
            prop_assert!(is_mistyped(&key));
        }

        #[test]
        fn any_bytes_can_be_presented(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            is_mistyped(&bytes);
            KeyedHash::new(&bytes).digest(&bytes);
        }
    }
}
