//! What an error answer of a provider says beyond its status.
//!
//! Invariant: an error is looked for where each family has it: in the document, or in the data of an event.
//! Never does: judge; what follows from a class is the plan's.

use serde_json::Value;

use super::Dialect;

/// What an error answer says beyond its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Nothing that matters here.
    #[default]
    Plain,
    /// The request is longer than the model's context.
    ContextLength,
    /// A filter rejected what the request holds. Another target is not asked: a rejection is not to be shopped around.
    ContentFilter,
    /// Our account's quota is used up: waiting a little does not help.
    Quota,
    /// The same by the error's text alone. A text may quote the request, so that a client can have written it: enough to ask
    /// elsewhere, not to rest a key that others use.
    SaysQuota,
    /// The request named an organisation or a project of the client's (`openai-organization`, `openai-project`), so that a
    /// 401 need not be the fault of our key.
    ClientsAccount,
}

/// The class of an answer that tells an error, a document or the beginning of a stream. Lines count in a stream alone: any
/// other text may quote a client's lines.
pub fn class(dialect: &dyn Dialect, answer: &[u8]) -> Class {
    let is_stream = FIELDS.iter().any(|field| answer.trim_ascii_start().starts_with(field));
    let lines = answer.split(|byte| *byte == b'\n').filter(|_| is_stream);
    let documents = lines.filter_map(|line| line.strip_prefix(b"data:"));
    let whole = std::iter::once(answer).filter(|answer| answer.trim_ascii_start().starts_with(b"{"));
    let errors = whole.chain(documents).filter_map(|document| {
        let value: Value = serde_json::from_slice(document).ok()?;
        Some(match value.get("error") {
            Some(error) if error.is_object() => error.clone(),
            // Some put it on the first level. The type of an event is no class.
            _ if ["code", "type", "message"].iter().any(|name| value[name].is_string()) => value,
            _ => return None,
        })
    });
    errors.map(|error| dialect.class(&error)).find(|class| *class != Class::Plain).unwrap_or_default()
}

/// How a stream of events may begin.
const FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

#[cfg(test)]
mod tests {
    use super::super::{ANTHROPIC, OPENAI};
    use super::*;

    #[test]
    fn openais_errors_have_codes() {
        let class = |text: &str| class(OPENAI, text.as_bytes());
        assert_eq!(class(r#"{"error":{"code":"context_length_exceeded"}}"#), Class::ContextLength);
        assert_eq!(class("{\n \"error\": {\n \"code\":null,\"type\":\"insufficient_quota\"}}\n"), Class::Quota);
        assert_eq!(class(r#"{"code":"content_filter","message":"x"}"#), Class::ContentFilter);
        assert_eq!(
            class(r#"{"error":{"code":"x","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#),
            Class::ContentFilter
        );
        assert_eq!(class("data: {\"error\":{\"code\":\"content_filter\"}}\n\n"), Class::ContentFilter);
        for plain in ["<html>", "   ", r#"{"error":"context_length_exceeded"}"#, r#"{"error":{"code":17}}"#, "{\"er"] {
            assert_eq!(class(plain), Class::Plain, "{plain}");
        }
        let quoted = "cannot read this:\n{\"error\":{\"code\":\"insufficient_quota\"}}\n";
        assert_eq!(class(quoted), Class::Plain, "a client's own line");
        assert_eq!(class(&quoted.replacen('{', "data: {", 1)), Class::Plain, "a client's own event");
    }

    #[test]
    fn anthropics_errors_are_told_by_their_details_and_texts() {
        let of = |kind: &str, message: &str| {
            let error = serde_json::json!({ "type": "error", "error": { "type": kind, "message": message } });
            class(ANTHROPIC, error.to_string().as_bytes())
        };
        let invalid = "invalid_request_error";
        assert_eq!(of(invalid, "prompt is too long: 215432 tokens > 200000 maximum"), Class::ContextLength);
        let exceeds = "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000";
        assert_eq!(of(invalid, exceeds), Class::ContextLength);
        assert_eq!(
            of(invalid, "You have reached your specified workspace API usage limits. You will"),
            Class::SaysQuota
        );
        assert_eq!(of(invalid, "Your credit balance is too low to access the Anthropic API."), Class::SaysQuota);
        assert_eq!(of("billing_error", "x"), Class::Quota);
        assert_eq!(of("rate_limit_error", "x"), Class::Plain);
        assert_eq!(of("overloaded_error", "Overloaded"), Class::Plain);
        let spent = r#"{"type":"error","error":{"type":"rate_limit_error","message":"x",
            "details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        assert_eq!(class(ANTHROPIC, spent.as_bytes()), Class::Quota);
        let ramp = spent.replace("enforced_spend_limit_reached", "ramp_limit_exceeded");
        assert_eq!(class(ANTHROPIC, ramp.as_bytes()), Class::Plain, "one that passes");
        let begun = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\nevent: error\n\
                     data: {\"type\":\"error\",\"error\":{\"type\":\"billing_error\",\"message\":\"x\"}}\n\n";
        assert_eq!(class(ANTHROPIC, begun.as_bytes()), Class::Quota, "behind the beginning of a message");
    }
}
