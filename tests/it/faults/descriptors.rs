//! No file descriptor is left: nothing crashes or spins, and with the first one that is free it goes on by itself.

use super::*;
use crate::support::heavy;

#[tokio::test]
async fn a_gateway_without_a_free_descriptor_recovers_by_itself() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    let run = format!("ulimit -n 120; exec {} serve --config gateway.yaml", env!("CARGO_BIN_EXE_ai-gateway"));
    let mut process = Process::start_program("/bin/sh", folder.path(), &["-c", &run], &[]);
    let (address, admin) = process.serves().await;
    let rounds = heavy::number("AI_GATEWAY_TEST_EXHAUSTIONS", 1);
    for round in 0..rounds {
        // Connections that were let in while there was room for them, and those that wait in the listener's queue.
        let mut held = Vec::new();
        for _ in 0..300 {
            held.push(Connection::open(address).await);
        }
        // It is out of them now: one that is let in has none for the provider, so that it is told so, or waits.
        let mut served = held.swap_remove(0);
        let answer = served.request("GET", MODELS, &[bearer(KEY)], b"").await.status;
        assert!(matches!(answer, 200 | 502 | 503 | 504), "{answer}");
        let before = process.cpu();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let used = process.cpu() - before;
        assert!(used < Duration::from_millis(1500), "{used:?} of the processor in 3 s, in which nothing was asked");
        assert!(process.runs());
        drop((held, served));
        eventually(&format!("calls are served again, round {round}"), async || {
            let mut client = Connection::open(address).await;
            client.post(CHAT, &chat("x")).await.status == 200
        })
        .await;
        let metrics = Connection::open(admin).await.request("GET", "/metrics", &[], b"").await;
        assert_eq!((metrics.status, metric(&metrics.text(), "gateway_panics_total")), (200, 0.0));
    }
    process.signal("TERM");
    assert_eq!(process.end().await.code, Some(0));
}
