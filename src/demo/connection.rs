//! The life of a connection: request, script, answer, and again.
//!
//! Invariant: while an answer is delayed or written, the client's hanging up ends it at once and is noted.
//! Never does: decide what to answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::answer::{Answer, Asked, End, Plan, Step, plan, plan_raw};
use super::journal::{Connection, Entry};
use super::request::{Body, Head, Malformed};
use super::script::{Reply, Script};
use super::wire::{ReadSide, Wire};
use super::{Shared, control};

/// Serves a connection until it ends.
pub(super) async fn serve<W: Wire>(mut wire: W, shared: &Shared, connection: &Connection) {
    let mut inbox = BytesMut::new();
    let mut number = 0;
    loop {
        let end = match next_head(&mut wire, &mut inbox).await {
            Ok(Some(head)) if shared.options.control && control::is_control(head.path()) => {
                shared.journal.is_control(connection);
                control(&mut wire, &mut inbox, &head, shared).await
            }
            Ok(Some(head)) => {
                number += 1;
                let entry = shared.journal.arrived(&head, connection, number);
                Call { shared, head, entry }.serve(&mut wire, &mut inbox).await
            }
            Ok(None) => return,
            Err(Malformed) => refuse_malformed(&mut wire, shared).await,
        };
        match end {
            End::Next => {}
            End::Reset => return wire.reset(),
            End::Mirror => return mirror(&mut wire, &inbox).await,
            End::Close | End::Stall => {
                // Fails only where the client was faster.
                let _ = wire.split().1.shutdown().await;
                return;
            }
        }
    }
}

/// A request being served.
struct Call<'a> {
    shared: &'a Shared,
    head: Head,
    entry: Entry,
}

impl Call<'_> {
    async fn serve<W: Wire>(mut self, wire: &mut W, inbox: &mut BytesMut) -> End {
        let script = self.shared.scripts.take(self.head.path());
        let Ok(mut rest) = self.head.body() else {
            return refuse_malformed(wire, self.shared).await;
        };
        let expects = self.head.first("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if expects && !rest.is_done() && script.read_body != Some(0) {
            let _ = wire.split().1.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        let body = match self.read_body(wire, inbox, &mut rest, script.read_body).await {
            Ok(body) => body,
            Err(Unreadable::Gone) => {
                self.shared.journal.cancelled(&self.entry);
                return End::Close;
            }
            Err(Unreadable::Malformed) => return refuse_malformed(wire, self.shared).await,
        };
        let plan = self.plan(&script, &body, rest.is_done());
        let end = {
            let (mut read, mut write) = wire.split();
            let watched = self.watch(&mut read, inbox, &mut rest, script.drain);
            tokio::select! {
                biased;
                carried_out = carry_out(&plan, &mut write) => carried_out.ok(),
                () = watched => None,
            }
        };
        match end {
            None => {
                self.shared.journal.cancelled(&self.entry);
                End::Close
            }
            Some(end) => {
                self.shared.journal.answered(&self.entry);
                if rest.is_done() || !script.drain || !matches!(end, End::Next | End::Close) {
                    return end;
                }
                if end == End::Close {
                    // A close with bytes unread would be a reset, and that would overtake the answer.
                    let _ = wire.split().1.shutdown().await;
                }
                match self.read_body(wire, inbox, &mut rest, None).await {
                    Ok(_) => end,
                    Err(_) => End::Close,
                }
            }
        }
    }

    fn plan(&self, script: &Script, body: &Bytes, body_is_read: bool) -> Plan {
        let asked = Asked {
            method_is_head: self.head.method == "HEAD",
            old: self.head.old,
            closes: self.head.closes(),
            body_is_read: body_is_read || script.drain,
            pace: self.shared.options.pace,
        };
        if let Reply::Raw(bytes) = &script.reply {
            return plan_raw(bytes, script, asked);
        }
        let answer = Answer::wanted(script, &self.head, body, &self.shared.options);
        let answer = answer.unwrap_or_else(|| Answer::whole(500, "text/plain", "no answer"));
        plan(answer, script, asked)
    }

    /// Reads the body to its end, or until `enough` bytes of it have been read.
    async fn read_body<W: Wire>(
        &mut self,
        wire: &mut W,
        inbox: &mut BytesMut,
        rest: &mut Body,
        enough: Option<u64>,
    ) -> Result<Bytes, Unreadable> {
        let mut left = enough.unwrap_or(u64::MAX);
        let mut body = BytesMut::new();
        let (mut read, _) = wire.split();
        while left > 0 {
            if let Some(piece) = rest.take(inbox, left)? {
                self.shared.journal.body_arrived(&mut self.entry, &piece);
                left -= piece.len() as u64;
                body.extend_from_slice(&piece);
            } else if rest.is_done() {
                break;
            } else if more(&mut read, inbox).await == 0 {
                self.shared.journal.body_ended(&self.entry, false);
                return Err(Unreadable::Gone);
            }
        }
        self.shared.journal.body_ended(&self.entry, rest.is_done());
        Ok(body.freeze())
    }

    /// Returns when the client hangs up. Meanwhile it takes in the rest of the body, unless that is to stay unread.
    async fn watch(&mut self, read: &mut impl ReadSide, inbox: &mut BytesMut, rest: &mut Body, drain: bool) {
        let mut ended = rest.is_done();
        loop {
            while drain && let Ok(Some(piece)) = rest.take(inbox, u64::MAX) {
                self.shared.journal.body_arrived(&mut self.entry, &piece);
            }
            if !ended && rest.is_done() {
                self.shared.journal.body_ended(&self.entry, true);
                ended = true;
            }
            if inbox.len() > MAX_AHEAD || !(drain || rest.is_done()) {
                return read.hung_up().await;
            }
            if more(read, inbox).await == 0 {
                return;
            }
        }
    }
}

/// Why a body could not be read.
enum Unreadable {
    Gone,
    Malformed,
}

impl From<Malformed> for Unreadable {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

async fn next_head<W: Wire>(wire: &mut W, inbox: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    let (mut read, _) = wire.split();
    loop {
        if let Some(head) = Head::take(inbox)? {
            return Ok(Some(head));
        }
        if more(&mut read, inbox).await == 0 {
            return if inbox.is_empty() { Ok(None) } else { Err(Malformed) };
        }
    }
}

/// Reads what there is; 0 at the end, however that came.
async fn more(read: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> usize {
    inbox.reserve(READ);
    read.read_buf(inbox).await.unwrap_or(0)
}

async fn carry_out(plan: &Plan, write: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<End> {
    for step in &plan.steps {
        match step {
            Step::Write(bytes) => {
                write.write_all(bytes).await?;
                write.flush().await?;
            }
            Step::Wait(wait) => tokio::time::sleep(*wait).await,
        }
    }
    if plan.end == End::Stall {
        std::future::pending::<()>().await;
    }
    Ok(plan.end)
}

async fn control<W: Wire>(wire: &mut W, inbox: &mut BytesMut, head: &Head, shared: &Shared) -> End {
    let mut body = BytesMut::new();
    let Ok(mut rest) = head.body() else {
        return End::Close;
    };
    let (mut read, mut write) = wire.split();
    while !rest.is_done() {
        match rest.take(inbox, u64::MAX) {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) if rest.is_done() => break,
            Ok(None) if more(&mut read, inbox).await > 0 => {}
            _ => return End::Close,
        }
    }
    let answer = control::answer(head, &body, shared);
    let asked =
        Asked { method_is_head: false, old: head.old, closes: head.closes(), body_is_read: true, pace: Duration::ZERO };
    carry_out(&plan(answer, &Script::default(), asked), &mut write).await.unwrap_or(End::Close)
}

async fn refuse_malformed<W: Wire>(wire: &mut W, shared: &Shared) -> End {
    shared.journal.saw_malformed();
    let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let _ = wire.split().1.write_all(answer).await;
    End::Close
}

async fn mirror<W: Wire>(wire: &mut W, inbox: &BytesMut) {
    let (mut read, mut write) = wire.split();
    if write.write_all(inbox).await.is_ok() {
        // Ends with the connection, in whichever way.
        let _ = tokio::io::copy(&mut read, &mut write).await;
    }
    let _ = write.shutdown().await;
}

const READ: usize = 16 * 1024;
/// How much a client may send ahead before it is no longer read.
const MAX_AHEAD: usize = 1024 * 1024;
