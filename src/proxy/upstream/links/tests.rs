//! Who makes a connection, who waits for it, and when one ends.
//!
//! Never does: open a socket; the time is a test's own.

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::*;

const KEY: u64 = 7;

/// A provider at the other end of a pipe that allows so many streams and answers none; true once its client has ended.
fn provider(streams: u32) -> (DuplexStream, JoinHandle<bool>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let serving = tokio::spawn(async move {
        let mut builder = h2::server::Builder::new();
        let begun = builder.max_concurrent_streams(streams).handshake::<_, Bytes>(theirs).await;
        let mut connection = begun.expect("HTTP/2");
        let mut held = Vec::new();
        while let Some(Ok(stream)) = connection.accept().await {
            held.push(stream);
        }
        true
    });
    (ours, serving)
}

async fn dial(links: &Links) -> Dialing {
    match links.turn(KEY).await {
        Ok(Turn::Dial(dialing)) => dialing,
        Ok(Turn::Slot(_)) => panic!("a place where none can be"),
        Err(broken) => panic!("{}", broken.cause),
    }
}

/// A site that is connected, with the place of its first call.
async fn connected(links: &Links, streams: u32) -> (Slot, JoinHandle<bool>) {
    let (stream, provider) = provider(streams);
    let slot = dial(links).await.shares(stream).await.expect("a place");
    while lock(&links.sites)[&KEY].links.is_empty() {
        tokio::task::yield_now().await;
    }
    (slot, provider)
}

/// Calls that want a place, once all of them wait.
async fn herd(links: &Arc<Links>, count: usize) -> Vec<JoinHandle<Result<Turn, Broken>>> {
    let call = || {
        let links = Arc::clone(links);
        tokio::spawn(async move { links.turn(KEY).await })
    };
    let calls = (0..count).map(|_| call()).collect();
    while lock(&links.sites)[&KEY].waiting < count {
        tokio::task::yield_now().await;
    }
    calls
}

/// What became of calls: how many have a place, make a connection, and have failed. Each keeps what it has.
async fn outcomes(calls: Vec<JoinHandle<Result<Turn, Broken>>>) -> ([usize; 3], Vec<Turn>) {
    let (mut counts, mut kept) = ([0; 3], Vec::new());
    for call in calls {
        match call.await.expect("no panic") {
            Ok(turn) => {
                counts[usize::from(matches!(turn, Turn::Dial(_)))] += 1;
                kept.push(turn);
            }
            Err(_) => counts[2] += 1,
        }
    }
    (counts, kept)
}

#[tokio::test]
async fn a_hundred_calls_at_once_make_one_connection() {
    let links = Arc::new(Links::default());
    let dialing = dial(&links).await;
    let calls = herd(&links, 99).await;
    let (stream, _provider) = provider(1000);
    let _first = dialing.shares(stream).await.expect("a place");
    let (counts, _kept) = outcomes(calls).await;
    assert_eq!(counts, [99, 0, 0]);
    assert!(matches!(links.turn(KEY).await, Ok(Turn::Dial(_))), "more than we allow take another one");
}

#[tokio::test]
async fn a_connection_gets_no_more_streams_than_its_provider_allows() {
    let links = Links::default();
    let (first, _provider) = connected(&links, 3).await;
    let others = (links.slot(KEY).await, links.slot(KEY).await);
    assert!(others.0.is_some() && others.1.is_some() && links.slot(KEY).await.is_none());
    drop(first);
    let again = links.slot(KEY).await.expect("a place is free again");
    assert!(links.slot(KEY).await.is_none());
    again.retire();
    drop((again, others));
    assert!(links.slot(KEY).await.is_none(), "one that is to end gets no further stream");
}

#[tokio::test]
async fn those_who_wait_fail_with_the_connection_and_later_calls_try_again() {
    let links = Arc::new(Links::default());
    let dialing = dial(&links).await;
    let calls = herd(&links, 20).await;
    dialing.failed(&Broken::reset("no"));
    assert_eq!(outcomes(calls).await.0, [0, 0, 20]);
    dial(&links).await;
}

#[tokio::test]
async fn where_the_one_who_connects_leaves_another_takes_its_place() {
    let links = Arc::new(Links::default());
    let dialing = dial(&links).await;
    let mut calls = herd(&links, 3).await;
    drop(dialing);
    while !calls.iter().any(JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    let at = calls.iter().position(JoinHandle::is_finished).expect("one");
    let Ok(Ok(Turn::Dial(next))) = calls.remove(at).await else { panic!("it has its turn") };
    let (stream, _provider) = provider(1000);
    let _slot = next.shares(stream).await.expect("a place");
    assert_eq!(outcomes(calls).await.0, [2, 0, 0]);
}

#[tokio::test]
async fn with_a_provider_of_http_1_each_call_makes_its_own_connection() {
    let links = Arc::new(Links::default());
    let dialing = dial(&links).await;
    let calls = herd(&links, 20).await;
    dialing.does_not_share();
    let (counts, _kept) = outcomes(calls).await;
    assert_eq!(counts, [0, 20, 0]);
    dial(&links).await;
}

async fn death(slot: &Slot) -> Duration {
    let started = tokio::time::Instant::now();
    while slot.died_of().is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    started.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_is_noticed_by_its_ping() {
    let links = Links::default();
    let (stream, _silent) = tokio::io::duplex(1 << 20);
    let slot = dial(&links).await.shares(stream).await.expect("a place");
    assert!(death(&slot).await < BEGUN_WITHIN + Duration::from_secs(1));
    assert!(!slot.is_usable().await && links.slot(KEY).await.is_none());
    // One that falls silent later.
    let (stream, theirs) = tokio::io::duplex(1 << 20);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let provider = tokio::spawn(async move {
        let mut connection = h2::server::handshake(theirs).await.expect("HTTP/2");
        tokio::select! {
            _ = connection.accept() => panic!("nothing was asked"),
            _ = stopped => connection,
        }
    });
    let slot = dial(&links).await.shares(stream).await.expect("a place");
    tokio::time::sleep(PING_EVERY * 10).await;
    assert!(slot.is_usable().await);
    stop.send(()).expect("it runs");
    let _held = provider.await.expect("no panic");
    assert!(death(&slot).await < PING_EVERY + PONG_WITHIN + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_uses_is_closed_and_one_with_a_stream_is_not() {
    let links = Links::default();
    let (slot, provider) = connected(&links, 100).await;
    tokio::time::sleep(POOL_IDLE * 10).await;
    assert!(!provider.is_finished());
    drop(slot);
    let unused = tokio::time::Instant::now();
    provider.await.expect("no panic");
    // It is looked at when it is pinged.
    let (least, most) = (POOL_IDLE - PING_EVERY, POOL_IDLE + PING_EVERY);
    assert!((least..=most).contains(&unused.elapsed()), "{:?}", unused.elapsed());
    assert!(!lock(&links.sites)[&KEY].is_in_use());
}

#[tokio::test]
async fn a_connection_that_its_provider_leaves_gets_no_further_stream() {
    let links = Links::default();
    let (slot, provider) = connected(&links, 100).await;
    provider.abort();
    while slot.is_usable().await {
        tokio::task::yield_now().await;
    }
    assert!(links.slot(KEY).await.is_none());
}
