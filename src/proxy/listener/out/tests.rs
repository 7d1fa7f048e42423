//! Facts about what waits for its flush.
//!
//! Never does: wait in real time.

use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

use super::*;

/// The way to a client that reads, of whose connection so many bytes are on their way at once.
fn way(room: usize) -> (Out, DuplexStream) {
    let (client, stream) = duplex(room);
    (Out::to(Box::new(stream)), client)
}

async fn write(out: &mut Out, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = poll_fn(|context| out.poll_write(context, bytes)).await.expect("open");
        bytes = &bytes[count..];
    }
}

async fn flush(out: &mut Out) {
    poll_fn(|context| out.poll_flush(context)).await.expect("open");
}

/// What has come so far.
fn came(client: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = [0; 64 * 1024];
    let mut read = tokio::io::ReadBuf::new(&mut bytes);
    let _ = tokio::io::AsyncRead::poll_read(Pin::new(client), &mut Context::from_waker(Waker::noop()), &mut read);
    read.filled().to_vec()
}

#[tokio::test]
async fn a_head_and_what_follows_leave_together_at_the_flush() {
    let (mut out, mut client) = way(1024);
    out.put_head(b"a: 1\r\n\r\n".to_vec());
    assert!(out.put(b"bo"));
    write(&mut out, b"dy").await;
    // Behind an answer to a request that came early.
    out.put_head(b"b: 2\r\n\r\n".to_vec());
    assert_eq!(came(&mut client), b"");
    flush(&mut out).await;
    assert_eq!(came(&mut client), b"a: 1\r\n\r\nbodyb: 2\r\n\r\n");
    assert!(out.buffer.capacity() <= KEPT);
}

#[tokio::test]
async fn what_is_to_leave_at_once_waits_for_no_flush_and_a_head_for_what_is_behind_it() {
    let (mut out, mut client) = way(16);
    out.at_once = true;
    write(&mut out, b"head").await;
    assert_eq!(came(&mut client), b"head");
    out.has_company = true;
    write(&mut out, b"head").await;
    assert_eq!(came(&mut client), b"");
    write(&mut out, b"piece").await;
    assert_eq!(came(&mut client), b"headpiece");
    // Who writes waits for the client, as nobody else would come back to it.
    let (bytes, context) = (b"more than there is room for", &mut Context::from_waker(Waker::noop()));
    assert!(matches!(out.poll_write(context, bytes), Poll::Ready(Ok(16))));
    assert!(out.poll_write(context, &bytes[16..]).is_pending() && out.is_stuck);
    assert_eq!(came(&mut client), b"more than there ");
    write(&mut out, &bytes[16..]).await;
    assert_eq!((came(&mut client), out.is_stuck), (b"is room for".to_vec(), false));
    out.at_once = false;
    write(&mut out, b"x").await;
    assert_eq!(came(&mut client), b"");
}

#[tokio::test]
async fn chunks_are_framed_and_those_that_have_no_room_are_not_taken() {
    let (mut out, mut client) = way(64 * 1024);
    assert!(out.put_chunk(b"data: x\n\n") && out.put_chunk(&[b'y'; 26]));
    flush(&mut out).await;
    assert_eq!(came(&mut client), b"9\r\ndata: x\n\n\r\n1A\r\nyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n");
    assert!(!out.put_chunk(b""), "it would end the body");
    assert!(!out.put_chunk(&[b'z'; ROOM + 1]));
    assert!(out.put_chunk(&[b'z'; ROOM]) && !out.put_chunk(b"z"));
    assert_eq!(out.buffer.len(), "4000\r\n\r\n".len() + ROOM);
    assert!(!out.put(b"z"));
    out.put_end();
    flush(&mut out).await;
    assert!(came(&mut client).ends_with(b"zz\r\n0\r\n\r\n"));
}

#[tokio::test]
async fn all_bytes_come_in_order_however_little_the_connection_takes() {
    for sizes in [&[1, 5_000, 3, 40_000, 2, 17_000, 16 * 1024, 9][..], &[100_000, 1, 100_000]] {
        let (mut out, mut client) = way(7);
        let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
        let writing = async {
            let mut at = 0;
            for (index, size) in sizes.iter().enumerate() {
                let (part, end) = (&whole[at..at + size], at + size);
                if index % 2 == 0 {
                    write(&mut out, part).await;
                } else {
                    let (first, second) = part.split_at(size / 3);
                    let slices = [IoSlice::new(first), IoSlice::new(second)];
                    let count = poll_fn(|context| out.poll_write_vectored(context, &slices)).await.expect("open");
                    write(&mut out, &part[count..]).await;
                }
                at = end;
            }
            poll_fn(|context| out.poll_shutdown(context)).await.expect("open");
        };
        let mut read = Vec::new();
        let (_, all) = tokio::join!(writing, client.read_to_end(&mut read));
        all.expect("open");
        assert!(read == whole, "{sizes:?}");
    }
}

#[tokio::test]
async fn what_waits_at_the_end_is_sent_where_it_can_be() {
    let (mut out, mut client) = way(1024);
    write(&mut out, b"last").await;
    drop(out);
    assert_eq!(came(&mut client), b"last");
    let (mut out, mut client) = way(1024);
    write(&mut out, b"last").await;
    out.shutdown().await;
    assert_eq!(came(&mut client), b"last");
}
