//! Facts about the ends of calls, on a clock that stands still until all wait for it.
//!
//! Never does: wait in real time.

use std::future::pending;

use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Why a call ended that does this and then hangs, and how long that took.
async fn ended(is_http2: bool, work: impl Future<Output = ()>) -> (Option<Ended>, u64) {
    let end = Arc::new(End { is_http2, ..End::default() });
    let started = Instant::now();
    let hangs = async {
        work.await;
        pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = END.scope(Arc::clone(&end), hangs) => {}
        () = end.has_come() => {}
        () = sleep(1000 * SECOND) => {}
    }
    (end.has_ended(), started.elapsed().as_secs())
}

fn by(total: u64, idle: Option<u64>) {
    end_by((Instant::now() + Duration::from_secs(total)).into(), idle.map(Duration::from_secs));
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_when_its_hooks_have_asked_for_it_and_not_before() {
    let lingers = || async {
        sleep(100 * SECOND).await;
        assert_eq!(has_ended(), None);
        end_within(2 * SECOND);
    };
    assert_eq!(ended(true, lingers()).await, (Some(Ended::Lingered), 102));
    assert_eq!(ended(false, lingers()).await, (None, 1000), "there Pingora's own limit holds");
    assert_eq!(ended(true, async {}).await, (None, 1000));
}

#[tokio::test(start_paused = true)]
async fn each_piece_begins_the_silence_anew_and_none_the_time_for_all() {
    let pieces = |count: u64| async move {
        by(60, Some(10));
        for _ in 0..count {
            sleep(9 * SECOND).await;
            moves();
        }
    };
    assert_eq!(ended(false, pieces(0)).await, (Some(Ended::Silent(Silence::Idle)), 10));
    assert_eq!(ended(false, pieces(3)).await, (Some(Ended::Silent(Silence::Idle)), 37));
    assert_eq!(ended(true, pieces(9)).await, (Some(Ended::Silent(Silence::Total)), 60));
    let sooner = async {
        by(60, None);
        sleep(9 * SECOND).await;
        by(20, None);
    };
    assert_eq!(ended(false, sooner).await, (Some(Ended::Silent(Silence::Total)), 29));
    let whole = async {
        pieces(1).await;
        is_answered();
    };
    assert_eq!(ended(false, whole).await, (None, 1000));
}

#[tokio::test(start_paused = true)]
async fn the_time_of_the_client_is_not_the_providers() {
    let http1 = async {
        by(600, Some(10));
        stuck(true);
        sleep(100 * SECOND).await;
        stuck(false);
    };
    assert_eq!(ended(false, http1).await, (Some(Ended::Silent(Silence::Idle)), 110));
    let http2 = async {
        by(600, Some(10));
        let [first, second] = [passing(Bytes::from_static(b"first")), passing(Bytes::from_static(b"second"))];
        assert_eq!((&*first, &*second), (&b"first"[..], &b"second"[..]));
        sleep(50 * SECOND).await;
        drop(first);
        sleep(50 * SECOND).await;
        drop(second);
    };
    assert_eq!(ended(true, http2).await, (Some(Ended::Silent(Silence::Idle)), 110));
    let never = async {
        by(600, Some(10));
        std::mem::forget(passing(Bytes::from_static(b"x")));
    };
    assert_eq!(ended(true, never).await, (Some(Ended::Silent(Silence::Total)), 600));
}

#[tokio::test]
async fn outside_of_pingoras_loop_there_is_none() {
    end_within(Duration::ZERO);
    by(0, Some(0));
    assert_eq!(has_ended(), None);
    assert_eq!(passing(Bytes::from_static(b"x")), "x");
}
