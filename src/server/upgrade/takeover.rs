//! The new process's side: it finds the old one, gets ready, waits for the word, and serves in its place.
//!
//! Invariant: it accepts no client before the old process has said so or has died; where that one takes its word back, it
//! serves its last calls and ends.
//! Never does: take listeners from another user.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout};

use super::channel::{Channel, Message, PROTOCOL};
use super::socket::Socket;
use crate::config::UpgradeSocket;
use crate::server::StartError;
use crate::server::lifecycle::Lifecycle;
use crate::server::listen::bind;
use crate::server::parts::Bound;
use crate::telemetry::{Telemetry, Upgrade};

/// For the old process to send its listeners.
const ANSWER: Duration = Duration::from_secs(10);
/// For the admin service's port to become free, and the pause between two tries.
const ADMIN_PORT: Duration = Duration::from_secs(10);
const ADMIN_TRY: Duration = Duration::from_millis(50);

/// A takeover that has begun.
pub(in crate::server) struct Takeover {
    channel: Channel,
    /// Whether the old process has died. There is nobody to tell anything then.
    alone: bool,
    old: Old,
    socket: Socket,
}

/// What the old process has told.
struct Old {
    pid: u32,
    admin: SocketAddr,
    listeners: Vec<Bound>,
}

impl Takeover {
    /// Asks the process that serves for its listeners.
    ///
    /// # Errors
    /// `NobodyServes` or `Upgrade`.
    pub(in crate::server) async fn begin(wanted: Option<&UpgradeSocket>) -> Result<Self, StartError> {
        let Some(UpgradeSocket { path, .. }) = wanted else {
            let words = "no upgrade socket is configured (hint: set server.upgrade_socket, and restart once with it)";
            return Err(StartError::NobodyServes(words.to_owned()));
        };
        let mut channel = connect(path).await?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        // Where it does not listen, it may have said why.
        let _ = channel.send(&Message::Hello { protocol: PROTOCOL, version }).await;
        match timeout(ANSWER, channel.receive()).await {
            Err(_) => Err(failed(format!("it does not answer within {ANSWER:?}"))),
            Ok(Ok(Some(Message::Listeners { version, pid, admin }))) => {
                let (socket, listeners) = open(&mut channel, path.clone())?;
                log::info!("process {pid}, version {version}, has lent its listeners ({})", listeners.len());
                Ok(Self { channel, alone: false, old: Old { pid, admin, listeners }, socket })
            }
            Ok(Ok(Some(Message::No { reason }))) => Err(failed(reason)),
            Ok(Ok(Some(_)) | Err(_)) => Err(failed("it speaks otherwise than this one".to_owned())),
            Ok(Ok(None)) => Err(failed("it has gone".to_owned())),
        }
    }

    /// The listeners for clients, once.
    pub(in crate::server) fn listeners(&mut self) -> Vec<Bound> {
        std::mem::take(&mut self.old.listeners)
    }

    /// Whether the old process has this port for its admin service, and so cannot let go of it now.
    pub(in crate::server) fn has_port(&self, admin: SocketAddr) -> bool {
        admin.port() == self.old.admin.port()
    }

    /// Says that nothing is missing, and waits for the word. Where the old process dies, that is the word.
    ///
    /// # Errors
    /// `Upgrade`, where there will be none.
    pub(in crate::server) async fn wait_for_word(&mut self, at_once: bool) -> Result<(), StartError> {
        self.say(&Message::Ready { at_once }).await;
        if !at_once {
            let pid = self.old.pid;
            log::info!("ready to take over: SIGQUIT to process {pid} hands over (kill -QUIT {pid})");
        }
        match self.hear().await? {
            Some(Message::Go) | None => Ok(()),
            Some(_) => Err(failed("it speaks out of turn".to_owned())),
        }
    }

    /// The admin service's port, as soon as the old process has let go of it.
    ///
    /// # Errors
    /// `Listen`, where it does not become free; `Upgrade`, where the old process takes its word back.
    pub(in crate::server) async fn admin(&mut self, address: SocketAddr) -> Result<Bound, StartError> {
        let begun = Instant::now();
        loop {
            match bind("admin.listen", address) {
                Err(_) if begun.elapsed() < ADMIN_PORT => {}
                bound => return bound,
            }
            tokio::select! {
                () = sleep(ADMIN_TRY) => {}
                said = self.hear(), if !self.alone => drop(said?),
            }
        }
    }

    /// Tells the old process why this one does not take over.
    pub(in crate::server) async fn give_up(&mut self, error: &StartError) {
        self.say(&Message::No { reason: error.to_string() }).await;
    }

    /// Tells the old process, as soon as it is so, that this one serves, and waits until it has stopped to accept. Gives the
    /// upgrade socket, which is this one's from then on.
    ///
    /// # Errors
    /// `Upgrade`, where the old process serves on; this one then ends with the calls that it has.
    pub(in crate::server) async fn finish(
        mut self,
        lifecycle: &Lifecycle,
        telemetry: &Arc<Telemetry>,
    ) -> Result<Socket, StartError> {
        lifecycle.started().await;
        if lifecycle.is_ending() {
            let error = failed("it was told to end".to_owned());
            self.give_up(&error).await;
            return Err(error);
        }
        self.say(&Message::Serving).await;
        let heard = if self.alone { Ok(None) } else { self.hear().await };
        if let Err(error) = heard {
            log::error!("{error}");
            lifecycle.hand_over();
            return Err(error);
        }
        telemetry.upgrade(Upgrade::TakenOver);
        log::info!("took over from process {}", self.old.pid);
        Ok(self.socket)
    }

    async fn say(&mut self, message: &Message) {
        // Where it does not hear of it, it has gone, which the next message tells.
        let _ = self.channel.send(message).await;
    }

    /// The next word; `None` where the old process has died.
    async fn hear(&mut self) -> Result<Option<Message>, StartError> {
        match self.channel.receive().await {
            Ok(Some(Message::No { reason })) => Err(failed(reason)),
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) | Err(_) => {
                self.alone = true;
                log::warn!("process {} has gone without a word, this one serves in its place", self.old.pid);
                Ok(None)
            }
        }
    }
}

fn failed(reason: String) -> StartError {
    StartError::Upgrade(reason)
}

async fn connect(path: &Path) -> Result<Channel, StartError> {
    let nobody = |words: String| StartError::NobodyServes(format!("{}: {words}", path.display()));
    let stream = UnixStream::connect(path).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            nobody("no gateway answers (hint: without --upgrade this one serves by itself)".to_owned())
        }
        ErrorKind::PermissionDenied => {
            nobody("no permission (hint: be the user of the gateway that serves)".to_owned())
        }
        _ => nobody(error.to_string()),
    })?;
    Channel::new(stream).map_err(|error| nobody(format!("{error} (hint: be the user of the gateway that serves)")))
}

/// What came with the listeners' message: the upgrade socket's, and those for clients.
fn open(channel: &mut Channel, path: PathBuf) -> Result<(Socket, Vec<Bound>), StartError> {
    let mut fds = channel.take_fds().into_iter();
    let Some(first) = fds.next() else {
        return Err(failed("its listeners have not come (hint: too many open files?)".to_owned()));
    };
    let bound = |fd| {
        let listener = TcpListener::from(fd);
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let listeners: Result<Vec<Bound>, std::io::Error> = fds.map(bound).collect();
    Ok((Socket { listener: UnixListener::from(first), path }, listeners?))
}
