//! One exchange over HTTP/1.1, with a connection to itself.
//!
//! Lean on purpose: heads are parsed by `httparse` into slices of what was read, over the TCP and TLS streams of Pingora's
//! `TransportConnector`. `benches/upstream.rs` compares it with Pingora's own `connectors::http` session.
//!
//! Invariant: an answer is complete only where its framing says so; a connection is used again only after a whole
//! request and a whole answer with nothing behind it.
//! Never does: decide about retries, look into a body, touch the client's side.

use std::future::{Future as _, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::answer;
use super::framing::{Framing, Piece};
use super::{AnswerHead, Broken, GATHER, Length, MAX_HEAD};

/// Room for one read while little comes.
const SMALL_READ: usize = 4 * 1024;
/// Room for one read while much comes.
const LARGE_READ: usize = 64 * 1024;
/// Bodies up to this are put behind the head; longer ones are not copied.
const ONE_WRITE: usize = 16 * 1024;

/// A connection for the time of one exchange. Dropping it closes it, which cancels the call at the provider.
pub(super) struct Exchange {
    stream: Stream,
    /// What was read and not yet handed on.
    buffer: BytesMut,
    read_size: usize,
    /// Whether a body whose length is known is handed on as one piece.
    gathers: bool,
    /// Whether a 101 is an answer.
    pub(super) may_switch: bool,
    framing: Framing,
    /// Whether it came from the pool, so that the provider may have closed it a moment ago.
    pub(super) reused: bool,
    /// Whether anything of an answer has arrived.
    pub(super) answered: bool,
    /// Whether the whole request was sent.
    sent_whole: bool,
    /// Whether the provider will keep it open.
    keep: bool,
    pool_key: u64,
}

impl Exchange {
    /// An exchange over this connection; `reused` says that it came from the pool under `pool_key`.
    pub(super) fn over(stream: Stream, reused: bool, pool_key: u64) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            read_size: SMALL_READ,
            gathers: false,
            may_switch: false,
            framing: Framing::Done,
            reused,
            answered: false,
            sent_whole: false,
            keep: false,
            pool_key,
        }
    }

    /// The connection and its pool, where it is fit for a next exchange.
    pub(super) fn into_kept(self) -> Option<(Stream, u64)> {
        let clean = self.is_over() && self.buffer.is_empty();
        (clean && self.keep && self.sent_whole).then_some((self.stream, self.pool_key))
    }

    /// Whether nothing of a body is still to come: there is none, or it was handed on to its end.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.framing, Framing::Done | Framing::Length(0))
    }

    /// The connection, and what came of it behind the answer's head.
    pub(super) fn into_switched(self) -> (Stream, Bytes) {
        (self.stream, self.buffer.freeze())
    }

    /// Sends the request. A provider that answers before it has read everything is heard: the rest is then not sent.
    /// Where it closed its side, what it said before is for [`Self::head`] to read, so that this cannot fail.
    pub(super) async fn send(&mut self, head: &[u8], body: &Bytes) {
        let sent = if !body.is_empty() && body.len() <= ONE_WRITE {
            self.write(&[head, body].concat(), &[]).await
        } else {
            self.write(head, body).await
        };
        self.sent_whole = matches!(sent, Ok(true)) && self.stream.flush().await.is_ok();
    }

    /// Writes all; false where the provider began to answer in the meantime.
    async fn write(&mut self, mut head: &[u8], mut body: &[u8]) -> io::Result<bool> {
        let is_long = head.len() + body.len() > LARGE_READ;
        poll_fn(|context| {
            while !(head.is_empty() && body.is_empty()) {
                let piece = &body[..body.len().min(LARGE_READ)];
                let stream = Pin::new(&mut self.stream);
                let written = match (head, piece) {
                    ([], one) | (one, []) => stream.poll_write(context, one)?,
                    both => stream.poll_write_vectored(context, &<[_; 2]>::from(both).map(IoSlice::new))?,
                };
                match written {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(count) => {
                        let of_head = count.min(head.len());
                        (head, body) = (&head[of_head..], &body[count - of_head..]);
                    }
                    Poll::Pending => {}
                }
                // Asking costs a system call, so small requests ask only while they wait anyway.
                let asks = written.is_pending() || is_long;
                if asks && self.poll_early_answer(context)?.is_ready() {
                    return Poll::Ready(Ok(head.is_empty() && body.is_empty()));
                }
                if written.is_pending() {
                    return Poll::Pending;
                }
            }
            Poll::Ready(Ok(true))
        })
        .await
    }

    fn poll_early_answer(&mut self, context: &mut Context<'_>) -> io::Result<Poll<()>> {
        let mut room = [0; SMALL_READ];
        loop {
            let mut read = ReadBuf::new(&mut room);
            if Pin::new(&mut self.stream).poll_read(context, &mut read)?.is_pending() {
                return Ok(Poll::Pending);
            }
            if read.filled().is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(read.filled());
            self.answered = true;
            // An informational answer is no reason to stop: the provider still waits for the rest of the body.
            if answer::has_begun(&self.buffer) || self.buffer.len() > MAX_HEAD {
                return Ok(Poll::Ready(()));
            }
        }
    }

    /// Reads the answer's head; informational ones (1xx) are passed over. `head_only` is true for `HEAD`.
    ///
    /// # Errors
    /// `Upstream(Reset)` where the connection ended, `Upstream(BadAnswer)` where it is no unambiguous HTTP/1.1.
    pub(super) async fn head(&mut self, head_only: bool) -> Result<AnswerHead, Broken> {
        let mut passed = 0;
        loop {
            if let Some((head, size)) = answer::parse(&mut self.buffer, head_only)? {
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    // What follows is no HTTP.
                    self.keep = false;
                    return match self.may_switch {
                        true => Ok(head),
                        false => Err(Broken::bad("a switch of protocols that nobody asked for")),
                    };
                }
                if !head.status.is_informational() {
                    self.keep = head.keep;
                    self.framing = match head.length {
                        Length::None | Length::Known(0) => Framing::Done,
                        Length::Known(length) => Framing::Length(length),
                        Length::Chunked => Framing::chunked(),
                        Length::ToClose => Framing::ToClose,
                    };
                    return Ok(head);
                }
                passed += size;
                if passed <= MAX_HEAD {
                    continue;
                }
            }
            if passed + self.buffer.len() > MAX_HEAD {
                return Err(Broken::bad("a head of more than 64 KiB"));
            }
            if let Filled::End = poll_fn(|context| self.poll_fill(context, self.read_size)).await? {
                return Err(Broken::reset("the connection ended before the answer's head"));
            }
        }
    }

    /// The next bytes of the answer's body as they arrive, without its framing; `None` once it is complete.
    ///
    /// # Errors
    /// `Upstream(Reset)` where the connection ends before the body does, `Upstream(BadAnswer)` where chunks are broken.
    pub(super) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        if self.missing() > 0 {
            // With room for more: a read that is not filled tells the runtime that nothing is left, so that nobody has to ask
            // whether the connection is quiet.
            if let Filled::End = ready!(self.poll_fill(context, self.missing().saturating_add(1)))? {
                return Poll::Ready(self.ended());
            }
            if self.missing() > 0 {
                return Poll::Ready(Ok(Some(Bytes::new())));
            }
        }
        loop {
            match self.gathered() {
                Ok(Piece::Data(data)) => return Poll::Ready(Ok(Some(data.freeze()))),
                Ok(Piece::End) => return Poll::Ready(Ok(None)),
                Ok(Piece::More) => match ready!(self.poll_fill(context, self.read_size))? {
                    Filled::Buffer => {}
                    Filled::Chunk(data) => return Poll::Ready(Ok(Some(data))),
                    Filled::End => return Poll::Ready(self.ended()),
                },
                Err(fault) => return Poll::Ready(Err(Broken::bad(fault))),
            }
        }
    }

    /// What was read of the body: chunks as one piece, where they are small.
    fn gathered(&mut self) -> Result<Piece, &'static str> {
        let mut gathered = match self.framing.next(&mut self.buffer)? {
            Piece::Data(first) if !self.buffer.is_empty() && first.len() <= GATHER => first,
            other => return Ok(other),
        };
        // A fault and an end are still there at the next call; what was good goes first.
        while let Ok(Piece::Data(more)) = self.framing.next(&mut self.buffer) {
            gathered.extend_from_slice(&more);
            if gathered.len() > GATHER {
                break;
            }
        }
        Ok(Piece::Data(gathered))
    }

    fn ended(&mut self) -> Result<Option<Bytes>, Broken> {
        self.keep = false;
        if matches!(self.framing, Framing::ToClose) {
            self.framing = Framing::Done;
            return Ok(None);
        }
        Err(Broken::reset("the connection ended before the answer's body"))
    }

    /// From here on [`Self::poll_chunk`] gives a body whose length is known as one piece, and empty ones until it is there.
    pub(super) fn gather(&mut self) {
        self.gathers = true;
    }

    /// What came of a body that is gathered.
    pub(super) fn so_far(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// The bytes that a gathered body lacks.
    fn missing(&self) -> usize {
        match self.framing {
            Framing::Length(left) if self.gathers => {
                usize::try_from(left).unwrap_or(usize::MAX).saturating_sub(self.buffer.len())
            }
            _ => 0,
        }
    }

    /// Reads once. Little is read by way of the stack, so that a connection that is waited for needs no memory to read into.
    fn poll_fill(&mut self, context: &mut Context<'_>, room: usize) -> Poll<Result<Filled, Broken>> {
        let broken = |error: io::Error| Broken::reset(&error.to_string());
        let (room, count, chunk) = if room <= SMALL_READ && self.buffer.is_empty() {
            let mut space = [const { MaybeUninit::uninit() }; SMALL_READ];
            let mut read = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut read)).map_err(broken)?;
            let chunk = self.framing.whole(read.filled()).map(Bytes::copy_from_slice);
            if chunk.is_none() {
                self.buffer = BytesMut::from(read.filled());
            }
            (SMALL_READ, read.filled().len(), chunk)
        } else {
            self.buffer.reserve(room);
            let room = self.buffer.capacity() - self.buffer.len();
            let read = pin!(self.stream.read_buf(&mut self.buffer));
            (room, ready!(read.poll(context)).map_err(broken)?, None)
        };
        self.answered |= count > 0;
        self.read_size = if count == room { LARGE_READ } else { SMALL_READ };
        Poll::Ready(Ok(match (chunk, count) {
            (Some(data), _) => Filled::Chunk(data),
            (None, 0) => Filled::End,
            (None, _) => Filled::Buffer,
        }))
    }
}

/// What a read brought.
enum Filled {
    /// The end of the connection.
    End,
    /// Something, which is in the buffer now.
    Buffer,
    /// One whole chunk and nothing else, which need not go through the buffer.
    Chunk(Bytes),
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234";

    async fn chunk(exchange: &mut Exchange) -> Result<Option<Bytes>, Broken> {
        poll_fn(|context| exchange.poll_chunk(context)).await
    }

    #[tokio::test]
    async fn a_gathered_body_is_one_piece() {
        let (mut provider, stream) = duplex(1024);
        let mut exchange = Exchange::over(Box::new(stream), false, 0);
        provider.write_all(HEAD).await.expect("open");
        exchange.head(false).await.expect("a head");
        exchange.gather();
        provider.write_all(b"567").await.expect("open");
        assert_eq!(chunk(&mut exchange).await.expect("more"), Some(Bytes::new()));
        provider.write_all(b"89").await.expect("open");
        assert!(!exchange.is_over());
        assert_eq!(chunk(&mut exchange).await.expect("all"), Some(Bytes::from_static(b"0123456789")));
        assert!(exchange.is_over());
        assert_eq!(chunk(&mut exchange).await.expect("the end"), None);
    }

    #[tokio::test]
    async fn of_a_gathered_body_that_is_cut_what_came_is_told() {
        let (mut provider, stream) = duplex(1024);
        let mut exchange = Exchange::over(Box::new(stream), false, 0);
        provider.write_all(HEAD).await.expect("open");
        exchange.head(false).await.expect("a head");
        exchange.gather();
        drop(provider);
        assert!(chunk(&mut exchange).await.is_err());
        assert_eq!(exchange.so_far(), "01234");
    }

    #[tokio::test]
    async fn a_switch_is_an_answer_where_it_was_asked_for_and_what_follows_it_is_kept() {
        for asked in [true, false] {
            let (mut provider, stream) = duplex(1024);
            let mut exchange = Exchange::over(Box::new(stream), false, 0);
            exchange.may_switch = asked;
            let said = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\nHTTP/1.1 200 no";
            provider.write_all(said).await.expect("open");
            match exchange.head(false).await {
                Ok(head) => assert_eq!((asked, head.status.as_u16(), head.length), (true, 101, Length::None)),
                Err(broken) => assert!(!asked && broken.cause.contains("nobody asked for"), "{broken:?}"),
            }
            assert_eq!(exchange.into_switched().1, "HTTP/1.1 200 no");
        }
    }

    #[tokio::test]
    async fn a_head_and_a_long_body_arrive_in_order_however_little_the_connection_takes() {
        let (mut provider, stream) = duplex(7);
        let mut exchange = Exchange::over(Box::new(stream), false, 0);
        let body: Bytes = (0..=ONE_WRITE).map(|at| (at % 251) as u8).collect();
        let head = b"POST /v1/embeddings HTTP/1.1\r\n\r\n";
        let mut came = vec![0; head.len() + body.len()];
        let (_, read) = tokio::join!(exchange.send(head, &body), provider.read_exact(&mut came));
        read.expect("all");
        assert!(came.starts_with(head) && came.ends_with(&body));
    }
}
