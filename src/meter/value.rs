//! Where a JSON value ends, found in one pass and by many bytes at a time.
//!
//! Invariant: it accepts exactly the values that `serde_json` accepts (RFC 8259), at any depth, in text that is UTF-8.
//! Never does: keep a value, unescape a text, compute a number, or take more stack for what is deep.

/// Where a value ends that begins here; absent where there is none.
pub(super) fn end(text: &[u8], mut at: usize) -> Option<usize> {
    let mut open = Open::default();
    loop {
        let mut is_short = false;
        at = match text.get(at)? {
            b'"' => string(text, at + 1)?,
            b'{' => match space(text, at + 1) {
                next if text.get(next) == Some(&b'}') => next + 1,
                next => {
                    open.push(true);
                    at = name(text, next)?.1;
                    continue;
                }
            },
            b'[' => match space(text, at + 1) {
                next if text.get(next) == Some(&b']') => next + 1,
                next => {
                    open.push(false);
                    at = next;
                    continue;
                }
            },
            b'-' => number(text, at + 1)?,
            b'0'..=b'9' => {
                let end = number(text, at)?;
                is_short = end - at < 8;
                end
            }
            b't' => word(text, at, b"true")?,
            b'f' => word(text, at, b"false")?,
            b'n' => word(text, at, b"null")?,
            _ => return None,
        };
        loop {
            let Some(is_object) = open.last() else { return Some(at) };
            at = space(text, at);
            match (text.get(at)?, is_object) {
                (b',', true) => {
                    at = name(text, space(text, at + 1))?.1;
                    break;
                }
                (b',', false) => {
                    at = space(text, at + 1);
                    if is_short {
                        at = integers(text, at);
                    }
                    break;
                }
                (b'}', true) | (b']', false) => {
                    open.pop();
                    at += 1;
                }
                _ => return None,
            }
        }
    }
}

/// Where the name of a member ends that begins here, behind its quote, and where its value begins.
pub(super) fn name(text: &[u8], at: usize) -> Option<(usize, usize)> {
    let end = (text.get(at) == Some(&b'"')).then(|| string(text, at + 1))??;
    let colon = space(text, end);
    (text.get(colon) == Some(&b':')).then(|| (end, space(text, colon + 1)))
}

/// Where something stands that is no white space.
pub(super) fn space(text: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\r' | b'\n') = text.get(at) {
        at += 1;
    }
    at
}

fn word(text: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    text.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// Where a number ends, its sign aside.
fn number(text: &[u8], at: usize) -> Option<usize> {
    let mut at = match text.get(at)? {
        b'0' => at + 1,
        b'1'..=b'9' => digits(text, at + 1),
        _ => return None,
    };
    let some = |at: usize| text.get(at)?.is_ascii_digit().then(|| digits(text, at + 1));
    if text.get(at) == Some(&b'.') {
        at = some(at + 1)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        let signed = matches!(text.get(at + 1), Some(b'+' | b'-'));
        at = some(at + 1 + usize::from(signed))?;
    }
    Some(at)
}

fn digits(text: &[u8], mut at: usize) -> usize {
    while let Some(eight) = eight(text, at) {
        match others(eight) {
            0 => at += 8,
            others => return at + first(others),
        }
    }
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

/// Where a text ends that begins here, behind its quote.
fn string(text: &[u8], mut at: usize) -> Option<usize> {
    // Most texts are short, for which the larger step is not worth its look.
    let mut plain = 0;
    while let Some(eight) = eight(text, at) {
        let mut stops = stops(eight);
        if stops == 0 {
            at += 8;
            plain += 1;
            if plain >= NEAR {
                at = passed(text, at);
                plain = 0;
            }
            continue;
        }
        plain = 0;
        let mut next = 8;
        while stops != 0 {
            let stop = first(stops);
            match text[at + stop] {
                b'"' => return Some(at + stop + 1),
                b'\\' => next = stop + escape(text, at + stop)?,
                _ => return None,
            }
            if next >= 8 {
                break;
            }
            // What is escaped stops nothing.
            stops &= u64::MAX << (8 * next);
            next = 8;
        }
        at += next;
    }
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += escape(text, at)?,
            0..0x20 => return None,
            _ => at += 1,
        }
    }
}

/// How long an escape is, its backslash included.
fn escape(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// Passes over what is plain, in steps that compilers make wide instructions of.
fn passed(text: &[u8], mut at: usize) -> usize {
    let is_stop = |byte: &u8| u8::from(*byte == b'"') | u8::from(*byte == b'\\') | u8::from(*byte < 0x20);
    while let Some(block) = text.get(at..).and_then(<[u8]>::first_chunk::<BLOCK>) {
        if block.iter().fold(0, |stops, byte| stops | is_stop(byte)) != 0 {
            break;
        }
        at += BLOCK;
    }
    at
}

/// Passes over whole numbers of a list, as tokens are, while there is nothing between them but commas and spaces: to where
/// one begins that is to be read by itself. Numbers of which each is as long as it likes are slow to take one by one.
fn integers(text: &[u8], start: usize) -> usize {
    let mut at = start;
    // Of the word before: what each byte was. A comma stands before the first number.
    let (mut digits_before, mut breaks_before, mut zeros_before) = (0, 1 << 63, 0);
    while let Some(eight) = eight(text, at) {
        let digits = !others(eight) & every(0x80);
        let (commas, spaces) = (equal(eight, b','), equal(eight, b' '));
        let (breaks, zeros) = (commas | spaces, equal(eight, b'0'));
        let behind = |now: u64, before: u64, bytes: u32| now << (8 * bytes) | before >> (64 - 8 * bytes);
        let ends_nothing = commas & !behind(digits, digits_before, 1);
        let stands_in_a_number = spaces & !behind(breaks, breaks_before, 1);
        let after_zero = digits & behind(zeros, zeros_before, 1) & behind(breaks, breaks_before, 2);
        if digits | breaks != every(0x80) || ends_nothing | stands_in_a_number | after_zero != 0 {
            break;
        }
        (digits_before, breaks_before, zeros_before) = (digits, breaks, zeros);
        at += 8;
    }
    // Back to where the last of them began.
    while at > start && text[at - 1].is_ascii_digit() {
        at -= 1;
    }
    space(text, at)
}

fn eight(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk().map(|eight| u64::from_le_bytes(*eight))
}

/// The first byte whose high bit is set.
fn first(hits: u64) -> usize {
    hits.trailing_zeros() as usize / 8
}

const fn every(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The high bit of each byte that ends a run of text: a quote, a backslash, a control character. Exact for each, as no sum
/// of seven bits and less carries into the next. Source: Warren, Hacker's Delight, section 6-1.
const fn stops(word: u64) -> u64 {
    const LOW: u64 = every(0x7f);
    let (quote, slash) = (word ^ every(b'"'), word ^ every(b'\\'));
    let is_not = (((quote & LOW) + LOW) | quote) & (((slash & LOW) + LOW) | slash);
    let is_text = ((word & LOW) + every(0x80 - 0x20)) | word;
    !(is_not & is_text) & every(0x80)
}

/// The high bit of each byte that is this one, exact in the same way.
const fn equal(word: u64, byte: u8) -> u64 {
    const LOW: u64 = every(0x7f);
    let other = word ^ every(byte);
    !(((other & LOW) + LOW) | other) & every(0x80)
}

/// The high bit of each byte that is no digit.
const fn others(word: u64) -> u64 {
    let digit = word ^ every(b'0');
    (((digit & every(0x7f)) + every(0x80 - 10)) | digit) & every(0x80)
}

/// Words of plain text before steps become larger.
const NEAR: u32 = 4;
const BLOCK: usize = 32;

/// What is open, innermost last: a bit for each, whether it is an object.
#[derive(Default)]
struct Open {
    last: u64,
    depth: u32,
    /// Those before, where they are more than fit into a word.
    outer: Vec<u64>,
}

impl Open {
    fn push(&mut self, is_object: bool) {
        if self.depth == u64::BITS {
            self.outer.push(self.last);
            self.depth = 0;
        }
        self.last = self.last << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.last >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0
            && let Some(outer) = self.outer.pop()
        {
            (self.last, self.depth) = (outer, u64::BITS);
        }
    }

    fn last(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.last & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
