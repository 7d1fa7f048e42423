//! Facts about the translations: what goes upstream, what comes back, and what never does either.
//!
//! Never does: send anything; heads are bytes and maps.

use super::*;
use crate::proxy::upstream::Lines;
use crate::route::Target;
use crate::route::tests::provider;
use std::sync::Arc;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

fn sent_as(pairs: &[(&str, &str)], carries: Carries<'_>) -> Vec<String> {
    let provider = provider("openai");
    let headers = headers(pairs);
    let outgoing = Outgoing {
        method: &Method::POST,
        path: "/v1/chat/completions",
        headers: &headers,
        target: &Target::new(Arc::clone(&provider)),
        set: &[],
        carries,
        request_id: "req_1",
    };
    let head = String::from_utf8(outgoing.head()).expect("ASCII");
    let lines: Vec<String> = head.strip_suffix("\r\n\r\n").expect("an end").split("\r\n").map(str::to_owned).collect();
    let native = outgoing.native_head().expect("a head");
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let native = native.headers.iter().map(|(name, value)| format!("{name}: {}", text(value)));
    let (mut native, mut plain): (Vec<_>, Vec<_>) = (native.collect(), lines[1..].to_vec());
    native.sort();
    plain.sort();
    assert_eq!(native, plain, "both ways of writing it say the same");
    lines
}

fn sent(pairs: &[(&str, &str)]) -> Vec<String> {
    sent_as(pairs, Carries::Whole { content_type: Some(b"application/json"), length: Some(2) })
}

#[test]
fn a_body_that_passes_is_described_by_its_client() {
    let stream = |pairs: &[(&str, &str)], empty| sent_as(pairs, Carries::Stream { empty }).split_off(5);
    let multipart = [("content-type", "multipart/form-data; boundary=x"), ("content-encoding", "gzip")];
    let described = ["content-type: multipart/form-data; boundary=x", "content-encoding: gzip"];
    assert_eq!(stream(&multipart, false), described);
    let known = [multipart[0], ("content-length", "7"), ("expect", "100-continue")];
    assert_eq!(stream(&known, false), [described[0], "content-length: 7"]);
    let both = [("content-length", "7"), ("transfer-encoding", "chunked")];
    assert!(stream(&both, false).is_empty());
    assert!(stream(&[("content-length", "7, 7")], false).is_empty());
    let twice = [("content-length", "7"), ("content-length", "7")];
    assert_eq!(stream(&twice, false), ["content-length: 7"]);
    assert_eq!(stream(&[], true), ["content-length: 0"]);
}

#[test]
fn an_upgrade_goes_up_without_the_key_among_its_protocols() {
    let asked = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "abc"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "realtime, openai-insecure-api-key.sk-aigw-client"),
        ("sec-fetch-mode", "websocket"),
        ("origin", "https://app.example"),
    ];
    let sent = sent_as(&asked, Carries::Upgrade).split_off(5);
    let upgrade = ["connection: Upgrade", "upgrade: websocket", "sec-websocket-key: abc"];
    assert_eq!(sent, [&upgrade[..], &["sec-websocket-version: 13", "sec-websocket-protocol: realtime"]].concat());
    assert!(is_upgrade(&Method::GET, Version::HTTP_11, &headers(&asked)));
    assert!(!is_upgrade(&Method::GET, Version::HTTP_10, &headers(&asked)));
    assert!(!is_upgrade(&Method::POST, Version::HTTP_11, &headers(&asked)));
    assert!(!is_upgrade(&Method::GET, Version::HTTP_11, &headers(&asked[1..])));
    assert!(!is_upgrade(&Method::GET, Version::HTTP_11, &headers(&[asked[0], ("upgrade", "h2c"), asked[2]])));
}

#[test]
fn the_upstream_head_has_our_credential_and_nothing_of_this_hop() {
    let ours = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: api.example.com",
        "authorization: Bearer sk-provider",
        "accept-encoding: identity",
        "x-request-id: req_1",
        "content-type: application/json",
        "content-length: 2",
    ];
    let seen = sent(&[
        ("host", "gateway:8080"),
        ("authorization", "Bearer sk-aigw-client"),
        ("api-key", "sk-aigw-client"),
        ("x-api-key", "sk-aigw-client"),
        ("cookie", "session=1"),
        ("connection", "keep-alive, X-Secret-Hop"),
        ("x-secret-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
        ("transfer-encoding", "chunked"),
        ("content-length", "999"),
        ("content-type", "text/plain"),
        ("accept-encoding", "gzip, br"),
        ("proxy-authorization", "Basic x"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-request-id", "theirs"),
        ("on-behalf-of", "someone"),
        ("x-gateway-debug", "1"),
        ("x-http-method-override", "DELETE"),
        ("x-original-url", "/admin"),
        ("sec-fetch-mode", "cors"),
    ]);
    assert_eq!(seen, ours);
}

#[test]
fn the_rest_passes_through() {
    let pass = [
        ("openai-organization", "org-1"),
        ("openai-project", "proj-1"),
        ("openai-beta", "assistants=v2"),
        ("idempotency-key", "k"),
        ("traceparent", "00-1-2-01"),
        ("user-agent", "OpenAI/Python 2.0"),
        ("x-stainless-retry-count", "0"),
        ("accept", "application/json"),
        ("if-none-match", "W/\"1\""),
    ];
    let seen = sent(&pass);
    for (name, value) in pass {
        assert!(seen.contains(&format!("{name}: {value}")), "{name}");
    }
}

#[test]
fn content_types_that_are_json_and_those_that_are_not() {
    let read = |value: &str| content_type(&headers(&[("content-type", value)])).map(|value| value.as_bytes().to_vec());
    for json in ["application/x-www-form-urlencoded", "text/plain;charset=UTF-8", ""] {
        assert_eq!(read(json), Ok(b"application/json".to_vec()), "{json}");
    }
    for json in ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"] {
        assert_eq!(read(json), Ok(json.as_bytes().to_vec()), "{json}");
    }
    assert_eq!(content_type(&HeaderMap::new()), Ok(HeaderValue::from_static("application/json")));
    for other in ["multipart/form-data; boundary=x", "application/octet-stream", "image/png"] {
        assert_eq!(read(other), Err(Refusal::UnsupportedMediaType), "{other}");
    }
    let coded = headers(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
    assert_eq!(content_type(&coded), Err(Refusal::UnsupportedContentEncoding));
    let plain = headers(&[("content-encoding", "identity")]);
    assert!(content_type(&plain).is_ok());
}

fn facts(request: &HeaderMap, version: Version) -> Facts<'_> {
    Facts {
        request_id: "req_1",
        cors: &Cors::Any,
        shown: AnswerHeaders::default(),
        request,
        version,
        secure: false,
        limits: Leeway::default(),
        dialect: crate::dialect::OPENAI,
    }
}

fn answered(pairs: &[(&str, &str)], length: Length, version: Version) -> Vec<String> {
    answered_by(pairs, length, facts(&HeaderMap::new(), version))
}

fn answered_by(pairs: &[(&str, &str)], length: Length, facts: Facts<'_>) -> Vec<String> {
    let version = facts.version;
    let head = AnswerHead::of(StatusCode::OK, headers(pairs), length);
    let cost = Some(Usd::from_picos(450_000_000));
    let timing = Told { cost, upstream_head: Duration::from_millis(12), gateway: Duration::from_micros(340) };
    let reply = answer(head, &provider("openai"), &timing, &facts).expect("a reply");
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let seen = |head: &ResponseHeader| -> Vec<String> {
        head.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect()
    };
    let by_map = seen(&reply);
    if version != Version::HTTP_2 {
        let lines = Lines::of(pairs);
        let behind = lines::Behind { keeps: true, room: 0 };
        let head = (StatusCode::OK, length, &lines);
        let by_line = lines::answer(head, &provider("openai"), &timing, &facts, behind).expect("a reply");
        let told = |text: &[u8]| -> Vec<String> {
            let text = std::str::from_utf8(text).expect("ASCII").strip_suffix("\r\n\r\n").expect("an end");
            let mut lines = text.split("\r\n");
            assert_eq!(lines.next(), Some("HTTP/1.1 200 OK"));
            assert!(lines.next().is_some_and(|date| date.starts_with("Date: ")));
            assert_eq!(lines.next(), Some("Connection: keep-alive"));
            // The provider's pass as they are spelt.
            lines
                .map(|line| match line.split_once(": ") {
                    Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
                    None => line.to_owned(),
                })
                .collect()
        };
        let (mut by_line, mut written, mut by_map) =
            (told(&by_line), told(&lines::of_map(&reply, behind)), by_map.clone());
        // Which Pingora replaces.
        by_map.retain(|line| !line.starts_with("date: "));
        [&mut by_line, &mut written, &mut by_map].iter_mut().for_each(|lines| lines.sort());
        assert_eq!(by_line, by_map, "both ways of an answer say the same");
        assert_eq!(written, by_map, "it is written as it is");
    }
    by_map
}

#[test]
fn what_the_provider_says_is_of_its_hop_stays_there_however_it_is_spelt() {
    let long = "X-A-Name-That-Is-Longer-Than-Any-That-Is-Known";
    let connection = format!("{}, X-Request-ID", long.to_ascii_uppercase());
    let pairs = [("Connection", &*connection), (long, "1"), ("x-request-id", "theirs"), ("X-Plain", "2")];
    let seen = answered(&pairs, Length::Known(2), Version::HTTP_11);
    assert!(seen.contains(&"x-plain: 2".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains("theirs") || line.contains("longer")), "{seen:?}");
}

#[test]
fn what_the_gateway_says_itself_a_provider_does_not_say_beside_it() {
    let request = headers(&[("origin", "https://app.example")]);
    let room = Some(crate::limit::Room { limit: 1, remaining: 1, resets_in: Duration::ZERO });
    let rooms = crate::limit::Rooms { requests: room, tokens: room };
    let some = Cors::Only(vec!["https://app.example".to_owned()]);
    for (secure, limits, cors) in [
        (false, Leeway::default(), &Cors::Any),
        (true, Leeway::new(rooms, Some(7)), &Cors::Any),
        (true, Leeway::new(rooms, Some(7)), &some),
    ] {
        let facts = || Facts { secure, limits, cors, ..facts(&request, Version::HTTP_11) };
        let own = answered_by(&[], Length::Known(2), facts());
        let names = own.iter().map(|line| line.split(": ").next().expect("a name")).filter(|name| *name != "vary");
        let forged: Vec<(&str, &str)> = names.map(|name| (name, "forged")).collect();
        assert!(forged.len() > if secure { 15 } else { 8 }, "{forged:?}");
        let pairs = [&forged[..], &[("x-request-id", "again"), ("content-length", "2")]].concat();
        let seen = answered_by(&pairs, Length::Known(2), facts());
        let passed: Vec<_> = seen.iter().filter(|line| line.ends_with(": forged")).map(String::as_str).collect();
        let renamed = |line: &str| line.starts_with("x-upstream-");
        assert!(
            passed.iter().all(|line| renamed(line)) && passed.contains(&"x-upstream-request-id: forged"),
            "{passed:?}"
        );
    }
    // What it does not say passes.
    let plain = answered(&[("x-gateway-max-output-tokens", "7")], Length::Known(2), Version::HTTP_11);
    assert!(plain.contains(&"x-gateway-max-output-tokens: 7".to_owned()), "{plain:?}");
    let of_the_hop = [("connection", "x-request-id"), ("x-request-id", "1"), ("x-upstream-request-id", "3")];
    let seen = answered(&of_the_hop, Length::Known(2), Version::HTTP_11);
    assert!(seen.contains(&"x-upstream-request-id: 3".to_owned()), "{seen:?}");
}

#[test]
fn of_the_limits_behind_ours_the_nearest_are_told_all_of_them() {
    let request = headers(&[]);
    let room = Some(crate::limit::Room { limit: 1, remaining: 1, resets_in: Duration::ZERO });
    let theirs = [
        ("x-ratelimit-limit-requests", "8"),
        ("X-RateLimit-Limit-Requests", "9"),
        ("X-Upstream-RateLimit-Limit-Requests", "10"),
    ];
    let told = |limits: Leeway| {
        let facts = Facts { limits, ..facts(&request, Version::HTTP_11) };
        let seen = answered_by(&theirs, Length::Known(2), facts);
        let values = |name: &str| {
            let values = seen.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        (values("x-ratelimit-limit-requests"), values("x-upstream-ratelimit-limit-requests"))
    };
    let limited = told(Leeway::new(crate::limit::Rooms { requests: room, tokens: None }, None));
    assert_eq!(limited, (vec!["1".to_owned()], vec!["8".to_owned(), "9".to_owned()]));
    let free = told(Leeway::default());
    assert_eq!(free, (vec!["8".to_owned(), "9".to_owned()], vec!["10".to_owned()]));
}

#[test]
fn a_body_that_is_not_sent_has_one_length() {
    let twice = [("content-length", "5"), ("content-length", "6")];
    let head = AnswerHead::of(StatusCode::OK, headers(&twice), Length::None);
    let request = HeaderMap::new();
    let told = Told { cost: None, upstream_head: Duration::ZERO, gateway: Duration::ZERO };
    let behind = lines::Behind { keeps: false, room: 0 };
    let facts = facts(&request, Version::HTTP_11);
    let written = lines::of_map(&answer(head, &provider("openai"), &told, &facts).expect("a reply"), behind);
    let lines = Lines::of(&twice);
    let head = (StatusCode::OK, Length::None, &lines);
    let passed = lines::answer(head, &provider("openai"), &told, &facts, behind).expect("a reply");
    for text in [written, passed] {
        let text = String::from_utf8(text).expect("ASCII").to_ascii_lowercase();
        assert_eq!(text.matches("content-length: ").count(), 1, "{text}");
        assert!(text.contains("content-length: 5\r\n") && text.contains("connection: close\r\n"), "{text}");
    }
}

#[test]
fn the_providers_headers_pass_but_for_its_own_hop() {
    let seen = answered(
        &[
            ("content-type", "application/json"),
            ("openai-processing-ms", "12"),
            ("retry-after", "3"),
            ("x-ratelimit-remaining-requests", "9"),
            ("x-request-id", "theirs"),
            ("set-cookie", "__cf_bm=1"),
            ("alt-svc", "h3=\":443\""),
            ("strict-transport-security", "max-age=1"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "https://chat.example"),
            ("provider-name", "forged"),
            ("x-gateway-cost-usd", "9"),
            ("date", "Thu, 01 Jan 1970 00:00:01 GMT"),
        ],
        Length::Chunked,
        Version::HTTP_11,
    );
    let mut expected = vec![
        "content-type: application/json".to_owned(),
        "openai-processing-ms: 12".to_owned(),
        "retry-after: 3".to_owned(),
        "date: Thu, 01 Jan 1970 00:00:01 GMT".to_owned(),
        "x-ratelimit-remaining-requests: 9".to_owned(),
        "x-upstream-request-id: theirs".to_owned(),
        "transfer-encoding: chunked".to_owned(),
        "provider-name: openai".to_owned(),
        "provider-response-time: 12".to_owned(),
        "server-timing: gateway;dur=0.34, provider;dur=12.00".to_owned(),
        "x-gateway-cost-usd: 0.00045".to_owned(),
        "x-request-id: req_1".to_owned(),
        "x-content-type-options: nosniff".to_owned(),
        "access-control-allow-origin: *".to_owned(),
        format!("access-control-expose-headers: {}", reply::EXPOSED),
    ];
    expected.sort();
    let mut seen = seen;
    seen.sort();
    assert_eq!(seen, expected);
}

#[test]
fn http_1_0_gets_no_chunks() {
    for length in [Length::Chunked, Length::ToClose] {
        let seen = answered(&[], length, Version::HTTP_10);
        assert!(!seen.iter().any(|line| line.starts_with("transfer-encoding")));
    }
}

#[test]
fn cors_allows_only_what_is_configured() {
    let request = headers(&[("origin", "https://app.example")]);
    let allowed = |cors: &Cors| {
        let facts = Facts {
            request_id: "req_1",
            cors,
            shown: AnswerHeaders::default(),
            request: &request,
            version: Version::HTTP_11,
            secure: false,
            limits: Leeway::default(),
            dialect: crate::dialect::OPENAI,
        };
        let reply = own(StatusCode::OK, "{}", &facts).expect("a reply");
        reply.headers.get("access-control-allow-origin").map(|value| value.to_str().expect("text").to_owned())
    };
    assert_eq!(allowed(&Cors::Any).as_deref(), Some("*"));
    assert_eq!(allowed(&Cors::Only(vec!["https://app.example".to_owned()])).as_deref(), Some("https://app.example"));
    assert_eq!(allowed(&Cors::Only(vec!["https://other.example".to_owned()])), None);
    assert_eq!(allowed(&Cors::Only(Vec::new())), None);
}
