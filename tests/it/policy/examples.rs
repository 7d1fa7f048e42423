//! The programs of `examples/` as processes, over real HTTP.

use super::*;

fn with<'t>(more: &'t [(&'t str, &'t str)]) -> Vec<(&'t str, String)> {
    let json = [bearer(KEY), ("content-type", "application/json".to_owned())];
    json.into_iter().chain(more.iter().map(|(name, value)| (*name, (*value).to_owned()))).collect()
}

#[tokio::test]
async fn business_hours_send_calls_elsewhere_when_they_are_over() {
    let (inner, providers) = inner("").await;
    let (openai, folder) = prepare(&Setup { providers, ..Setup::default() }).await;
    for (open, expected) in [("0-24", "openai"), ("0-0", "inner")] {
        let variables = [("OPEN", open), ("DAYS", "7"), ("AFTER_HOURS", "inner")];
        let process = Process::example("business_hours", folder.path(), &variables);
        let (address, _) = process.serves().await;
        let answer = Connection::open(address).await.post(CHAT, &chat("hello")).await;
        assert_eq!((answer.status, answer.header("provider-name")), (200, Some(expected)));
    }
    let targets = |provider: &Provider| -> Vec<String> {
        provider.received().into_iter().map(|received| received.target).collect()
    };
    assert_eq!(targets(&openai), ["/v1/chat/completions"]);
    assert_eq!(targets(&inner), ["/house/v1/chat/completions"]);
}

#[tokio::test]
async fn a_header_check_refuses_and_tells_the_provider_who_asked() {
    let (provider, folder) = prepare(&Setup::default()).await;
    let process = Process::example("header_check", folder.path(), &[]);
    let (address, _) = process.serves().await;
    let body = chat("hello");
    for (headers, status, code) in
        [(&[][..], 403, "no_cost_center"), (&[("x-cost-center", "47")][..], 400, "bad_cost_center")]
    {
        let mut client = Connection::open(address).await;
        let answer = client.request("POST", CHAT, &with(headers), body.as_bytes()).await;
        answer.error(status, "invalid_request_error", code);
    }
    let good = with(&[("x-cost-center", "4711"), ("x-on-behalf-of-user", "root")]);
    let answer = Connection::open(address).await.request("POST", CHAT, &good, body.as_bytes()).await;
    assert_eq!(answer.status, 200);
    let received = provider.received();
    assert_eq!((received.len(), received[0].header("x-cost-center")), (1, Some("4711")));
    assert_eq!(
        (received[0].header_count("x-on-behalf-of-user"), received[0].header("x-on-behalf-of-user")),
        (1, Some("test"))
    );
    process.says("was not served").await;
}

#[tokio::test]
async fn a_redacted_field_never_leaves_and_every_other_byte_does() {
    let (provider, folder) = prepare(&Setup::default()).await;
    let process = Process::example("redact_field", folder.path(), &[("FIELD", "user")]);
    let (address, _) = process.serves().await;
    let body = r#"{ "us\u0065r": {"mail": "jane@example.com"}, "seed":9007199254740993, "model":"gpt-4o-mini",
        "messages":[{"role":"user","content":"I am jane"}], "user" : "jane" }"#;
    let answer = Connection::open(address).await.post(CHAT, body).await;
    assert_eq!(answer.status, 200);
    let expected =
        body.replace(r#"{"mail": "jane@example.com"}"#, r#""[redacted]""#).replace(r#""jane""#, r#""[redacted]""#);
    assert_eq!(body_of(&provider, 0), expected);
    let untouched = chat("hello");
    Connection::open(address).await.post(CHAT, &untouched).await;
    assert_eq!(body_of(&provider, 1), untouched);
    assert_eq!(Connection::open(address).await.request("GET", "/openai/v1/models", &with(&[]), b"").await.status, 200);
}

/// The README shows the policy of one of them.
#[test]
fn the_readme_shows_an_example_as_it_is() {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("## Embedding with `Policy`").expect("the section");
    let (_, rest) = rest.split_once("```rust\n").expect("a snippet");
    let (snippet, _) = rest.split_once("```").expect("its end");
    let example = include_str!("../../../examples/header_check.rs");
    assert!(example.contains(snippet.trim()), "the README and examples/header_check.rs differ:\n{snippet}");
}
