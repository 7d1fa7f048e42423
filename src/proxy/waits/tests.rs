//! Facts about who ends a wait, on a clock that stands still until all wait for it.
//!
//! Never does: wait in real time.

use tokio::io::{DuplexStream, duplex};
use tokio::time::{Instant as Clock, sleep, sleep_until, timeout};

use super::*;

const IDLE: Duration = Duration::from_secs(10);

fn session() -> (ServerSession, DuplexStream) {
    let (client, stream) = duplex(64);
    (ServerSession::new_http1(Box::new(stream)), client)
}

fn now() -> Instant {
    Clock::now().into_std()
}

fn waits() -> Waits {
    Waits { deadline: now() + Duration::from_secs(100), first_token: None, idle: IDLE }
}

/// Waits for a piece that does not come.
async fn ended(watch: &mut Watch<'_>, session: &mut ServerSession) -> Result<Refusal, Refusal> {
    let over = poll_fn(|context| watch.poll_over::<()>(Some(session), context)).await;
    over.map(|broken| broken.expect_err("nothing comes").refusal)
}

#[tokio::test(start_paused = true)]
async fn a_silence_counts_from_the_last_piece() {
    let (mut session, _client) = session();
    let mut timer = pin!(sleep_until(Clock::from_std(waits().deadline)));
    let mut watch = Watch::new(waits(), timer.as_mut());
    let started = Clock::now();
    for _ in 0..5 {
        watch.begins(now());
        assert!(timeout(IDLE - Duration::from_secs(2), ended(&mut watch, &mut session)).await.is_err());
    }
    watch.begins(now());
    assert_eq!(ended(&mut watch, &mut session).await, Ok(Refusal::UpstreamTimeout(Silence::Idle)));
    assert_eq!(started.elapsed().as_secs(), 5 * 8 + 10);
}

#[tokio::test(start_paused = true)]
async fn what_comes_first_ends_it() {
    let (mut session, _client) = session();
    let first_token = Some(now() + Duration::from_secs(3));
    let mut timer = pin!(sleep_until(Clock::from_std(waits().deadline)));
    let mut watch = Watch::new(Waits { first_token, ..waits() }, timer.as_mut());
    let started = Clock::now();
    assert_eq!(ended(&mut watch, &mut session).await, Ok(Refusal::UpstreamTimeout(Silence::FirstToken)));
    assert_eq!(started.elapsed().as_secs(), 3);
    watch.has_content();
    assert_eq!(ended(&mut watch, &mut session).await, Ok(Refusal::UpstreamTimeout(Silence::Idle)));
    watch.begins(now() + Duration::from_secs(1000));
    assert_eq!(ended(&mut watch, &mut session).await, Ok(Refusal::UpstreamTimeout(Silence::Total)));
    assert_eq!(started.elapsed().as_secs(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_wait_can_be_made_shorter_though_its_timer_runs() {
    let (mut session, _client) = session();
    let mut timer = pin!(sleep_until(Clock::from_std(waits().deadline)));
    let mut watch = Watch::new(waits(), timer.as_mut());
    assert!(timeout(Duration::from_secs(5), ended(&mut watch, &mut session)).await.is_err());
    watch.begins(now());
    watch.idles_at_most(Duration::from_secs(1));
    watch.idles_at_most(Duration::from_secs(30));
    let started = Clock::now();
    assert_eq!(ended(&mut watch, &mut session).await, Ok(Refusal::UpstreamTimeout(Silence::Idle)));
    assert_eq!(started.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_whichever_wait_it_is() {
    for waits_before in 0..3 {
        let (mut session, client) = session();
        let waiting = tokio::spawn(async move {
            let mut timer = pin!(sleep_until(Clock::from_std(waits().deadline)));
            let mut watch = Watch::new(waits(), timer.as_mut());
            for _ in 0..waits_before {
                watch.begins(now());
                assert!(timeout(Duration::from_secs(5), ended(&mut watch, &mut session)).await.is_err());
            }
            watch.begins(now());
            ended(&mut watch, &mut session).await
        });
        sleep(Duration::from_secs(5 * waits_before + 1)).await;
        drop(client);
        assert_eq!(waiting.await.expect("no panic"), Err(Refusal::ClientGone), "{waits_before}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_another_task_is_woken() {
    let (mut session, client) = session();
    let mut timer = pin!(sleep_until(Clock::from_std(waits().deadline)));
    let mut watch = Watch::new(waits(), timer.as_mut());
    let first = watch.poll_over::<()>(Some(&mut session), &mut Context::from_waker(Waker::noop()));
    assert!(first.is_pending());
    let leaving = async {
        sleep(Duration::from_secs(1)).await;
        drop(client);
    };
    let (left, ()) = tokio::join!(ended(&mut watch, &mut session), leaving);
    assert_eq!(left, Err(Refusal::ClientGone));
}
