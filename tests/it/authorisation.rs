//! What a key is for decides, not how its call is spelt: no path, method or credential reaches what its scopes do not name.

use crate::support::*;

const MODELS: &str = "/openai/v1/models";
const CHAT: &str = "/openai/v1/chat/completions";

over_all_pairs! {
    no_spelling_of_a_path_reaches_another_route,
    no_header_makes_another_call_of_it,
    head_is_what_get_is,
    a_credential_is_one_plain_key_in_its_place,
    a_key_counts_in_no_other_place,
}

/// A world whose key may list the models and nothing else, on routes of each kind.
async fn only_models(pair: Pair) -> World {
    let routes = "routes: [get /v1/models, post /v1/chat/completions, post /v1/audio/speech stream, any /v1/* opaque]";
    let (provider, key_file) = (routes.to_owned(), Some(key_file(&["get:/openai/v1/models"], "")));
    World::with(Setup { provider, key_file, pair, ..Setup::default() }).await
}

async fn no_spelling_of_a_path_reaches_another_route(pair: Pair) {
    let world = only_models(pair).await;
    let mut client = world.client().await;
    let paths = [
        CHAT,
        "/openai/v1/chat/completions/",
        "/openai/v1/chat/completions?x=/openai/v1/models",
        "/openai/v1/chat/completions#/openai/v1/models",
        "/openai/v1/models/../chat/completions",
        "/openai/v1/models/..;/chat/completions",
        "/openai/v1/models/%2e%2e/chat/completions",
        "/openai/v1/models%2f..%2fchat%2fcompletions",
        "/openai/v1/models/..%2fchat/completions",
        "/openai/v1/models/..\\chat\\completions",
        "/openai/v1/models%00/chat/completions",
        "/openai/v1/models%3f/../chat/completions",
        "/openai/v1/models;/../chat/completions",
        "/openai/v1/./chat/completions",
        "/openai/v1//chat/completions",
        "//openai/v1/chat/completions",
        "/openai/v1/chat%2fcompletions",
        "/openai/v1/ch%61t/completions",
        "/openai/v1/CHAT/completions",
        "/OPENAI/v1/chat/completions",
        "/openai/v1/audio/speech",
        "/openai/v1/files",
    ];
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    for method in ["GET", "POST", "PUT", "DELETE"] {
        for path in paths {
            let answer = client.request(method, path, &headers, chat("x").as_bytes()).await;
            assert!(matches!(answer.status, 400 | 403 | 404), "{}: {method} {path}", answer.status);
        }
    }
    assert_eq!(world.provider.received().len(), 0);
}

async fn no_header_makes_another_call_of_it(pair: Pair) {
    let world = only_models(pair).await;
    let mut client = world.client().await;
    let names = [
        ("x-http-method-override", "POST"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "PUT"),
        ("x-original-url", CHAT),
        ("x-rewrite-url", CHAT),
        ("x-forwarded-prefix", "/openai/v1/chat"),
        ("x-forwarded-uri", CHAT),
        ("x-original-method", "POST"),
    ];
    for (name, value) in names {
        world.provider.clear_received();
        let headers = [bearer(KEY), (name, value.to_owned())];
        assert_eq!(client.request("GET", MODELS, &headers, b"").await.status, 200, "{name}");
        let received = &world.provider.received()[0];
        assert_eq!((received.method.as_str(), received.target.as_str()), ("GET", "/v1/models"));
        assert_eq!(received.header_count(name), 0, "{name} went upstream");
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "get", "GETT", "TRACE"] {
        let answer = client.request(method, MODELS, &[bearer(KEY)], b"").await;
        assert!(matches!(answer.status, 403 | 404), "{}: {method}", answer.status);
    }
    assert_eq!(world.provider.received().len(), 1);
}

async fn head_is_what_get_is(pair: Pair) {
    let world = only_models(pair).await;
    let mut client = world.client().await;
    assert_eq!(client.request("HEAD", MODELS, &[bearer(KEY)], b"").await.status, 200);
    for path in ["/openai/v1/files", "/openai/v1/audio/speech", CHAT] {
        let answer = client.request("HEAD", path, &[bearer(KEY)], b"").await;
        assert!(matches!(answer.status, 403 | 404), "{}: {path}", answer.status);
    }
    assert_eq!(world.provider.received().len(), 1);
}

async fn a_credential_is_one_plain_key_in_its_place(pair: Pair) {
    let world = only_models(pair).await;
    let mut client = world.client().await;
    let values = [
        "Bearer \"fake\"",
        "Bearer 'fake'",
        "Bearer fake, Bearer fake",
        "Bearer fake,fake",
        "Bearer fake fake",
        "Bearer fake;",
        "Bearer%20fake",
        "Bearer fake%00",
        "Bearer FAKE",
        "Bearer",
        "Bearer ",
        "Basic fake",
        "Basic ZmFrZTpmYWtl",
        "Digest username=\"fake\"",
        "Negotiate fake",
        "",
    ];
    for value in values {
        let answer = client.request("GET", MODELS, &[("authorization", value.to_owned())], b"").await;
        answer.error(401, "invalid_request_error", "invalid_api_key");
    }
    let twice = [
        [bearer(KEY), bearer("other")],
        [bearer("other"), bearer(KEY)],
        [bearer(KEY), ("x-api-key", "other".to_owned())],
        [("api-key", "other".to_owned()), bearer(KEY)],
        [("x-api-key", "other".to_owned()), ("api-key", KEY.to_owned())],
    ];
    for headers in twice {
        let answer = client.request("GET", MODELS, &headers, b"").await;
        answer.error(401, "invalid_request_error", "invalid_api_key");
    }
    assert_eq!(world.provider.received().len(), 0);
}

async fn a_key_counts_in_no_other_place(pair: Pair) {
    let world = only_models(pair).await;
    let mut client = world.client().await;
    for name in ["cookie", "proxy-authorization", "x-auth-token", "openai-api-key", "x-goog-api-key", "username"] {
        for value in ["fake", "Bearer fake", "api_key=fake"] {
            let answer = client.request("GET", MODELS, &[(name, value.to_owned())], b"").await;
            answer.error(401, "invalid_request_error", "invalid_api_key");
        }
    }
    for query in ["api_key=fake", "key=fake", "access_token=fake", "authorization=Bearer%20fake"] {
        let answer = client.request("GET", &format!("{MODELS}?{query}"), &[], b"").await;
        answer.error(401, "invalid_request_error", "invalid_api_key");
    }
    assert_eq!(world.provider.received().len(), 0);
}
