//! Bytes in both directions, until both sides have ended.
//!
//! Invariant: what one side sent before its end reaches the other, and then its end does; the other direction goes on to an
//! end of its own. What is read was written before more is, so that a side that takes nothing is not read from for.
//! Never does: hold more than one read of each direction; keep memory for a direction that is quiet.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

use crate::proxy::waits::poll_until;
use crate::units::Mask;

/// Room for one read, on the stack.
const ROOM: usize = 16 * 1024;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Without a byte from either side.
    pub(super) idle: Duration,
    /// For the client to take what was read for it.
    pub(super) client: Duration,
    /// The same for the provider.
    pub(super) provider: Duration,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// By both sides, or by one that then took no more.
    Ended,
    /// Neither side said anything for too long, or ended.
    Quiet,
    ClientGone,
    /// It broke off, and this is how.
    ProviderGone(String),
    /// It took nothing for too long.
    ProviderStuck,
}

/// Passes bytes on: first those that are here already, of the client and of the provider. A key of ours is covered where it
/// comes in one piece, because a message does not wait for the next one.
pub(super) async fn duplex<C, P>(
    client: &mut C,
    provider: &mut P,
    (of_client, of_provider): (Bytes, Bytes),
    mask: Option<&Mask>,
    patience: Patience,
) -> Over
where
    C: AsyncRead + AsyncWrite + Unpin,
    P: AsyncRead + AsyncWrite + Unpin,
{
    let of_provider = covered(&of_provider, mask).unwrap_or(of_provider);
    let (mut up, mut down) = (Way::begin(of_client), Way::begin(of_provider));
    let mut timer = pin!(sleep(patience.idle));
    let mut since = Instant::now();
    poll_fn(|context| {
        let gone = up.poll(context, client, provider, None);
        if up.is_lost() {
            return Poll::Ready(Over::ClientGone);
        }
        let answered = down.poll(context, provider, client, mask);
        match (gone, answered) {
            (_, Poll::Ready(End::Lost(cause))) => return Poll::Ready(Over::ProviderGone(cause)),
            (Poll::Ready(End::Refused), Poll::Ready(End::Refused)) => return Poll::Ready(Over::ClientGone),
            (Poll::Ready(_), Poll::Ready(_)) => return Poll::Ready(Over::Ended),
            _ => {}
        }
        if up.has_moved() | down.has_moved() {
            since = Instant::now();
        }
        let quiet = (since + patience.idle, if up.is_over || down.is_over { Over::Ended } else { Over::Quiet });
        let stuck = [
            up.stuck.map(|at| (at + patience.provider, Over::ProviderStuck)),
            down.stuck.map(|at| (at + patience.client, Over::ClientGone)),
        ];
        let sooner = |one: (Instant, Over), other: (Instant, Over)| if other.0 < one.0 { other } else { one };
        let (end, over) = stuck.into_iter().flatten().fold(quiet, sooner);
        poll_until(timer.as_mut(), end, context).map(|()| over)
    })
    .await
}

fn covered(bytes: &[u8], mask: Option<&Mask>) -> Option<Bytes> {
    mask.and_then(|mask| mask.masked(bytes)).map(Bytes::from)
}

/// How a direction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Its sender said so, and so was its receiver told.
    Told,
    /// Its receiver takes no more.
    Refused,
    /// Its sender broke off.
    Lost(String),
}

/// One direction.
struct Way {
    /// What was read and not yet written.
    held: Bytes,
    /// Whether something that was written is not sent, and whether that is what is waited for.
    is_unsent: bool,
    is_flushing: bool,
    has_moved: bool,
    /// Since when its receiver takes nothing.
    stuck: Option<Instant>,
    /// How it ends; absent while it is read from.
    end: Option<End>,
    /// Whether nothing is left to do.
    is_over: bool,
}

impl Way {
    fn begin(held: Bytes) -> Self {
        let (is_unsent, is_flushing, has_moved, stuck, end, is_over) = Default::default();
        Self { held, is_unsent, is_flushing, has_moved, stuck, end, is_over }
    }

    /// Whether anything was read since this was asked last.
    fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    fn is_lost(&self) -> bool {
        matches!(self.end, Some(End::Lost(_)))
    }

    /// Passes on all that can be without a wait.
    fn poll<F, T>(&mut self, context: &mut Context<'_>, from: &mut F, to: &mut T, mask: Option<&Mask>) -> Poll<End>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        if !self.is_over {
            if ready!(self.poll_pass(context, from, to, mask)).is_err() {
                self.end = Some(End::Refused);
            }
            (self.is_over, self.stuck) = (true, None);
        }
        Poll::Ready(self.end.clone().unwrap_or(End::Told))
    }

    /// The same; ready at the end. An error is the receiver's.
    fn poll_pass<F, T>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut F,
        to: &mut T,
        mask: Option<&Mask>,
    ) -> Poll<io::Result<()>>
    where
        F: AsyncRead + Unpin,
        T: AsyncWrite + Unpin,
    {
        loop {
            while !self.held.is_empty() {
                match ready!(self.takes(Pin::new(&mut *to).poll_write(context, &self.held)))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    count => self.held.advance(count),
                }
                self.stuck = None;
                self.is_unsent = true;
            }
            if self.is_flushing {
                ready!(self.takes(Pin::new(&mut *to).poll_flush(context)))?;
                (self.is_flushing, self.is_unsent, self.stuck) = (false, false, None);
            }
            if self.end == Some(End::Told) {
                return self.takes(Pin::new(&mut *to).poll_shutdown(context));
            }
            if self.end.is_none() && self.poll_read(context, from, mask).is_ready() {
                continue;
            }
            match (self.is_unsent, self.end.is_some()) {
                // All that is here leaves together.
                (true, _) => self.is_flushing = true,
                (false, true) => return Poll::Ready(Ok(())),
                (false, false) => return Poll::Pending,
            }
        }
    }

    /// Takes note of since when the receiver has not taken what it was given.
    fn takes<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        if polled.is_pending() {
            self.stuck.get_or_insert_with(Instant::now);
        }
        polled
    }

    /// Reads once, by way of the stack.
    fn poll_read<F: AsyncRead + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        from: &mut F,
        mask: Option<&Mask>,
    ) -> Poll<()> {
        let mut space = [const { MaybeUninit::uninit() }; ROOM];
        let mut read = ReadBuf::uninit(&mut space);
        let came = ready!(Pin::new(from).poll_read(context, &mut read));
        self.has_moved = true;
        match came {
            Ok(()) if read.filled().is_empty() => self.end = Some(End::Told),
            Ok(()) => self.held = covered(read.filled(), mask).unwrap_or_else(|| Bytes::copy_from_slice(read.filled())),
            // TLS whose side just closed, as many do: frames tell for themselves where they end.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.end = Some(End::Told),
            Err(error) => self.end = Some(End::Lost(error.to_string())),
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
