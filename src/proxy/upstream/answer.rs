//! The head of a provider's answer, and what it says of the body behind it.
//!
//! Invariant: a head whose framing two readers could understand differently is refused (RFC 9112 section 6.3).
//! Never does: any IO, change of a header.

use std::mem::MaybeUninit;

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{Broken, Headers, Lines};

/// Headers that an answer may have.
pub(super) const MAX_HEADERS: usize = 128;

/// A parsed head.
#[derive(Debug)]
pub(in crate::proxy) struct AnswerHead {
    pub(in crate::proxy) status: StatusCode,
    /// All headers as they came.
    pub(in crate::proxy) headers: Headers,
    /// How the body ends.
    pub(in crate::proxy) length: Length,
    /// Whether the provider keeps the connection.
    pub(super) keep: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Length {
    /// There is none: `HEAD`, 1xx, 204, 304.
    None,
    /// After this many bytes.
    Known(u64),
    /// By a last chunk.
    Chunked,
    /// With the connection.
    ToClose,
}

impl AnswerHead {
    /// A head that somebody else has parsed.
    pub(in crate::proxy) fn of(status: StatusCode, headers: HeaderMap, length: Length) -> Self {
        Self { status, headers: Headers::Map(headers), length, keep: true }
    }
}

impl Length {
    /// How the body behind a head ends. `old` is true for HTTP/1.0, `head_only` for `HEAD`.
    ///
    /// # Errors
    /// `BadAnswer` where that is ambiguous.
    pub(in crate::proxy) fn of(
        status: StatusCode,
        headers: &HeaderMap,
        old: bool,
        head_only: bool,
    ) -> Result<Self, Broken> {
        if is_bodiless(status, head_only) {
            return Ok(Self::None);
        }
        let all = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes);
        body_length(all(TRANSFER_ENCODING), all(CONTENT_LENGTH), old)
    }
}

fn is_bodiless(status: StatusCode, head_only: bool) -> bool {
    head_only || status.is_informational() || matches!(status.as_u16(), 204 | 304)
}

/// Takes a head off the buffer, with its size in bytes, where it is complete.
///
/// # Errors
/// `BadAnswer` where it is no HTTP/1.x, or its framing is ambiguous.
pub(super) fn parse(buffer: &mut BytesMut, head_only: bool) -> Result<Option<(AnswerHead, usize)>, Broken> {
    let mut slots = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let size = match parser.parse_response_with_uninit_headers(&mut response, buffer, &mut slots) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Broken::bad(&error.to_string())),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.filter(|status| status.as_u16() < 600).ok_or_else(|| Broken::bad("an impossible status"))?;
    let version = response.version;
    // Places instead of slices, so that the bytes can then be shared with the header values without a copy.
    let base = buffer.as_ptr() as usize;
    let place = |bytes: &[u8]| (bytes.as_ptr() as usize - base, bytes.len());
    let places = response.headers.iter().map(|header| {
        // An empty value may point anywhere.
        let value = if header.value.is_empty() { (0, 0) } else { place(header.value) };
        (place(header.name.as_bytes()), value)
    });
    let places: Vec<_> = places.collect();
    let bytes = buffer.split_to(size).freeze();
    let lines = Lines::new(bytes, places);
    let length = match is_bodiless(status, head_only) {
        true => Length::None,
        false => body_length(lines.all(&TRANSFER_ENCODING), lines.all(&CONTENT_LENGTH), version != Some(1))?,
    };
    let keep = version == Some(1) && length != Length::ToClose && !closes(&lines);
    let headers = Headers::Lines(lines);
    Ok(Some((AnswerHead { status, headers, length, keep }, size)))
}

/// Tells whether a buffer holds more than informational heads: the first byte of a final answer's status, or what is no
/// answer at all.
pub(super) fn has_begun(mut buffer: &[u8]) -> bool {
    const STATUS_AT: usize = "HTTP/1.1 ".len();
    while buffer.get(STATUS_AT) == Some(&b'1') {
        match memchr::memmem::find(buffer, b"\r\n\r\n") {
            Some(end) => buffer = &buffer[end + 4..],
            None => return false,
        }
    }
    buffer.len() > STATUS_AT
}

fn body_length<'a>(
    mut codings: impl Iterator<Item = &'a [u8]>,
    mut lengths: impl Iterator<Item = &'a [u8]>,
    old: bool,
) -> Result<Length, Broken> {
    let known = lengths.next();
    match (codings.next(), known) {
        (Some(_), Some(_)) => Err(Broken::bad("both transfer-encoding and content-length")),
        (Some(coding), None) => {
            let chunked = coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            if !chunked || old {
                return Err(Broken::bad("a transfer-encoding other than chunked"));
            }
            Ok(Length::Chunked)
        }
        (None, Some(length)) => {
            if lengths.any(|other| other != length) {
                return Err(Broken::bad("content-lengths that differ"));
            }
            let digits = std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let length = digits.and_then(|digits| digits.parse().ok());
            length.map(Length::Known).ok_or_else(|| Broken::bad("a content-length that is no number"))
        }
        (None, None) => Ok(Length::ToClose),
    }
}

fn closes(lines: &Lines) -> bool {
    lines
        .all(&CONNECTION)
        .any(|value| value.split(|&byte| byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<AnswerHead, String> {
        let mut buffer = BytesMut::from(text);
        match parse(&mut buffer, false) {
            Ok(Some((head, size))) => {
                assert_eq!(size + buffer.len(), text.len());
                Ok(head)
            }
            Ok(None) => Err("partial".to_owned()),
            Err(broken) => Err(broken.cause),
        }
    }

    #[test]
    fn knows_how_each_body_ends() {
        let length = |text: &str| head(text).map(|head| (head.length, head.keep));
        assert_eq!(length("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"), Ok((Length::Known(5), true)));
        assert_eq!(
            length("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\n"),
            Ok((Length::Known(5), true))
        );
        assert_eq!(length("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"), Ok((Length::Chunked, true)));
        assert_eq!(
            length("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 0\r\n\r\n"),
            Ok((Length::Known(0), false))
        );
        assert_eq!(length("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n"), Ok((Length::Known(5), false)));
        assert_eq!(length("HTTP/1.1 200 OK\r\n\r\n"), Ok((Length::ToClose, false)));
        assert_eq!(length("HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\n"), Ok((Length::None, true)));
    }

    #[test]
    fn an_answer_begins_behind_what_is_informational() {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        for text in ["", "HTTP/1.1 ", "HTTP/1.1 1", "HTTP/1.1 100 Continue\r\n\r", early, &early.repeat(2)] {
            assert!(!has_begun(text.as_bytes()), "{text}");
        }
        for text in ["HTTP/1.1 4", "<html>Bad gateway", &format!("{early}HTTP/1.1 2")] {
            assert!(has_begun(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 999 What\r\n\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "<html>Bad gateway</html>\r\n\r\n",
        ] {
            let fault = head(text).expect_err(text);
            assert_ne!(fault, "partial", "{text}");
        }
    }

    #[test]
    fn headers_keep_their_bytes() {
        let head = head("HTTP/1.1 200 OK\r\nB: 1\r\nA:  two \r\nb: \u{e9}\r\nE:\r\n\r\n").expect("a head");
        let map = head.headers.into_map();
        let seen: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(seen, [("b", &b"1"[..]), ("b", "\u{e9}".as_bytes()), ("a", b"two"), ("e", b"")]);
    }
}
