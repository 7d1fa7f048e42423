//! One exchange over HTTP/2: a stream of a connection that many share.
//!
//! Over the `h2` crate itself, of which Pingora's `Http2Session` is a wrapper: that would take heads of up to 16 MiB, and
//! does not tell a request that the provider has refused unseen from one that it may have begun to serve.
//!
//! Invariant: a stream that is dropped before both sides have ended it is reset with CANCEL at once; no answer is complete
//! without its END_STREAM and, where it has one, its `content-length` (`h2` checks both).
//! Never does: hand on trailers or informational answers; keep bytes of a body that the client has not asked for, beyond
//! the window of its stream.

use std::future::{Future as _, poll_fn};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};

use super::answer::MAX_HEADERS;
use super::links::Slot;
use super::{AnswerHead, Broken, GATHER, Length};
use crate::error::Refusal;

/// Pieces in which a body goes out, at most.
const PIECE: usize = 64 * 1024;

/// A stream for the time of one exchange.
pub(super) struct Exchange {
    stage: Stage,
    /// Whether others have used the connection before.
    pub(super) reused: bool,
    /// Whether the provider said that it has not looked at the request (RFC 9113 section 8.7).
    pub(super) refused: bool,
    /// Whether the connection ended before an answer.
    pub(super) lost: bool,
    /// Behind the stream, which has to be gone before its place is free.
    slot: Slot,
}

/// How far it has come.
enum Stage {
    /// Nothing is sent.
    New,
    /// The answer's head is to come.
    Asked(ResponseFuture),
    /// The head has come before the request was sent whole.
    Early(Response<RecvStream>),
    /// The body is on its way.
    Answered(RecvStream),
    /// There is no body, or it is over.
    Over,
    Failed(Broken),
}

impl Exchange {
    /// An exchange on a stream that is free.
    pub(super) fn on(slot: Slot, reused: bool) -> Self {
        Self { stage: Stage::New, reused, refused: false, lost: false, slot }
    }

    pub(super) async fn send(&mut self, head: &[u8], body: &Bytes) {
        self.stage = match self.begin(head, body).await {
            Ok(stage) => stage,
            Err(broken) => Stage::Failed(broken),
        };
    }

    async fn begin(&mut self, head: &[u8], body: &Bytes) -> Result<Stage, Broken> {
        let request = request(head)
            .ok_or_else(|| Broken { refusal: Refusal::Bug("a head that HTTP/2 cannot carry"), cause: String::new() })?;
        let sent = self.slot.sender().send_request(request, body.is_empty());
        let (mut answer, mut sending) = sent.map_err(|error| {
            // It never left.
            self.refused = true;
            self.broken(&error)
        })?;
        match upload(&mut sending, &mut answer, body.clone()).await {
            None => Ok(Stage::Asked(answer)),
            Some(Ok(early)) => Ok(Stage::Early(early)),
            Some(Err(error)) => Err(self.broken(&error)),
        }
    }

    pub(super) async fn head(&mut self, head_only: bool) -> Result<AnswerHead, Broken> {
        let answer = match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Asked(answer) => answer.await.map_err(|error| self.broken(&error))?,
            Stage::Early(answer) => answer,
            Stage::Failed(broken) => return Err(broken),
            Stage::New | Stage::Answered(_) | Stage::Over => {
                return Err(Broken::bad("an answer that nobody asked for"));
            }
        };
        let (parts, body) = answer.into_parts();
        if parts.headers.len() > MAX_HEADERS {
            return Err(Broken::bad("too many headers"));
        }
        let length = match Length::of(parts.status, &parts.headers, false, head_only)? {
            Length::ToClose if body.is_end_stream() => Length::Known(0),
            // The body ends by a mark, of which HTTP/1.1's counterpart is the last chunk.
            Length::ToClose => Length::Chunked,
            other => other,
        };
        if length != Length::None {
            self.stage = Stage::Answered(body);
        }
        Ok(AnswerHead::of(parts.status, parts.headers, length))
    }

    pub(super) fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Broken>> {
        let Stage::Answered(body) = &mut self.stage else { return Poll::Ready(Ok(None)) };
        Poll::Ready(match ready!(gathered(body, context)) {
            Some(Ok(piece)) => Ok(Some(piece)),
            Some(Err(error)) => Err(self.broken(&error)),
            None => {
                self.stage = Stage::Over;
                Ok(None)
            }
        })
    }

    /// What an error of the stream or its connection comes to. A connection that ends takes no further streams.
    fn broken(&mut self, error: &h2::Error) -> Broken {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        // `h2` gives it to streams beyond the last one that the provider has looked at, and to no other.
        let unseen = error.is_remote() && (refused || error.is_go_away());
        self.refused |= unseen && !matches!(self.stage, Stage::Answered(_));
        self.lost |= error.is_io();
        if unseen || error.is_io() || error.is_go_away() {
            self.slot.retire();
        }
        let cause = match self.slot.died_of() {
            Some(cause) => cause.to_owned(),
            None if error.is_io() => "the connection ended before the answer did".to_owned(),
            None => format!("HTTP/2: {error}"),
        };
        match error.is_io() || error.is_remote() {
            true => Broken::reset(&cause),
            false => Broken::bad(&cause),
        }
    }
}

/// Sends the body as the provider makes room for it; gives an answer that came before it was sent whole.
async fn upload(
    sending: &mut SendStream<Bytes>,
    answer: &mut ResponseFuture,
    mut rest: Bytes,
) -> Option<Result<Response<RecvStream>, h2::Error>> {
    poll_fn(|context| {
        while !rest.is_empty() {
            sending.reserve_capacity(rest.len().min(PIECE));
            let room = match sending.capacity() {
                0 => sending.poll_capacity(context),
                room => Poll::Ready(Some(Ok(room))),
            };
            if let Poll::Ready(Some(Ok(room))) = room {
                let piece = rest.split_to(room.min(rest.len()));
                let last = rest.is_empty();
                if piece.is_empty() || sending.send_data(piece, last).is_ok() {
                    continue;
                }
            }
            // There is no room, or the stream is closed: then the answer is there, or tells why.
            return Pin::new(&mut *answer).poll(context).map(Some);
        }
        Poll::Ready(None)
    })
    .await
}

/// The next piece, with what follows it at once where that is little. What comes behind stays until the next call: an end
/// and an error are told again.
fn gathered(body: &mut RecvStream, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
    let first = match body.poll_data(context) {
        Poll::Ready(Some(Ok(piece))) => piece,
        other => return other,
    };
    release(body, &first);
    let mut all = BytesMut::new();
    while first.len() + all.len() <= GATHER {
        let Poll::Ready(Some(Ok(piece))) = body.poll_data(context) else { break };
        release(body, &piece);
        if all.is_empty() {
            all.extend_from_slice(&first);
        }
        all.extend_from_slice(&piece);
    }
    Poll::Ready(Some(Ok(if all.is_empty() { first } else { all.freeze() })))
}

fn release(body: &mut RecvStream, piece: &Bytes) {
    // Fails only for more than was received.
    let _ = body.flow_control().release_capacity(piece.len());
}

/// The head of a request, which `wire` has written for HTTP/1.1, as HTTP/2 carries it.
fn request(head: &[u8]) -> Option<Request<()>> {
    let mut lines = std::str::from_utf8(head.get(..memchr::memchr(b'\r', head)?)?).ok()?.split(' ');
    let (method, target) = (lines.next()?, lines.next()?);
    let mut headers = HeaderMap::with_capacity(32);
    let mut authority = None;
    // Each line is "name: value", as `wire` writes it.
    for line in head.split(|&byte| byte == b'\n').skip(1) {
        let Some(line) = line.strip_suffix(b"\r").filter(|line| !line.is_empty()) else { break };
        let colon = memchr::memchr(b':', line)?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        let value = line.get(colon + 2..)?;
        if name == HOST {
            authority = Some(value);
            continue;
        }
        let mut value = HeaderValue::from_bytes(value).ok()?;
        // Not kept in the table of the connection: the calls of many clients share it, and what one says must not show in
        // the size of another's (RFC 7541 section 7.1).
        value.set_sensitive(true);
        headers.append(name, value);
    }
    let uri = Uri::builder()
        .scheme(Scheme::HTTPS)
        .authority(authority?)
        .path_and_query(PathAndQuery::try_from(target).ok()?)
        .build()
        .ok()?;
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Some(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried(head: &[u8]) -> Option<Request<()>> {
        request(head)
    }

    #[test]
    fn a_head_becomes_one_of_http_2() {
        let head =
            b"POST /v1/chat?x=a%20b HTTP/1.1\r\nhost: api.test:8443\r\nAuthorization: Bearer x\r\nx-odd: \xe9: \r\n\
            x-none: \r\ncontent-length: 2\r\n\r\n";
        let request = carried(head).expect("a request");
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "https://api.test:8443/v1/chat?x=a%20b");
        let seen: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 4] =
            [("authorization", b"Bearer x"), ("x-odd", b"\xe9: "), ("x-none", b""), ("content-length", b"2")];
        assert_eq!(seen, expected);
        assert!(request.headers().values().all(HeaderValue::is_sensitive));
    }

    #[test]
    fn a_head_without_a_host_is_none() {
        assert!(carried(b"GET / HTTP/1.1\r\nx: y\r\n\r\n").is_none());
    }
}
