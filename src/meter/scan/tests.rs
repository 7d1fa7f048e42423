//! The head scan: what it reads, what it refuses, and how it changes a body.
//!
//! Never does: call a provider; bodies are text.

use super::*;
use crate::meter::spliced;
use bytes::Bytes;
use proptest::prelude::*;

mod fuzz;

fn text(body: &str) -> Result<Scan<'_>, String> {
    scan(body.as_bytes()).map_err(Fault::into_text)
}

fn model_and_stream(scan: Scan<'_>) -> (Option<String>, bool) {
    (scan.model.map(Cow::into_owned), scan.stream)
}

#[test]
fn reads_model_and_stream_wherever_they_stand() {
    let read = text(r#" {"messages":[{"model":"inner","stream":true}],"stream":true,"x":{"a":[1]},"model":"gpt-4o"}"#);
    assert_eq!(read.map(model_and_stream), Ok((Some("gpt-4o".into()), true)));
}

#[test]
fn names_and_values_are_unescaped() {
    let read = text(r#"{"m\u006fdel":"gpt\u002d4","str\u0065am":true}"#);
    assert_eq!(read.map(model_and_stream), Ok((Some("gpt-4".into()), true)));
}

#[test]
fn a_field_that_is_read_stands_once() {
    for body in [r#"{"model":"a","model":"b"}"#, r#"{"model":"a","m\u006fdel":"a"}"#, r#"{"stream":1,"stream":true}"#] {
        assert!(text(body).is_err_and(|fault| fault.contains("stands twice")), "{body}");
    }
    let told = text("{\"a\":1,\n \"model\":1,\n\n  \"model\":2}").expect_err("twice");
    assert_eq!(told, "the field `model` stands twice at line 4 column 3");
    assert!(text(r#"{"messages":1,"messages":2}"#).is_ok(), "a field that is not read is the provider's matter");
}

#[test]
fn no_other_spelling_of_a_field_that_is_read_passes() {
    for name in ["Model", "MODEL", "mode\\u004c", "Stream", "\u{17f}tream", "\\u017ftream"] {
        let body = format!(r#"{{"model":"allowed","{name}":"forbidden"}}"#);
        assert!(text(&body).is_err_and(|fault| fault.contains("case")), "{body}");
    }
    assert!(text(r#"{"model":"m","models":1,"streams":1,"mödel":1,"streaM_optionz":1}"#).is_ok());
}

#[test]
fn reads_the_ceilings_of_an_answer() {
    let read = |body: &str| text(body).map(|scan| (scan.max_output_tokens, scan.choices));
    assert_eq!(read("{}"), Ok((None, 1)));
    assert_eq!(read(r#"{"max_tokens":5,"max_completion_tokens":7,"n":3}"#), Ok((Some(7), 3)));
    assert_eq!(read(r#"{"max_output_tokens":16.0,"n":0}"#), Ok((Some(16), 1)));
    assert_eq!(read(r#"{"max_tokens":null,"n":null}"#), Ok((None, 1)));
    assert_eq!(read(r#"{"max_tokens":-1,"n":"2"}"#), Ok((None, 1)));
    assert!(text("{\"max_to\u{212a}ens\":1}").is_err());
}

/// The body with the change that makes it tell its usage; absent where there is none.
fn asking(body: &str) -> Option<String> {
    let splice = text(body).expect(body).ask_for_usage()?;
    let changed = spliced(&Bytes::copy_from_slice(body.as_bytes()), vec![splice]);
    Some(String::from_utf8(changed.to_vec()).expect("UTF-8"))
}

#[test]
fn a_stream_is_made_to_tell_its_usage_where_it_does_not() {
    for (body, changed) in [
        (r#" {"stream":true}"#, r#" {"stream_options":{"include_usage":true},"stream":true}"#),
        ("{ }", r#"{"stream_options":{"include_usage":true} }"#),
        (r#"{"stream_options": null }"#, r#"{"stream_options": {"include_usage":true} }"#),
        (r#"{"stream_options":{ }}"#, r#"{"stream_options":{"include_usage":true }}"#),
        (r#"{"stream_options":{"x":1}}"#, r#"{"stream_options":{"include_usage":true,"x":1}}"#),
        (r#"{"stream_options":{"include_usage" : false}}"#, r#"{"stream_options":{"include_usage" : true}}"#),
        (r#"{"stream_options":{"include_us\u0061ge":null}}"#, r#"{"stream_options":{"include_us\u0061ge":true}}"#),
    ] {
        assert_eq!(asking(body).as_deref(), Some(changed), "{body}");
        assert!(text(changed).expect(changed).asks_for_usage(), "{changed}");
        assert!(!text(body).expect(body).asks_for_usage(), "{body}");
    }
    assert_eq!(asking(r#"{"stream_options":{"include_usage":true}}"#), None);
    for body in [r#"{"stream_options":7}"#, r#"{"stream_options":{"include_usage":1}}"#, r#"{"stream_options":[]}"#] {
        assert_eq!(asking(body), None, "{body}");
    }
}

#[test]
fn a_model_is_renamed_where_it_stands() {
    let renamed = |body: &str, model: &str| {
        let splice = text(body).expect(body).rename_model(model);
        spliced(&Bytes::copy_from_slice(body.as_bytes()), vec![splice])
    };
    assert_eq!(renamed(r#"{"a":1, "model" : "x" }"#, "y\"z"), r#"{"a":1, "model" : "y\"z" }"#);
    assert_eq!(renamed(r#"{"a":1}"#, "y"), r#"{"model":"y","a":1}"#);
    assert_eq!(renamed("{}", "y"), r#"{"model":"y"}"#);
}

#[test]
fn values_of_other_types_are_the_providers_matter() {
    for body in [r#"{"model":7,"stream":"true"}"#, r#"{"model":null,"stream":null}"#] {
        assert_eq!(text(body).map(model_and_stream), Ok((None, false)));
    }
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
        // Refused although it is JSON: a field that is read here, in letters of another case.
        let other_case = read.as_ref().is_err_and(|fault| fault.contains("letters' case"));
        prop_assert!(read.is_ok() == value.is_object() || other_case);
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
        let value = serde_json::from_slice::<serde_json::Value>(&body);
        // A number that no f64 holds is JSON, but no tree.
        prop_assume!(!value.as_ref().is_err_and(|error| error.to_string().contains("out of range")));
        let object = value.is_ok_and(|value| value.is_object());
        // A tree keeps the last of two members; the scan refuses the second at once, whatever stands behind it.
        let twice = scan(&body).err().map(Fault::into_text);
        let twice = twice.is_some_and(|fault| fault.contains("stands twice") || fault.contains("letters' case"));
        prop_assert!(twice || scan(&body).is_ok() == object);
    }

    #[test]
    fn never_panics(body in any::<Vec<u8>>()) {
        let _ = scan(&body);
    }
}

#[test]
fn members_that_refer_to_more_than_the_body_are_seen() {
    let open = |body: &str| text(body).expect(body).extras(body.as_bytes()).is_open_ended;
    for member in ["previous_response_id", "conversation", "web_search_options", "container", "mcp_servers"] {
        assert!(open(&format!(r#"{{"model":"m","{member}":"x"}}"#)), "{member}");
        assert!(!open(&format!(r#"{{"model":"m","{member}":null}}"#)), "{member}");
        assert!(!open(&format!(r#"{{"model":"m","metadata":{{"{member}":"x"}}}}"#)), "{member}");
    }
    assert!(open(r#"{"prompt" : { "id":"p"}}"#) && !open(r#"{"prompt":"{"}"#));
    assert!(open(r#"{"model":"m","previous\u005fresponse_id":"x"}"#));
    assert!(open(r#"{"messages":[{"content":[{"type":"image_url","image_url":{}}]}]}"#));
}

#[test]
fn all_choices_of_all_prompts_count() {
    let choices = |body: &str| text(body).expect(body).choices;
    assert_eq!(choices(r#"{"n":2,"best_of":5}"#), 5);
    assert_eq!(choices(r#"{"n":2,"prompt":["a","b","c"]}"#), 6);
    assert_eq!(choices(r#"{"prompt":[[1,2],[3]]}"#), 2);
    assert_eq!(
        (choices(r#"{"prompt":[1,2,3]}"#), choices(r#"{"prompt":"a"}"#), choices(r#"{"prompt":[]}"#)),
        (1, 1, 1)
    );
}
