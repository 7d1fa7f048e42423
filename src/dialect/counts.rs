//! Reads the counts of a `usage` object, whatever else stands in it.
//!
//! Invariant: what is no count reads as absent: another type, a negative number, a fraction, more than 2^31.
//! Never does: fail for one bad member; look deeper than two objects inside another.

use std::borrow::Cow;

use super::walk::stop;

/// Tells each number of an object, by what `part` makes of the name of the object that it stands in (empty: the outermost),
/// and by its own name. Of two members of one name the later is told later.
pub(super) fn counts<P: Copy>(object: &[u8], mut part: impl FnMut(&[u8]) -> P, mut told: impl FnMut(P, &[u8], Number)) {
    let outermost = part(b"");
    // What came before a fault was told.
    let _ = Members { text: object, at: 0 }.each(outermost, 0, &mut part, &mut told);
}

/// Reads a JSON string of at most so many bytes that says something.
pub fn text(raw: &[u8], max: usize) -> Option<Cow<'_, str>> {
    let text = match plain(raw) {
        Some(plain) => Cow::Borrowed(std::str::from_utf8(plain).ok()?),
        None => serde_json::from_slice::<Text<'_>>(raw).ok()?.0,
    };
    (1..=max).contains(&text.len()).then_some(text)
}

/// What stands between the quotes of a JSON string that means just that.
fn plain(raw: &[u8]) -> Option<&[u8]> {
    let inside = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let is_odd = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // All bytes are looked at, which goes by the dozen.
    (!inside.iter().fold(false, |any, &byte| any | is_odd(byte))).then_some(inside)
}

/// A number that is not negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Whole(u64),
    Fraction(f64),
}

impl Number {
    fn read(raw: &[u8]) -> Option<Self> {
        let raw = std::str::from_utf8(raw).ok()?;
        match raw.parse() {
            Ok(whole) => Some(Self::Whole(whole)),
            Err(_) => raw.parse().ok().filter(|number| *number >= 0.0).map(Self::Fraction),
        }
    }

    /// As a count of things.
    pub(super) fn count(self) -> Option<u64> {
        match self {
            Self::Whole(count) => Some(count).filter(|count| *count <= MAX),
            Self::Fraction(_) => None,
        }
    }

    /// As seconds, in milliseconds, rounded up.
    pub(super) fn milliseconds(self) -> Option<u64> {
        match self {
            Self::Whole(seconds) => seconds.checked_mul(1000).filter(|ms| *ms <= MAX),
            Self::Fraction(seconds) => {
                let ms = (seconds * 1000.0).ceil();
                (ms <= MAX as f64).then_some(ms as u64)
            }
        }
    }
}

/// The most that is a count: a thousand times what models take, and little enough that all that keep or add up counts and
/// costs (the ledger, metrics, the answer's header) show the same number.
const MAX: u64 = 1 << 31;

/// Any number of fewer digits fits into 64 bits.
const MOST_DIGITS: usize = 19;

/// A JSON string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Where an object is read. A hand's breadth of JSON, because each call has a usage, and reading it by `serde_json` took as
/// long as all else that is done with an answer.
struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// Absent where there is a fault.
    fn each<P: Copy>(
        &mut self,
        of: P,
        depth: u8,
        part: &mut impl FnMut(&[u8]) -> P,
        told: &mut impl FnMut(P, &[u8], Number),
    ) -> Option<()> {
        self.take(b'{')?;
        if self.next()? == b'}' {
            return self.take(b'}');
        }
        loop {
            let name = self.name()?;
            self.take(b':')?;
            match self.next()? {
                b'{' if depth < 2 => self.each(part(&name), depth + 1, part, told)?,
                b'0'..=b'9' => {
                    if let Some(number) = self.number()? {
                        told(of, &name, number);
                    }
                }
                b'{' | b'[' => self.container()?,
                b'"' => drop(self.string()?),
                _ => drop(self.scalar()?),
            }
            match self.next()? {
                b',' => self.at += 1,
                _ => return self.take(b'}'),
            }
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> Option<u8> {
        while matches!(self.text.get(self.at)?, b' ' | b'\t' | b'\r' | b'\n') {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then(|| self.at += 1)
    }

    fn name(&mut self) -> Option<Cow<'a, [u8]>> {
        self.next()?;
        let (raw, is_plain) = self.string()?;
        if is_plain {
            return raw.get(1..raw.len() - 1).map(Cow::Borrowed);
        }
        let Text(name) = serde_json::from_slice(raw).ok()?;
        Some(name.into_owned().into_bytes().into())
    }

    /// A string with its quotes, and whether it has no escapes.
    fn string(&mut self) -> Option<(&'a [u8], bool)> {
        let start = self.at;
        self.take(b'"')?;
        let mut is_plain = true;
        loop {
            let rest = self.text.get(self.at..)?;
            let length = stop(rest)?;
            self.at += length + 1;
            if rest[length] == b'"' {
                return Some((self.text.get(start..self.at)?, is_plain));
            }
            is_plain = false;
            self.at += 1;
        }
    }

    /// A number, if it is one. Most are a few digits.
    fn number(&mut self) -> Option<Option<Number>> {
        let rest = self.text.get(self.at..)?;
        let mut whole = 0_u64;
        for (length, byte) in rest.iter().enumerate().take(MOST_DIGITS) {
            match byte {
                b'0'..=b'9' => whole = 10 * whole + u64::from(byte - b'0'),
                b',' | b'}' if length > 0 => {
                    self.at += length;
                    return Some(Some(Number::Whole(whole)));
                }
                _ => break,
            }
        }
        self.scalar().map(Number::read)
    }

    /// A number, or one of `true`, `false` and `null`.
    fn scalar(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.at..)?;
        let length =
            rest.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'E' | b'.' | b'+' | b'-'))?;
        self.at += length;
        Some(&rest[..length]).filter(|scalar| !scalar.is_empty())
    }

    fn container(&mut self) -> Option<()> {
        let mut open = 0_u32;
        loop {
            match self.text.get(self.at)? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open -= 1;
                    self.at += 1;
                }
                _ => self.at += 1,
            }
            if open == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn told(object: &str) -> Vec<(String, String, Number)> {
        let (mut all, parts) = (Vec::new(), RefCell::new(Vec::new()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let part = |name: &[u8]| {
            parts.borrow_mut().push(text(name));
            parts.borrow().len() - 1
        };
        counts(object.as_bytes(), part, |of: usize, name, number| {
            all.push((parts.borrow()[of].clone(), text(name), number));
        });
        all
    }

    fn whole(of: &str, name: &str, number: u64) -> (String, String, Number) {
        (of.to_owned(), name.to_owned(), Number::Whole(number))
    }

    #[test]
    fn numbers_are_told_in_their_order_down_to_two_objects() {
        let object = r#" { "a" : 1 , "b":{"c":2,"d":{"e":3,"f":{"g":4}},"h":5}, "a":6, "z":{}, "y":[ {"x":7} ] } "#;
        let expected =
            [whole("", "a", 1), whole("b", "c", 2), whole("d", "e", 3), whole("b", "h", 5), whole("", "a", 6)];
        assert_eq!(told(object), expected);
    }

    #[test]
    fn texts_are_read_as_serde_json_reads_them() {
        for raw in
            [r#""plain""#, r#""\u00e9\n""#, "\"\u{e9}\"", r#""""#, "\"", "", "null", "\"a\nb\"", r#""a"b""#, r#""a\""#]
        {
            let read = serde_json::from_str::<String>(raw).ok().filter(|text| !text.is_empty());
            assert_eq!(text(raw.as_bytes(), 9).map(Cow::into_owned), read, "{raw}");
        }
        assert_eq!(text(b"\"\xff\"", 9), None);
        assert_eq!(text(br#""too long""#, 7), None);
    }

    #[test]
    fn what_is_no_number_is_passed_over() {
        let object = r#"{"s":"}\"{","\u0061":1,"t":true,"n":null,"m":-5,"l":[1,"]",{"q":2}],"f":1.5,"e":2e3,"last":9}"#;
        let expected = [
            whole("", "a", 1),
            (String::new(), "f".to_owned(), Number::Fraction(1.5)),
            (String::new(), "e".to_owned(), Number::Fraction(2e3)),
            whole("", "last", 9),
        ];
        assert_eq!(told(object), expected);
    }

    #[test]
    fn what_came_before_a_fault_is_told_and_nothing_behind_it() {
        for (object, count) in [
            ("", 0),
            ("null", 0),
            ("[1]", 0),
            ("{", 0),
            ("{}", 0),
            (r#"{"a":1"#, 0),
            (r#"{"a":1,"#, 1),
            (r#"{"a":1,}"#, 1),
            (r#"{"a":1 "b":2}"#, 1),
            (r#"{"a":1,"b":}"#, 1),
            (r#"{"a":1,"b":"x"#, 1),
            (r#"{"a":1,"b\":2}"#, 1),
            (r#"{"a":1,"b":[2}"#, 1),
            (r#"{"a":12"#, 0),
            (r#"{"a"1}"#, 0),
        ] {
            assert_eq!(told(object).len(), count, "{object}");
        }
    }
}
