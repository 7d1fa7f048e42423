//! One request over HTTP/2 and its answer.
//!
//! Invariant: the client's reset is seen in each wait and each write.
//! Never does: touch another stream, or the connection but by asking for it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use tokio::sync::mpsc::UnboundedSender;

use super::super::Shared;
use super::super::answer::{Answer, allows_body, divide};
use super::super::journal::{Connection, Entry};
use super::super::request::Head;
use super::super::script::{After, CutAt, Fault, Framing, HowCut, Reply, Script};
use super::Cut;

/// A request being served.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    number: u64,
    cuts: UnboundedSender<Cut>,
}

/// The client is gone.
struct Gone;

impl From<h2::Error> for Gone {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

impl Exchange {
    pub(super) fn new(
        shared: &Arc<Shared>,
        connection: &Arc<Connection>,
        number: u64,
        cuts: UnboundedSender<Cut>,
    ) -> Self {
        Self { shared: Arc::clone(shared), connection: Arc::clone(connection), number, cuts }
    }

    /// Serves it to its end, and notes how that was.
    pub(super) async fn serve(self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let (parts, mut body) = request.into_parts();
        let head = head(&parts);
        let mut entry = self.shared.journal.arrived(&head, &self.connection, self.number);
        let script = self.shared.scripts.take(head.path());
        if script.cut.is_some_and(|cut| cut.at == CutAt::Head && cut.how == HowCut::Refuse) {
            respond.send_reset(Reason::REFUSED_STREAM);
            return self.shared.journal.answered(&entry);
        }
        let done = async {
            let whole = self.read(&mut entry, &mut body, script.read_body).await?;
            self.answer(&script, &head, &whole, &mut respond).await
        };
        match done.await {
            Ok(()) => self.shared.journal.answered(&entry),
            Err(Gone) => self.shared.journal.cancelled(&entry),
        }
    }

    /// Reads the body to its end, or until `enough` bytes of it have been read.
    async fn read(&self, entry: &mut Entry, body: &mut RecvStream, enough: Option<u64>) -> Result<Bytes, Gone> {
        let mut left = enough.unwrap_or(u64::MAX);
        let mut whole = BytesMut::new();
        while left > 0 {
            match body.data().await {
                Some(Ok(piece)) => {
                    self.shared.journal.body_arrived(entry, &piece);
                    left = left.saturating_sub(piece.len() as u64);
                    body.flow_control().release_capacity(piece.len())?;
                    whole.extend_from_slice(&piece);
                }
                Some(Err(_)) => {
                    self.shared.journal.body_ended(entry, false);
                    return Err(Gone);
                }
                None => break,
            }
        }
        self.shared.journal.body_ended(entry, body.is_end_stream());
        Ok(whole.freeze())
    }

    async fn answer(
        &self,
        script: &Script,
        head: &Head,
        body: &Bytes,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Gone> {
        pause(script.delay, |context| respond.poll_reset(context)).await?;
        if script.after == After::Close {
            let _ = self.cuts.send(Cut::Part);
        }
        for interim in &script.interim {
            respond.send_informational(response(interim.status, &interim.headers).ok_or(Gone)?)?;
        }
        let answer = match &script.reply {
            Reply::Raw(bytes) => taken_apart(bytes, respond)?,
            _ => Answer::wanted(script, head, body, &self.shared.options),
        };
        let fits = !matches!(
            script.fault,
            Some(
                Fault::BadStatusLine
                    | Fault::BadHeaderLine
                    | Fault::NulInHeader
                    | Fault::BadChunkSize
                    | Fault::LongChunk
                    | Fault::LengthAndChunked
            )
        );
        let at_head = script.cut.filter(|cut| cut.at == CutAt::Head).map(|cut| cut.how);
        let Some((answer, begun)) = answer.filter(|_| fits).and_then(|answer| begin(answer, script)) else {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return Ok(());
        };
        if at_head == Some(HowCut::Stall) {
            return forever(|context| respond.poll_reset(context)).await;
        } else if at_head == Some(HowCut::Reset) {
            respond.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        } else if let Some(how) = at_head {
            let _ = self.cuts.send(if how == HowCut::GoAway { Cut::GoAway } else { Cut::Close });
            // Held until the connection is gone: its drop would reset the stream before.
            let _ = forever(|context| respond.poll_reset(context)).await;
            return Ok(());
        }
        let bodiless = head.method == "HEAD" || !allows_body(answer.status);
        let mut sending = respond.send_response(begun, bodiless)?;
        if !bodiless {
            pause(script.first_byte_delay, |context| sending.poll_reset(context)).await?;
            self.body(answer, script, sending).await?;
        }
        if script.after == After::SilentClose {
            let _ = self.cuts.send(Cut::Close);
        }
        Ok(())
    }

    async fn body(&self, answer: Answer, script: &Script, mut sending: SendStream<Bytes>) -> Result<(), Gone> {
        let gap = script.gap.unwrap_or(self.shared.options.pace);
        let mut left = match script.cut.map(|cut| cut.at) {
            Some(CutAt::Body(bytes)) => bytes,
            _ => usize::MAX,
        };
        for (index, piece) in divide(answer.pieces, &script.pieces).into_iter().enumerate() {
            if left == 0 || script.cut.is_some_and(|cut| cut.at == CutAt::Pieces(index)) {
                break;
            }
            if index > 0 {
                pause(gap, |context| sending.poll_reset(context)).await?;
            }
            let part = piece.slice(..piece.len().min(left));
            left -= part.len();
            write(&mut sending, part).await?;
        }
        match script.cut.map(|cut| cut.how) {
            None => sending.send_data(Bytes::new(), true)?,
            Some(HowCut::Stall) => return forever(|context| sending.poll_reset(context)).await,
            Some(HowCut::Reset) => drop(self.cuts.send(Cut::Stream(sending, Reason::INTERNAL_ERROR))),
            Some(HowCut::Refuse) => drop(self.cuts.send(Cut::Stream(sending, Reason::REFUSED_STREAM))),
            Some(HowCut::GoAway) => self.ends(sending, Cut::GoAway).await,
            Some(HowCut::Close) => self.ends(sending, Cut::Close).await,
        }
        Ok(())
    }

    /// Has the connection end, and holds the stream until it has: its drop would reset it.
    async fn ends(&self, mut sending: SendStream<Bytes>, cut: Cut) {
        let _ = self.cuts.send(cut);
        let _ = forever(|context| sending.poll_reset(context)).await;
    }
}

/// The head as HTTP/1.1 would have it.
fn head(parts: &http::request::Parts) -> Head {
    let host = parts.uri.authority().map(|authority| ("host".to_owned(), authority.as_str().as_bytes().to_vec()));
    let headers = parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    Head {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        old: false,
        http2: true,
        headers: host.into_iter().chain(headers).collect(),
    }
}

/// The answer with its head, framed as the script wants it; `None` where HTTP/2 cannot carry it.
fn begin(answer: Answer, script: &Script) -> Option<(Answer, Response<()>)> {
    let length: usize = answer.pieces.iter().map(Bytes::len).sum();
    let mut headers: Vec<_> = answer.headers.iter().chain(&script.headers).cloned().collect();
    let natural = if answer.stream { Framing::Chunked } else { Framing::Length };
    let framing = if script.framing == Framing::Natural { natural } else { script.framing };
    let raw = matches!(script.reply, Reply::Raw(_));
    let length = match script.fault {
        Some(Fault::ShortBody) => Some(length + 10),
        Some(Fault::LongBody) => Some(length / 2),
        Some(Fault::TwoLengths) => Some(length),
        _ => (framing == Framing::Length && !raw).then_some(length),
    };
    if let Some(length) = length.filter(|_| allows_body(answer.status)) {
        headers.push(("content-length".to_owned(), length.to_string()));
        if script.fault == Some(Fault::TwoLengths) {
            headers.push(("content-length".to_owned(), (length + 1).to_string()));
        }
    }
    let head = response(answer.status, &headers).filter(|head| !head.status().is_informational())?;
    Some((answer, head))
}

fn response(status: u16, headers: &[(String, String)]) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).ok()?;
    for (name, value) in headers {
        let name: HeaderName = name.parse().ok()?;
        // Of a hop over HTTP/1.1: HTTP/2 has none of them (RFC 9113 section 8.2.2).
        if !matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "upgrade" | "transfer-encoding")
        {
            response.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    Some(response)
}

/// An answer out of the bytes of one of HTTP/1.1; informational ones before it are sent at once. `None` where it is none.
fn taken_apart(mut bytes: &[u8], respond: &mut SendResponse<Bytes>) -> Result<Option<Answer>, Gone> {
    loop {
        let mut room = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut room);
        let (Ok(httparse::Status::Complete(length)), Some(status)) = (parsed.parse(bytes), parsed.code) else {
            return Ok(None);
        };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers: Vec<_> =
            parsed.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
        let body = &bytes[length..];
        if (100..200).contains(&status) && status != 101 {
            respond.send_informational(response(status, &headers).ok_or(Gone)?)?;
            bytes = body;
            continue;
        }
        return Ok(Some(Answer { status, headers, pieces: vec![Bytes::copy_from_slice(body)], stream: false }));
    }
}

/// Writes as the client makes room for it.
async fn write(sending: &mut SendStream<Bytes>, mut piece: Bytes) -> Result<(), Gone> {
    while !piece.is_empty() {
        sending.reserve_capacity(piece.len());
        let room = match sending.capacity() {
            0 => poll_fn(|context| sending.poll_capacity(context)).await.ok_or(Gone)??,
            room => room,
        };
        sending.send_data(piece.split_to(room.min(piece.len())), false)?;
    }
    Ok(())
}

type Reset = Poll<Result<Reason, h2::Error>>;

/// Waits, but no longer than the client does.
async fn pause(time: Duration, mut reset: impl FnMut(&mut Context<'_>) -> Reset) -> Result<(), Gone> {
    tokio::select! {
        biased;
        _ = poll_fn(&mut reset) => Err(Gone),
        () = tokio::time::sleep(time) => Ok(()),
    }
}

/// Waits until the client leaves.
async fn forever(mut reset: impl FnMut(&mut Context<'_>) -> Reset) -> Result<(), Gone> {
    let _ = poll_fn(&mut reset).await;
    Err(Gone)
}
