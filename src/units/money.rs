//! Money: US dollars, exact to the price of a single token.
//!
//! Invariant: nothing is ever rounded on the way in or out; sums stop at the largest amount instead of wrapping.
//! Never does: floating point.

use std::fmt;
use std::iter::Sum;
use std::str::FromStr;

/// An amount in US dollars, counted in pico-dollars (10^-12 USD): prices are told per million tokens with up to six
/// decimals, so the price of one token is a whole number of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(u128);

/// A text that is no amount: not digits with at most twelve decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an amount such as 12.5, with at most twelve decimals")]
pub struct NotMoney;

const PICOS: u128 = 1_000_000_000_000;
const DECIMALS: usize = 12;
/// Bytes of the longest amount: 27 digits, the point and the decimals.
const ROOM: usize = 27 + 1 + DECIMALS;

impl Usd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// An amount of pico-dollars.
    pub const fn from_picos(picos: u128) -> Self {
        Self(picos)
    }

    /// In pico-dollars.
    pub const fn picos(self) -> u128 {
        self.0
    }

    /// Room for [`Self::decimal`].
    pub const ROOM: [u8; ROOM] = [b'0'; ROOM];

    /// In dollars as a decimal number without trailing zeros: `0.00045`, `12`. Written into `room`, for those who write many.
    pub fn decimal(self, room: &mut [u8; ROOM]) -> &str {
        // Division of 128 bits is dear, and few amounts need it.
        let (whole, mut part) = match u64::try_from(self.0) {
            Ok(picos) => (u128::from(picos / PICOS as u64), picos % PICOS as u64),
            Err(_) => (self.0 / PICOS, (self.0 % PICOS) as u64),
        };
        let mut digits = itoa::Buffer::new();
        let whole = match u64::try_from(whole) {
            Ok(whole) => digits.format(whole),
            Err(_) => digits.format(whole),
        };
        let mut end = whole.len();
        room[..end].copy_from_slice(whole.as_bytes());
        if part > 0 {
            room[end] = b'.';
            end += 1 + DECIMALS;
            while part % 10 == 0 {
                part /= 10;
                end -= 1;
            }
            for digit in room[whole.len() + 1..end].iter_mut().rev() {
                *digit = b'0' + (part % 10) as u8;
                part /= 10;
            }
        }
        // Digits and a point.
        std::str::from_utf8(&room[..end]).unwrap_or_default()
    }

    /// For metrics, which are floating point: in dollars, rounded.
    #[expect(clippy::cast_precision_loss, reason = "a metric; the exact amount is in the record")]
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// The sum.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// What is left when `other` is taken away; nothing where that is more.
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times this amount, as a token's price times tokens.
    pub const fn times(self, count: u64) -> Self {
        Self(self.0.saturating_mul(count as u128))
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl fmt::Display for Usd {
    /// As [`Usd::decimal`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = Self::ROOM;
        f.write_str(self.decimal(&mut room))
    }
}

impl FromStr for Usd {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) || part.len() > DECIMALS {
            return Err(NotMoney);
        }
        let whole: u128 = whole.parse().map_err(|_| NotMoney)?;
        let part: u128 = format!("{part:0<DECIMALS$}").parse().map_err(|_| NotMoney)?;
        whole.checked_mul(PICOS).and_then(|whole| whole.checked_add(part)).map(Self).ok_or(NotMoney)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_decimals_exactly() {
        for text in ["0", "12", "0.00045", "0.000000000001", "340282366920938463463374607", "1.5"] {
            let amount: Usd = text.parse().expect(text);
            assert_eq!(amount.to_string(), text);
        }
        assert_eq!("0.50".parse::<Usd>().map(|amount| amount.to_string()), Ok("0.5".to_owned()));
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "0.0000000000001", "1.2.3", "\u{661}"] {
            assert_eq!(text.parse::<Usd>(), Err(NotMoney), "{text}");
        }
        assert_eq!("999999999999999999999999999999999999".parse::<Usd>(), Err(NotMoney));
    }

    #[test]
    fn sums_stop_at_the_ends() {
        let most = Usd::from_picos(u128::MAX);
        assert_eq!(most.plus(Usd::from_picos(1)), most);
        assert_eq!(Usd::ZERO.minus(most), Usd::ZERO);
        assert_eq!(most.times(2), most);
        assert_eq!([Usd::from_picos(1), Usd::from_picos(2)].into_iter().sum::<Usd>(), Usd::from_picos(3));
    }
}
