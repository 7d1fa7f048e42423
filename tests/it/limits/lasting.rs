//! What outlives a reload, a restart and a kill, and what happens where budgets cannot be kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection as Database, OpenFlags};

use super::rush::{WORST, asked_for, rush, small, use_up};
use super::*;

/// The same gateway again, in place of the one that ended.
pub(super) async fn again(service: &mut Service) {
    service.process = Process::start(service.folder.path(), SERVE, &[]);
    (service.address, service.admin) = service.process.serves().await;
}

async fn status(service: &Service, ceiling: u64) -> u16 {
    service.connect().await.post(CHAT, &capped(ceiling)).await.status
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let mut service = Service::with(limited("{ gateway: { budgets: [ { tokens: 1000, per: total } ] } }")).await;
    assert_eq!(status(&service, 500).await, 200);
    eventually("it counts", async || used(service.admin).await.0 > 0).await;
    let once = used(service.admin).await.0;
    service.process.signal("TERM");
    assert_eq!(service.process.end().await.code, Some(0));
    again(&mut service).await;
    assert_eq!(status(&service, 500).await, 200);
    eventually("both count", async || used(service.admin).await == (2 * once, 0)).await;
    assert_eq!(status(&service, 850).await, 429, "what is left would have been enough for it at first");
}

#[tokio::test]
async fn the_intent_of_a_call_says_what_is_reserved_for_it() {
    let service = Service::with(limited("{ gateway: { budgets: [ { usd: 1, per: day } ] } }")).await;
    service.provider.script(ai_gateway::demo::Script::delayed(SOON * 10));
    let body = capped(5);
    let mut running = service.connect().await;
    let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
    running.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
    let path = service.folder.path().join("data/gateway.db");
    let reserved = || -> rusqlite::Result<(i64, i64)> {
        let query = "SELECT reserved_tokens, reserved_picos FROM calls WHERE state = 'intent'";
        let database = Database::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        database.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)))
    };
    eventually("it is there", async || reserved().is_ok()).await;
    // A token for each byte, what the provider adds, and the ceiling.
    let tokens = body.len() as u64 + 64 + 5;
    let count = i64::try_from(tokens).expect("few");
    assert_eq!(reserved().expect("read"), (count, count * 1_000_000));
    assert_eq!(used(service.admin).await, (0, tokens));
}

#[tokio::test]
async fn kill_9_in_the_middle_passes_no_budget_and_leaves_it_usable() {
    const BUDGET: u64 = 7500;
    const IN_FLIGHT: usize = 5;
    let mut service =
        Service::with(small(&format!("{{ gateway: {{ budgets: [ {{ tokens: {BUDGET}, per: total }} ] }} }}"))).await;
    let mut told = rush(service.address, 0..100).await;
    eventually("nothing is held", async || used(service.admin).await.1 == 0).await;
    // Some calls are in flight when it dies.
    let before = service.provider.received().len();
    let mut open = Vec::new();
    for _ in 0..IN_FLIGHT {
        service.provider.script(ai_gateway::demo::Script::delayed(SOON * 10));
    }
    for _ in 0..IN_FLIGHT {
        let (mut connection, body) = (service.connect().await, capped(20));
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        connection.send(head("POST", CHAT, &headers, body.as_bytes()) + &body).await;
        open.push(connection);
    }
    eventually("they are in flight", async || service.provider.received().len() == before + IN_FLIGHT).await;
    service.process.signal("KILL");
    assert_eq!(service.process.end().await.code, None);
    silent_for_long(&service);
    again(&mut service).await;
    told += rush(service.address, 100..1100).await;
    eventually("nothing is held", async || used(service.admin).await.1 == 0).await;
    told += use_up(service.address).await;
    let (spent, _) = used(service.admin).await;
    assert!(told <= spent && spent <= BUDGET, "{told} told, {spent} spent of {BUDGET}");
    assert!(spent >= BUDGET * 9 / 10, "{spent} of {BUDGET} could be used");
    let asked = asked_for(&service.provider);
    assert!(told <= asked && asked <= BUDGET + 1, "{asked} asked for of {BUDGET}, {told} told");
    // What a kill takes: what its calls in flight held beyond what they used, and twice the last lease.
    let kept = kept_for_left(&service) + WORST * IN_FLIGHT as u64 + BUDGET / 50;
    assert!(asked + kept >= BUDGET * 9 / 10, "{asked} could be asked for, {kept} kept");
}

/// What calls keep that were left before their answer began, beyond what the provider counts for them.
fn kept_for_left(service: &Service) -> u64 {
    let database = Database::open(service.folder.path().join("data/gateway.db")).expect("opened");
    let left: u32 =
        database.query_row("SELECT coalesce(sum(unanswered), 0) FROM calls", [], |row| row.get(0)).expect("a sum");
    let used = service.provider.received().into_iter().filter_map(|request| request.used);
    let least = used.map(|used| used.input + used.output).min().unwrap_or(0);
    u64::from(left) * (WORST - least)
}

/// Its process has said nothing for longer than a living one is silent.
fn silent_for_long(service: &Service) {
    let database = Database::open(service.folder.path().join("data/gateway.db")).expect("opened");
    database.busy_timeout(SOON).expect("set");
    database.execute("UPDATE instances SET seen_us = seen_us - 20000000", []).expect("changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_in_the_middle_shares_the_budget() {
    const BUDGET: u64 = 12_000;
    let limits = format!("{{ gateway: {{ budgets: [ {{ tokens: {BUDGET}, per: total }} ] }} }}");
    let mut service = crate::upgrade::old_with(small(&limits)).await;
    let address = service.address;
    // Some calls of the old process outlast its listeners, and others come all the time.
    service.provider.script(slow(20, 200).on("/v1/chat/completions").times(20));
    let lasting = tokio::spawn(rush(address, 0..20));
    eventually("they run", async || used(service.admin).await.1 >= 3 * WORST).await;
    let stop = Arc::new(AtomicBool::new(false));
    let throughout = tokio::spawn(throughout(address, Arc::clone(&stop)));
    let mut old = crate::upgrade::upgrade(&mut service).await;
    let so_far = asked_for(&service.provider);
    assert!(old.runs() && so_far < BUDGET * 2 / 3, "{so_far} of {BUDGET} before the new process serves");
    let mut told = rush(address, 1000..2000).await;
    stop.store(true, Ordering::Relaxed);
    told += lasting.await.expect("no panic") + throughout.await.expect("no panic");
    let ended = old.end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    told += use_up(address).await;
    let asked = asked_for(&service.provider);
    assert!(told <= asked && asked <= BUDGET + 1, "{asked} asked for of {BUDGET}, {told} told");
    let kept = kept_for_left(&service);
    assert!(asked + kept >= BUDGET * 9 / 10, "{asked} of {BUDGET} could be used, {kept} kept");
    let (spent, held) = used(service.admin).await;
    assert!(asked <= spent + held + 1 && spent + held <= BUDGET, "{spent} and {held} of {BUDGET}, {asked} asked for");
}

/// Makes a few calls at once, and again, until it is told to stop; gives the tokens that were told.
async fn throughout(address: std::net::SocketAddr, stop: Arc<AtomicBool>) -> u64 {
    let mut told = 0;
    while !stop.load(Ordering::Relaxed) {
        told += rush(address, 101..104).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    told
}

#[tokio::test]
async fn a_reload_keeps_what_is_used_and_applies_another_limit() {
    let service = Service::with(limited("{ key: { requests_per_minute: 2 } }")).await;
    let all = [status(&service, 5).await, status(&service, 5).await, status(&service, 5).await];
    assert_eq!(all, [200, 200, 429]);
    service.change("requests_per_minute: 2", "requests_per_minute: 3");
    service.process.signal("HUP");
    service.process.says("configuration reloaded").await;
    assert_eq!([status(&service, 5).await, status(&service, 5).await], [200, 429]);
}

#[tokio::test]
async fn a_created_key_has_its_limits() {
    let service = Service::with(limited("{}")).await;
    let created = service.keys(&["create", "ann", "all", "--limit", "requests_per_minute=1"]).await;
    assert_eq!(created.code, Some(0), "{created:?}");
    let key = created.stdout.trim();
    eventually("it is known", async || service.status(key, "/openai/v1/models").await == 200).await;
    assert_eq!(service.status(key, "/openai/v1/models").await, 429, "the rate counts what generates nothing, too");
}

#[tokio::test]
async fn without_its_database_only_budgeted_calls_are_refused() {
    // A file where the database's folder would be.
    let setup = limited("{ models: { gpt-4o-mini: { budgets: [ { usd: 1, per: day } ] } } }");
    let world = World::with(Setup { ledger: "{ path: \"keys.json/gateway.db\" }".to_owned(), ..setup }).await;
    let refused = world.post(CHAT, &capped(5)).await;
    refused.error(503, "server_error", "budget_store_unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(world.provider.received().is_empty());
    let other = capped(5).replace("gpt-4o-mini", "gpt-4o");
    assert_eq!(world.post(CHAT, &other).await.status, 200);
    world.log.calls(2).await;
    assert_eq!(metric(&world.metrics().await, r#"gateway_limit_rejections_total{limit="budget_store"}"#), 1.0);
}

#[tokio::test]
async fn without_a_ledger_budgets_hold_and_a_warning_says_for_how_long() {
    let setup = Setup { ledger: "off".to_owned(), ..limited("{ key: { budgets: [ { tokens: 1000, per: day } ] } }") };
    let service = Service::with(setup).await;
    service.process.says("WARN the ledger is off: what is spent of budgets is forgotten at a restart").await;
    assert_eq!([status(&service, 500).await, status(&service, 1000).await], [200, 429]);
}

#[tokio::test]
async fn a_native_route_is_not_for_a_key_whose_tokens_are_limited() {
    let key_file = KEY_FILE.replace("\"get\", \"path\": \"/openai/v1/models\"", "\"*\", \"path\": \"/openai/*\"");
    let provider = "routes: [post /v1/audio/speech stream, get /v1/files stream]".to_owned();
    for (limits, refused) in [("tokens_per_minute: 1000", true), ("requests_per_minute: 2", false)] {
        let setup = limited(&format!("{{ key: {{ {limits} }} }}"));
        let setup = Setup { key_file: Some(key_file.clone()), provider: provider.clone(), ..setup };
        let world = World::with(setup).await;
        let reads = world.get("/openai/v1/files").await;
        assert_ne!(reads.header("provider-name"), None, "what generates nothing passes: {}", reads.text());
        let speech = world.post("/openai/v1/audio/speech", r#"{"model":"tts-1","input":"x","voice":"alloy"}"#).await;
        if refused {
            speech.error(403, "invalid_request_error", "route_not_metered");
        } else {
            assert_ne!(speech.header("provider-name"), None, "{}", speech.text());
            let third = world.get("/openai/v1/files").await;
            third.error(429, "requests", "rate_limit_exceeded");
        }
    }
}
