//! The two kinds of byte streams that a connection may run over, and what only a socket can do.
//!
//! Invariant: both halves may be used at once, so that a client's hanging up is seen while an answer is being written.
//! Never does: interpret a byte.

use std::future::{Future, pending};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, tcp};

/// A byte stream in both directions.
pub(super) trait Wire: Send + 'static {
    /// Both directions, to be used at once.
    fn split(&mut self) -> (impl ReadSide, impl AsyncWrite + Send + Unpin);

    /// Ends the connection by a reset, where the stream knows such a thing; drops it otherwise.
    fn reset(self);
}

/// The direction from the client.
pub(super) trait ReadSide: AsyncRead + Send + Unpin {
    /// Waits until the client has closed its direction, without reading what it sent before.
    fn hung_up(&self) -> impl Future<Output = ()> + Send;
}

/// Any stream that is no bare socket.
pub(super) struct Layered<S>(pub(super) S);

impl Wire for TcpStream {
    fn split(&mut self) -> (impl ReadSide, impl AsyncWrite + Send + Unpin) {
        Self::split(self)
    }

    fn reset(self) {
        // Fails only on a socket that is dead anyway.
        let _ = self.set_zero_linger();
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for Layered<S> {
    fn split(&mut self) -> (impl ReadSide, impl AsyncWrite + Send + Unpin) {
        let (read, write): (ReadHalf<&mut S>, WriteHalf<&mut S>) = tokio::io::split(&mut self.0);
        (read, write)
    }

    fn reset(self) {}
}

impl ReadSide for tcp::ReadHalf<'_> {
    async fn hung_up(&self) {
        loop {
            match self.ready(Interest::READABLE).await {
                Ok(ready) if !ready.is_read_closed() => tokio::time::sleep(POLL).await,
                _ => return,
            }
        }
    }
}

impl<S: AsyncRead + Send + Unpin> ReadSide for ReadHalf<S> {
    fn hung_up(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// Unread bytes keep a socket readable, so its being closed cannot be awaited, only looked for.
const POLL: Duration = Duration::from_millis(5);
