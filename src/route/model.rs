//! Which model the calls of a route are for, where their bodies pass unread.
//!
//! Invariant: of a query that two servers could understand differently no model is read; it is refused, so that the model
//! that was authorised is the one that the provider is asked for.
//! Never does: change a query; decide whether a key may use a model.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Route;
use crate::error::Refusal;

/// What tells the model of a route's calls besides their path and body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModelSource {
    /// Nothing.
    #[default]
    Unseen,
    /// The one parameter `model` of the query.
    Query,
    /// The configuration: all calls are for this model.
    Always(String),
}

impl ModelSource {
    /// As the configuration spells it.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Unseen => None,
            Self::Query => Some(QUERY),
            Self::Always(model) => Some(model),
        }
    }
}

impl Route {
    /// The model that a call with this query is for, as far as the route tells it; absent also where the query could name
    /// one and does not.
    ///
    /// # Errors
    /// `BadQuery` where the route reads the query, and that names a model twice or in a way that is not plain.
    pub fn model_of<'a>(&'a self, query: Option<&'a str>) -> Result<Option<Cow<'a, str>>, Refusal> {
        match &self.model {
            ModelSource::Unseen => Ok(None),
            ModelSource::Query => in_query(query.unwrap_or_default()).map_err(Refusal::BadQuery),
            ModelSource::Always(model) => Ok(Some(Cow::Borrowed(model))),
        }
    }
}

/// What stands for [`ModelSource::Query`] in the configuration.
pub const QUERY: &str = "query";
/// The name of the parameter.
const MODEL: &str = "model";

fn in_query(query: &str) -> Result<Option<Cow<'_, str>>, &'static str> {
    if query.contains(';') {
        return Err("a \";\" has to be percent-encoded, because some servers take it for a \"&\"");
    }
    let mut found = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !may_be_model(name) {
            continue;
        }
        if name != MODEL {
            return Err("a parameter that may be read as \"model\" is spelt otherwise");
        }
        if found.replace(value).is_some() {
            return Err("the parameter \"model\" stands twice");
        }
    }
    found.map(model).transpose()
}

/// Tells whether some server could read a parameter's encoded name as `model`: frameworks ignore case, strip blanks before
/// it, end it at a NUL or a bracket, or decode it once more.
pub fn may_be_model(name: &str) -> bool {
    let name = name.replace('+', " ");
    let decoded: Vec<u8> = percent_decode_str(&name).collect();
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let word = decoded.iter().skip_while(|byte| !in_word(byte)).take_while(|byte| in_word(byte));
    let is_odd = decoded.iter().any(|byte| *byte == b'%' || !byte.is_ascii());
    is_odd || word.map(u8::to_ascii_lowercase).eq(MODEL.bytes())
}

/// A model's name as a query has it.
fn model(encoded: &str) -> Result<Cow<'_, str>, &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@+".contains(&byte);
    let decoded = percent_decode_str(encoded).decode_utf8().unwrap_or_default();
    // In a form a plus sign stands for a blank, elsewhere for itself.
    if decoded.is_empty() || !decoded.bytes().all(plain) || encoded.contains('+') {
        return Err("the parameter \"model\" has to be a name of letters, digits and - . _ ~ : / @");
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_one_model_of_a_query() {
        let read = |query| in_query(query).map(|model| model.map(Cow::into_owned));
        let named = |model: &str| Ok(Some(model.to_owned()));
        assert_eq!(read("model=gpt-realtime"), named("gpt-realtime"));
        assert_eq!(read("a=b&model=gpt-realtime&c"), named("gpt-realtime"));
        assert_eq!(read("model=ft%3Agpt-4o%3aorg::id"), named("ft:gpt-4o:org::id"));
        assert_eq!(read("model=%67pt-4o"), named("gpt-4o"));
        assert_eq!(read("model=a%2Bb/c@d"), named("a+b/c@d"));
        for other in
            ["", "&", "intent=transcription", "models=x", "model_id=x&model-version=2", "amodel=x", "x=model=y"]
        {
            assert_eq!(read(other), Ok(None), "{other}");
        }
    }

    #[test]
    fn refuses_what_two_servers_could_understand_differently() {
        for query in [
            "model=a&model=b",
            "model=a&model=a",
            "model=a&Model=b",
            "mod%65l=b",
            "mod%2565l=b",
            "model=a&MODEL=b",
            "model=a&model[]=b",
            "model%5B%5D=b",
            "model%00x=b",
            "model=a&+model=b",
            "model=a&%20model=b",
            "model%20=b",
            "model.x=b",
            "mod\u{e9}l=b",
            "%6d%6F%64%65%6c=b",
            "model=a;model=b",
            "x=1;model=b",
            "model=a&x=1;2",
            "model",
            "model=",
            "model=a+b",
            "model=a%20b",
            "model=a%26model=b",
            "model=a%3Bb",
            "model=a=b",
            "model=a,b",
            "model=gpt%252D4o",
            "model=a%00",
            "model=a%0Ab",
            "model=%ff",
            "model=%",
            "model=\u{e9}",
        ] {
            assert!(in_query(query).is_err(), "{query}");
        }
    }
}
