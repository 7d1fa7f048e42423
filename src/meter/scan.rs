//! The head scan: the few fields of a JSON request that the gateway acts on, read in passing over its bytes.
//!
//! Invariant: member names are compared after unescaping, and a field that is read stands once and in no other spelling,
//! so that no provider can understand a body differently from us. It accepts exactly the JSON objects that `serde_json` accepts, at any depth.
//! Never does: build a tree of the body, copy it, or keep it.

mod content;

use std::borrow::Cow;
use std::ops::Range;

use serde::de::{Deserialize as _, Deserializer};
use serde_json::value::RawValue;

use super::splice::Splice;
use super::value;

pub use content::Extras;

/// What a request asks for. Field names: OpenAI's API reference, chat/completions and responses, read 2026-11.
#[derive(Clone, Debug, Default)]
pub struct Scan<'b> {
    /// `model`, where it is a string.
    pub model: Option<Cow<'b, str>>,
    /// Whether `stream` is `true`.
    pub stream: bool,
    /// The most tokens that one choice may have: the largest of `max_tokens`, `max_completion_tokens` (chat) and
    /// `max_output_tokens` (responses). Absent: as many as the model can make.
    pub max_output_tokens: Option<u64>,
    /// How many choices may be made: `n`, or `best_of` where that is more, for each `prompt` of a list (completions); at
    /// least 1.
    pub choices: u64,
    /// `service_tier`, and `speed` (Anthropic's fast mode; elsewhere a number), where they are texts: what decides about the
    /// price beside the model. Source: the API references of OpenAI and Anthropic, read 2026-11.
    pub tiers: [Option<Cow<'b, str>>; 2],
    /// The ceilings of output that stand in the body, by their names: where, if that is a `null`.
    ceilings: [Option<Option<Range<usize>>>; 3],
    /// Where the value of `model` stands in the body, its quotes included.
    model_at: Option<Range<usize>>,
    /// `stream_options`, and where it stands.
    stream_options: Option<(&'b str, usize)>,
    /// Where the first member would stand: behind the opening brace.
    start: usize,
    /// Whether there is no member.
    empty: bool,
    /// Whether a member brings in what the body does not hold.
    refers: bool,
}

/// Why a body is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// Says where in a text it is, as `serde_json` does: by its line, and by the bytes of that.
    fn at(self, text: &str, at: usize) -> Self {
        let before = &text.as_bytes()[..at];
        let line_at = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
        let (line, column) = (memchr::memchr_iter(b'\n', before).count() + 1, at - line_at + 1);
        Self(format!("{} at line {line} column {column}", self.0))
    }

    /// What is wrong and where; never a piece of the body but the names of our own fields.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Scans a whole body.
///
/// # Errors
/// [`Fault`] where it is no JSON object in UTF-8, or names a field twice that is read here.
pub fn scan(body: &[u8]) -> Result<Scan<'_>, Fault> {
    let text =
        std::str::from_utf8(body).map_err(|error| Fault(format!("it is not UTF-8 at byte {}", error.valid_up_to())))?;
    let start = value::space(body, 0);
    if body.get(start) != Some(&b'{') {
        return Err(Fault("an object is expected".to_owned()));
    }
    let Members { fields, empty, refers, prompts } = members(text, start + 1)?;
    let at = |raw: &str| raw.as_ptr() as usize - text.as_ptr() as usize;
    let model = fields[Field::MODEL];
    let ceilings = fields[Field::CEILINGS].iter().filter_map(|raw| raw.and_then(whole));
    let null = |raw: &str| (raw == "null").then(|| at(raw)..at(raw) + raw.len());
    let [first, second, third] = [5, 6, 7].map(|field| fields[field].map(null));
    let choices = fields[Field::CHOICES].iter().filter_map(|raw| raw.and_then(whole));
    Ok(Scan {
        model: model.and_then(string),
        stream: fields[Field::STREAM] == Some("true"),
        max_output_tokens: ceilings.max(),
        choices: choices.max().unwrap_or(1).max(1).saturating_mul(prompts),
        tiers: Field::TIERS.map(|field| fields[field].and_then(string)),
        ceilings: [first, second, third],
        model_at: model.map(|raw| at(raw)..at(raw) + raw.len()),
        stream_options: fields[Field::STREAM_OPTIONS].map(|raw| (raw, at(raw))),
        start: start + 1,
        empty,
        refers,
    })
}

impl Scan<'_> {
    /// What the request holds besides text. `body` is what was scanned; it is looked through once more, so ask only for calls
    /// that are limited.
    pub fn extras(&self, body: &[u8]) -> Extras {
        let extras = Extras::of(body);
        Extras { is_open_ended: self.refers || extras.is_open_ended, ..extras }
    }

    /// The change that puts another model in the place of the one that is asked for, or adds it.
    pub fn rename_model(&self, model: &str) -> Splice {
        let name = serde_json::Value::from(model).to_string();
        match &self.model_at {
            Some(at) => Splice { at: at.clone(), with: name },
            None => self.add_member(&format!(r#""model":{name}"#)),
        }
    }

    /// Where the value of `model` stands in the body.
    pub fn model_at(&self) -> Option<Range<usize>> {
        self.model_at.clone()
    }

    /// The change that adds a member in front of the others. Its name must not stand in the body.
    pub fn add_member(&self, member: &str) -> Splice {
        let comma = if self.empty { "" } else { "," };
        Splice { at: self.start..self.start, with: format!("{member}{comma}") }
    }

    /// The change that sets the most tokens of output, by one of the names that are read here. Absent where the request
    /// has a ceiling, even one that is for the provider to refuse.
    pub fn set_ceiling(&self, name: &str, tokens: u64) -> Option<Splice> {
        if self.ceilings.iter().any(|ceiling| matches!(ceiling, Some(None))) {
            return None;
        }
        let place = Field::NAMES[Field::CEILINGS].iter().position(|ceiling| *ceiling == name)?;
        match &self.ceilings[place] {
            Some(null) => Some(Splice { at: null.clone()?, with: tokens.to_string() }),
            None => Some(self.add_member(&format!(r#""{name}":{tokens}"#))),
        }
    }

    /// The change that makes a stream tell its usage (`stream_options.include_usage`); absent where it does so already, or
    /// where what stands there is for the provider to refuse.
    pub fn ask_for_usage(&self) -> Option<Splice> {
        const ASK: &str = r#"{"include_usage":true}"#;
        let Some((raw, at)) = self.stream_options else {
            return Some(self.add_member(&format!(r#""stream_options":{ASK}"#)));
        };
        if raw == "null" {
            return Some(Splice { at: at..at + raw.len(), with: ASK.to_owned() });
        }
        match StreamOptions::read(raw)?.include_usage {
            Some(asked) if matches!(asked.get(), "false" | "null") => {
                let from = at + (asked.get().as_ptr() as usize - raw.as_ptr() as usize);
                Some(Splice { at: from..from + asked.get().len(), with: "true".to_owned() })
            }
            Some(_) => None,
            None => {
                let is_empty = raw[1..].trim_start().starts_with('}');
                let with = if is_empty { r#""include_usage":true"# } else { r#""include_usage":true,"# };
                Some(Splice { at: at + 1..at + 1, with: with.to_owned() })
            }
        }
    }

    /// Whether the client itself asks a stream for its usage.
    pub fn asks_for_usage(&self) -> bool {
        let options = self.stream_options.and_then(|(raw, _)| StreamOptions::read(raw));
        options.and_then(|options| options.include_usage).is_some_and(|asked| asked.get() == "true")
    }
}

/// How many prompts there are: a list of texts or of lists is one for each; a list of numbers is one, in tokens.
fn prompts(value: &str) -> u64 {
    let text = value.as_bytes();
    let (mut apart, mut at) = (0_u64, value::space(text, 1));
    while let Some(end) = text.starts_with(b"[").then(|| value::end(text, at)).flatten() {
        apart += u64::from(matches!(text[at], b'"' | b'['));
        at = value::space(text, end);
        if text.get(at) != Some(&b',') {
            break;
        }
        at = value::space(text, at + 1);
    }
    apart.max(1)
}

/// A text, without its escapes.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    match raw.strip_prefix('"')?.strip_suffix('"') {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<Text<'_>>(raw).ok().map(|text| text.0),
    }
}

/// A count: a number that is whole and not negative. `16.0` is one, too, as some servers read it.
fn whole(text: &str) -> Option<u64> {
    let digits = text
        .split_once('.')
        .map_or(text, |(digits, zeros)| if zeros.trim_matches('0').is_empty() { digits } else { text });
    digits.parse().ok()
}

/// The members that are read, by [`Field`].
struct Members<'b> {
    fields: [Option<&'b str>; Field::NAMES.len()],
    empty: bool,
    refers: bool,
    prompts: u64,
}

/// Reads the members of the body's object, to its end and that of the body.
fn members(text: &str, start: usize) -> Result<Members<'_>, Fault> {
    let bytes = text.as_bytes();
    let mut members = Members { fields: [None; Field::NAMES.len()], empty: true, refers: false, prompts: 1 };
    let mut at = value::space(bytes, start);
    if bytes.get(at) == Some(&b'}') {
        return only_space(text, at + 1).map(|()| members);
    }
    members.empty = false;
    loop {
        let (name_end, from) = value::name(bytes, at).ok_or_else(|| broken(text))?;
        let name = string(&text[at..name_end]).ok_or_else(|| broken(text))?;
        let to = value::end(bytes, from).ok_or_else(|| broken(text))?;
        members.take(Field::of(&name), &text[from..to]).map_err(|fault| fault.at(text, at))?;
        at = value::space(bytes, to);
        match bytes.get(at) {
            Some(b',') => at = value::space(bytes, at + 1),
            Some(b'}') => return only_space(text, at + 1).map(|()| members),
            _ => return Err(broken(text)),
        }
    }
}

fn only_space(text: &str, at: usize) -> Result<(), Fault> {
    if value::space(text.as_bytes(), at) == text.len() { Ok(()) } else { Err(broken(text)) }
}

/// What is wrong with a text that is no JSON, in the words of `serde_json`.
fn broken(text: &str) -> Fault {
    let told = serde_json::from_str::<&RawValue>(text).map_or_else(|error| error.to_string(), |_| "no JSON".to_owned());
    Fault(told)
}

impl<'b> Members<'b> {
    fn take(&mut self, field: Field, value: &'b str) -> Result<(), Fault> {
        match field {
            Field::Read(index) => {
                if self.fields[index].replace(value).is_some() {
                    return Err(Fault(format!("the field `{}` stands twice", Field::NAMES[index])));
                }
            }
            Field::Misspelt(name) => return Err(Fault(format!("a field is `{name}` but for its letters' case"))),
            Field::Refers => self.refers |= value != "null",
            Field::Prompt => {
                self.refers |= value.starts_with('{');
                self.prompts = self.prompts.max(prompts(value));
            }
            Field::Other => {}
        }
        Ok(())
    }
}

/// A member name: one that is read, or another.
#[derive(Clone, Copy)]
enum Field {
    /// By its place among the names.
    Read(usize),
    /// One that some providers take for one that is read: Go's JSON ignores case, by Unicode's simple folding.
    Misspelt(&'static str),
    /// One that brings in what the body does not hold.
    Refers,
    /// `prompt`: texts, or a stored one.
    Prompt,
    Other,
}

impl Field {
    const NAMES: [&str; 10] = [
        "model",
        "stream",
        "stream_options",
        "n",
        "best_of",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "service_tier",
        "speed",
    ];
    const MODEL: usize = 0;
    const STREAM: usize = 1;
    const STREAM_OPTIONS: usize = 2;
    const CHOICES: Range<usize> = 3..5;
    const CEILINGS: Range<usize> = 5..8;
    const TIERS: [usize; 2] = [8, 9];

    fn of(name: &str) -> Self {
        if let Some(index) = Self::NAMES.iter().position(|read| *read == name) {
            return Self::Read(index);
        }
        if name == "prompt" {
            return Self::Prompt;
        }
        if content::MEMBERS.contains(&name) {
            return Self::Refers;
        }
        Self::NAMES.into_iter().find(|read| folds_to(name, read)).map_or(Self::Other, Self::Misspelt)
    }
}

/// Whether a name is a read one but for case. Two letters outside ASCII fold into it: U+017F to `s`, U+212A to `k`.
fn folds_to(name: &str, read: &str) -> bool {
    let fold = |letter| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => char::to_ascii_lowercase(&other),
    };
    (read.len()..=3 * read.len()).contains(&name.len()) && name.chars().map(fold).eq(read.chars())
}

/// `stream_options`, as far as it is read.
#[derive(serde::Deserialize)]
struct StreamOptions<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'a RawValue>,
}

impl<'a> StreamOptions<'a> {
    fn read(raw: &'a str) -> Option<Self> {
        // A list would pass for an object whose members come in their order.
        raw.starts_with('{').then(|| serde_json::from_str(raw).ok())?
    }
}

/// A member that is there, `null` too.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A JSON string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests;
