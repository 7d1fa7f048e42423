//! What is changed of a request's body for the target that it goes to, and how that is taken back for another one.
//!
//! Invariant: a change taken back leaves the bytes that were there before.
//! Never does: keep the body.

use std::ops::Range;

use bytes::Bytes;

use super::scan::Scan;
use super::splice::Splice;

/// The changes that may be made of one body, which live longer than its scan.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    model: Option<String>,
    model_at: Option<Range<usize>>,
    usage: Option<Splice>,
    /// A change that is made for every target.
    always: Option<Splice>,
    /// Whether it asks for a stream.
    pub stream: bool,
    /// How many choices it asks for.
    pub choices: u64,
}

impl Edits {
    /// What may be changed of a body that was scanned.
    pub fn of(scan: &Scan<'_>) -> Self {
        Self {
            model: scan.model.as_deref().map(str::to_owned),
            model_at: scan.model_at(),
            usage: if scan.stream { scan.ask_for_usage() } else { None },
            always: None,
            stream: scan.stream,
            choices: scan.choices,
        }
    }

    /// The same with a change that is made for every target.
    #[must_use]
    pub fn with(self, always: Option<Splice>) -> Self {
        Self { always, ..self }
    }

    /// The model that the body asks for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The changes for a target that serves this model (absent: the one that is asked for), and whether the usage of its
    /// stream is asked for that the body itself does not ask for. `may_ask`: whether that may be.
    pub fn for_target(&self, model: Option<&str>, may_ask: bool) -> (Vec<Splice>, bool) {
        let other = model.filter(|model| self.model.as_deref() != Some(*model));
        let rename = other.zip(self.model_at.clone());
        let rename = rename.map(|(name, at)| Splice { at, with: serde_json::Value::from(name).to_string() });
        let usage = self.usage.clone().filter(|_| may_ask);
        let hides = usage.is_some();
        let mut splices: Vec<Splice> = rename.into_iter().chain(usage).chain(self.always.clone()).collect();
        splices.sort_by_key(|splice| splice.at.start);
        (splices, hides)
    }
}

/// The changes that take back these ones, which are in their order and apart, once they were made of a body.
pub fn undoing(body: &Bytes, splices: &[Splice]) -> Vec<Splice> {
    let mut shift = 0;
    let undo = splices.iter().map(|Splice { at, with }| {
        let start = at.start + shift;
        shift = (shift + with.len()).saturating_sub(at.len());
        let was = body.get(at.clone()).unwrap_or_default();
        Splice { at: start..start + with.len(), with: String::from_utf8_lossy(was).into_owned() }
    });
    undo.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{scan, spliced};

    #[test]
    fn what_was_changed_for_a_target_is_taken_back_for_the_next() {
        for text in [
            r#"{"model":"gpt-4o","stream":true}"#,
            r#"{ "stream_options": null, "n": 2, "stream":true, "model" : "a" }"#,
            r#"{"stream":true,"stream_options":{},"model":"a much longer name than the other"}"#,
        ] {
            let body = Bytes::from(text);
            let edits = Edits::of(&scan(&body).expect("JSON"));
            for (model, may_ask) in [(Some("é"), true), (Some("longer-than-before"), false), (None, true)] {
                let (splices, hides) = edits.for_target(model, may_ask);
                assert_eq!(hides, may_ask);
                let undo = undoing(&body, &splices);
                let changed = spliced(&body, splices);
                let seen = scan(&changed).expect("JSON");
                assert_eq!(seen.model.as_deref(), model.or_else(|| edits.model()));
                assert_eq!(seen.asks_for_usage(), may_ask);
                assert_eq!(spliced(&changed, undo), body, "{text}");
            }
        }
        let edits = Edits::of(&scan(br#"{"model":"a"}"#).expect("JSON"));
        assert!(edits.for_target(Some("a"), true).0.is_empty());
    }
}
