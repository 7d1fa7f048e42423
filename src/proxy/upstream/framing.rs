//! Taking a body out of its framing: by length, by chunks, or to the end of the connection (RFC 9112 sections 6 and 7).
//!
//! Invariant: whatever way the bytes are cut on arrival, the same body comes out; data of a chunk is handed on before
//! the chunk is complete.
//! Never does: any IO; trailers are passed over, never merged into anything.

use bytes::{Buf, BytesMut};

/// Longest line of a chunk's size with its extensions, in bytes.
const MAX_SIZE_LINE: usize = 4 * 1024;
/// Most bytes of trailers.
const MAX_TRAILERS: usize = 16 * 1024;

/// Where in its body an answer is.
#[derive(Debug)]
pub(super) enum Framing {
    /// At the end.
    Done,
    /// This many bytes are still to come.
    Length(u64),
    /// Somewhere in its chunks.
    Chunked(Chunk),
    /// The body ends with the connection.
    ToClose,
}

/// Where in its chunks a body is.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Before the line with a chunk's size.
    Size,
    /// This many bytes of the chunk are still to come.
    Data(u64),
    /// Before the line end behind a chunk's data.
    End,
    /// In the trailers, of which this many bytes have passed.
    Trailers(usize),
}

/// What a buffer yields.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes of the body.
    Data(BytesMut),
    /// Nothing before more bytes arrive.
    More,
    /// The body is complete.
    End,
}

impl Framing {
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunk::Size)
    }

    /// Takes the next piece off the buffer.
    ///
    /// # Errors
    /// A text for the log where the chunks are broken.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, &'static str> {
        loop {
            match self {
                Self::Done | Self::Length(0) => {
                    *self = Self::Done;
                    return Ok(Piece::End);
                }
                _ if buffer.is_empty() => return Ok(Piece::More),
                Self::Length(left) => return Ok(Piece::Data(take(buffer, left))),
                Self::ToClose => return Ok(Piece::Data(buffer.split())),
                Self::Chunked(chunk @ Chunk::Data(1..)) => return Ok(Piece::Data(chunk.data(buffer))),
                Self::Chunked(chunk) => match chunk.step(buffer)? {
                    Step::On => {}
                    Step::More => return Ok(Piece::More),
                    Step::End => *self = Self::Done,
                },
            }
        }
    }
}

enum Step {
    On,
    More,
    End,
}

impl Chunk {
    /// Takes what is there of the data, and the line end behind it too where that is there: nothing is then left in the buffer
    /// of a chunk that came by itself.
    fn data(&mut self, buffer: &mut BytesMut) -> BytesMut {
        let Self::Data(left) = self else { return BytesMut::new() };
        let data = take(buffer, left);
        if *left == 0 && buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            *self = Self::Size;
        }
        data
    }

    /// Reads what stands between data and data.
    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, &'static str> {
        match self {
            // `httparse` takes a line without a digit for a size of 0, which would end the body early.
            Self::Size if !buffer.first().is_some_and(u8::is_ascii_hexdigit) => Err("a chunk without a size"),
            Self::Size => match httparse::parse_chunk_size(buffer) {
                Ok(httparse::Status::Complete((line, size))) => {
                    buffer.advance(line);
                    *self = if size == 0 { Self::Trailers(0) } else { Self::Data(size) };
                    Ok(Step::On)
                }
                Ok(httparse::Status::Partial) if buffer.len() <= MAX_SIZE_LINE => Ok(Step::More),
                _ => Err("a broken chunk size"),
            },
            Self::Data(_) => {
                *self = Self::End;
                Ok(Step::On)
            }
            Self::End => match &buffer[..] {
                [b'\r', b'\n', ..] => {
                    buffer.advance(2);
                    *self = Self::Size;
                    Ok(Step::On)
                }
                [b'\r'] => Ok(Step::More),
                _ => Err("a chunk longer than its size"),
            },
            Self::Trailers(passed) => {
                let Some(end) = memchr::memchr(b'\n', buffer) else {
                    return if *passed + buffer.len() > MAX_TRAILERS {
                        Err("too many trailers")
                    } else {
                        Ok(Step::More)
                    };
                };
                let last = matches!(&buffer[..end], b"" | b"\r");
                *passed += end + 1;
                let much = *passed > MAX_TRAILERS;
                buffer.advance(end + 1);
                match (last, much) {
                    (true, _) => Ok(Step::End),
                    (false, false) => Ok(Step::On),
                    (false, true) => Err("too many trailers"),
                }
            }
        }
    }
}

fn take(buffer: &mut BytesMut, left: &mut u64) -> BytesMut {
    let count = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    *left -= count as u64;
    buffer.split_to(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds bytes cut at these places; gives the body and what is left behind it.
    fn read(mut framing: Framing, bytes: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        let mut body = Vec::new();
        let mut buffer = BytesMut::new();
        let mut from = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(bytes.len());
        for end in ends {
            buffer.extend_from_slice(&bytes[from..end]);
            from = end;
            loop {
                match framing.next(&mut buffer)? {
                    Piece::Data(data) => body.extend_from_slice(&data),
                    Piece::More => break,
                    Piece::End => return Ok((body, [&buffer[..], &bytes[from..]].concat())),
                }
            }
        }
        Err("more")
    }

    fn chunked(text: &str) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
        read(Framing::chunked(), text.as_bytes(), &[])
    }

    #[test]
    fn takes_chunks_apart() {
        let whole = (b"hello world".to_vec(), b"next".to_vec());
        assert_eq!(chunked("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\nnext"), Ok(whole.clone()));
        assert_eq!(chunked("b\r\nhello world\r\n0\r\nx-trailer: 1\r\ny: 2\r\n\r\nnext"), Ok(whole));
    }

    #[test]
    fn refuses_broken_chunks() {
        for text in ["g\r\n", "5\r\nhello!\r\n", "-1\r\n", "\r\n", "fffffffffffffffff\r\n", "5\r\nhelloXX"] {
            assert!(matches!(chunked(text), Err(fault) if fault != "more"), "{text}");
        }
        let long = format!("5;{}", "x".repeat(5000));
        assert_eq!(chunked(&long), Err("a broken chunk size"));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(5000));
        assert_eq!(chunked(&trailers), Err("too many trailers"));
    }

    #[test]
    fn an_end_before_the_end_is_no_end() {
        for text in ["", "5", "5\r\n", "5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "0\r\n\r"] {
            assert_eq!(chunked(text), Err("more"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_body(
            body in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            behind in prop::collection::vec(any::<u8>(), 0..8),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let whole = body.concat();
            let mut wire = Vec::new();
            for part in &body {
                wire.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                wire.extend_from_slice(part);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            wire.extend_from_slice(&behind);
            prop_assert_eq!(read(Framing::chunked(), &wire, &cuts), Ok((whole.clone(), behind.clone())));
            let wire = [&whole[..], &behind[..]].concat();
            prop_assert_eq!(read(Framing::Length(whole.len() as u64), &wire, &cuts), Ok((whole, behind)));
        }

        #[test]
        fn never_panics(bytes in any::<Vec<u8>>(), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
            let _ = read(Framing::chunked(), &bytes, &cuts);
        }
    }
}
