//! Answers of the provider that are errors, and are the client's to see; and the one kind that is not.

use ai_gateway::demo::Script;

use super::*;

over_all_pairs! {
    errors_of_the_provider_pass_byte_for_byte,
    a_refusal_of_our_own_key_shows_nothing_of_the_providers,
    a_redirect_is_passed_and_never_followed,
    headers_of_the_providers_own_hop_stay_there,
}

type Headers = &'static [(&'static str, &'static str)];

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");
const LIMITS: Headers =
    &[JSON, ("retry-after", "7"), ("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-tokens", "6m0s")];

async fn errors_of_the_provider_pass_byte_for_byte(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
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
    // Of HTTP/2 there is one.
    assert!(if pair.provider == Http::One {
        world.connections_were_shared()
    } else {
        world.provider.connections_accepted() == 1
    });
}

async fn a_refusal_of_our_own_key_shows_nothing_of_the_providers(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
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

async fn a_redirect_is_passed_and_never_followed(pair: Pair) {
    let world = World::of(pair).await;
    let mut client = world.client().await;
    let target = format!("http://{}/elsewhere", world.provider.addr());
    for status in [301, 302, 303, 307, 308] {
        world.provider.script(Script::json(status, "").header("location", &target));
        let answer = client.post(CHAT, &chat("x")).await;
        assert_eq!((answer.status, answer.header("location")), (status, Some(&*target)));
    }
    assert!(world.provider.received().iter().all(|call| call.target == "/v1/chat/completions"));
    assert_eq!(world.provider.received().len(), 5);
}

async fn headers_of_the_providers_own_hop_stay_there(pair: Pair) {
    let world = World::of(pair).await;
    let hop = [
        ("set-cookie", "__cf_bm=1"),
        ("alt-svc", "h3=\":443\""),
        ("strict-transport-security", "max-age=1"),
        ("keep-alive", "timeout=5"),
        ("access-control-allow-origin", "https://api.test"),
        ("provider-name", "other"),
    ];
    let kept = [("openai-processing-ms", "12"), ("cf-ray", "1-FRA"), ("x-odd", "\u{e9}")];
    // Without `connection` there is nothing that makes it a header of one hop.
    let named = [("connection", "keep-alive, x-hop"), ("x-hop", "1")];
    let named = if pair.provider == Http::One { &named[..] } else { &[] };
    world.provider.script(fixed(200, &[&hop[..], named, &kept[..]].concat(), "{}"));
    let answer = world.client().await.post(CHAT, &chat("x")).await;
    assert_eq!(answer.header("strict-transport-security"), (pair.client == Http::Two).then_some(HSTS), "only ours");
    for name in ["set-cookie", "alt-svc", "keep-alive", "x-hop"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    for (name, value) in kept {
        assert_eq!(answer.header(name), Some(value));
    }
    let connection = (pair.client == Http::One).then_some(("connection", "keep-alive"));
    let ours = [("provider-name", "openai"), ("access-control-allow-origin", "*")];
    for (name, value) in ours.into_iter().chain(connection) {
        let all: Vec<_> =
            answer.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(all, [value], "{name}");
    }
}
