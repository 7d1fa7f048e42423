//! Facts about the guard, on a clock that stands still until all wait for it.
//!
//! Never does: wait in real time.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};

use super::*;
use crate::telemetry::{LogSettings, LogWriter, TelemetrySettings};

const WITHIN: Duration = Duration::from_secs(10);

fn telemetry() -> Arc<Telemetry> {
    let log = LogWriter::new(Box::new(io::sink()), LogSettings::default()).expect("a thread");
    let settings = TelemetrySettings { max_series: 1_000, compat_metrics: false, version: "0" };
    Arc::new(Telemetry::new(&settings, log).expect("telemetry"))
}

fn late(telemetry: &Telemetry) -> bool {
    let text = telemetry.render(std::time::SystemTime::UNIX_EPOCH);
    text.contains("\ngateway_connections_refused_total{reason=\"head_timeout\"} 1\n")
}

/// A guarded connection and its client.
pub(in crate::proxy) fn pair() -> (Guard, DuplexStream, Arc<Telemetry>) {
    let (client, stream) = duplex(1024);
    let telemetry = telemetry();
    (Guard::new(Box::new(stream), WITHIN, Arc::clone(&telemetry), Arc::<Heads>::default().awaited()), client, telemetry)
}

fn stage(guard: &Guard, stage: u8) {
    guard.set(stage);
}

#[tokio::test]
async fn a_head_that_is_awaited_is_counted_and_nothing_else() {
    let (_client, stream) = duplex(1024);
    let heads = Arc::<Heads>::default();
    let guard = Guard::new(Box::new(stream), WITHIN, telemetry(), heads.awaited());
    assert_eq!(heads.count(), 1, "a new connection");
    stage(&guard, SERVED);
    stage(&guard, SERVED);
    assert_eq!(heads.count(), 0);
    stage(&guard, QUIET);
    assert_eq!(heads.count(), 0);
    stage(&guard, HEAD);
    assert_eq!(heads.count(), 1, "its next request has begun");
    drop(guard);
    assert_eq!(heads.count(), 0);
}

/// Reads until it fails while the client sends a byte each second; how long that took.
async fn drip(guard: &mut Guard, mut client: DuplexStream) -> Duration {
    let started = Instant::now();
    let dripping = async {
        loop {
            client.write_all(b"x").await.expect("open");
            sleep(Duration::from_secs(1)).await;
        }
    };
    let reading = async {
        loop {
            if let Err(error) = guard.read_u8().await {
                return error;
            }
        }
    };
    let error = tokio::select! { error = reading => error, () = dripping => unreachable!("it drips for ever") };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    started.elapsed()
}

fn about(took: Duration, expected: Duration) -> bool {
    took.abs_diff(expected) <= Duration::from_millis(2)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_ends_in_time() {
    let (mut guard, _client, telemetry) = pair();
    let started = Instant::now();
    let error = guard.read_u8().await.expect_err("too late");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(about(started.elapsed(), WITHIN));
    assert!(late(&telemetry));
}

#[tokio::test(start_paused = true)]
async fn a_drip_does_not_renew_the_deadline_of_a_first_head() {
    let (mut guard, client, telemetry) = pair();
    sleep(Duration::from_secs(4)).await;
    // From the start of the connection, not from its first byte.
    assert!(about(drip(&mut guard, client).await, Duration::from_secs(6)));
    assert!(late(&telemetry));
}

#[tokio::test(start_paused = true)]
async fn a_drip_does_not_renew_that_of_a_later_head_which_counts_from_its_first_byte() {
    let (mut guard, mut client, telemetry) = pair();
    for _ in 0..3 {
        client.write_all(b"x").await.expect("open");
        guard.read_u8().await.expect("a head");
        stage(&guard, SERVED);
        stage(&guard, QUIET);
        // How long a kept connection may rest is not the guard's.
        assert!(timeout(10 * WITHIN, guard.read_u8()).await.is_err());
    }
    assert!(about(drip(&mut guard, client).await, WITHIN));
    assert!(late(&telemetry));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_cut_while_a_request_is_served() {
    let (mut guard, mut client, telemetry) = pair();
    // A slow head, so that there is a timer already.
    for _ in 0..2 {
        assert!(timeout(WITHIN / 4, guard.read_u8()).await.is_err());
        client.write_all(b"x").await.expect("open");
        guard.read_u8().await.expect("in time");
    }
    stage(&guard, SERVED);
    for _ in 0..5 {
        assert!(timeout(2 * WITHIN, guard.read_u8()).await.is_err());
        client.write_all(b"x").await.expect("open");
        assert_eq!(guard.read_u8().await.expect("a piece of a body"), b'x');
        assert!(guard.due.is_none(), "no timer runs");
    }
    assert!(!late(&telemetry));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_came_in_time_is_taken_however_late_it_is_read() {
    let (mut guard, mut client, telemetry) = pair();
    client.write_all(b"xy").await.expect("open");
    sleep(2 * WITHIN).await;
    assert_eq!((guard.read_u8().await.expect("x"), guard.read_u8().await.expect("y")), (b'x', b'y'));
    drop(client);
    assert_eq!(guard.read(&mut [0]).await.expect("the end"), 0);
    assert!(!late(&telemetry));
}

#[tokio::test]
async fn an_answer_leaves_whole_however_little_the_client_takes() {
    // Less than the head, so that it is sent in pieces.
    let (mut client, stream) = duplex(7);
    let mut guard = Guard::new(Box::new(stream), WITHIN, telemetry(), Arc::<Heads>::default().awaited());
    guard.out.lock().put_head(b"HTTP/1.1 200 OK\r\ndate: x\r\na: 1\r\nb: 2\r\n\r\n".to_vec());
    let written = async {
        guard.write_all(b"body\r\n\r\n").await.expect("written");
        guard.flush().await.expect("sent");
        drop(guard);
    };
    let mut seen = String::new();
    let ((), read) = tokio::join!(written, client.read_to_string(&mut seen));
    read.expect("text");
    assert_eq!(seen, "HTTP/1.1 200 OK\r\ndate: x\r\na: 1\r\nb: 2\r\n\r\nbody\r\n\r\n");
}
