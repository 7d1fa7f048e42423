//! Readers that stand still: of answers, of `/metrics`, and of the log on a disk that is full.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::*;

/// A client that stops in the middle of a stream holds up neither the gateway nor the provider for ever.
#[tokio::test]
async fn a_client_that_stops_reading_its_stream_is_given_up() {
    let setup = Setup { server: "limits: { idle_timeout: 1s }".to_owned(), ..Setup::default() };
    let service = Service::with(setup).await;
    let word = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(60_000));
    service.provider.script(Script::events(std::iter::repeat_n(word.as_str(), 300)));
    let (_deaf, _head) = begin_stream(service.connect().await, &chat_stream("x")).await;
    eventually("it is given up", async || service.metric("gateway_inflight_requests").await == 0.0).await;
    eventually("its record says so", async || service.process.stdout().contains(r#""statusCode":"499""#)).await;
    others_are_served(service.address).await;
}

/// Whether the admin service answers soon.
async fn answers(admin: std::net::SocketAddr) -> bool {
    let asked = tokio::time::timeout(SECONDS, async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(head("GET", "/livez", &[], b"").as_bytes()).await?;
        stream.read(&mut [0; 100]).await
    });
    matches!(asked.await, Ok(Ok(1..)))
}

/// More scrapers than the admin service has places, none of which reads.
#[tokio::test]
async fn scrapers_that_do_not_read_cost_no_call_and_are_given_up() {
    let service = Service::start().await;
    let mut scrapers = Vec::new();
    for _ in 0..40 {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Hardly an answer has room, and many are asked for.
        socket.set_recv_buffer_size(4096).expect("set");
        let mut scraper = socket.connect(service.admin).await.expect("connected");
        scraper.write_all(head("GET", "/metrics", &[], b"").repeat(200).as_bytes()).await.expect("sent");
        scrapers.push(scraper);
    }
    others_are_served(service.address).await;
    // Each may live for 30 s, and gets 5 more to take what is on its way (`src/admin/mod.rs`); some had to wait for others.
    let begun = Instant::now();
    while !answers(service.admin).await {
        assert!(begun.elapsed() < 3 * SOON, "they hold all places of the admin service");
    }
    drop(scrapers);
}

/// The log goes to a device that has no room, as a file on a full disk.
#[tokio::test]
async fn a_log_on_a_full_disk_costs_lines_and_no_calls() {
    let (_provider, folder) = prepare(&Setup::default()).await;
    // Nothing of the log tells the ports, so that they have to be known: they are asked of the system first.
    let [address, admin] = [0, 1].map(|_| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        listener.local_addr().expect("an address")
    });
    let path = folder.path().join("gateway.yaml");
    let yaml = std::fs::read_to_string(&path).expect("read");
    let yaml = yaml.replacen("127.0.0.1:0", &address.to_string(), 1).replacen("127.0.0.1:0", &admin.to_string(), 1);
    std::fs::write(path, yaml).expect("written");
    let run = format!("exec {} serve --config gateway.yaml > /dev/full 2> /dev/full", env!("CARGO_BIN_EXE_ai-gateway"));
    let mut process = Process::start_program("/bin/sh", folder.path(), &["-c", &run], &[]);
    eventually("it serves", async || TcpStream::connect(address).await.is_ok()).await;
    others_are_served(address).await;
    let metrics = async || Connection::open(admin).await.request("GET", "/metrics", &[], b"").await.text();
    eventually("the lines are counted", async || metric(&metrics().await, "gateway_log_dropped_total") >= 80.0).await;
    process.signal("TERM");
    assert_eq!(process.end().await.code, Some(0), "nor does it keep the gateway from ending");
}
