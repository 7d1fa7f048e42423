//! Facts about routes and their table.
//!
//! Never does: any IO.

mod fuzz;

use super::*;
use http::Method;

/// A provider as the default configuration has it.
pub(crate) fn provider(id: &str) -> Arc<Provider> {
    Arc::new(Provider {
        id: ProviderId::new(id),
        tls: true,
        host: "api.example.com".to_owned(),
        port: 443,
        authority: HeaderValue::from_static("api.example.com"),
        version_prefix: "/v1".to_owned(),
        base_prefix: String::new(),
        auth_header: http::header::AUTHORIZATION,
        keys: Pool::new(&ProviderId::new(id), vec![(HeaderValue::from_static("Bearer sk-provider"), 1)]),
        headers: Vec::new(),
        query: Vec::new(),
        dialect: crate::dialect::OPENAI,
        timeouts: Timeouts::default(),
        http2: true,
        proxy: None,
        certificates: None,
        prices: None,
        inject_usage: false,
        asking: Asking::default(),
    })
}

fn route(id: u16, method: Option<Method>, pattern: &str, kind: Kind) -> Route {
    let (model, provider) = (ModelSource::Unseen, provider("openai"));
    Route { id: RouteId(id), method, pattern: pattern.to_owned(), kind, model, price: None, provider }
}

/// A table by hand: method where it is not any, pattern, kind.
fn table(rows: &[(Option<Method>, &str, Kind)]) -> RouteTable {
    let mut table = RouteTable::default();
    for (id, (method, pattern, kind)) in (0..).zip(rows) {
        table.add(route(id, method.clone(), pattern, *kind)).expect("a fine route");
    }
    table
}

fn default_rows() -> Vec<(Option<Method>, &'static str, Kind)> {
    vec![
        (Some(Method::GET), "/openai/v1/models", Kind::Json),
        (Some(Method::GET), "/openai/v1/models/{model}", Kind::Json),
        (Some(Method::POST), "/openai/v1/chat/completions", Kind::Json),
        (Some(Method::GET), "/openai/v1/chat/completions", Kind::Json),
    ]
}

fn default_table() -> RouteTable {
    table(&default_rows())
}

#[test]
fn finds_by_method_and_path() {
    let table = default_table();
    let found = |method: &Method, path: &str| table.find(method, path).map(|found| found.route.id.0);
    assert_eq!(found(&Method::GET, "/openai/v1/models"), Some(0));
    assert_eq!(found(&Method::HEAD, "/openai/v1/models"), Some(0));
    assert_eq!(found(&Method::GET, "/openai/v1/models/"), Some(0));
    assert_eq!(found(&Method::GET, "/openai/v1/models/gpt-4o"), Some(1));
    assert_eq!(found(&Method::POST, "/openai/v1/chat/completions"), Some(2));
    assert_eq!(found(&Method::GET, "/openai/v1/chat/completions"), Some(3));
    assert_eq!(found(&Method::PUT, "/openai/v1/models"), None);
    assert_eq!(found(&Method::POST, "/openai/v1/models"), None);
}

#[test]
fn knows_the_model_in_the_path() {
    let table = default_table();
    let found = table.find(&Method::GET, "/openai/v1/models/ft:gpt-4o%3Ax").expect("a route");
    assert_eq!(found.model, Some("ft:gpt-4o%3Ax"));
}

#[test]
fn odd_spellings_are_unknown() {
    let table = default_table();
    for path in [
        "/openai/v1//models",
        "//openai/v1/models",
        "/openai/v1/models//",
        "/openai/v1/./models",
        "/openai/v1/x/../models",
        "/openai/v1/models/..",
        "/openai/v1/models/.hidden",
        "/openai/v1/models/%2e%2e",
        "/openai/v1/models/a%2Fb",
        "/openai/v1/models/a%5cb",
        "/openai/v1/models/a\\b",
        "/openai/v1/models/a%00b",
        "/openai/v1/models/a%1fb",
        "/openai/v1/models/a%2",
        "/OpenAI/v1/models",
        "/openai/v1/%6dodels",
        "/openai/v1/models/a/b",
        "openai/v1/models",
        "*",
        "",
    ] {
        assert!(table.find(&Method::GET, path).is_none(), "{path} was found");
    }
}

#[test]
fn refuses_what_it_could_not_tell_apart() {
    let mut table = default_table();
    let route = |pattern: &str| route(4, Some(Method::GET), pattern, Kind::Json);
    assert_eq!(table.add(route("/openai/v1/models")), Err(TableError::Twice));
    assert_eq!(table.add(route("/openai/v1/models/{name}")), Err(TableError::Pattern));
    assert_eq!(table.add(route("/openai/v1/{broken")), Err(TableError::Pattern));
}

#[test]
fn rewrites_to_the_providers_own_path() {
    let target = |base: &str, version: &str, extra: Option<&str>, path: &str, query: Option<&str>| {
        let mut own = Arc::into_inner(provider("azure")).expect("the only one");
        own.base_prefix = base.to_owned();
        own.version_prefix = version.to_owned();
        own.query = extra.into_iter().map(|query| ("v".to_owned(), Secret::new(query.to_owned()))).collect();
        let route = Route { provider: Arc::new(own), ..route(0, Some(Method::GET), "", Kind::Json) };
        route.upstream_target(&route.provider, path, query)
    };
    assert_eq!(target("", "/v1", None, "/azure/v1/models", None), "/v1/models");
    assert_eq!(target("", "/v1", None, "/azure/v1/models/", Some("limit=1")), "/v1/models?limit=1");
    assert_eq!(target("/o", "/o/v3", Some("v=2"), "/azure/v1/models", None), "/o/v3/models?v=2");
    assert_eq!(target("/o", "/o/v3", Some("v=2"), "/azure/v1/models", Some("a=1")), "/o/v3/models?a=1&v=2");
    let theirs = Some("v=1&%76=1&a=1&v&vv=1&V=1");
    assert_eq!(target("", "/v1", Some("v=2"), "/azure/v1/x", theirs), "/v1/x?a=1&vv=1&V=1&v=2");
    assert_eq!(target("/o", "/o/v3", None, "/azure/v10/models", Some("")), "/o/v10/models");
    assert_eq!(target("", "/v1", None, "/azure/status", None), "/status");
}

fn opaque_table() -> RouteTable {
    table(&[
        (Some(Method::POST), "/openai/v1/chat/completions", Kind::Json),
        (Some(Method::GET), "/openai/v1/models/{model}", Kind::Json),
        (None, "/openai/v1/*", Kind::Opaque),
        (Some(Method::GET), "/openai/v1/files/*", Kind::Opaque),
        (None, "/openai/v1/files/*", Kind::Opaque),
    ])
}

#[test]
fn a_wildcard_takes_what_no_route_names() {
    let table = opaque_table();
    let found = |method: &Method, path: &str| table.find(method, path).map(|found| found.route.id.0);
    assert_eq!(found(&Method::POST, "/openai/v1/chat/completions"), Some(0));
    assert_eq!(found(&Method::GET, "/openai/v1/chat/completions"), Some(2), "named for another method only");
    assert_eq!(found(&Method::GET, "/openai/v1/models/gpt-4o"), Some(1));
    assert_eq!(found(&Method::DELETE, "/openai/v1/models/ft:x"), Some(2));
    assert_eq!(found(&Method::GET, "/openai/v1/models/a/b"), Some(2));
    assert_eq!(found(&Method::GET, "/openai/v1/files"), Some(2));
    assert_eq!(found(&Method::GET, "/openai/v1/files/x/content/"), Some(3), "the longest prefix");
    assert_eq!(found(&Method::HEAD, "/openai/v1/files/x"), Some(3));
    assert_eq!(found(&Method::DELETE, "/openai/v1/files/x"), Some(4));
    for method in [Method::TRACE, Method::CONNECT, Method::from_bytes(b"ANY").expect("a method")] {
        assert_eq!(found(&method, "/openai/v1/files/x"), None, "{method}");
    }
}

#[test]
fn a_narrower_wildcard_takes_no_method_from_a_wider_one() {
    let table =
        table(&[(None, "/openai/v1/*", Kind::Opaque), (Some(Method::POST), "/openai/v1/files/*", Kind::Opaque)]);
    let found = |method: &Method| table.find(method, "/openai/v1/files/a/b").map(|found| found.route.id.0);
    assert_eq!((found(&Method::POST), found(&Method::GET), found(&Method::TRACE)), (Some(1), Some(0), None));
}

#[test]
fn odd_spellings_are_unknown_below_a_wildcard_too() {
    let table = opaque_table();
    for path in [
        "/openai/v1",
        "/openai/v1/",
        "/openai/v1//files",
        "/openai/v1/./files",
        "/openai/v1/files/../models",
        "/openai/v1/files/..",
        "/openai/v1/%2e%2e/admin",
        "/openai/v1/a%2Fb",
        "/openai/v1/%252e%252e%252fadmin",
        "/openai/v1/a%5cb",
        "/openai/v1/a\\b",
        "/openai/v1/a%0d%0ab",
        "/openai/v1/\u{e9}",
        "/openai/v10/files",
        "/openaix/v1/files",
    ] {
        assert!(table.find(&Method::GET, path).is_none(), "{path} was found");
    }
}

#[test]
fn all_but_what_only_reads_deletes_or_counts_makes_something() {
    let route = |pattern: &str| {
        let table = table(&[(Some(Method::POST), pattern, Kind::Json)]);
        let found = table.find(&Method::POST, pattern).expect("a route");
        Arc::clone(found.route)
    };
    let chat = route("/openai/v1/chat/completions");
    for makes in [Method::POST, Method::PUT, Method::PATCH, Method::from_bytes(b"QUERY").expect("a method")] {
        assert!(chat.generates(&makes), "{makes}");
        assert!(!route("/anthropic/v1/messages/count_tokens").generates(&makes), "{makes}");
    }
    for not in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS] {
        assert!(!chat.generates(&not), "{not}");
    }
}

#[test]
fn that_a_provider_refuses_to_be_asked_is_news_once() {
    let asked = provider("a");
    let chat = route(0, None, "/a/v1/chat/completions", Kind::Json);
    let mut one = Arc::into_inner(asked).expect("nobody else has it");
    one.inject_usage = true;
    assert!(chat.tells_usage_on_request(&one));
    assert_eq!([one.asking.was_refused(), one.asking.was_refused()], [true, false]);
    assert!(!chat.tells_usage_on_request(&one));
    // Who has answered refuses what is odd in one request.
    one.asking = Asking::default();
    one.asking.was_accepted();
    assert!(!one.asking.was_refused() && chat.tells_usage_on_request(&one));
}
