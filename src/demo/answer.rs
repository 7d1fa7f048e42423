//! An answer, and how a script turns it into bytes, waits and an end.
//!
//! Invariant: without a script the bytes are valid HTTP/1.1, and a client of HTTP/1.0 gets no chunks.
//! Never does: IO; read a clock.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::journal::Used;
use super::request::Head;
use super::script::{After, CutAt, Fault, Framing, HowCut, Interim, Reply, Script, Version};
use super::{ProviderOptions, anthropic, control, openai};

/// An answer before it is framed.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// One piece; or the events of a stream, which then is chunked.
    pub(super) pieces: Vec<Bytes>,
    pub(super) stream: bool,
    /// What it uses, where it is an answer of a model.
    pub(super) used: Option<Used>,
}

impl Answer {
    /// One piece with a content type.
    pub(super) fn whole(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_string(), content_type.to_string())];
        Self { status, headers, pieces: vec![body.into()], stream: false, used: None }
    }

    /// A stream of server-sent events.
    pub(super) fn events(pieces: Vec<Bytes>) -> Self {
        let headers = vec![("content-type".to_string(), "text/event-stream; charset=utf-8".to_string())];
        Self { status: 200, headers, pieces, stream: true, used: None }
    }

    /// The same, with what it uses.
    pub(super) fn using(self, input: u64, output: u64) -> Self {
        Self { used: Some(Used { input, output }), ..self }
    }

    /// What a script wants in answer to a request; `None` where that is raw bytes.
    pub(super) fn wanted(script: &Script, head: &Head, body: &Bytes, options: &ProviderOptions) -> Option<Self> {
        Some(match &script.reply {
            Reply::Raw(_) => return None,
            Reply::Fixed { status, headers, body } => {
                let (headers, pieces) = (headers.clone(), vec![body.clone()]);
                Self { status: *status, headers, pieces, stream: false, used: None }
            }
            Reply::Events(events) => Self::events(events.iter().map(|event| event.clone().into()).collect()),
            Reply::Echo => control::echo(head, body),
            Reply::Normal if options.control && head.path() == control::ECHO => control::echo(head, body),
            Reply::Normal if anthropic::is_asked(head) => anthropic::answer(head, body, script.words, options),
            Reply::Normal => openai::answer(head, body, script.words, options),
        })
    }

    /// Compact JSON.
    pub(super) fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::whole(status, "application/json", body.to_string())
    }
}

/// What the connection has to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) end: End,
}

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Write and flush.
    Write(Bytes),
    /// Wait.
    Wait(Duration),
}

/// What comes when the steps are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The next request.
    Next,
    /// A clean close.
    Close,
    /// A reset.
    Reset,
    /// Nothing, until the client leaves.
    Stall,
    /// An echo of bytes.
    Mirror,
}

/// What about the request matters for the answer's form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) method_is_head: bool,
    pub(super) old: bool,
    pub(super) closes: bool,
    /// Whether the body has been or will be read to its end, so that a next request can follow.
    pub(super) body_is_read: bool,
    pub(super) pace: Duration,
}

/// Plans an answer.
pub(super) fn plan(answer: Answer, script: &Script, asked: Asked) -> Plan {
    let framing = framing(&answer, script, asked);
    let has_body = !asked.method_is_head && allows_body(answer.status);
    let mut end = match script.after {
        After::Mirror => End::Mirror,
        After::Close | After::SilentClose => End::Close,
        After::KeepAlive if asked.closes || script.version == Version::Http10 || !asked.body_is_read => End::Close,
        After::KeepAlive if has_body && framing == Framing::UntilClose => End::Close,
        After::KeepAlive => End::Next,
    };
    let announce = (end == End::Close && script.after != After::SilentClose) || script.after == After::Close;
    let pieces = match has_body {
        true => divide(answer.pieces.clone(), &script.pieces),
        false => Vec::new(),
    };
    let length = answer.pieces.iter().map(Bytes::len).sum();
    let head = head(&answer, script, framing, length, announce);
    let gap = script.gap.unwrap_or(asked.pace);
    let join = !answer.stream && script.pieces.is_empty();
    let mut steps = vec![Step::Wait(script.delay)];
    steps.extend(script.interim.iter().map(|interim| Step::Write(informational(interim))));
    let cut = script.cut;
    if !cut.is_some_and(|cut| cut.at == CutAt::Head) {
        steps.push(Step::Write(head));
        steps.push(Step::Wait(script.first_byte_delay));
        let body = Body { chunked: framing == Framing::Chunked, fault: script.fault, cut: cut.map(|cut| cut.at), gap };
        body.write(&pieces, &mut steps);
        if cut.is_none() {
            steps.push(Step::Write(script.trailing.clone()));
        }
    }
    if let Some(cut) = cut {
        end = cut_end(cut.how);
    } else if script.fault == Some(Fault::ShortBody) {
        end = End::Close;
    }
    Plan { steps: tidy(steps, join, &script.writes, gap), end }
}

/// Plans the sending of bytes that are an answer already.
pub(super) fn plan_raw(bytes: &Bytes, script: &Script, asked: Asked) -> Plan {
    let gap = script.gap.unwrap_or(asked.pace);
    let (at, mut end) = match script.cut {
        None => (bytes.len(), if asked.closes { End::Close } else { End::Next }),
        Some(cut) => match cut.at {
            CutAt::Head => (0, cut_end(cut.how)),
            CutAt::Body(at) | CutAt::Pieces(at) => (at.min(bytes.len()), cut_end(cut.how)),
        },
    };
    match script.after {
        _ if script.cut.is_some() => {}
        After::Mirror => end = End::Mirror,
        After::Close | After::SilentClose => end = End::Close,
        After::KeepAlive => {}
    }
    let mut steps = vec![Step::Wait(script.delay)];
    steps.extend(script.interim.iter().map(|interim| Step::Write(informational(interim))));
    for piece in divide(vec![bytes.slice(..at)], &script.pieces) {
        steps.push(Step::Write(piece));
        steps.push(Step::Wait(gap));
    }
    steps.pop();
    steps.push(Step::Write(script.trailing.clone()));
    Plan { steps: tidy(steps, false, &script.writes, gap), end }
}

/// The framing in force.
fn framing(answer: &Answer, script: &Script, asked: Asked) -> Framing {
    let natural = match answer.stream {
        true if asked.old => Framing::UntilClose,
        true => Framing::Chunked,
        false => Framing::Length,
    };
    match (script.fault, script.framing) {
        (Some(Fault::BadChunkSize | Fault::LongChunk | Fault::LengthAndChunked), _) => Framing::Chunked,
        (Some(Fault::ShortBody | Fault::LongBody | Fault::TwoLengths), _) => Framing::Length,
        (_, Framing::Natural) => natural,
        (_, framing) => framing,
    }
}

fn head(answer: &Answer, script: &Script, framing: Framing, length: usize, announce_close: bool) -> Bytes {
    let version = match script.version {
        Version::Http11 => "HTTP/1.1",
        Version::Http10 => "HTTP/1.0",
    };
    let mut head = match script.fault {
        Some(Fault::BadStatusLine) => "HTTP/one point one OK\r\n".to_string(),
        _ => format!("{version} {} {}\r\n", answer.status, reason(answer.status)),
    };
    for (name, value) in answer.headers.iter().chain(&script.headers) {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if allows_body(answer.status) {
        let length = match script.fault {
            Some(Fault::ShortBody) => length + 10,
            Some(Fault::LongBody) => length / 2,
            _ => length,
        };
        if framing == Framing::Length || script.fault == Some(Fault::LengthAndChunked) {
            head.push_str(&format!("content-length: {length}\r\n"));
        }
        if script.fault == Some(Fault::TwoLengths) {
            head.push_str(&format!("content-length: {}\r\n", length + 1));
        }
        if framing == Framing::Chunked {
            head.push_str("transfer-encoding: chunked\r\n");
        }
    }
    match script.fault {
        Some(Fault::BadHeaderLine) => head.push_str("this is no header\r\n"),
        Some(Fault::NulInHeader) => head.push_str("x-nul: a\0b\r\n"),
        _ => {}
    }
    if announce_close {
        head.push_str("connection: close\r\n");
    }
    head.push_str("\r\n");
    head.into()
}

fn informational(interim: &Interim) -> Bytes {
    let mut head = format!("HTTP/1.1 {} {}\r\n", interim.status, reason(interim.status));
    for (name, value) in &interim.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into()
}

fn reason(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Unknown")
}

/// RFC 9110, sections 15.2, 15.3.5 and 15.4.5. A 304 may carry a length, but need not.
pub(super) fn allows_body(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// How a body goes out.
struct Body {
    chunked: bool,
    fault: Option<Fault>,
    cut: Option<CutAt>,
    gap: Duration,
}

impl Body {
    fn write(&self, pieces: &[Bytes], steps: &mut Vec<Step>) {
        let mut left = match self.cut {
            Some(CutAt::Body(bytes)) => bytes,
            _ => usize::MAX,
        };
        for (index, piece) in pieces.iter().enumerate() {
            if left == 0 || self.cut == Some(CutAt::Pieces(index)) {
                return;
            }
            if index > 0 {
                steps.push(Step::Wait(self.gap));
            }
            let part = piece.slice(..piece.len().min(left));
            let whole = part.len() == piece.len();
            left -= part.len();
            steps.push(Step::Write(if self.chunked { self.chunk(piece.len(), &part, whole) } else { part }));
        }
        if self.chunked && self.cut.is_none() {
            steps.push(Step::Write(Bytes::from_static(b"0\r\n\r\n")));
        }
    }

    /// A chunk of which only a part may follow its size.
    fn chunk(&self, size: usize, part: &[u8], whole: bool) -> Bytes {
        let mut chunk = match self.fault {
            Some(Fault::BadChunkSize) => BytesMut::from("zz\r\n"),
            Some(Fault::LongChunk) => BytesMut::from(format!("{:x}\r\n", size / 2).as_str()),
            _ => BytesMut::from(format!("{size:x}\r\n").as_str()),
        };
        chunk.extend_from_slice(part);
        if whole {
            chunk.extend_from_slice(b"\r\n");
        }
        chunk.freeze()
    }
}

fn cut_end(how: HowCut) -> End {
    match how {
        HowCut::Reset | HowCut::Refuse => End::Reset,
        HowCut::Close | HowCut::GoAway => End::Close,
        HowCut::Stall => End::Stall,
    }
}

/// Cuts bytes into pieces of the given sizes, of which the last repeats; leaves them as they are where there are none.
pub(super) fn divide(pieces: Vec<Bytes>, sizes: &[usize]) -> Vec<Bytes> {
    let Some(last) = sizes.last() else {
        return pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
    };
    let mut left = Bytes::from(pieces.concat());
    let mut divided = Vec::new();
    let mut sizes = sizes.iter();
    while !left.is_empty() {
        let size = sizes.next().unwrap_or(last).clamp(&1, &left.len()).to_owned();
        divided.push(left.split_to(size));
    }
    divided
}

/// Leaves out what does nothing; `join`s writes that no wait separates, or cuts them all anew where `writes` says so.
fn tidy(steps: Vec<Step>, join: bool, writes: &[usize], gap: Duration) -> Vec<Step> {
    let steps = steps.into_iter().filter(|step| match step {
        Step::Write(bytes) => !bytes.is_empty(),
        Step::Wait(wait) => !wait.is_zero(),
    });
    if !join && writes.is_empty() {
        return steps.collect();
    }
    let mut tidied = Vec::new();
    let mut joined = BytesMut::new();
    for step in steps {
        match step {
            Step::Write(bytes) => joined.extend_from_slice(&bytes),
            Step::Wait(_) if !writes.is_empty() && !joined.is_empty() => {}
            Step::Wait(wait) => {
                if !joined.is_empty() {
                    tidied.push(Step::Write(joined.split().freeze()));
                }
                tidied.push(Step::Wait(wait));
            }
        }
    }
    for (index, bytes) in divide(vec![joined.freeze()], writes).into_iter().enumerate() {
        if index > 0 && !gap.is_zero() {
            tidied.push(Step::Wait(gap));
        }
        tidied.push(Step::Write(bytes));
    }
    tidied
}
