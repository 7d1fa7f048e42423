//! When policies are asked, in which order, what they see, and what becomes of their refusals, faults and panics.

use std::time::{Duration, SystemTime};

use ai_gateway::demo::Script;

use super::*;

#[tokio::test]
async fn they_are_asked_in_order_until_one_refuses() {
    let log: Arc<Mutex<Vec<&str>>> = Arc::default();
    let says = |name: &'static str, refuses: bool| {
        let log = Arc::clone(&log);
        rule(move |_| {
            log.lock().expect("no panic").push(name);
            if refuses { denied("second_says_no") } else { Ok(Verdict::Allow) }
        })
    };
    let (first, second, third) = (says("first", false), says("second", true), says("third", false));
    let world = world(&[&first, &second, &third]).await;
    let answer = world.post(CHAT, &chat("hello")).await;
    let message = answer.error(403, "invalid_request_error", "second_says_no");
    assert_eq!(message, "Refused: second_says_no");
    assert_eq!(*log.lock().expect("no panic"), ["first", "second"]);
    assert!(world.provider.received().is_empty());
    assert_eq!(world.log.calls(1).await[0]["code"], "second_says_no");
    for policy in [first, second, third] {
        eventually("it has settled", async || policy.settled().len() == 1).await;
    }
}

#[tokio::test]
async fn a_refusal_looks_as_it_was_made() {
    let policy = rule(|call| {
        let status = call.headers()["x-status"].to_str().expect("ASCII").parse().expect("a status");
        let denial = Denial::new(status, "as_asked", "You \"asked\"")?.retry_after(Duration::from_secs(7));
        Ok(Verdict::Refuse(denial))
    });
    let world = world(&[&policy]).await;
    let mut client = world.connect().await;
    for status in [400_u16, 401, 403, 404, 409, 429, 451, 498] {
        let headers = [bearer(KEY), ("x-status", status.to_string())];
        let answer = client.request("POST", CHAT, &headers, chat("x").as_bytes()).await;
        assert_eq!(answer.error(status, "invalid_request_error", "as_asked"), "You \"asked\"");
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
    for status in ["200", "302", "399", "499", "500"] {
        let headers = [bearer(KEY), ("x-status", status.to_owned())];
        let answer = client.request("POST", CHAT, &headers, chat("x").as_bytes()).await;
        answer.error(500, "server_error", "policy_failed");
    }
    let causes = world.log.calls(13).await;
    assert_eq!(causes[8]["cause"], "policy rule: a policy refuses with a status from 400 to 498, not 200");
}

#[tokio::test]
async fn they_see_only_who_was_found_good_and_no_credential() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let policy = {
        let seen = Arc::clone(&seen);
        rule(move |call| {
            let mut seen = seen.lock().expect("no panic");
            seen.push(format!("{:?} {:?} {}", call.headers(), call.query(), call.key_id()));
            seen.push(format!("{} {} {} {}", call.method(), call.path(), call.route(), call.provider()));
            seen.push(format!("{} {:?} {:?}", call.user(), call.team(), call.client()));
            seen.push(format!("{:?} {} {:?}", call.model(), call.stream(), call.body().map(<[u8]>::len)));
            let age = SystemTime::now().duration_since(call.now()).expect("in the past");
            assert!(age < SOON && call.request_id().starts_with("req_"));
            Ok(Verdict::Allow)
        })
    };
    let world = world(&[&policy]).await;
    let mut client = world.connect().await;
    let refused = [
        ("GET", "/nowhere", KEY, 404),
        ("GET", "/openai/v1/models", "wrong", 401),
        ("GET", "/openai/v1/chat/completions", KEY, 404),
    ];
    for (method, path, key, status) in refused {
        assert_eq!(client.request(method, path, &[bearer(key)], b"").await.status, status);
    }
    assert_eq!(client.post(CHAT, "no JSON").await.status, 400);
    assert!(seen.lock().expect("no panic").is_empty(), "only good calls are seen");
    let headers = [bearer(KEY), ("api-key", KEY.to_owned()), ("x-api-key", KEY.to_owned()), ("x-tag", "1".to_owned())];
    let answer = client.request("GET", "/openai/v1/models/gpt-4o-mini?limit=1", &headers, b"").await;
    assert_eq!(answer.status, 200);
    let body = chat_stream("hello");
    assert_eq!(client.post(CHAT, &body).await.status, 200);
    let seen = seen.lock().expect("no panic").clone();
    assert!(!seen.iter().any(|text| text.contains(KEY) || text.contains(PROVIDER_KEY)), "{seen:?}");
    assert!(seen[0].contains("\"x-tag\": \"1\"") && seen[0].contains("Some(\"limit=1\")"), "{}", seen[0]);
    assert_eq!(seen[1], "GET /openai/v1/models/gpt-4o-mini /openai/v1/models/{model} openai");
    assert_eq!(seen[2], "test None Some(127.0.0.1)");
    assert_eq!(seen[3], "Some(\"gpt-4o-mini\") false None");
    assert_eq!(seen[7], format!("Some(\"gpt-4o-mini\") true Some({})", body.len()));
    // Six calls are over, each once; the health check is none.
    assert_eq!(client.request("GET", "/livez", &[], b"").await.status, 200);
    eventually("all have settled", async || policy.settled().len() == 6).await;
    let statuses: Vec<u16> = policy.settled().into_iter().map(|(status, ..)| status).collect();
    assert_eq!(statuses, [404, 401, 404, 400, 200, 200]);
}

#[tokio::test]
async fn a_panic_costs_its_call_and_nothing_else() {
    struct Fragile;
    impl Policy for Fragile {
        fn look(&self, call: &mut Look<'_>) -> Result<Verdict, PolicyError> {
            assert!(!call.headers().contains_key("x-panic"), "a policy's bug");
            Ok(Verdict::Allow)
        }

        fn settled(&self, record: &Record) {
            assert_eq!(record.status, 500, "another bug");
        }
    }
    let after = rule(|_| Ok(Verdict::Allow));
    let policies = [vec![Arc::new(Fragile) as Arc<dyn Policy>], all(&[&after])].concat();
    let world = World::with(Setup { policies, ..Setup::default() }).await;
    let mut client = world.connect().await;
    let headers = [bearer(KEY), ("x-panic", "yes".to_owned())];
    let answer = client.request("POST", CHAT, &headers, chat("x").as_bytes()).await;
    answer.error(500, "server_error", "policy_failed");
    assert_eq!(client.post(CHAT, &chat("hello")).await.status, 200);
    let calls = world.log.calls(2).await;
    let cause = calls[0]["cause"].as_str().expect("a cause");
    assert!(cause.starts_with("policy it::policy::calls") && cause.ends_with("Fragile: it panicked"), "{cause}");
    eventually("both have settled, also for the policy behind it", async || after.settled().len() == 2).await;
    eventually("both panics are counted", async || metric(&world.metrics().await, "gateway_panics_total") == 2.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_settles_once() {
    let policy = rule(|_| Ok(Verdict::Allow));
    let world = world(&[&policy]).await;
    world.provider.script(Script::delayed(Duration::from_secs(600)));
    let mut client = world.connect().await;
    let body = chat("hello");
    client.send(head("POST", CHAT, &[bearer(KEY)], body.as_bytes()) + &body).await;
    eventually("the provider is asked", async || world.provider.received().len() == 1).await;
    drop(client);
    eventually("it has settled", async || policy.settled().len() == 1).await;
    assert_eq!(policy.settled(), [(499, Some(Refusal::ClientGone), Some("openai".to_owned()))]);
    world.get("/openai/v1/models").await;
    eventually("the next one, too, and no more", async || policy.settled().len() == 2).await;
}
