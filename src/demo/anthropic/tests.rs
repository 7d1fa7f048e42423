//! Tests of the answers themselves, without a socket.
//!
//! Invariant: each fact that a client's SDK depends on is asserted here.
//! Never does: IO.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::super::ProviderOptions;
use super::super::answer::Answer;
use super::super::request::Head;
use super::{answer, is_asked};

const HEAD: &str = "anthropic-version: 2023-06-01\r\nx-api-key: k";

fn ask(line: &str, headers: &str, body: &str) -> Answer {
    let head = Head::take(&mut BytesMut::from(format!("{line} HTTP/1.1\r\n{headers}\r\n\r\n").as_str()));
    let head = head.unwrap().unwrap();
    assert!(is_asked(&head), "{line}");
    let options = ProviderOptions { api_key: Some("k".to_string()), ..ProviderOptions::default() };
    answer(&head, &Bytes::from(body.to_string()), None, &options)
}

fn post(path: &str, body: &Value) -> Answer {
    ask(&format!("POST {path}"), HEAD, &body.to_string())
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.pieces[0]).unwrap()
}

fn question(more: Value) -> Value {
    let messages = json!([{ "role": "user", "content": "use get_weather or not" }]);
    let mut question = json!({ "model": "claude-sonnet-4-5", "max_tokens": 100, "messages": messages });
    question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    question
}

/// The events of a stream, each with its name.
fn events(answer: &Answer) -> Vec<Value> {
    let event = |piece: &Bytes| {
        let text = std::str::from_utf8(piece).unwrap();
        let (name, data) = text.strip_suffix("\n\n").unwrap().split_once("\ndata: ").unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    };
    answer.pieces.iter().map(event).collect()
}

#[test]
fn a_stream_adds_up_to_the_whole_message() {
    let tool = json!({ "name": "get_weather", "input_schema": {
        "type": "object", "properties": { "city": { "type": "string" } },
    } });
    for more in [json!({}), json!({ "max_tokens": 3 }), json!({ "tools": [tool] })] {
        let whole = body(&post("/v1/messages", &question(more.clone())));
        let mut streamed = question(more);
        streamed["stream"] = true.into();
        let events = events(&post("/v1/messages", &streamed));
        assert_eq!((&events[0]["type"], &events[0]["message"]["id"]), (&"message_start".into(), &whole["id"]));
        let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
        let json: String = events.iter().filter_map(|event| event["delta"]["partial_json"].as_str()).collect();
        match whole["content"][0]["text"].as_str() {
            Some(whole) => assert_eq!(text, whole),
            None => assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), whole["content"][0]["input"]),
        }
        let [.., end, stop] = events.as_slice() else { panic!("events") };
        assert_eq!(end["delta"]["stop_reason"], whole["stop_reason"]);
        assert_eq!(end["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
        assert_eq!(stop, &json!({ "type": "message_stop" }));
    }
}

#[test]
fn what_is_marked_for_the_cache_is_written_and_later_read() {
    let usage = |ttl: &str, goes_on: bool| {
        let control = json!({ "type": "ephemeral", "ttl": ttl });
        let mut asked =
            question(json!({ "system": [{ "type": "text", "text": "one two three", "cache_control": control }] }));
        if goes_on {
            let messages = asked["messages"].as_array_mut().unwrap();
            messages
                .extend([json!({ "role": "assistant", "content": "a" }), json!({ "role": "user", "content": "b" })]);
        }
        let usage = body(&post("/v1/messages", &asked))["usage"].clone();
        let count = body(&post("/v1/messages/count_tokens", &asked))["input_tokens"].as_u64().unwrap();
        assert_eq!(count, usage["input_tokens"].as_u64().unwrap() + 3, "all of the input");
        let names =
            ["/cache_read_input_tokens", "/cache_creation_input_tokens", "/cache_creation/ephemeral_1h_input_tokens"];
        names.map(|name| usage.pointer(name).and_then(Value::as_u64).unwrap())
    };
    assert_eq!(usage("5m", false), [0, 3, 0]);
    assert_eq!(usage("1h", false), [0, 3, 3]);
    assert_eq!(usage("5m", true), [3, 0, 0]);
}

#[test]
fn what_is_wrong_gets_anthropics_error() {
    let error = |answer: Answer| {
        let body = body(&answer);
        assert_eq!(body["type"], "error");
        let id = answer.headers.iter().find(|(name, _)| name == "request-id").expect("an id");
        assert_eq!(body["request_id"].as_str(), Some(id.1.as_str()));
        (answer.status, body["error"]["type"].as_str().unwrap().to_string())
    };
    let is = |status: u16, kind: &str| (status, kind.to_string());
    let good = question(json!({})).to_string();
    let post_with = |headers: &str, body: &str| error(ask("POST /v1/messages", headers, body));
    assert_eq!(post_with("anthropic-version: 1", &good), is(401, "authentication_error"));
    assert_eq!(post_with("x-api-key: wrong", &good), is(401, "authentication_error"));
    assert_eq!(post_with("x-api-key: k", &good), is(400, "invalid_request_error"), "no version");
    assert_eq!(post_with(HEAD, "{"), is(400, "invalid_request_error"));
    for gone in ["model", "messages", "max_tokens"] {
        let mut asked = question(json!({}));
        asked.as_object_mut().unwrap().shift_remove(gone);
        assert_eq!(post_with(HEAD, &asked.to_string()), is(400, "invalid_request_error"), "{gone}");
    }
    assert_eq!(error(post("/v1/messages", &question(json!({ "model": "gpt-4o" })))), is(404, "not_found_error"));
    assert_eq!(error(ask("GET /v1/messages", HEAD, "")), is(405, "invalid_request_error"));
    assert_eq!(error(ask("POST /v1/messages/other", HEAD, &good)), is(404, "not_found_error"));
    assert_eq!(error(ask("GET /v1/models/gpt-4o", HEAD, "")), is(404, "not_found_error"));
}

#[test]
fn models_are_listed_in_anthropics_shape() {
    let list = body(&ask("GET /v1/models", HEAD, ""));
    assert_eq!((&list["first_id"], &list["has_more"]), (&"claude-haiku-4-5".into(), &false.into()));
    let one = body(&ask("GET /v1/models/claude-haiku-4-5", HEAD, ""));
    assert_eq!(one, list["data"][0]);
}
