//! What holds under many clients that come at once and leave as they like.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;

/// Prices as elsewhere, but of a model that reads so little that a call's worst case is near to what it uses.
fn small(limits: &str) -> Setup {
    let setup = limited(limits);
    Setup { sections: setup.sections.replace("max_input_tokens: 100000", "max_input_tokens: 40"), ..setup }
}

/// A call of at most 20 tokens of output; gives what its usage told, or `None` where it was refused. Every fifth one leaves
/// in the middle.
async fn call(address: std::net::SocketAddr, number: usize) -> Option<u64> {
    let mut connection = Connection::open(address).await;
    let stream = number.is_multiple_of(2);
    let more = if stream { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
    let body = capped(20).replacen('{', &format!("{{{more}"), 1);
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    connection.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
    if number.is_multiple_of(5) {
        tokio::time::sleep(Duration::from_millis(number as u64 % 50)).await;
        return Some(0);
    }
    let answer = connection.response("POST").await;
    if answer.status != 200 {
        assert_eq!(answer.status, 429, "{}", answer.text());
        return None;
    }
    let text = answer.text();
    let told = text.rfind("\"total_tokens\":").map(|at| &text[at + "\"total_tokens\":".len()..]).expect("a usage");
    Some(told.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().expect("a number"))
}

/// Calls that come at once; gives the tokens that were told.
pub(super) async fn rush(address: std::net::SocketAddr, calls: std::ops::Range<usize>) -> u64 {
    let told = Arc::new(AtomicU64::new(0));
    let mut all = tokio::task::JoinSet::new();
    for number in calls {
        let told = Arc::clone(&told);
        all.spawn(async move {
            let tokens = call(address, number).await.unwrap_or(0);
            told.fetch_add(tokens, Ordering::Relaxed);
        });
    }
    while let Some(done) = all.join_next().await {
        done.expect("no panic");
    }
    told.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_budget_holds_under_a_rush_and_can_be_used_up() {
    const BUDGET: u64 = 7500;
    let world = World::with(small("{ gateway: { budgets: [ { usd: 0.0075, per: total } ] } }")).await;
    let (address, admin) = (world.gateway.addresses()[0], world.gateway.admin_address());
    let rush = tokio::spawn(rush(address, 0..1000));
    while !rush.is_finished() {
        let (spent, held) = used(admin).await;
        assert!(spent + held <= BUDGET, "{spent} and {held} of {BUDGET}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut told = rush.await.expect("no panic");
    eventually("nothing is held", async || used(admin).await.1 == 0).await;
    for number in 0..600 {
        told += call(address, 5 * number + 1).await.unwrap_or(0);
    }
    let refused = world.post(CHAT, &capped(20)).await;
    refused.error(429, "insufficient_quota", "insufficient_quota");
    let (spent, held) = used(admin).await;
    assert!(told <= spent && spent <= BUDGET && held == 0, "{told} told, {spent} spent of {BUDGET}");
    assert!(spent >= BUDGET * 9 / 10, "{spent} of {BUDGET} could be used");
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, "gateway_limit_overruns_total"), 0.0);
    assert_eq!(metric(&metrics, "gateway_reservations_outstanding"), 0.0);
}

#[tokio::test]
async fn places_are_never_more_than_the_limit_and_all_free_in_the_end() {
    let world = World::with(limited("{ gateway: { concurrent_requests: 10 } }")).await;
    let (address, admin) = (world.gateway.addresses()[0], world.gateway.admin_address());
    for number in 0..50 {
        world.provider.script(slow(10, number % 7));
    }
    let rush = tokio::spawn(async move {
        for wave in 0..4 {
            rush(address, wave * 60..wave * 60 + 60).await;
        }
    });
    let mut most = 0;
    while !rush.is_finished() {
        most = most.max(used(admin).await.1);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rush.await.expect("no panic");
    assert!((1..=10).contains(&most), "{most} at once");
    eventually("all are free", async || used(admin).await == (0, 0)).await;
    let mut running = Vec::new();
    world.provider.clear_scripts();
    for _ in 0..10 {
        world.provider.script(ai_gateway::demo::Script::delayed(Duration::from_secs(600)));
    }
    world.provider.clear_received();
    for _ in 0..10 {
        running.push(world.client().await.ask(CHAT, &capped(5)).await);
    }
    eventually("ten are running", async || world.provider.received().len() == 10).await;
    assert_eq!(world.post(CHAT, &capped(5)).await.status, 429);
}
