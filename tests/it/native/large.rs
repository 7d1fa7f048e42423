//! Bodies of many megabytes in both directions: they arrive to the byte, and the gateway's memory stays as it was.
//!
//! Invariant: what it may grow by is a fraction of any body here, so that holding one, or a large part of one, is seen.
//! Never does: count what the process took for its start.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::*;

const LARGE: usize = 200_000_000;
const MIDDLE: usize = 64_000_000;
const PIECE: usize = 250_000;
/// In KiB; measured: less than 1.5 MiB.
const ROOM: u64 = 4 * 1024;
/// With the windows of HTTP/2, which let 2 MiB come ahead; measured: 6 MiB.
const ROOM_OF_HTTP_2: u64 = 10 * 1024;

/// Makes one call, and forgets the peak of what came before it.
async fn warm(service: &Service) -> u64 {
    service.provider.script(Script::json(200, "{}").always());
    let mut client = service.connect().await;
    assert_eq!(client.request("POST", UPLOAD, &[bearer(KEY)], &[7; 1_000_000]).await.status, 200);
    service.process.forget_peak();
    service.process.memory("VmRSS")
}

fn has_not_grown(service: &Service, before: u64, room: u64) {
    let peak = service.process.memory("VmHWM");
    heavy::told(&format!("from {before} to {peak} KiB"));
    assert!(peak < before + room, "from {before} to {peak} KiB");
}

fn piece(number: usize) -> Vec<u8> {
    vec![u8::try_from(number % 251).expect("small"); PIECE]
}

fn sha256_of(length: usize) -> String {
    let mut hash = Sha256::new();
    (0..length / PIECE).for_each(|number| hash.update(piece(number)));
    hex(hash.finalize().as_slice())
}

/// Waits for the second call, and checks that all of it is what was sent.
async fn arrived(service: &Service, length: usize) {
    eventually("all of it has arrived", async || service.provider.received()[1].body_complete).await;
    let received = &service.provider.received()[1];
    assert_eq!((received.body_length, received.body_sha256.clone()), (length as u64, Some(sha256_of(length))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_pass_and_the_gateway_does_not_grow() {
    let service = Service::with(each_kind(ALL, "")).await;
    let before = warm(&service).await;
    let mut client = service.connect().await;
    client.send(with_key("POST", UPLOAD, &[MULTIPART, ("content-length", &LARGE.to_string())])).await;
    for number in 0..LARGE / PIECE {
        client.send(piece(number)).await;
    }
    assert_eq!(client.response("POST").await.status, 200);
    arrived(&service, LARGE).await;
    has_not_grown(&service, before, ROOM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_in_chunks_is_not_held() {
    let service = Service::with(each_kind(ALL, "")).await;
    let before = warm(&service).await;
    let mut client = service.connect().await;
    client.send(with_key("POST", UPLOAD, &[MULTIPART, ("transfer-encoding", "chunked")])).await;
    for number in 0..MIDDLE / PIECE {
        client.send(format!("{PIECE:x}\r\n")).await;
        client.send([&piece(number)[..], b"\r\n"].concat()).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response("POST").await.status, 200);
    arrived(&service, MIDDLE).await;
    has_not_grown(&service, before, ROOM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_upload_over_http_2_is_not_held() {
    let authority = Authority::new();
    let (listen, files) = authority.listener();
    let service = Service::with(Setup { listen: vec![listen], files, ..each_kind(ALL, "") }).await;
    let before = warm(&service).await;
    let client = service.client(&authority).await.h2().await;
    let headers = [bearer(KEY), (MULTIPART.0, MULTIPART.1.to_owned())];
    let (answer, mut send) = client.send("POST", UPLOAD, &headers, false).await;
    let pieces = MIDDLE / PIECE;
    for number in 0..pieces {
        send_all(&mut send, &piece(number), number + 1 == pieces).await;
    }
    assert_eq!(begun(answer, send).await.rest().await.0.status, 200);
    arrived(&service, MIDDLE).await;
    has_not_grown(&service, before, ROOM_OF_HTTP_2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_waits_where_its_provider_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let base_url = Some(format!("http://{}", listener.local_addr().expect("an address")));
    let service = Service::with(Setup { base_url, ..each_kind(ALL, "") }).await;
    let (reads, may_read) = oneshot::channel();
    let provider = tokio::spawn(async move {
        let mut end = Connection::of(listener.accept().await.expect("accepted").0);
        may_read.await.expect("told to");
        end.request_head().await;
        for number in 0..MIDDLE / PIECE {
            assert!(end.bytes(PIECE).await == piece(number), "piece {number}");
        }
        end.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    });
    // Who has no key makes the gateway ready and leaves the provider alone.
    assert_eq!(service.connect().await.request("POST", UPLOAD, &[], b"x").await.status, 401);
    service.process.forget_peak();
    let before = service.process.memory("VmRSS");
    let mut client = service.connect().await;
    client.send(with_key("POST", UPLOAD, &[MULTIPART, ("content-length", &MIDDLE.to_string())])).await;
    let (mut reads, mut sent) = (Some(reads), 0);
    while sent < MIDDLE {
        let piece = piece(sent / PIECE);
        let write = client.stream.write(&piece[sent % PIECE..]);
        match timeout(Duration::from_secs(1), write).await {
            Ok(written) => sent += written.expect("sent"),
            Err(_) => {
                // All buffers between here and there are full, the gateway's own among them.
                has_not_grown(&service, before, ROOM);
                reads.take().expect("it stops once").send(()).expect("it waits");
            }
        }
    }
    assert_eq!(client.response("POST").await.status, 200);
    assert!(reads.is_none(), "it was not held up by who did not read");
    provider.await.expect("all of it has arrived");
    has_not_grown(&service, before, ROOM);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_come_down_and_the_gateway_does_not_grow() {
    let service = Service::with(each_kind(ALL, "")).await;
    let before = warm(&service).await;
    service.provider.clear_scripts();
    let body: Vec<u8> = (0..LARGE / PIECE).flat_map(piece).collect();
    service.provider.script(Script { pieces: vec![PIECE], ..fixed(200, &[("content-type", "audio/wav")], body) });
    let mut client = service.connect().await;
    client.send(with_key("GET", VOICES, &[])).await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, Some("audio/wav")));
    assert_eq!(head.header("content-length"), Some(&*LARGE.to_string()));
    for number in 0..LARGE / PIECE {
        assert!(client.bytes(PIECE).await == piece(number), "piece {number}");
    }
    has_not_grown(&service, before, ROOM);
}
