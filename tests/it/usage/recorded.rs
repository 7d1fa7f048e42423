//! Each kind of call has its record, with the provider's own numbers and the shipped book's prices.
//!
//! Never does: look into the database; the admin service tells it.

use std::time::SystemTime;

use ai_gateway::demo::Script;

use super::*;

over_all_pairs! {
    each_kind_of_call_has_its_record,
    a_transcription_that_passes_unread_has_its_record,
    a_record_tells_who_asked_whom_and_when,
}

async fn each_kind_of_call_has_its_record(pair: Pair) {
    let world = world(pair, "").await;
    let mut client = world.client().await;
    let ask = || json!({ "model": "gpt-4o-mini", "input": "Where does it go?" });
    let completion = || json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "Once upon a time", "max_tokens": 9 });
    let embedding = json!({ "model": "text-embedding-3-small", "input": ["one two", "three"], "dimensions": 8 });
    for (path, body, price) in [
        (CHAT, question("hello").to_string(), Some([150_000, 600_000])),
        (CHAT, streamed(question("hello")), Some([150_000, 600_000])),
        (COMPLETIONS, completion().to_string(), None),
        (COMPLETIONS, streamed(completion()), None),
        (RESPONSES, ask().to_string(), Some([150_000, 600_000])),
        (RESPONSES, streamed(ask()), Some([150_000, 600_000])),
        (EMBEDDINGS, embedding.to_string(), Some([20_000, 0])),
        (IMAGES, json!({ "model": "gpt-image-1", "prompt": "a river at dawn" }).to_string(), None),
    ] {
        let answer = client.post(path, &body).await;
        assert_eq!((answer.status, answer.complete), (200, true), "{path}");
        let record = record_of(&world, &answer).await;
        assert_eq!((&record["state"], tokens(&record)), (&"settled".into(), counted(&world)), "{path} {body}");
        assert_eq!((&record["status"], &record["error"], &record["attempts"]), (&200.into(), &Value::Null, &1.into()));
        assert_eq!((&record["route"], &record["user"]), (&format!("POST {path}").into(), &"test".into()));
        let asked: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(record["model"], asked["model"]);
        let used = world.provider.received().pop().expect("a request").used.expect("a count");
        let cost =
            price.map(|[input, output]| f64::from(input) * used.input as f64 + f64::from(output) * used.output as f64);
        let told = record["cost_usd"].as_str().map(|cost| cost.parse::<f64>().expect("a number") * 1e12);
        assert_eq!(told.map(f64::round), cost, "{path}");
        assert_eq!(record["prices"].is_string(), cost.is_some());
        assert_eq!(record["first_token_us"].is_null(), asked["stream"].is_null(), "{path}");
    }
    let answer = client.request("GET", MODELS, &[bearer(KEY)], b"").await;
    let record = record_of(&world, &answer).await;
    assert_eq!((&record["state"], tokens(&record), &record["cost_usd"]), (&"settled".into(), Value::Null, &"0".into()));
    let metrics = world.metrics().await;
    let unknown =
        |model: &str| metric(&metrics, &format!(r#"gateway_cost_unknown_total{{model="{model}",provider="openai"}}"#));
    assert_eq!((unknown("gpt-3.5-turbo-instruct"), unknown("gpt-image-1"), unknown("gpt-4o-mini")), (2.0, 1.0, 0.0));
    assert_eq!(metric(&metrics, r#"gateway_metered_total{certainty="settled"}"#), 9.0);
}

async fn a_transcription_that_passes_unread_has_its_record(pair: Pair) {
    let world = world(pair, "").await;
    let told = json!({ "text": "hello", "usage": {
        "type": "tokens", "total_tokens": 59, "input_tokens": 14, "output_tokens": 45,
        "input_token_details": { "text_tokens": 0, "audio_tokens": 14 },
    } });
    let silent = json!({ "text": "hello" });
    let mut seen = Vec::new();
    for body in [told, silent] {
        world.provider.script(Script::json(200, body.to_string()));
        let headers = [bearer(KEY), ("content-type", "multipart/form-data; boundary=x".to_owned())];
        let answer = world.client().await.request("POST", TRANSCRIPTIONS, &headers, b"--x--").await;
        assert_eq!(answer.json(), body);
        let record = record_of(&world, &answer).await;
        seen.push(json!([record["state"], tokens(&record), record["tokens"]["input_audio"], record["cost_usd"]]));
    }
    let wanted = [json!(["settled", [14, 45], 14, "0.000485"]), json!(["unknown", null, null, null])];
    assert_eq!(seen, wanted);
}

async fn a_record_tells_who_asked_whom_and_when(pair: Pair) {
    let key_file = Some(key_file(ALL, r#", "id": "key_of_test", "team": "blue""#));
    let world = World::with(Setup { key_file, ..setup(pair, "") }).await;
    let told = json!({ "model": "gpt-4o-mini-2024-07-18", "service_tier": "priority", "choices": [],
        "usage": { "prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13 } });
    world.provider.script(Script::json(200, told.to_string()));
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned()), ("on-behalf-of", "eve".to_owned())];
    let mut client = world.client().await;
    let before = SystemTime::now();
    let answer = client.request("POST", CHAT, &headers, question("hello").to_string().as_bytes()).await;
    let after = SystemTime::now();
    let record = record_of(&world, &answer).await;
    let expected = json!({
        "id": answer.header("x-request-id"), "state": "settled", "key": "key_of_test", "user": "test", "team": "blue",
        "on_behalf_of": "eve", "route": format!("POST {CHAT}"), "provider": "openai", "model": "gpt-4o-mini",
        "answered_model": "gpt-4o-mini-2024-07-18", "status": 200, "error": null, "attempts": 1, "unanswered": 0,
        "tried": null, "service_tier": "priority", "first_token_us": null,
    });
    for (name, value) in expected.as_object().expect("members") {
        assert_eq!(&record[name], value, "{name}");
    }
    let time = record["time"].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok()).expect("a time");
    let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).expect("later").as_micros();
    let began = u128::try_from(time.as_microsecond()).expect("later");
    assert!((since_1970(before)..=since_1970(after)).contains(&began), "{record}");
    let micros = |name: &str| record[name].as_u64().unwrap_or_else(|| panic!("{name}: {record}"));
    let [upstream, overhead, all] = ["upstream_us", "overhead_us", "duration_us"].map(micros);
    // A provider that has answered before the gateway begins to wait for it was not waited for.
    assert!(0 < upstream && upstream <= all && overhead <= all, "{record}");
    assert_eq!(record["instance"].as_str().map(str::len), Some(16));
}
