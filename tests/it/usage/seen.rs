//! What a client sees of a usage that the gateway asked for: nothing.
//!
//! Never does: compare with anything but the same call where nothing was asked for.

use ai_gateway::demo::{Framing, Reply, Script};

use super::*;

over_all_pairs! {
    a_stream_is_the_same_with_and_without_the_gateways_own_question,
    a_client_that_asks_gets_the_usage,
    a_provider_that_is_not_asked_is_estimated,
    a_provider_that_refuses_the_question_is_asked_without_it,
    a_provider_that_has_answered_refuses_for_one_request_only,
    a_refusal_of_the_clients_own_request_reaches_it,
}

fn requests() -> Vec<(&'static str, Value)> {
    let tool = json!({ "type": "function", "function": { "name": "get_weather", "parameters": {
        "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"],
    } } });
    let mut several = question("Where does the river go?");
    several["n"] = 3.into();
    let mut with_tool = question("What is the weather in Paris?");
    with_tool["tools"] = json!([tool]);
    let mut refusing = question("x");
    refusing["stream_options"] = json!({ "include_usage": false });
    vec![
        (CHAT, question("Say \u{1f6a3} hello")),
        (CHAT, several),
        (CHAT, with_tool),
        (CHAT, refusing),
        (COMPLETIONS, json!({ "model": "gpt-3.5-turbo-instruct", "prompt": "Once upon" })),
    ]
}

async fn a_stream_is_the_same_with_and_without_the_gateways_own_question(pair: Pair) {
    let (asks, silent) = (world(pair, "").await, world(pair, "inject_usage: off").await);
    let (mut asking, mut plain) = (asks.client().await, silent.client().await);
    for (path, request) in requests() {
        let body = streamed(request);
        for framing in [Framing::Chunked, Framing::Length, Framing::UntilClose] {
            for pieces in [vec![], vec![61], vec![13, 500], vec![70_000]] {
                let script = || Script { framing, pieces: pieces.clone(), ..Script::default() };
                asks.provider.script(script());
                silent.provider.script(script());
                let (one, other) = (asking.post(path, &body).await, plain.post(path, &body).await);
                assert!(one.complete && other.complete, "{framing:?} {pieces:?}");
                assert_eq!(one.text(), other.text(), "{framing:?} {pieces:?}");
                assert!(!one.text().contains("\"usage\""), "{framing:?} {pieces:?}");
                let kind = |answer: &Response| answer.header("content-type").map(str::to_owned);
                assert_eq!(kind(&one), kind(&other));
                let asked = String::from_utf8(asks.provider.received().pop().expect("a request").body.to_vec());
                assert!(asked.expect("UTF-8").contains("\"include_usage\":true"), "it was asked for");
                assert_eq!(silent.provider.received().pop().expect("a request").body, body.as_bytes());
                let record = record_of(&asks, &one).await;
                assert_eq!((&record["state"], tokens(&record)), (&"settled".into(), counted(&asks)));
            }
        }
    }
}

async fn a_client_that_asks_gets_the_usage(pair: Pair) {
    let world = world(pair, "").await;
    let mut client = world.client().await;
    for (path, request) in requests() {
        let body = asking(request);
        let answer = client.post(path, &body).await;
        let text = answer.text();
        let last =
            text.strip_suffix("\n\ndata: [DONE]\n\n").and_then(|text| text.rsplit_once("data: ")).expect("events");
        let last: Value = serde_json::from_str(last.1).expect("JSON");
        let told = json!([last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]]);
        assert_eq!((&last["choices"], &told), (&json!([]), &counted(&world)));
        assert!(text.contains("\"usage\":null"));
        assert_eq!(world.provider.received().pop().expect("a request").body, body.as_bytes(), "as it was sent");
        let record = record_of(&world, &answer).await;
        assert_eq!((&record["state"], tokens(&record)), (&"settled".into(), counted(&world)));
    }
}

async fn a_provider_that_is_not_asked_is_estimated(pair: Pair) {
    let world = world(pair, "inject_usage: off").await;
    let body = streamed(question("hello"));
    let answer = world.client().await.post(CHAT, &body).await;
    let record = record_of(&world, &answer).await;
    assert_eq!((&record["state"], &record["error"]), (&"estimated".into(), &Value::Null));
    let input = (body.len() as u64).div_ceil(3);
    let used = world.provider.received()[0].used.expect("a count");
    assert_eq!(record["tokens"]["input"], input);
    assert!(input >= used.input && record["tokens"]["output"].as_u64() >= Some(used.output), "{record} {used:?}");
}

/// What Mistral answers, and others in their words.
fn refusing(status: u16, body: String) -> Script {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Script { reply: Reply::Fixed { status, headers, body: body.into() }, times: 1, ..Script::default() }
}

fn extra_forbidden() -> String {
    let detail = json!({
        "type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"],
        "msg": "Extra inputs are not permitted", "input": true,
    });
    json!({ "object": "error", "message": { "detail": [detail] }, "type": "invalid_request_error" }).to_string()
}

fn bodies(world: &World) -> Vec<String> {
    world.provider.received().iter().map(|call| String::from_utf8_lossy(&call.body).into_owned()).collect()
}

async fn a_provider_that_refuses_the_question_is_asked_without_it(pair: Pair) {
    // Where it is the only attempt, too.
    for attempts in ["", "{ max_attempts: 3 }"] {
        for (status, text) in [(422, extra_forbidden()), (400, "Argument not supported: stream_options".to_owned())] {
            let setup = Setup { attempts: attempts.to_owned(), ..setup(pair, "") };
            let world = World::with(setup).await;
            let body = streamed(question("hello"));
            world.provider.script(refusing(status, text));
            let mut client = world.client().await;
            let answer = client.post(CHAT, &body).await;
            assert!(answer.status == 200 && answer.complete, "{}", answer.text());
            let sent = bodies(&world);
            assert!(sent.len() == 2 && sent[0].contains(r#""include_usage":true"#), "{sent:?}");
            assert_eq!(sent[1], body, "as the client sent it");
            let record = record_of(&world, &answer).await;
            assert_eq!((&record["state"], &record["attempts"]), (&"estimated".into(), &2.into()), "{record}");
            let outcomes: Vec<&Value> =
                record["tried"].as_array().expect("two").iter().map(|one| &one["outcome"]).collect();
            assert_eq!(outcomes, ["client_error", "success"]);
            // It is known from then on.
            assert_eq!(client.post(CHAT, &body).await.status, 200);
            assert_eq!(bodies(&world)[2..], [body]);
        }
    }
}

async fn a_provider_that_has_answered_refuses_for_one_request_only(pair: Pair) {
    let world = world(pair, "").await;
    let mut client = world.client().await;
    let body = streamed(question("hello"));
    assert_eq!(client.post(CHAT, &body).await.status, 200);
    world
        .provider
        .script(refusing(400, "Validation error at #/stream_options: Extra inputs are not permitted".to_owned()));
    assert_eq!(client.post(CHAT, &body).await.status, 200);
    let answer = client.post(CHAT, &body).await;
    let asked: Vec<_> = bodies(&world).iter().map(|sent| sent.contains(r#""include_usage":true"#)).collect();
    assert_eq!(asked, [true, true, false, true]);
    assert_eq!(record_of(&world, &answer).await["state"], "settled");
}

async fn a_refusal_of_the_clients_own_request_reaches_it(pair: Pair) {
    let world = world(pair, "").await;
    let mut client = world.client().await;
    let (ours, theirs) = (streamed(question("hello")), asking(question("hello")));
    // The client's own question, another status, and an error that names it no more than others do.
    for (body, status, text) in
        [(&theirs, 422, extra_forbidden()), (&ours, 404, extra_forbidden()), (&ours, 400, r#"{"error":{}}"#.to_owned())]
    {
        world.provider.script(refusing(status, text.clone()));
        let before = bodies(&world).len();
        let answer = client.post(CHAT, body).await;
        assert_eq!((answer.status, answer.text(), bodies(&world).len()), (status, text, before + 1));
    }
    // One that is the same without the question says nothing about the question.
    world.provider.script(Script { times: 2, ..refusing(422, extra_forbidden()) });
    let answer = client.post(CHAT, &ours).await;
    assert_eq!((answer.status, answer.text()), (422, extra_forbidden()));
    assert_eq!(client.post(CHAT, &ours).await.status, 200);
    assert!(bodies(&world).pop().expect("a request").contains("include_usage"), "it is asked again");
}
