use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(100), client: Duration::from_secs(60), provider: Duration::from_secs(70) };
const KEY: &[u8] = b"sk-secret";

/// Both ends of a relay that runs, whose pipes hold this much, with what came of either side before.
fn relayed(
    size: usize,
    early: (&'static [u8], &'static [u8]),
) -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Over>) {
    let ((client, mut near), (mut far, provider)) = (tokio::io::duplex(size), tokio::io::duplex(size));
    let early = (Bytes::from_static(early.0), Bytes::from_static(early.1));
    let relay = tokio::spawn(async move { duplex(&mut near, &mut far, early, Mask::of(KEY).as_ref(), PATIENCE).await });
    (client, provider, relay)
}

async fn to_end(stream: &mut DuplexStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.expect("an end");
    all
}

#[tokio::test(start_paused = true)]
async fn each_direction_goes_on_to_its_own_end_however_little_fits() {
    let all: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
    for size in [1, 7, 20_000] {
        let (mut client, mut provider, relay) = relayed(size, (b"early ", b"first "));
        let sent = async {
            client.write_all(&all).await.expect("taken");
            client.shutdown().await.expect("taken");
        };
        let (came, ()) = tokio::join!(to_end(&mut provider), sent);
        assert!(came.strip_prefix(b"early ") == Some(&all[..]), "{size}");
        let sent = async {
            provider.write_all(&all).await.expect("taken");
            provider.shutdown().await.expect("taken");
        };
        let (came, ()) = tokio::join!(to_end(&mut client), sent);
        assert!(came.strip_prefix(b"first ") == Some(&all[..]), "{size}");
        assert_eq!(relay.await.expect("no panic"), Over::Ended);
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_of_either_side_begin_the_idle_time_anew() {
    let (mut client, mut provider, relay) = relayed(100, (b"", b""));
    let started = Instant::now();
    let mut byte = [0];
    for _ in 0..3 {
        sleep(Duration::from_secs(99)).await;
        client.write_all(b"x").await.expect("taken");
        provider.read_exact(&mut byte).await.expect("passed");
        sleep(Duration::from_secs(99)).await;
        provider.write_all(b"y").await.expect("taken");
        client.read_exact(&mut byte).await.expect("passed");
    }
    assert_eq!(relay.await.expect("no panic"), Over::Quiet);
    assert_eq!(started.elapsed().as_secs(), 6 * 99 + 100);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_one_of_which_one_side_has_ended_has_ended() {
    let (mut client, _provider, relay) = relayed(100, (b"", b""));
    client.shutdown().await.expect("taken");
    assert_eq!(relay.await.expect("no panic"), Over::Ended);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_waited_for_no_longer_than_it_may_take() {
    let started = Instant::now();
    let (_client, mut provider, relay) = relayed(10, (b"", b""));
    // The other direction keeps it from being quiet.
    let flood = tokio::spawn(async move { while provider.write_all(b"x").await.is_ok() {} });
    assert_eq!(relay.await.expect("no panic"), Over::ClientGone);
    assert_eq!(started.elapsed(), PATIENCE.client);
    flood.await.expect("it ends");

    let started = Instant::now();
    let (mut client, _provider, relay) = relayed(10, (b"", b""));
    let flood = tokio::spawn(async move { while client.write_all(b"x").await.is_ok() {} });
    assert_eq!(relay.await.expect("no panic"), Over::ProviderStuck);
    assert_eq!(started.elapsed(), PATIENCE.provider);
    flood.await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn a_side_that_is_gone_ends_it_and_what_the_provider_said_before_arrives() {
    let (mut client, mut provider, relay) = relayed(1000, (b"", b""));
    provider.write_all(b"bye").await.expect("taken");
    drop(provider);
    client.write_all(b"and on").await.expect("taken");
    assert_eq!(to_end(&mut client).await, b"bye");
    drop(client);
    assert_eq!(relay.await.expect("no panic"), Over::Ended);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_ours_is_covered_in_what_the_provider_says() {
    let (mut client, mut provider, _relay) = relayed(1000, (b"sk-secret", b"sk-secret"));
    let mut came = [0; 9];
    client.read_exact(&mut came).await.expect("passed");
    assert_eq!(&came, b"*********");
    provider.read_exact(&mut came).await.expect("passed");
    assert_eq!(&came, b"sk-secret", "what a client says is its own");
    provider.write_all(b"a sk-secret").await.expect("taken");
    let mut came = [0; 11];
    client.read_exact(&mut came).await.expect("passed");
    assert_eq!(&came, b"a *********");
}
