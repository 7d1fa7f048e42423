//! The head scan: the few fields of a JSON request that the gateway acts on, read in one pass over its bytes.
//!
//! Invariant: member names are compared after unescaping, and a field that is read stands once and in no other spelling,
//! so that no provider can understand a body differently from us. It accepts exactly the JSON objects that `serde_json` accepts, at any depth.
//! Never does: build a tree of the body, copy it, or keep it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// What a request asks for. Field names: OpenAI's API reference, chat/completions, read 2026-11.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan<'b> {
    /// `model`, where it is a string.
    pub model: Option<Cow<'b, str>>,
    /// Whether `stream` is `true`.
    pub stream: bool,
}

/// Why a body is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
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
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(Fault("an object is expected".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| Fault(error.to_string()))
}

impl<'de> Deserialize<'de> for Scan<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ScanVisitor)
    }
}

struct ScanVisitor;

impl<'de> Visitor<'de> for ScanVisitor {
    type Value = Scan<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut model: Option<&RawValue> = None;
        let mut stream: Option<&RawValue> = None;
        while let Some(field) = map.next_key()? {
            let twice = match field {
                Field::Model => model.replace(map.next_value()?).is_some(),
                Field::Stream => stream.replace(map.next_value()?).is_some(),
                Field::Misspelt(name) => {
                    let reason = format_args!("a field is `{name}` but for its letters' case");
                    return Err(serde::de::Error::custom(reason));
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                    false
                }
            };
            if twice {
                return Err(serde::de::Error::custom(format_args!("the field `{}` stands twice", field.name())));
            }
        }
        Ok(Scan {
            model: model.and_then(|raw| serde_json::from_str::<Text<'_>>(raw.get()).ok()).map(|text| text.0),
            stream: stream.is_some_and(|raw| raw.get() == "true"),
        })
    }
}

/// A member name: one that is read, or another.
#[derive(Clone, Copy)]
enum Field {
    Model,
    Stream,
    /// One that some providers take for one that is read: Go's JSON ignores case, by Unicode's simple folding.
    Misspelt(&'static str),
    Other,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::Misspelt(_) | Self::Other => "",
        }
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

struct FieldVisitor;

impl Visitor<'_> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
        Ok(match name {
            "model" => Field::Model,
            "stream" => Field::Stream,
            _ => {
                ["model", "stream"].into_iter().find(|read| folds_to(name, read)).map_or(Field::Other, Field::Misspelt)
            }
        })
    }
}

/// Whether a name is a read one but for case. U+017F is the one letter outside ASCII that folds into these names.
fn folds_to(name: &str, read: &str) -> bool {
    name.len() <= 2 * read.len()
        && name
            .chars()
            .map(|letter| if letter == '\u{17f}' { 's' } else { letter.to_ascii_lowercase() })
            .eq(read.chars())
}

/// A JSON string, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(body: &str) -> Result<Scan<'_>, String> {
        scan(body.as_bytes()).map_err(Fault::into_text)
    }

    #[test]
    fn reads_model_and_stream_wherever_they_stand() {
        let read =
            text(r#" {"messages":[{"model":"inner","stream":true}],"stream":true,"x":{"a":[1]},"model":"gpt-4o"}"#);
        assert_eq!(read, Ok(Scan { model: Some("gpt-4o".into()), stream: true }));
    }

    #[test]
    fn names_and_values_are_unescaped() {
        let read = text(r#"{"m\u006fdel":"gpt\u002d4","str\u0065am":true}"#);
        assert_eq!(read, Ok(Scan { model: Some("gpt-4".into()), stream: true }));
    }

    #[test]
    fn a_field_that_is_read_stands_once() {
        for body in
            [r#"{"model":"a","model":"b"}"#, r#"{"model":"a","m\u006fdel":"a"}"#, r#"{"stream":1,"stream":true}"#]
        {
            assert!(text(body).is_err_and(|fault| fault.contains("stands twice")), "{body}");
        }
        assert!(text(r#"{"messages":1,"messages":2}"#).is_ok(), "a field that is not read is the provider's matter");
    }

    #[test]
    fn no_other_spelling_of_a_field_that_is_read_passes() {
        for name in ["Model", "MODEL", "mode\\u004c", "Stream", "\u{17f}tream", "\\u017ftream"] {
            let body = format!(r#"{{"model":"allowed","{name}":"forbidden"}}"#);
            assert!(text(&body).is_err_and(|fault| fault.contains("case")), "{body}");
        }
        assert!(text(r#"{"model":"m","models":1,"streams":1,"mödel":1,"streaM_options":1}"#).is_ok());
    }

    #[test]
    fn values_of_other_types_are_the_providers_matter() {
        assert_eq!(text(r#"{"model":7,"stream":"true"}"#), Ok(Scan::default()));
        assert_eq!(text(r#"{"model":null,"stream":null}"#), Ok(Scan::default()));
    }

    #[test]
    fn what_is_no_object_is_refused_without_showing_it() {
        for body in
            ["", " ", "[]", "\"secret\"", "1", "null", "{", r#"{"a":1,}"#, r#"{"secret":tru}"#, "{} x", "\u{feff}{}"]
        {
            let fault = text(body).expect_err(body);
            assert!(!fault.contains("secret"), "{fault}");
        }
        assert!(scan(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{{\"a\":{}1{},\"model\":\"m\"}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(text(&deep).map(|read| read.model), Ok(Some("m".into())));
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(|n| serde_json::Number::from_f64(n).map_or(serde_json::Value::Null, Into::into)),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            let name = prop_oneof![Just("model".to_owned()), Just("stream".to_owned()), any::<String>()];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec((name, inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_every_json(value in json(), pretty in any::<bool>()) {
            let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            let body = body.expect("a value");
            let read = text(&body);
            prop_assert_eq!(read.is_ok(), value.is_object());
            if let Ok(read) = read {
                prop_assert_eq!(read.model.as_deref(), value["model"].as_str());
                prop_assert_eq!(read.stream, value["stream"] == true);
            }
        }

        #[test]
        fn agrees_with_serde_json_on_broken_json(value in json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = serde_json::to_vec(&value).expect("a value");
            let at = at.index(body.len());
            body[at] = byte;
            let object = serde_json::from_slice::<serde_json::Value>(&body).is_ok_and(|value| value.is_object());
            // A tree keeps the last of two members; the scan refuses two where it reads them.
            let twice = scan(&body).err().map(Fault::into_text);
            let twice = twice.is_some_and(|fault| fault.contains("stands twice") || fault.contains("letters' case"));
            prop_assert_eq!(scan(&body).is_ok() || twice, object);
        }

        #[test]
        fn never_panics(body in any::<Vec<u8>>()) {
            let _ = scan(&body);
        }
    }
}
