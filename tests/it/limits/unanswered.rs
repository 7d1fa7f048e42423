//! Attempts that were sent and had no answer: the provider may charge for each, so that each keeps what was reserved for it,
//! and there is no further one where a budget has no room for that.

use ai_gateway::demo::{CutAt, HowCut, Provider, ProviderOptions, Script};

use super::*;

const TWICE: &str = "{ max_attempts: 2, cooldown: { consecutive_failures: 1000, first: 100ms, longest: 100ms } }";

fn ends(how: HowCut) -> Script {
    Script::cut(CutAt::Head, how)
}

/// The most that a call may use: a token for each byte, what the provider adds, and the ceiling.
fn worst(ceiling: u64) -> u64 {
    capped(ceiling).len() as u64 + 64 + ceiling
}

fn tokens(count: u64, attempts: &str) -> Setup {
    let setup = limited(&format!("{{ gateway: {{ budgets: [ {{ tokens: {count}, per: total }} ] }} }}"));
    let provider = "timeouts: { first_byte: { stream: 500ms, other: 500ms } }".to_owned();
    Setup { attempts: attempts.to_owned(), provider, ..setup }
}

/// What the ledger says of all calls: how many failed, their tokens, and what they cost.
async fn billed(world: &World) -> (u64, u64, String) {
    let token = bearer("admin-token");
    let mut connection = Connection::open(world.gateway.admin_address()).await;
    let total = connection.request("GET", "/api/usage?by=user", &[token], b"").await.json()["total"].clone();
    let number = |value: &Value| value.as_u64().expect("a number");
    let tokens = number(&total["tokens"]["input"]) + number(&total["tokens"]["output"]);
    (number(&total["failed"]), tokens, total["cost_usd"].as_str().expect("a text").to_owned())
}

#[tokio::test]
async fn what_was_sent_and_not_answered_counts_at_what_was_reserved() {
    for (how, status) in [(HowCut::Reset, 502), (HowCut::Close, 502), (HowCut::Stall, 504)] {
        let world = World::with(tokens(10_000, "")).await;
        world.provider.script(ends(how));
        assert_eq!(world.post(CHAT, &capped(500)).await.status, status);
        let all = (worst(500), 0);
        eventually("it counts", async || used(world.gateway.admin_address()).await == all).await;
        eventually("it is not billed", async || billed(&world).await == (1, 0, "0".to_owned())).await;
    }
}

/// A world with a second provider for the model.
async fn two() -> (World, Provider) {
    let options = ProviderOptions { api_key: Some("backup".to_owned()), ..ProviderOptions::default() };
    let backup = Provider::start(options).await.expect("the backup starts");
    let url = backup.addr();
    let setup = Setup {
        providers: format!(
            "  backup: {{ base_url: 'http://{url}', api_key: backup, priced_as: openai, \
             timeouts: {{ first_byte: {{ stream: 500ms }} }} }}"
        ),
        models: "{ gpt-4o-mini: { order: ordered, targets: [ { provider: openai }, { provider: backup } ] } }"
            .to_owned(),
        ..tokens(10_000, TWICE)
    };
    (World::with(setup).await, backup)
}

/// A chat call that asks for a stream.
fn streamed(ceiling: u64) -> String {
    capped(ceiling).replacen('{', r#"{"stream":true,"#, 1)
}

/// The most that such a call may use: the question for its usage is put in later.
fn worst_of(body: &str, ceiling: u64) -> u64 {
    body.len() as u64 + 64 + ceiling
}

#[tokio::test]
async fn an_answer_that_breaks_before_anything_of_it_goes_on_counts_at_what_was_reserved() {
    for (how, status) in [(HowCut::Reset, 502), (HowCut::Close, 502), (HowCut::Stall, 504)] {
        for bytes in [0, 20] {
            let mut setup = tokens(10_000, "");
            setup.provider = "timeouts: { idle: 500ms }".to_owned();
            let world = World::with(setup).await;
            world.provider.script(Script::cut(CutAt::Body(bytes), how));
            assert_eq!(world.post(CHAT, &capped(500)).await.status, status);
            let all = (worst(500), 0);
            eventually("it counts", async || used(world.gateway.admin_address()).await == all).await;
            eventually("it is not billed", async || billed(&world).await == (1, 0, "0".to_owned())).await;
        }
    }
}

#[tokio::test]
async fn an_answer_that_breaks_while_another_target_may_be_asked_counts_beside_the_next() {
    for body in [capped(500), streamed(500)] {
        for (how, bytes) in [(HowCut::Reset, 0), (HowCut::Close, 0), (HowCut::Reset, 20)] {
            let (world, backup) = two().await;
            world.provider.script(Script::cut(CutAt::Body(bytes), how));
            assert_eq!(world.post(CHAT, &body).await.status, 200);
            assert_eq!(world.provider.received().len() + backup.received().len(), 2);
            let address = world.gateway.admin_address();
            eventually("the second is billed", async || billed(&world).await.1 > 0).await;
            let (failed, usage, _) = billed(&world).await;
            assert_eq!((failed, used(address).await), (0, (worst_of(&body, 500) + usage, 0)), "{how:?} {bytes}");
        }
    }
}

#[tokio::test]
async fn an_error_in_a_stream_that_goes_on_after_all_counts_once() {
    let (world, backup) = two().await;
    let error = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    world.provider.script(Script::events([error]));
    backup.script(ends(HowCut::Stall));
    let body = streamed(500);
    let answer = world.post(CHAT, &body).await;
    assert!(answer.text().contains("overloaded"), "{}", answer.text());
    assert_eq!((world.provider.received().len(), backup.received().len()), (1, 1));
    let all = (2 * worst_of(&body, 500), 0);
    eventually("both count", async || used(world.gateway.admin_address()).await == all).await;
}

#[tokio::test]
async fn who_hangs_up_before_the_answer_is_billed_the_input_and_keeps_what_was_reserved() {
    let mut service = Service::with(tokens(10_000, "")).await;
    service.provider.script(Script::delayed(SOON).always());
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    let body = capped(500);
    let mut connection = service.connect().await;
    connection.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
    eventually("it is asked", async || service.provider.received().len() == 1).await;
    drop(connection);
    eventually("it counts", async || used(service.admin).await == (worst(500), 0)).await;
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    lasting::again(&mut service).await;
    service.provider.clear_scripts();
    let usage = service.connect().await.post(CHAT, &body).await.json()["usage"]["total_tokens"].as_u64();
    let all = (worst(500) + usage.expect("a number"), 0);
    eventually("the database says so too", async || used(service.admin).await == all).await;
}

#[tokio::test]
async fn an_error_and_a_connection_that_failed_count_for_nothing() {
    let world = World::with(tokens(10_000, TWICE)).await;
    world.provider.script(Script::json(503, "{}").times(2));
    assert_eq!(world.post(CHAT, &capped(500)).await.status, 503);
    assert_eq!(world.provider.received().len(), 2);
    eventually("all is free", async || used(world.gateway.admin_address()).await == (0, 0)).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let setup = Setup { base_url: Some(format!("http://{nobody}")), ..tokens(10_000, "") };
    let world = World::with(setup).await;
    assert_eq!(world.post(CHAT, &capped(500)).await.status, 502);
    eventually("all is free", async || used(world.gateway.admin_address()).await == (0, 0)).await;
}

#[tokio::test]
async fn a_further_attempt_is_reserved_for_beside_the_one_before() {
    let world = World::with(tokens(10_000, TWICE)).await;
    world.provider.script(ends(HowCut::Reset));
    let answer = world.post(CHAT, &capped(500)).await;
    let usage = answer.json()["usage"]["total_tokens"].as_u64().expect("a number");
    assert_eq!(world.provider.received().len(), 2);
    let all = (worst(500) + usage, 0);
    eventually("both count", async || used(world.gateway.admin_address()).await == all).await;
    let cost = format!("0.{usage:06}");
    let only = (0, usage, cost.trim_end_matches('0').to_owned());
    eventually("only what was answered is billed", async || billed(&world).await == only).await;
    world.provider.script(ends(HowCut::Reset).times(2));
    assert_eq!(world.post(CHAT, &capped(500)).await.status, 502);
    let all = (3 * worst(500) + usage, 0);
    eventually("each counts", async || used(world.gateway.admin_address()).await == all).await;
}

#[tokio::test]
async fn there_is_no_further_attempt_without_room_for_it() {
    let world = World::with(tokens(worst(500) * 3 / 2, TWICE)).await;
    world.provider.script(ends(HowCut::Reset).always());
    let answer = world.post(CHAT, &capped(500)).await;
    answer.error(502, "server_error", "upstream_error");
    assert_eq!(world.provider.received().len(), 1);
    eventually("it counts", async || used(world.gateway.admin_address()).await == (worst(500), 0)).await;
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, r#"gateway_limit_rejections_total{limit="tokens/total"}"#), 1.0);
    assert_eq!(metric(&metrics, "gateway_reservations_outstanding"), 0.0);
    assert_eq!(metric(&metrics, "gateway_limit_overruns_total"), 0.0);
}

#[tokio::test]
async fn a_restart_forgets_no_unanswered_attempt() {
    let mut service = Service::with(tokens(10_000, TWICE)).await;
    service.provider.script(ends(HowCut::Reset).times(2));
    let post = async |service: &Service| service.connect().await.post(CHAT, &capped(500)).await;
    assert_eq!(post(&service).await.status, 502);
    eventually("both count", async || used(service.admin).await == (2 * worst(500), 0)).await;
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    lasting::again(&mut service).await;
    let usage = post(&service).await.json()["usage"]["total_tokens"].as_u64().expect("a number");
    eventually("all count", async || used(service.admin).await == (2 * worst(500) + usage, 0)).await;
}
