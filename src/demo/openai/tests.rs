//! Tests of the answers themselves, without a socket.
//!
//! Invariant: each fact that a client's SDK depends on is asserted here.
//! Never does: IO.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::super::ProviderOptions;
use super::super::answer::Answer;
use super::super::request::Head;
use super::answer;

fn ask_with(head: &str, body: &str, key: Option<&str>) -> Answer {
    let head = Head::take(&mut BytesMut::from(format!("{head}\r\n\r\n").as_str())).unwrap().unwrap();
    let options = ProviderOptions { api_key: key.map(str::to_string), ..ProviderOptions::default() };
    answer(&head, &Bytes::from(body.to_string()), None, &options)
}

fn post(path: &str, body: &Value) -> Answer {
    ask_with(&format!("POST {path} HTTP/1.1"), &body.to_string(), None)
}

fn get(path: &str) -> Answer {
    ask_with(&format!("GET {path} HTTP/1.1"), "", None)
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.pieces[0]).unwrap()
}

fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.pieces.last().unwrap(), "data: [DONE]\n\n");
    let pieces = answer.pieces.iter().take(answer.pieces.len() - 1);
    pieces.map(|piece| serde_json::from_slice(&piece[6..]).unwrap()).collect()
}

fn error(answer: &Answer) -> (u16, Value, Value) {
    let error = &body(answer)["error"];
    assert!(error["message"].is_string() && error["type"] == "invalid_request_error");
    (answer.status, error["param"].clone(), error["code"].clone())
}

fn chat(more: Value) -> Value {
    let mut chat = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "use get_weather or not" }] });
    chat.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    chat
}

fn tools() -> Value {
    json!([
        { "type": "function", "function": { "name": "other", "parameters": { "type": "object", "properties": {} } } },
        { "type": "function", "function": { "name": "get_weather", "parameters": { "type": "object", "properties": {
            "city": { "type": "string" }, "unit": { "enum": ["C", "F"] }, "days": { "type": "integer" },
        } } } },
    ])
}

#[test]
fn lists_and_finds_models() {
    let list = body(&get("/v1/models"));
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("gpt-4o")));
    assert_eq!(body(&get("/v1/models/gpt-4o?x=1")), list["data"][0]);
    assert_eq!(error(&get("/v1/models/none")), (404, json!("model"), json!("model_not_found")));
}

#[test]
fn refuses_as_openai_does() {
    let chats = "POST /v1/chat/completions HTTP/1.1";
    assert_eq!(error(&ask_with(chats, "{", None)).0, 400);
    assert_eq!(error(&ask_with(chats, "[]", None)).0, 400);
    assert_eq!(
        body(&post("/v1/chat/completions", &json!({})))["error"]["message"],
        "you must provide a model parameter"
    );
    let unknown = post("/v1/chat/completions", &chat(json!({ "model": "gpt-9" })));
    assert_eq!(error(&unknown), (404, Value::Null, json!("model_not_found")));
    let missing = post("/v1/chat/completions", &json!({ "model": "gpt-4o" }));
    assert_eq!(error(&missing), (400, json!("messages"), json!("missing_required_parameter")));
    assert_eq!(error(&post("/v1/chat/completions", &chat(json!({ "n": 0 })))).1, "n");
    assert_eq!(body(&get("/v1/nothing?q"))["error"]["message"], "Invalid URL (GET /v1/nothing)");
    assert_eq!(error(&get("/v1/chat/completions")).0, 405);
    assert_eq!(error(&post("/v1/models", &json!({}))).0, 405);
}

#[test]
fn serves_only_its_key_and_masks_others() {
    let with = |header: &str| ask_with(&format!("GET /v1/models HTTP/1.1{header}"), "", Some("sk-right"));
    assert_eq!(with("\r\nAuthorization: Bearer sk-right").status, 200);
    let wrong = with("\r\nAuthorization: Bearer sk-wrong-key-1234");
    assert_eq!(error(&wrong), (401, Value::Null, json!("invalid_api_key")));
    let message = body(&wrong)["error"]["message"].as_str().unwrap().to_string();
    assert!(message.starts_with("Incorrect API key provided: sk-wrong*****1234. You can find"), "{message}");
    assert_eq!(error(&with("")), (401, Value::Null, Value::Null));
    let twice = with("\r\nAuthorization: Bearer sk-right\r\nAuthorization: Bearer sk-right");
    assert_eq!(twice.status, 401);
}

#[test]
fn has_openais_headers() {
    for answer in [get("/v1/models"), get("/v1/nothing")] {
        for name in ["x-request-id", "openai-processing-ms", "openai-version", "set-cookie"] {
            assert!(answer.headers.iter().any(|(n, _)| n == name), "{name}");
        }
    }
    assert!(get("/v1/models").headers.iter().any(|(n, _)| n == "x-ratelimit-remaining-tokens"));
}

#[test]
fn a_stream_says_what_the_whole_answer_says() {
    let whole = body(&post("/v1/chat/completions", &chat(json!({ "n": 2 }))));
    let streamed = post("/v1/chat/completions", &chat(json!({ "n": 2, "stream": true })));
    assert!(streamed.stream && events(&streamed).iter().all(|event| event.get("usage").is_none()));
    let mut said = BTreeMap::<u64, String>::new();
    for event in events(&streamed) {
        let choice = &event["choices"][0];
        let said = said.entry(choice["index"].as_u64().unwrap()).or_default();
        said.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!(said.len(), 2);
    assert_ne!(said[&0], said[&1]);
    assert!(said[&0].starts_with("This is the built-in demo provider. You wrote: “use get_weather or not”."));
    for (index, said) in said {
        assert_eq!(whole["choices"][index as usize]["message"]["content"], *said);
    }
    assert_eq!(
        whole["usage"]["total_tokens"],
        json!(
            whole["usage"]["prompt_tokens"].as_u64().unwrap() + whole["usage"]["completion_tokens"].as_u64().unwrap()
        )
    );
}

#[test]
fn asking_for_usage_changes_nothing_but_usage() {
    let plain = events(&post("/v1/chat/completions", &chat(json!({ "stream": true }))));
    let asked = json!({ "stream_options": { "include_usage": true }, "stream": true });
    let mut with = events(&post("/v1/chat/completions", &chat(asked)));
    let last = with.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], plain.len() - 2);
    for event in &mut with {
        assert_eq!(event.as_object_mut().unwrap().shift_remove("usage"), Some(Value::Null));
    }
    assert_eq!(with, plain);
    assert_eq!(plain[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "", "refusal": null }));
    let end = &plain[plain.len() - 1]["choices"][0];
    assert_eq!((&end["delta"], &end["finish_reason"]), (&json!({}), &json!("stop")));
}

#[test]
fn stops_at_the_ceiling() {
    for name in ["max_tokens", "max_completion_tokens"] {
        let answer = body(&post("/v1/chat/completions", &chat(json!({ name: 3 }))));
        assert_eq!(answer["choices"][0]["message"]["content"], "This is the");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        assert_eq!(answer["usage"]["completion_tokens"], 3);
    }
}

#[test]
fn calls_tools_when_there_is_reason_to() {
    let called = |more: Value| {
        let mut request = chat(more);
        request["tools"] = tools();
        let answer = body(&post("/v1/chat/completions", &request));
        let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        call["name"].as_str().map(str::to_string)
    };
    let quiet = json!([{ "role": "user", "content": "hello" }]);
    assert_eq!(called(json!({})).as_deref(), Some("get_weather"));
    assert_eq!(called(json!({ "messages": quiet })), None);
    assert_eq!(called(json!({ "tool_choice": "none" })), None);
    assert_eq!(called(json!({ "messages": quiet, "tool_choice": "required" })).as_deref(), Some("other"));
    let choice = json!({ "type": "function", "function": { "name": "get_weather" } });
    assert_eq!(called(json!({ "messages": quiet, "tool_choice": choice })).as_deref(), Some("get_weather"));
    let result = json!([{ "role": "user", "content": "get_weather" }, { "role": "tool", "content": "rain" }]);
    assert_eq!(called(json!({ "messages": result })), None);
}

#[test]
fn streams_the_arguments_of_a_tool_call() {
    let streamed = events(&post("/v1/chat/completions", &chat(json!({ "tools": tools(), "stream": true }))));
    let opening = &streamed[0]["choices"][0]["delta"]["tool_calls"][0];
    assert_eq!((&opening["index"], &opening["type"]), (&json!(0), &json!("function")));
    let arguments: String = streamed
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str())
        .collect();
    let arguments: Value = serde_json::from_str(&arguments).unwrap();
    assert!(arguments["city"].is_string() && arguments["unit"] == "C" && arguments["days"].is_u64());
    assert_eq!(streamed[streamed.len() - 1]["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn completes_prompts() {
    let request = json!({ "model": "gpt-3.5-turbo-instruct", "prompt": ["a b", "c"], "max_tokens": 4 });
    let whole = body(&post("/v1/completions", &request));
    assert_eq!(whole["choices"].as_array().unwrap().len(), 2);
    assert_eq!((&whole["usage"]["prompt_tokens"], &whole["usage"]["completion_tokens"]), (&json!(3), &json!(8)));
    let request = json!({
        "model": "gpt-4o", "prompt": "x", "stream": true, "stream_options": { "include_usage": true },
    });
    let streamed = events(&post("/v1/completions", &request));
    assert_eq!((&streamed[0]["object"], &streamed[0]["usage"]), (&json!("text_completion"), &Value::Null));
    assert_eq!(streamed[streamed.len() - 1]["usage"]["completion_tokens"], 16);
}

#[test]
fn embeds_the_same_in_both_encodings() {
    let ask = |more: Value| {
        let mut request = json!({ "model": "text-embedding-3-small", "input": ["hello", "world"], "dimensions": 8 });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post("/v1/embeddings", &request)
    };
    let floats = body(&ask(json!({})));
    let encoded = body(&ask(json!({ "encoding_format": "base64" })));
    for index in 0..2 {
        let bytes = STANDARD.decode(encoded["data"][index]["embedding"].as_str().unwrap()).unwrap();
        let decoded: Vec<f32> = bytes.chunks(4).map(|x| f32::from_le_bytes(x.try_into().unwrap())).collect();
        let plain: Vec<f32> = serde_json::from_value(floats["data"][index]["embedding"].clone()).unwrap();
        assert_eq!((decoded.len(), &decoded), (8, &plain));
        assert!((plain.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    assert_ne!(floats["data"][0]["embedding"], floats["data"][1]["embedding"]);
    let tokens = body(&ask(json!({ "input": [1, 2, 3], "dimensions": null })));
    assert_eq!(tokens["data"][0]["embedding"].as_array().unwrap().len(), 1536);
    assert_eq!(tokens["usage"]["prompt_tokens"], 3);
    assert_eq!(error(&ask(json!({ "dimensions": 1537 }))).1, "dimensions");
    assert_eq!(error(&ask(json!({ "input": [] }))).0, 400);
    assert_eq!(error(&ask(json!({ "encoding_format": "hex" }))).1, "encoding_format");
}

#[test]
fn makes_images() {
    let made = body(&post("/v1/images/generations", &json!({ "model": "gpt-image-1", "prompt": "a cat", "n": 2 })));
    let images = made["data"].as_array().unwrap();
    let png = STANDARD.decode(images[1]["b64_json"].as_str().unwrap()).unwrap();
    assert!(images.len() == 2 && png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() < 1000);
}

#[test]
fn responds() {
    let whole = body(&post("/v1/responses", &json!({ "model": "gpt-4o", "input": "hello", "max_output_tokens": 2 })));
    assert_eq!(
        (&whole["status"], &whole["output"][0]["content"][0]["text"]),
        (&json!("incomplete"), &json!("This is"))
    );
    let streamed = post("/v1/responses", &json!({ "model": "gpt-4o", "input": "hello", "stream": true }));
    let last = streamed.pieces.last().unwrap();
    assert!(last.starts_with(b"event: response.completed\ndata: {\"type\":\"response.completed\""));
}
