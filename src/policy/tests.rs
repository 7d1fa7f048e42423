//! Facts about what policies see and may change of a call, and in which order they are asked.
//!
//! Never does: send anything; calls are admitted by hand, at a time that is given.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, Uri};

use super::*;
use crate::config::{Environment, Sources, load};
use crate::flow::{Arrived, Underway};
use crate::meter::{Splice, scan};

/// The original's test key, `fake`, for everything.
const KEYS: &str = r#"{ "ebc5f4226c4010adbfc3349a692f27396b6b02dd89d1f9f25efbf4a15552af69":
    { "username": "jane", "salt": "ZmFrZQ==", "team": "guests", "scopes": [{ "method": "*", "path": "/openai/*" }] } }"#;
const YAML: &str = r#"
keys: { file: keys.json }
providers:
  openai: { base_url: "http://one.test", api_key: sk-one, headers: { x-region: us } }
  azure: { base_url: "http://two.test/o", api_key: sk-two, auth: { header: ocp-key } }
  small: { base_url: "http://three.test", api_key: sk-three, routes: [ get /v1/models ] }
"#;
const BODY: &str = r#"{"model":"gpt-4o","n":1}"#;

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_737_600)
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("authorization", "Bearer fake")].iter().chain(pairs) {
        headers.append(*name, value.parse().expect("a value"));
    }
    headers
}

/// A chat call that was admitted, and its looks.
struct Admitted {
    arrived: Arrived,
    underway: Underway,
    uri: Uri,
    headers: HeaderMap,
}

fn admitted(pairs: &[(&'static str, &'static str)]) -> Admitted {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("keys.json"), KEYS).expect("written");
    let environment: Environment = [("", ""); 0].into_iter().collect();
    let directory = folder.path().to_owned();
    let sources = Sources { file: None, yaml: Some(YAML.to_owned()), directory, environment };
    let loaded = load(&sources).unwrap_or_else(|report| panic!("{report}"));
    let mut arrived = Arrived::new(loaded.snapshot, "req_1".to_owned(), Instant::now(), now());
    let uri = Uri::from_static("/openai/v1/chat/completions?a=1");
    let headers = headers(pairs);
    let underway = arrived.admit(&Method::POST, &uri, &headers, now()).expect("good");
    Admitted { arrived, underway, uri, headers }
}

impl Admitted {
    fn look(&mut self, body: &'static str) -> Look<'_> {
        let bytes = bytes::Bytes::from_static(body.as_bytes());
        let content = scan(&bytes).ok().and_then(|scan| Content::of(&bytes, &scan));
        let head = Head { method: &Method::POST, uri: &self.uri, headers: &self.headers };
        Look::new(&self.arrived, &mut self.underway, head, content, now())
    }
}

#[test]
fn a_call_is_seen_without_its_key() {
    let more = [("api-key", "fake"), ("x-api-key", "fake"), ("cookie", "s=1"), ("x-tag", "1"), ("x-tag", "2")];
    let mut call = admitted(&more);
    let look = call.look(BODY);
    let names: Vec<&str> = look.headers().keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-tag"]);
    assert_eq!(look.headers().get_all("x-tag").iter().count(), 2, "each value of a header is there");
    assert_eq!((look.user(), look.team(), look.key_id()), ("jane", Some("guests"), "ebc5f4226c40"));
    assert_eq!((look.path(), look.query()), ("/openai/v1/chat/completions", Some("a=1")));
    assert_eq!((look.model(), look.stream(), look.body()), (Some("gpt-4o"), false, Some(BODY.as_bytes())));
    assert_eq!((look.now(), look.provider(), look.client()), (now(), "openai", None));
}

#[test]
fn headers_that_are_not_a_policys_are_refused() {
    let mut call = admitted(&[]);
    let mut look = call.look(BODY);
    for name in [
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "te",
        "upgrade",
        "authorization",
        "API-key",
        "x-api-key",
        "cookie",
        "proxy-authorization",
        "x-request-id",
        "accept-encoding",
        "content-type",
        "content-encoding",
        "expect",
        "via",
        "x-http-method-override",
        "x-original-url",
        "sec-websocket-key",
        "",
        "a b",
        "a:b",
    ] {
        assert_eq!(look.set_header(name, "x"), Err(PolicyError::Header(name.to_owned())), "{name}");
    }
    assert_eq!(look.set_header("x-a", "a\nb"), Err(PolicyError::HeaderValue("x-a".to_owned())));
    for (name, value) in [("x-region", "eu"), ("X-Tier", "1"), ("x-tier", "2"), ("openai-organization", "org")] {
        assert_eq!(look.set_header(name, value), Ok(()), "{name}");
    }
    let set: Vec<_> = call.underway.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(set, [("x-region", &b"eu"[..]), ("x-tier", b"2"), ("openai-organization", b"org")]);
    assert!(!format!("{:?}", call.underway.headers).contains("org\""), "values are not shown");
}

#[test]
fn another_provider_must_serve_the_same_call() {
    let mut call = admitted(&[]);
    let mut look = call.look(BODY);
    assert_eq!(look.use_provider("nobody"), Err(PolicyError::UnknownProvider("nobody".to_owned())));
    assert_eq!(look.use_provider("small"), Err(PolicyError::NotServed("small".to_owned())));
    assert_eq!(look.provider(), "openai");
    assert_eq!(look.use_provider("azure"), Ok(()));
    assert_eq!(look.provider(), "azure");
    // The header of that one's key is taken, whichever comes first.
    assert_eq!(look.set_header("ocp-key", "mine"), Err(PolicyError::Header("ocp-key".to_owned())));
    assert_eq!(look.use_provider("openai"), Ok(()));
    assert_eq!(look.set_header("ocp-key", "mine"), Ok(()));
    assert_eq!(look.use_provider("azure"), Err(PolicyError::Header("ocp-key".to_owned())));
    assert_eq!(look.provider(), "openai");
    assert_eq!(
        call.underway.route.pattern, "/openai/v1/chat/completions",
        "the route stays the one that was asked for"
    );
}

#[test]
fn a_body_is_changed_by_splices_that_leave_a_request() {
    let mut call = admitted(&[]);
    let mut look = call.look(r#"{"model":"gpt-4o", "user":"a", "us\u0065r":"b","big":123456789012345678901}"#);
    let splice = |at, with: &str| Splice { at, with: with.to_owned() };
    let hide = look.values_of("user").into_iter().map(|at| splice(at, "null")).collect();
    assert_eq!(look.splice_all(hide), Ok(()));
    assert_eq!(look.use_model("o\"3"), Ok(()));
    assert_eq!(look.model(), Some("o\"3"));
    let changed = r#"{"model":"o\"3", "user":null, "us\u0065r":null,"big":123456789012345678901}"#;
    for (wrong, error) in [
        (vec![splice(0..1000, "")], PolicyError::OutOfBounds),
        (vec![splice(3..5, ""), splice(4..6, "")], PolicyError::OutOfBounds),
        (vec![splice(0..1, "[")], PolicyError::NotJson("an object is expected".to_owned())),
    ] {
        assert_eq!(look.splice_all(wrong), Err(error));
        assert_eq!(look.body(), Some(changed.as_bytes()), "what is refused changes nothing");
    }
    assert_eq!(look.splice(1..1, r#""stream":true,"#), Ok(()));
    assert!(look.stream());
    let changed = changed.replacen('{', r#"{"stream":true,"#, 1);
    assert_eq!(look.into_changed().as_deref(), Some(changed.as_bytes()));
    assert_eq!(call.look(BODY).into_changed(), None);
    let mut without = call.look("");
    assert_eq!((without.body(), without.model(), without.values_of("user")), (None, None, Vec::new()));
    assert_eq!(without.use_model("o3"), Err(PolicyError::NoBody));
    assert_eq!(without.splice(0..0, "{}"), Err(PolicyError::NoBody));
}

/// Says its word and keeps a common diary.
struct Says(&'static str, Arc<Mutex<Vec<String>>>);

impl Policy for Says {
    fn name(&self) -> &'static str {
        self.0
    }

    fn look(&self, _call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
        self.1.lock().expect("no panic").push(format!("look {}", self.0));
        match self.0 {
            "refuses" => Ok(Verdict::Refuse(Denial::forbidden("no", "No"))),
            "fails" => Err(PolicyError::NoBody),
            "panics" => panic!("a bug"),
            _ => Ok(Verdict::Allow),
        }
    }

    fn settled(&self, _record: &Record) {
        self.1.lock().expect("no panic").push(format!("settled {}", self.0));
        assert!(self.0 != "panics", "a bug");
    }
}

/// What comes of these policies, what they did, and how many panicked at the end.
fn asked(names: &[&'static str]) -> (Result<(), Refusal>, String, usize) {
    let diary = Arc::default();
    let policy = |name: &&'static str| Arc::new(Says(name, Arc::clone(&diary))) as Arc<dyn Policy>;
    let policies = Policies::new(names.iter().map(policy).collect());
    let mut call = admitted(&[]);
    let said = policies.look(&mut call.look(BODY));
    let panics = policies.settled(call.arrived.settle(Instant::now()));
    let diary = diary.lock().expect("no panic").join(", ");
    (said, diary, panics)
}

#[test]
fn each_is_asked_in_its_order_until_one_does_not_allow() {
    let (said, diary, panics) = asked(&["a", "b"]);
    assert_eq!((said, &*diary, panics), (Ok(()), "look a, look b, settled a, settled b", 0));
    let denied = Refusal::Denied(Box::new(Denial::forbidden("no", "No")));
    let (said, diary, _) = asked(&["a", "refuses", "b"]);
    let all = "look a, look refuses, settled a, settled refuses, settled b";
    assert_eq!((said, &*diary), (Err(denied), all), "all see the end");
    let (said, ..) = asked(&["fails", "refuses"]);
    assert_eq!(said, Err(Refusal::PolicyFailed("fails", Box::new(PolicyError::NoBody))));
}

#[test]
fn a_panic_is_the_policys_own() {
    let (said, diary, panics) = asked(&["panics", "b"]);
    assert_eq!(said, Err(Refusal::PolicyFailed("panics", Box::new(PolicyError::Panicked))));
    assert_eq!((&*diary, panics), ("look panics, settled panics, settled b", 1));
}

#[test]
fn a_panic_at_the_end_of_a_call_that_panicked_is_contained_too() {
    struct Ends(Policies, Option<Record>);
    impl Drop for Ends {
        fn drop(&mut self) {
            assert_eq!(self.1.take().map(|record| self.0.settled(&record)), Some(1));
        }
    }
    let diary: Arc<Mutex<Vec<String>>> = Arc::default();
    let ends = Ends(
        Policies::new(vec![Arc::new(Says("panics", Arc::clone(&diary)))]),
        Some(admitted(&[]).arrived.settle(Instant::now()).clone()),
    );
    let unwound = catch_unwind(AssertUnwindSafe(move || {
        let _ends = ends;
        panic!("the call's own");
    }));
    assert!(unwound.is_err());
    assert_eq!(*diary.lock().expect("no panic"), ["settled panics"]);
}

#[test]
fn without_policies_nothing_is_kept_and_nothing_asked() {
    let none = Policies::new(Vec::new());
    assert!(none.is_empty() && none.clone().0.is_none(), "a copy for each call counts no reference");
    assert_eq!(asked(&[]), (Ok(()), String::new(), 0));
}

#[test]
fn all_of_a_policy_is_optional() {
    struct Dull;
    impl Policy for Dull {}
    assert!(Dull.name().ends_with("Dull"), "{}", Dull.name());
    let mut call = admitted(&[]);
    assert_eq!(Dull.look(&mut call.look(BODY)), Ok(Verdict::Allow));
    Dull.settled(call.arrived.settle(Instant::now()));
}
