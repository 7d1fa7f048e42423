//! What two processes say to each other: lines of JSON over a unix socket, one of them with listeners.
//!
//! Invariant: both ends are the same user; what comes is bounded; a wait for a message can be given up and taken up again.
//! Never does: decide what follows from a message.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Changes where one side would misunderstand the other.
pub(super) const PROTOCOL: u32 = 1;
/// What the system passes with one message. Source: `SCM_MAX_FD` in Linux's include/net/scm.h.
const MAX_FDS: usize = 253;
const MAX_LINE: usize = 64 * 1024;

/// In the order in which they are said; `No` at any time.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Message {
    /// The new process wants to take over.
    Hello {
        /// [`PROTOCOL`] of the new process.
        protocol: u32,
        /// Its version, for the log.
        version: String,
    },
    /// The old one's listeners come with this: the upgrade socket's, then those for clients.
    Listeners {
        /// The old process's version, for the log.
        version: String,
        /// Its id. The system tells that of whoever opened the socket, which may have been handed over.
        pid: u32,
        /// Where its admin service listens, which is not handed over.
        admin: SocketAddr,
    },
    /// The new one lacks nothing but the word to go.
    Ready {
        /// Whether it wants that word now, without a SIGQUIT.
        at_once: bool,
    },
    /// The old one has closed its admin service; the new one may serve.
    Go,
    /// The new one serves.
    Serving,
    /// The old one has closed its listeners and answers to the upgrade socket no longer.
    Done,
    /// It comes to nothing, and the old one serves on.
    No {
        /// Why, for a person.
        reason: String,
    },
}

/// A connection to the other process.
pub(super) struct Channel {
    stream: UnixStream,
    /// The other process's id; 0 where it cannot be told.
    pub(super) pid: i32,
    unread: Vec<u8>,
    fds: Vec<OwnedFd>,
}

impl Channel {
    /// # Errors
    /// Where the other side is another user: whoever that is, they may neither have the listeners nor give us theirs.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        let (own, theirs) = (geteuid().as_raw(), peer.uid());
        if own != theirs {
            let words = format!("process {} is of user {theirs}, this one of {own}", peer.pid().unwrap_or(0));
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
        }
        Ok(Self { stream, pid: peer.pid().unwrap_or(0), unread: Vec::new(), fds: Vec::new() })
    }

    pub(super) async fn send(&mut self, message: &Message) -> io::Result<()> {
        self.send_with(message, &[]).await
    }

    /// Sends a message, and these with it. The other process has copies of its own then.
    pub(super) async fn send_with(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if fds.len() > MAX_FDS {
            return Err(io::Error::other(format!("more than {MAX_FDS} listeners cannot be handed over")));
        }
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        let mut sent = 0;
        while sent < line.len() {
            let (rest, fds) = (&line[sent..], if sent == 0 { fds } else { &[] });
            let once = || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                    return Err(io::Error::other("no room for the listeners"));
                }
                Ok(sendmsg(self.stream.as_fd(), &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)?)
            };
            sent += self.stream.async_io(Interest::WRITABLE, once).await?;
        }
        Ok(())
    }

    /// The next message; `None` where the other process has gone.
    pub(super) async fn receive(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.unread.len() > MAX_LINE {
                return Err(io::Error::other("a message is too long"));
            }
            if !self.fill().await? {
                return Ok(None);
            }
        }
    }

    /// The listeners that have come so far.
    pub(super) fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    async fn fill(&mut self) -> io::Result<bool> {
        let mut room = [0; 4096];
        let mut fds = Vec::new();
        let once = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let count = recvmsg(self.stream.as_fd(), &mut [IoSliceMut::new(&mut room)], &mut control, flags)?.bytes;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = message {
                    fds.extend(came);
                }
            }
            Ok(count)
        };
        let count = match self.stream.async_io(Interest::READABLE, once).await {
            // It went with something of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            count => count?,
        };
        self.unread.extend_from_slice(&room[..count]);
        self.fds.append(&mut fds);
        Ok(count > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn pair() -> (Channel, Channel) {
        let (one, other) = UnixStream::pair().expect("a pair");
        (Channel::new(one).expect("ours"), Channel::new(other).expect("ours"))
    }

    #[tokio::test]
    async fn listeners_arrive_and_are_the_same() {
        let (mut old, mut new) = pair();
        let listeners = [TcpListener::bind("127.0.0.1:0"), TcpListener::bind("[::1]:0")];
        let listeners: Vec<_> = listeners.into_iter().flatten().collect();
        let sent = Message::Listeners { version: "0".to_owned(), pid: 1, admin: SocketAddr::from(([127, 0, 0, 1], 1)) };
        let fds: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        old.send_with(&sent, &fds).await.expect("sent");
        old.send(&Message::Go).await.expect("sent");
        assert_eq!(new.receive().await.expect("received"), Some(sent));
        let came: Vec<_> = new.take_fds().into_iter().map(TcpListener::from).collect();
        let addresses = |all: &[TcpListener]| -> Vec<_> { all.iter().map(|one| one.local_addr().ok()).collect() };
        assert_eq!(addresses(&came), addresses(&listeners));
        assert_eq!(new.receive().await.expect("received"), Some(Message::Go));
        drop(old);
        assert_eq!(new.receive().await.expect("an end"), None);
    }

    #[tokio::test]
    async fn rubbish_is_an_error_and_a_flood_is_bounded() {
        let (mut old, mut new) = pair();
        old.stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
        new.receive().await.expect_err("no message");
        let (mut old, mut new) = pair();
        let flood = tokio::spawn(async move { old.stream.write_all(&vec![b'x'; 4 * MAX_LINE]).await });
        new.receive().await.expect_err("too long");
        drop(new);
        let _ = flood.await.expect("no panic");
    }
}
