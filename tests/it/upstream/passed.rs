//! Answers of the provider that are errors, and are the client's to see; and the one kind that is not.

use ai_gateway::demo::Script;

use super::*;

type Headers = &'static [(&'static str, &'static str)];

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const LIMITS: Headers =
    &[JSON, ("retry-after", "7"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-tokens", "6m0s")];

#[tokio::test]
async fn errors_of_the_provider_pass_byte_for_byte() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let html = "<html><body><h1>502 Bad Gateway</h1></body></html>\r\n";
    let error = "{\n  \"error\": {\"message\": \"no\",  \"type\": \"invalid_request_error\", \"code\": null}\n}\n";
    let answers: [(u16, Headers, &str); 9] = [
        (400, &[JSON], error),
        (404, &[JSON], error),
        (409, &[JSON], error),
        (422, &[JSON], error),
        (429, LIMITS, error),
        (500, &[], ""),
        (502, &[("content-type", "text/html")], html),
        (503, &[("content-type", "text/html"), ("retry-after", "1")], html),
        (529, &[JSON], "{\"type\":\"error\"}"),
    ];
    for (status, headers, body) in answers {
        for method in ["POST", "GET"] {
            world.provider.script(fixed(status, headers, body));
            let answer = match method {
                "POST" => client.post(CHAT, &chat("x")).await,
                _ => client.request("GET", MODELS, &[bearer(KEY)], b"").await,
            };
            assert_eq!((answer.status, answer.text().as_str(), answer.complete), (status, body, true));
            for (name, value) in headers {
                assert_eq!(answer.header(name), Some(*value));
            }
            assert_eq!(answer.header("provider-name"), Some("openai"));
        }
    }
    assert_eq!(world.provider.received().len(), 2 * answers.len(), "each was sent once");
    assert!(world.connections_were_shared());
}

#[tokio::test]
async fn a_refusal_of_our_own_key_shows_nothing_of_the_providers() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let body = r#"{"error":{"message":"Incorrect API key provided: sk-provider-canary-7f3a, org-secret"}}"#;
    let headers = [("www-authenticate", "Bearer org-secret"), ("openai-organization", "org-secret")];
    for status in [401, 403] {
        world.provider.script(fixed(status, &headers, body));
        let answer = client.post(CHAT, &chat("x")).await;
        told(&answer, 502, "upstream_auth_error");
        assert!(!answer.text().contains("secret") && !answer.text().contains("Incorrect"), "{}", answer.text());
        for (name, _) in headers {
            assert_eq!(answer.header(name), None);
        }
    }
    for call in world.log.calls(2).await {
        assert!(!call.to_string().contains("secret"), "{call}");
    }
    assert_eq!(world.provider.received().len(), 2, "it is not tried again");
}

#[tokio::test]
async fn a_redirect_is_passed_and_never_followed() {
    let world = World::start().await;
    let mut client = world.connect().await;
    let target = format!("http://{}/elsewhere", world.provider.addr());
    for status in [301, 302, 303, 307, 308] {
        world.provider.script(Script::json(status, "").header("location", &target));
        let answer = client.post(CHAT, &chat("x")).await;
        assert_eq!((answer.status, answer.header("location")), (status, Some(&*target)));
    }
    assert!(world.provider.received().iter().all(|call| call.target == "/v1/chat/completions"));
    assert_eq!(world.provider.received().len(), 5);
}

#[tokio::test]
async fn headers_of_the_providers_own_hop_stay_there() {
    let world = World::start().await;
    let hop = [
        ("set-cookie", "__cf_bm=1"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("keep-alive", "timeout=5"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "1"),
        ("access-control-allow-origin", "https://api.test"),
        ("provider-name", "other"),
    ];
    let kept = [("openai-processing-ms", "12"), ("cf-ray", "1-FRA"), ("x-odd", "\u{e9}")];
    world.provider.script(fixed(200, &[&hop[..], &kept[..]].concat(), "{}"));
    let answer = world.post(CHAT, &chat("x")).await;
    for name in ["set-cookie", "alt-svc", "strict-transport-security", "keep-alive", "x-hop"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    for (name, value) in kept {
        assert_eq!(answer.header(name), Some(value));
    }
    for (name, value) in
        [("provider-name", "openai"), ("access-control-allow-origin", "*"), ("connection", "keep-alive")]
    {
        let all: Vec<_> =
            answer.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(all, [value], "{name}");
    }
}
