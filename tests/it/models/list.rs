//! The list of models: merged, filtered, and there whatever the provider does.

use std::time::Duration;

use ai_gateway::demo::{CutAt, HowCut};

use super::*;

const OURS: [&str; 2] = ["fast by openai", "wide by openai, backup"];

over_all_pairs! {
    a_list_that_is_made_anew_is_kept_nowhere,
    names_are_listed_with_the_providers_own,
    names_are_listed_whatever_the_provider_does,
    a_key_is_shown_what_it_may_use,
}

async fn names_are_listed_with_the_providers_own(pair: Pair) {
    let named = Named::of(pair).await;
    let mut client = named.world.client().await;
    let headers = [bearer(KEY), ("if-none-match", "\"x\"".to_owned()), ("range", "bytes=0-9".to_owned())];
    for times in 1..=2 {
        let answer = client.request("GET", LIST, &headers, b"").await;
        let list = told(&answer);
        assert_eq!((&list[0], &list[7..]), (&"gpt-4o by system".to_owned(), &OURS.map(str::to_owned)[..]), "{list:?}");
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()));
        assert_eq!(answer.header("provider-name"), Some("openai"));
        let received = named.world.provider.received();
        let last = received.last().expect("asked");
        assert_eq!((received.len(), &*last.target), (times, "/v1/models"));
        assert_eq!((last.header("if-none-match"), last.header("range")), (None, None));
    }
    let head = client.request("HEAD", LIST, &[bearer(KEY)], b"").await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, None));
    assert_eq!(told(&get(&mut client, LIST).await).len(), 9, "the connection is still good");
}

async fn a_list_that_is_made_anew_is_kept_nowhere(pair: Pair) {
    let named = Named::of(pair).await;
    let of_theirs =
        ["etag", "content-digest", "repr-digest", "digest", "content-md5", "age", "expires", "last-modified"];
    for method in ["GET", "HEAD"] {
        let script =
            Script::json(200, r#"{"object":"list","data":[]}"#).header("cache-control", "public, max-age=3600");
        named.world.provider.script(of_theirs.iter().fold(script, |script, name| script.header(name, "0")));
        let answer = named.world.client().await.request(method, LIST, &[bearer(KEY)], b"").await;
        assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")));
        for name in of_theirs {
            assert_eq!(answer.header(name), None, "{method} {name}");
        }
    }
}

async fn names_are_listed_whatever_the_provider_does(pair: Pair) {
    let named = Named::of(pair).await;
    let gzip = Script::json(200, "\u{1f}\u{8b}\u{8}").header("content-encoding", "gzip");
    let long = format!(r#"{{"object":"list","data":[{{"id":"{}"}}]}}"#, "x".repeat(5_000_000));
    let scripts = [
        Script::json(404, r#"{"error":{"message":"Invalid URL (GET /v1/models)"}}"#),
        Script::json(401, r#"{"error":{"message":"Incorrect API key"}}"#),
        Script::json(503, "busy"),
        Script::json(304, ""),
        Script::json(206, r#"{"object":"list","data":[]}"#),
        Script::json(200, "{}"),
        Script::json(200, r#"{"object":"list","data":[{"id":"x"}"#),
        Script::json(200, long),
        gzip,
        Script::cut(CutAt::Body(20), HowCut::Reset),
        Script::cut(CutAt::Head, HowCut::Close),
    ];
    for script in scripts {
        named.world.provider.clear_scripts();
        named.world.provider.script(script.clone().always());
        let answer = get(&mut named.world.client().await, LIST).await;
        assert_eq!(told(&answer), OURS, "{script:?}");
        // What a 401 makes rest would keep the next one from being asked.
        tokio::time::sleep(Duration::from_millis(110)).await;
    }
}

async fn a_key_is_shown_what_it_may_use(pair: Pair) {
    let key_file = Some(MODEST.to_owned());
    let named = Named::with(Setup { pair, key_file, ..Setup::default() }).await;
    let mut client = named.world.client().await;
    assert_eq!(told(&get(&mut client, LIST).await), ["gpt-4o by system", "fast by openai"]);
    named.world.provider.script(Script::json(200, r#"{"data":[{"id":"ft-x"},{"id":"dall-e-3"}],"object":"list"}"#));
    assert_eq!(told(&get(&mut client, LIST).await), ["ft-x by backup", "fast by openai"]);
    let world = World::with(Setup { pair, key_file: Some(MODEST.to_owned()), ..Setup::default() }).await;
    let mut client = world.client().await;
    assert_eq!(told(&get(&mut client, LIST).await), ["gpt-4o by system"]);
    world.provider.script(Script::json(200, "<html>"));
    get(&mut client, LIST).await.error(502, "server_error", "upstream_error");
    world.provider.script(Script::json(500, "theirs"));
    let answer = get(&mut client, LIST).await;
    assert_eq!((answer.status, answer.text().as_str()), (500, "theirs"));
}

#[tokio::test]
async fn a_slow_provider_is_not_waited_for_in_vain() {
    let named = Named::with(Setup::default()).await;
    for script in [
        Script::cut(CutAt::Head, HowCut::Stall),
        Script { pieces: vec![1], gap: Some(Duration::from_millis(500)), ..Script::default() },
    ] {
        named.world.provider.script(script);
        let asked = std::time::Instant::now();
        assert_eq!(told(&named.world.get(LIST).await), OURS);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    }
    let line = &named.world.log.calls(2).await[0];
    assert_eq!(
        (line["statusCode"].as_str(), line["tried"][0]["outcome"].as_str()),
        (Some("200"), Some("total_timeout"))
    );
    let own = line["overheadUs"].as_u64().expect("a number");
    assert!(own < 2_000_000, "the wait for the provider is no work of ours: {own}");
    named.world.provider.stop().await;
    assert_eq!(told(&named.world.get(LIST).await), OURS, "and one that is not there");
}

#[tokio::test]
async fn without_names_the_list_is_the_providers_byte_for_byte() {
    let world = World::start().await;
    let body = "{ \"data\": [ {\"id\": \"x\", \"n\": 1.0} ],\n\"object\":\"list\"}\n";
    for script in
        [Script::json(200, body).header("etag", "\"1\""), Script::json(200, "<html>"), Script::json(503, "busy")]
    {
        world.provider.script(script.clone());
        let answer = world.get(LIST).await;
        let ai_gateway::demo::Reply::Fixed { status, body, .. } = &script.reply else { panic!("fixed") };
        assert_eq!((answer.status, &answer.body[..]), (*status, &body[..]));
        assert_eq!(answer.header("etag"), (script.headers.len() == 1).then_some("\"1\""));
    }
}

#[tokio::test]
async fn a_list_in_memory_is_accounted_for() {
    let server = "limits: { max_body: 1MiB, max_buffered: 1MiB }".to_owned();
    let named = Named::with(Setup { server, ..Setup::default() }).await;
    let list = |bytes: usize| {
        let script = Script::json(200, format!(r#"{{"object":"list","data":[{{"id":"{}"}}]}}"#, "x".repeat(bytes)));
        named.world.provider.script(script);
        named.world.get(LIST)
    };
    for _ in 0..5 {
        assert_eq!(told(&list(200_000).await).len(), 3, "what was held is given back");
        let answer = list(400_000).await;
        answer.error(503, "server_error", "overloaded");
    }
}

#[tokio::test]
async fn looking_up_models_is_no_failure_of_the_provider() {
    let named = Named::with(Setup::default()).await;
    for status in [403, 500] {
        named.world.provider.script(Script::json(status, "{}").always());
        for _ in 0..6 {
            assert_eq!(told(&named.world.get(LIST).await), OURS, "{status}");
        }
        named.world.provider.clear_scripts();
        assert_eq!(named.world.post("/openai/v1/chat/completions", &chat("hello")).await.status, 200, "{status}");
    }
}

#[tokio::test]
async fn a_list_costs_nothing_and_passes_a_spent_budget() {
    let sections = "limits: { gateway: { budgets: [ { tokens: 1, per: day } ] } }\n".to_owned();
    let named = Named::with(Setup { sections, ..Setup::default() }).await;
    named.world.post("/openai/v1/chat/completions", &chat("hello")).await.error(
        429,
        "insufficient_quota",
        "insufficient_quota",
    );
    assert_eq!(told(&named.world.get(LIST).await).len(), 9);
    assert_eq!(named.world.get("/openai/v1/models/fast").await.json()["owned_by"], "openai");
}

#[tokio::test]
async fn only_what_is_listed_is_shown_where_nothing_else_may_be_asked_for() {
    let sections = "only_listed_models: true\n".to_owned();
    let named = Named::with(Setup {
        sections,
        models: ", gpt-4o: { targets: [ { provider: backup, model: backup-model } ] }".to_owned(),
        ..Setup::default()
    })
    .await;
    assert_eq!(told(&named.world.get(LIST).await), ["gpt-4o by backup", OURS[0], OURS[1]]);
}
