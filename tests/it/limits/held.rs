//! What holds under many clients that come at once and leave as they like.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::rush::{asked_for, rush, small, use_up};
use super::*;

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
    told += use_up(address).await;
    let (spent, held) = used(admin).await;
    assert!(told <= spent && spent <= BUDGET && held == 0, "{told} told, {spent} spent of {BUDGET}");
    assert!(spent >= BUDGET * 9 / 10, "{spent} of {BUDGET} could be used");
    // By the provider's own count of whole answers, of calls that were left in the middle, too.
    let asked = asked_for(&world.provider);
    assert!(told <= asked && asked <= BUDGET + 1, "{asked} asked for of {BUDGET}, {told} told");
    let metrics = world.metrics().await;
    assert_eq!(metric(&metrics, "gateway_limit_overruns_total"), 0.0);
    assert_eq!(metric(&metrics, "gateway_reservations_outstanding"), 0.0);
}

/// A number that looks random and is the same in each run.
fn scattered(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 32
}

/// Makes calls and leaves some of them at any moment, until it is told to stop; gives how many were answered.
async fn comes_and_goes(address: std::net::SocketAddr, client: u64, stop: Arc<AtomicBool>) -> u64 {
    let mut answered = 0;
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let random = scattered(client << 32 | turn);
        let more = if random & 1 == 0 { r#""stream":true,"# } else { "" };
        let body = capped(20).replacen('{', &format!("{{{more}"), 1);
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        let mut connection = Connection::open(address).await;
        connection.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
        let leaves = random & 6 != 0;
        let patience = if leaves { Duration::from_millis((random >> 3) % 40) } else { SOON };
        match tokio::time::timeout(patience, connection.response("POST")).await {
            Ok(answer) if answer.status == 200 => answered += 1,
            Ok(answer) => assert_eq!(answer.status, 429, "{}", answer.text()),
            Err(_) => assert!(leaves, "no answer"),
        }
        drop(connection);
        // More than come by then find no place anyhow.
        tokio::time::sleep(Duration::from_millis(random % 400)).await;
    }
    answered
}

/// The most of these requests that the provider worked for at once, of those that it answered to their end: when it sees
/// that others were left is up to the system.
fn most_at_once(received: &[ai_gateway::demo::Received]) -> i32 {
    let whole = received.iter().filter(|request| !request.cancelled);
    let spans = whole.filter_map(|request| Some((request.arrived_at, request.answered_at?)));
    let mut changes: Vec<(Instant, i32)> = spans.flat_map(|(from, to)| [(from, 1), (to, -1)]).collect();
    changes.sort_by_key(|(at, change)| (*at, *change));
    let mut running = 0;
    let counts = changes.into_iter().map(|(_, change)| {
        running += change;
        running
    });
    counts.max().unwrap_or(0)
}

#[tokio::test]
async fn places_are_never_more_than_the_limit_and_all_free_in_the_end() {
    const CLIENTS: u64 = 200;
    let world = World::with(limited("{ gateway: { concurrent_requests: 10 } }")).await;
    let (address, admin) = (world.gateway.addresses()[0], world.gateway.admin_address());
    world.provider.script(slow(10, 3).on("/v1/chat/completions").always());
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(comes_and_goes(address, client, Arc::clone(&stop)));
    }
    let (mut most, until) = (0, Instant::now() + test_time());
    while Instant::now() < until {
        most = most.max(used(admin).await.1);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = clients.join_all().await.into_iter().sum();
    assert_eq!(most, 10, "all places were taken, and never more");
    eventually("all are free", async || used(admin).await == (0, 0)).await;
    let received = world.provider.received();
    assert!((2..=10).contains(&most_at_once(&received)), "{} at once", most_at_once(&received));
    let left = received.iter().filter(|request| request.cancelled).count();
    assert!(answered >= 10 && left >= 1, "{answered} answered, {left} left");
    world.provider.clear_scripts();
    world.provider.script(ai_gateway::demo::Script::delayed(Duration::from_secs(600)).always());
    world.provider.clear_received();
    let mut running = Vec::new();
    for _ in 0..10 {
        running.push(world.client().await.ask(CHAT, &capped(5)).await);
    }
    eventually("ten are running", async || world.provider.received().len() == 10).await;
    assert_eq!(world.post(CHAT, &capped(5)).await.status, 429);
}
