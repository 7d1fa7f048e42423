//! What clients of the original gateway rely on: routes, the three refusals, CORS, keys, and bytes that pass untouched.
//!
//! Invariant: each fact here was observed at the original (`shared/original.md`, `shared/keyfile.md`) or stands in
//! design.md section 3 as a deliberate change of it.
//! Never does: look inside the gateway.

use ai_gateway::demo::{Reply, Script};
use sha2::{Digest, Sha256};

use crate::support::*;

over_all_pairs! {
    migrated too:
    the_route_is_looked_up_before_the_key_and_the_key_before_the_scope,
    an_odd_spelling_of_a_route_is_no_route,
    queries_a_trailing_slash_and_a_model_in_the_path_go_through,
    head_is_get_without_its_body,
    a_preflight_needs_no_key_and_every_answer_may_be_read,
    the_provider_is_named_where_it_was_reached,
    the_old_key_is_taken_from_three_headers_and_no_two_that_differ,
    other_statuses_and_conditional_requests_pass,
    what_a_client_says_of_itself_is_logged_or_passed_but_never_believed,
    the_seeds_own_curl_line_works,
    a_body_is_forwarded_byte_for_byte,
}

const NO_ROUTE: &str = "Route not found";
const NO_KEY: &str = "Invalid AI Gateway API key";
const NO_SCOPE: &str = "Invalid AI Gateway API scope";
const MODELS: &str = "/openai/v1/models";
const CHAT: &str = "/openai/v1/chat/completions";

/// The test key with one scope only.
fn only_models() -> Setup {
    Setup { key_file: Some(key_file(&["get:/openai/v1/models"], "")), ..Setup::default() }
}

fn fixed(status: u16, headers: &[(&str, &str)], body: &'static str) -> Script {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Script { reply: Reply::Fixed { status, headers, body: body.into() }, ..Script::default() }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn the_route_is_looked_up_before_the_key_and_the_key_before_the_scope(way: Way) {
    let world = way.with(only_models()).await;
    let mut client = world.client().await;
    let json = ("content-type", "application/json".to_owned());
    for key in [None, Some("wrong"), Some(KEY)] {
        let headers: Vec<_> = key.map(bearer).into_iter().chain([json.clone()]).collect();
        let unknown = client.request("POST", "/openai/v1/unknown", &headers, b"{").await;
        assert_eq!(unknown.error(404, "invalid_request_error", "unknown_url"), NO_ROUTE);
        let known = client.request("POST", CHAT, &headers, b"{").await;
        match key {
            Some(KEY) => {
                assert_eq!(known.error(403, "invalid_request_error", "insufficient_permissions"), NO_SCOPE);
            }
            _ => assert_eq!(known.error(401, "invalid_request_error", "invalid_api_key"), NO_KEY),
        }
    }
    assert_eq!(world.provider.received().len(), 0);
}

async fn an_odd_spelling_of_a_route_is_no_route(way: Way) {
    let world = way.world().await;
    let mut client = world.client().await;
    let odd = [
        "/",
        "/ping",
        "/metrics",
        "/v1/models",
        "/OpenAI/v1/models",
        "//openai/v1/models",
        "/openai//v1/models",
        "/openai/v1/models//",
        "/openai/v1/./models",
        "/openai/v1/x/../models",
        "/openai/v1/models/..",
        "/openai/v1/models/%2e%2e",
        "/openai/v1/models/%2E./x",
        "/openai/v1/models/a%2fb",
        "/openai/v1/models/a%5Cb",
        "/openai/v1/models/a\\b",
        "/openai/v1/models/a%00",
        "/openai/v1/models/%zz/x",
        "/openai/v1/models/a/b",
        "/openai/v1/%6dodels",
        "/openai/v1%2Fmodels",
        "/openai/v1/models;x=1",
        "http://gateway.test/ping",
    ];
    // Only HTTP/1.1 has a target in absolute form.
    let absolute = |path: &str| path.starts_with("http:");
    for path in odd.into_iter().filter(|path| way.pair.client == Http::One || !absolute(path)) {
        let answer = client.request("GET", path, &[bearer(KEY)], b"").await;
        assert_eq!(answer.error(404, "invalid_request_error", "unknown_url"), NO_ROUTE, "{path}");
    }
    for (method, path) in
        [("PUT", MODELS), ("DELETE", MODELS), ("POST", MODELS), ("BREW", MODELS), ("get", MODELS), ("GET", CHAT)]
    {
        let answer = client.request(method, path, &[bearer(KEY)], b"").await;
        assert_eq!(answer.error(404, "invalid_request_error", "unknown_url"), NO_ROUTE, "{method} {path}");
    }
    assert_eq!(world.provider.received().len(), 0);
}

async fn queries_a_trailing_slash_and_a_model_in_the_path_go_through(way: Way) {
    let world = way.world().await;
    let mut client = world.client().await;
    let forwarded = [
        ("/openai/v1/models?limit=1&after=a%20b%2F..", "/v1/models?limit=1&after=a%20b%2F.."),
        ("/openai/v1/models?", "/v1/models"),
        ("/openai/v1/models/", "/v1/models"),
        ("/openai/v1/models/gpt-4o", "/v1/models/gpt-4o"),
        ("/openai/v1/models/gpt-4o/?x=1", "/v1/models/gpt-4o?x=1"),
        ("http://gateway.test/openai/v1/models?a=1", "/v1/models?a=1"),
    ];
    // Only HTTP/1.1 has a target in absolute form. The original had no route for one model, so that what is migrated has
    // none either: it opens nothing that was closed.
    let is_here = |path: &str| {
        (way.pair.client == Http::One || !path.starts_with("http:"))
            && (way.migrated.is_none() || !path.contains("/gpt-4o"))
    };
    let (forwarded, not_here): (Vec<_>, Vec<_>) = forwarded.into_iter().partition(|(path, _)| is_here(path));
    for (path, _) in not_here.iter().filter(|(path, _)| path.starts_with('/')) {
        assert_eq!(client.request("GET", path, &[bearer(KEY)], b"").await.status, 404, "{path}");
    }
    for (path, _) in &forwarded {
        assert_eq!(client.request("GET", path, &[bearer(KEY)], b"").await.status, 200, "{path}");
    }
    let received = world.provider.received();
    let targets: Vec<&str> = received.iter().map(|received| received.target.as_str()).collect();
    assert_eq!(targets, forwarded.iter().map(|(_, target)| *target).collect::<Vec<_>>());
    assert!(received.iter().all(|received| received.header("host") == Some(&*world.host)));
    assert!(received.iter().all(|received| received.http2 == (way.pair.provider == Http::Two)));
}

async fn head_is_get_without_its_body(way: Way) {
    let world = way.world().await;
    let mut client = world.client().await;
    let get = client.request("GET", MODELS, &[bearer(KEY)], b"").await;
    let head = client.request("HEAD", MODELS, &[bearer(KEY)], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    let connection = (way.pair.client == Http::One).then_some("connection");
    for name in ["content-type", "content-length", "provider-name"].into_iter().chain(connection) {
        assert!(head.header(name).is_some() && head.header(name) == get.header(name), "{name}");
    }
    assert_eq!(client.request("HEAD", "/nowhere", &[], b"").await.status, 404);
    assert_eq!(client.request("GET", MODELS, &[bearer(KEY)], b"").await.body, get.body);
    assert_eq!(world.provider.received()[1].method, "HEAD");
}

async fn a_preflight_needs_no_key_and_every_answer_may_be_read(way: Way) {
    let world = way.with(only_models()).await;
    let mut client = world.client().await;
    let asked = ("access-control-request-headers", "authorization,x-stainless-os".to_owned());
    let origin = ("origin", "https://app.test".to_owned());
    let preflight = client.request("OPTIONS", CHAT, &[origin.clone(), asked], b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("content-length"), None);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET,HEAD,PUT,PATCH,POST,DELETE"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("authorization,x-stainless-os"));
    let json = ("content-type", "application/json".to_owned());
    let calls: [(&str, &str, &str, &[u8], u16); 5] = [
        ("GET", MODELS, KEY, b"", 200),
        ("GET", "/nowhere", KEY, b"", 404),
        ("GET", MODELS, "wrong", b"", 401),
        ("POST", CHAT, KEY, b"{}", 403),
        ("GET", MODELS, KEY, b"[]", 400),
    ];
    for (method, path, key, body, status) in calls {
        let answer = client.request(method, path, &[bearer(key), origin.clone(), json.clone()], body).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{status}");
        assert!(answer.header("access-control-expose-headers").is_some_and(|names| names.contains("x-request-id")));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

async fn the_provider_is_named_where_it_was_reached(way: Way) {
    let world = way.with(only_models()).await;
    let mut client = world.client().await;
    let named = |answer: &Response| {
        (answer.header("provider-name").is_some(), answer.header("provider-response-time").is_some())
    };
    let served = client.request("GET", MODELS, &[bearer(KEY)], b"").await;
    assert_eq!(served.header("provider-name"), Some("openai"));
    assert!(served.header("provider-response-time").is_some_and(|time| time.parse::<u64>().is_ok()));
    // Ours is asked once here; what is migrated asks again, which the original did not: the name is that of the last.
    world.provider.script(Script::json(500, "{}").always());
    assert_eq!(named(&client.request("GET", MODELS, &[bearer(KEY)], b"").await), (true, true));
    for (path, key, status) in [("/nowhere", KEY, 404), (MODELS, "wrong", 401)] {
        let refused = client.request("GET", path, &[bearer(key)], b"").await;
        assert_eq!((refused.status, named(&refused)), (status, (false, false)));
    }
    let refused = client.post(CHAT, "{}").await;
    assert_eq!((refused.status, named(&refused)), (403, (false, false)));
    world.provider.clear_scripts();
    world.provider.script(Script::raw("no HTTP\r\n\r\n").always());
    let broken = client.request("GET", MODELS, &[bearer(KEY)], b"").await;
    assert_eq!((broken.status, named(&broken)), (502, (true, false)));
}

async fn the_old_key_is_taken_from_three_headers_and_no_two_that_differ(way: Way) {
    let world = way.world().await;
    let mut client = world.client().await;
    let good: [&[(&str, &str)]; 5] = [
        &[("authorization", "Bearer fake")],
        &[("Authorization", "bEARER fake")],
        &[("api-key", "fake")],
        &[("x-api-key", "fake")],
        &[("authorization", "Bearer fake"), ("api-key", "fake"), ("X-Api-Key", "fake")],
    ];
    let bad: [&[(&str, &str)]; 12] = [
        &[],
        &[("authorization", "fake")],
        &[("authorization", "Basic fake")],
        &[("authorization", "Bearer  fake")],
        &[("authorization", "Bearer fake more words")],
        &[("authorization", "Bearer ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69")],
        &[("authorization", "Bearer fake"), ("authorization", "Bearer fake")],
        &[("authorization", "Bearer fake"), ("authorization", "Bearer other")],
        &[("authorization", "Bearer fake"), ("x-api-key", "other")],
        &[("api-key", "fake"), ("x-api-key", "other")],
        &[("cookie", "authorization=fake")],
        &[("x-api-key", "")],
    ];
    let ask = async |client: &mut AnyClient, headers: &[(&str, &str)]| {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        client.request("GET", MODELS, &headers, b"").await
    };
    for headers in good {
        assert_eq!(ask(&mut client, headers).await.status, 200, "{headers:?}");
    }
    for headers in bad {
        let refused = ask(&mut client, headers).await.error(401, "invalid_request_error", "invalid_api_key");
        assert!(refused.starts_with(NO_KEY), "{headers:?}");
    }
    for received in world.provider.received() {
        assert_eq!(received.header("authorization"), Some(&*format!("Bearer {PROVIDER_KEY}")));
        let others = [received.header_count("api-key"), received.header_count("x-api-key")];
        assert_eq!((received.header_count("authorization"), others), (1, [0, 0]));
    }
    assert_eq!(world.provider.received().len(), good.len());
}

async fn other_statuses_and_conditional_requests_pass(way: Way) {
    let world = way.world().await;
    let mut client = world.client().await;
    world.provider.script(fixed(304, &[("etag", "W/\"7\"")], ""));
    let condition = ("if-none-match", "W/\"7\"".to_owned());
    let unchanged = client.request("GET", MODELS, &[bearer(KEY), condition], b"").await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, Some("W/\"7\"")));
    assert_eq!(world.provider.received()[0].header("if-none-match"), Some("W/\"7\""));
    world.provider.script(Script::json(201, r#"{"made":true}"#).header("x-request-id", "theirs"));
    let made = client.post(CHAT, &chat("x")).await;
    assert_eq!((made.status, made.text().as_str()), (201, r#"{"made":true}"#));
    assert_eq!(made.header("x-upstream-request-id"), Some("theirs"));
    assert!(made.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
}

async fn what_a_client_says_of_itself_is_logged_or_passed_but_never_believed(way: Way) {
    let world = way.world().await;
    let mut client = world.client().await;
    let headers = [
        bearer(KEY),
        ("on-behalf-of", "ann".to_owned()),
        ("username", "root".to_owned()),
        ("cookie", "a=b".to_owned()),
        ("x-forwarded-for", "1.2.3.4".to_owned()),
        ("accept-encoding", "gzip, br".to_owned()),
        ("connection", "keep-alive, x-hop".to_owned()),
        ("te", "trailers".to_owned()),
        ("openai-organization", "org-1".to_owned()),
        ("idempotency-key", "k-1".to_owned()),
        ("user-agent", "OpenAI/Python 1.2".to_owned()),
        ("x-unheard-of", "\u{e9}".to_owned()),
    ];
    // Without `connection` there is nothing that makes it a header of one hop.
    let hop = (way.pair.client == Http::One).then_some(("x-hop", "1".to_owned()));
    let headers: Vec<_> = headers.into_iter().chain(hop).collect();
    assert_eq!(client.request("GET", MODELS, &headers, b"").await.status, 200);
    let received = world.provider.received().remove(0);
    for name in ["on-behalf-of", "username", "cookie", "x-forwarded-for", "x-hop", "te", "connection", "content-length"]
    {
        assert_eq!(received.header_count(name), 0, "{name}");
    }
    for name in ["openai-organization", "idempotency-key", "user-agent", "x-unheard-of"] {
        let sent = headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
        assert_eq!((received.header(name), received.header_count(name)), (sent, 1));
    }
    assert_eq!((received.header("accept-encoding"), received.header_count("accept-encoding")), (Some("identity"), 1));
    let calls = world.log.calls(1).await;
    assert_eq!((calls[0]["onBehalfOf"].as_str(), calls[0]["username"].as_str()), (Some("ann"), Some("test")));
}

async fn the_seeds_own_curl_line_works(way: Way) {
    let world = way.world().await;
    let body =
        "{\n  \"model\": \"gpt-4o-mini\",\n  \"messages\": [{\"role\": \"user\", \"content\": \"a+b %20 =&\"}]\n}";
    let mut client = world.client().await;
    let types = [Some("application/x-www-form-urlencoded"), None, Some("text/plain;charset=UTF-8")];
    for content_type in types {
        let headers: Vec<_> =
            content_type.map(|value| ("content-type", value.to_owned())).into_iter().chain([bearer(KEY)]).collect();
        assert_eq!(client.request("POST", CHAT, &headers, body.as_bytes()).await.status, 200);
    }
    let received = world.provider.received();
    assert_eq!(received.len(), types.len());
    for received in received {
        assert_eq!(
            (received.header("content-type"), received.header_count("content-type")),
            (Some("application/json"), 1)
        );
        assert_eq!(received.body, body.as_bytes());
    }
}

async fn a_body_is_forwarded_byte_for_byte(way: Way) {
    let world = way.world().await;
    let mut client = world.client().await;
    let bodies = [
        r#"{"z":1.0,"a":12345678901234567890,"n":1e400,"model":"gpt-4o","m":-0.0}"#,
        " \r\n\t{ \"unknown\" : { \"b\":1, \"a\" : [ ] } ,\n\"model\":\"gpt-4o\" } \n\n",
        r#"{"m\u006fdel":"gpt-4o","x":"\u00e9é\/\ud83d\ude00","x":"twice"}"#,
        r#"{}"#,
    ];
    for body in bodies {
        world.provider.script(Script::json(200, "{}"));
        assert_eq!(client.post(CHAT, body).await.status, 200, "{body}");
    }
    let received = world.provider.received();
    let hashes: Vec<_> = received.iter().filter_map(|received| received.body_sha256.clone()).collect();
    assert_eq!(hashes, bodies.map(|body| sha256(body.as_bytes())));
    let lengths: Vec<_> = received.iter().filter_map(|received| received.header("content-length")).collect();
    assert_eq!(lengths, bodies.map(|body| body.len().to_string()));
}
