//! A request as it arrives: its head, and its body out of either framing.
//!
//! Invariant: bytes are taken from the inbox only as far as they belong to the part that was asked for.
//! Never does: IO; tolerate a request that two readers could frame differently.

use bytes::{Buf, Bytes, BytesMut};

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: String,
    pub(super) target: String,
    /// Whether it is HTTP/1.0.
    pub(super) old: bool,
    /// Whether it came over HTTP/2.
    pub(super) http2: bool,
    /// As they came, in order.
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

/// The request is no valid HTTP/1.1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Head {
    /// Takes a head from the inbox; `None` where it is not complete.
    ///
    /// # Errors
    /// [`Malformed`], also for a head of more than 1 MiB or 256 headers.
    pub(super) fn take(inbox: &mut BytesMut) -> Result<Option<Self>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let length = match parsed.parse(inbox) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if inbox.len() < MAX_HEAD => return Ok(None),
            _ => return Err(Malformed),
        };
        let head = Self {
            method: parsed.method.unwrap_or_default().to_string(),
            target: parsed.path.unwrap_or_default().to_string(),
            old: parsed.version == Some(0),
            http2: false,
            headers: parsed.headers.iter().map(|h| (h.name.to_string(), h.value.to_vec())).collect(),
        };
        inbox.advance(length);
        Ok(Some(head))
    }

    /// The target without its query.
    pub(super) fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or_default()
    }

    /// All values of a header, in order.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }

    /// The first value of a header, where it is text.
    pub(super) fn first<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.all(name).next().and_then(|value| std::str::from_utf8(value).ok()).map(str::trim)
    }

    /// Whether the client will close the connection after this request.
    pub(super) fn closes(&self) -> bool {
        let connection = self.first("connection").unwrap_or_default().to_ascii_lowercase();
        connection.contains("close") || (self.old && !connection.contains("keep-alive"))
    }

    /// How its body is framed.
    ///
    /// # Errors
    /// [`Malformed`] where that is ambiguous or unknown.
    pub(super) fn body(&self) -> Result<Body, Malformed> {
        let lengths: Vec<&[u8]> = self.all("content-length").collect();
        let codings: Vec<&[u8]> = self.all("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(Body::Length(0)),
            ([length], []) => {
                let text = std::str::from_utf8(length).map_err(|_| Malformed)?;
                let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                text.parse().ok().filter(|_| plain).map(Body::Length).ok_or(Malformed)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Body::Size),
            _ => Err(Malformed),
        }
    }
}

/// What is still to come of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes, by `content-length`.
    Length(u64),
    /// A chunk's size line.
    Size,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The line end after a chunk's bytes.
    Line,
    /// Trailers, up to the empty line.
    Trailers,
    /// Nothing.
    Done,
}

impl Body {
    /// Whether nothing is to come.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done | Self::Length(0))
    }

    /// Takes the next piece of the body, of at most `limit` bytes, from the inbox; `None` where that has none.
    ///
    /// # Errors
    /// [`Malformed`] where the chunks are broken.
    pub(super) fn take(&mut self, inbox: &mut BytesMut, limit: u64) -> Result<Option<Bytes>, Malformed> {
        loop {
            match self {
                Self::Done | Self::Length(0) => return Ok(None),
                Self::Length(left) | Self::Chunk(left @ 1..) => {
                    let take = (*left).min(limit).min(inbox.len() as u64);
                    *left -= take;
                    let take = usize::try_from(take).map_err(|_| Malformed)?;
                    return Ok((take > 0).then(|| inbox.split_to(take).freeze()));
                }
                Self::Chunk(_) => *self = Self::Line,
                Self::Line => match inbox.get(..2) {
                    None => return Ok(None),
                    Some(b"\r\n") => {
                        inbox.advance(2);
                        *self = Self::Size;
                    }
                    Some(_) => return Err(Malformed),
                },
                Self::Size => match httparse::parse_chunk_size(inbox) {
                    Ok(httparse::Status::Complete((length, size))) => {
                        inbox.advance(length);
                        *self = if size == 0 { Self::Trailers } else { Self::Chunk(size) };
                    }
                    Ok(httparse::Status::Partial) if inbox.len() < MAX_HEAD => return Ok(None),
                    _ => return Err(Malformed),
                },
                Self::Trailers => {
                    let Some(end) = inbox.windows(2).position(|pair| pair == b"\r\n") else {
                        return if inbox.len() < MAX_HEAD { Ok(None) } else { Err(Malformed) };
                    };
                    inbox.advance(end + 2);
                    if end == 0 {
                        *self = Self::Done;
                    }
                }
            }
        }
    }
}

const MAX_HEADERS: usize = 256;
const MAX_HEAD: usize = 1024 * 1024;
