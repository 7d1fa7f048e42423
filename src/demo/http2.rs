//! The life of a connection over HTTP/2: many requests at once, each with its script.
//!
//! A script means what it means over HTTP/1.1, as far as HTTP/2 has it: an answer in raw bytes is taken apart and sent with its
//! own headers, and what breaks the framing of HTTP/1.1 resets the stream.
//! Invariant: while an answer is delayed or written, the client's reset ends it at once and is noted; what was written before
//! a cut has left before the cut.
//! Never does: decide what to answer; answer a control request.

mod exchange;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::{Ping, PingPong, Reason, SendStream, server};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use super::Shared;
use super::journal::Connection;
use exchange::Exchange;

/// Bytes of a body that a client may send before they were read.
const WINDOW: u32 = 1024 * 1024;

/// What a script wants of the connection, once all that was written before has left.
enum Cut {
    /// A reset of one stream.
    Stream(SendStream<Bytes>, Reason),
    /// GOAWAY and the end.
    GoAway,
    /// The end.
    Close,
    /// GOAWAY, and what is under way goes on.
    Part,
}

/// Serves a connection until it ends.
pub(super) async fn serve<S>(stream: S, shared: &Arc<Shared>, connection: &Arc<Connection>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = server::Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW * 8);
    builder.max_concurrent_streams(shared.options.streams);
    let Ok(mut h2) = builder.handshake::<_, Bytes>(stream).await else {
        shared.journal.saw_malformed();
        return;
    };
    let (cuts, wanted) = unbounded_channel();
    let mut flushed = Flushed { pings: h2.ping_pong(), wanted, next: VecDeque::new(), asked: 0 };
    let mut calls = JoinSet::new();
    let mut number = 0;
    loop {
        tokio::select! {
            accepted = h2.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    number += 1;
                    let exchange = Exchange::new(shared, connection, number, UnboundedSender::clone(&cuts));
                    calls.spawn(exchange.serve(request, respond));
                }
                Some(Err(error)) => {
                    if error.is_library() {
                        shared.journal.saw_malformed();
                    }
                    break;
                }
                None => break,
            },
            cut = flushed.next() => match cut {
                Cut::Stream(mut stream, reason) => stream.send_reset(reason),
                Cut::GoAway => h2.abrupt_shutdown(Reason::NO_ERROR),
                Cut::Part => h2.graceful_shutdown(),
                Cut::Close => break,
            },
        }
    }
    // Closed before the calls end, so that each of them notes that its client is gone.
    drop(h2);
    while calls.join_next().await.is_some() {}
}

/// The cuts that are wanted, each behind the answer to a ping that went out after it was wanted.
struct Flushed {
    pings: Option<PingPong>,
    wanted: UnboundedReceiver<Cut>,
    next: VecDeque<Cut>,
    /// How many of them stand before the ping.
    asked: usize,
}

impl Flushed {
    async fn next(&mut self) -> Cut {
        poll_fn(|context| {
            while let Poll::Ready(Some(cut)) = self.wanted.poll_recv(context) {
                if matches!(cut, Cut::Part) {
                    return Poll::Ready(cut);
                }
                self.next.push_back(cut);
            }
            let Some(pings) = &mut self.pings else { return Poll::Pending };
            loop {
                if self.asked > 0 {
                    if pings.poll_pong(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.asked -= 1;
                    if let Some(cut) = self.next.pop_front() {
                        return Poll::Ready(cut);
                    }
                }
                if self.next.is_empty() || pings.send_ping(Ping::opaque()).is_err() {
                    return Poll::Pending;
                }
                self.asked = 1;
            }
        })
        .await
    }
}
