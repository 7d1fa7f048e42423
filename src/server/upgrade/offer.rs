//! The old process's side: it answers the upgrade socket, and hands over where it is told to and somebody is ready.
//!
//! Invariant: one upgrade at a time; until the new process serves, all that was given up for it is taken back.
//! Never does: stop serving by itself.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::channel::{Channel, Message, PROTOCOL};
use super::socket::Socket;
use crate::admin::AdminSwitch;
use crate::server::Running;
use crate::server::lifecycle::Lifecycle;
use crate::server::listen::bind;
use crate::server::systemd::Supervisor;
use crate::telemetry::{Telemetry, Upgrade};

/// For the first words of whoever connects.
const GREETING: Duration = Duration::from_secs(5);
/// From the word to go until the new process serves: its 10 s for the admin service's port, and some more.
const HAND_OVER: Duration = Duration::from_secs(20);
/// Between two tries to have the admin service's port back.
const REOPEN: Duration = Duration::from_secs(1);
/// After a connection that could not be accepted: mostly too many open files, which pass.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What a gateway offers to a process that wants to take over.
pub(in crate::server) struct Offer {
    listeners: Vec<TcpListener>,
    admin: SocketAddr,
    admin_switch: AdminSwitch,
    lifecycle: Arc<Lifecycle>,
    telemetry: Arc<Telemetry>,
    supervisor: Supervisor,
    reopening: Option<JoinHandle<()>>,
}

/// How a meeting with a new process ended.
enum Met {
    HandedOver,
    /// It asked for nothing.
    Nobody,
    Failed(String),
    /// This process is about to end.
    Ending,
}

impl Offer {
    pub(in crate::server) fn new(running: &Running, listeners: Vec<TcpListener>, supervisor: Supervisor) -> Self {
        Self {
            listeners,
            admin: running.admin,
            admin_switch: running.admin_switch.clone(),
            lifecycle: Arc::clone(&running.lifecycle),
            telemetry: Arc::clone(&running.telemetry),
            supervisor,
            reopening: None,
        }
    }

    /// Offers until the gateway has handed over or is about to end. `quits` are the SIGQUITs.
    pub(in crate::server) async fn run(mut self, socket: Socket, mut quits: UnboundedReceiver<()>) {
        let cloned = socket.listener.try_clone().and_then(UnixListener::from_std);
        let listener = match cloned {
            Ok(listener) => listener,
            Err(error) => return log::error!("no process can take over from this one: {error}"),
        };
        loop {
            let stream = tokio::select! {
                stream = accept(&listener) => stream,
                Some(()) = quits.recv() => {
                    self.ignore("no new process has come (hint: first `serve --upgrade`, then SIGQUIT)");
                    continue;
                }
                _ = self.lifecycle.ending() => break,
            };
            let mut channel = match Channel::new(stream) {
                Ok(channel) => channel,
                Err(error) => {
                    log::warn!("the upgrade socket: somebody is turned away: {error}");
                    continue;
                }
            };
            match self.meet(&mut channel, &listener, &mut quits).await {
                Met::HandedOver => return,
                Met::Nobody => {}
                Met::Ending => break,
                Met::Failed(reason) => {
                    self.telemetry.upgrade(Upgrade::Failed);
                    log::error!("process {} does not take over, this one serves on: {reason}", channel.pid);
                }
            }
        }
        socket.remove();
    }

    async fn meet(&mut self, channel: &mut Channel, listener: &UnixListener, quits: &mut UnboundedReceiver<()>) -> Met {
        let pid = channel.pid;
        match timeout(GREETING, channel.receive()).await {
            Ok(Ok(Some(Message::Hello { protocol: PROTOCOL, version }))) => {
                log::info!("process {pid}, version {version}, wants to take over");
            }
            Ok(Ok(Some(Message::Hello { version, .. }))) => {
                let reason = "the two versions do not understand each other: restart instead".to_owned();
                let _ = channel.send(&Message::No { reason }).await;
                return Met::Failed(format!("its version, {version}, speaks otherwise than this one"));
            }
            // Somebody who looks whether the socket is answered.
            Ok(Ok(None)) => return Met::Nobody,
            Ok(Ok(Some(_)) | Err(_)) => return Met::Failed("it speaks otherwise than a gateway".to_owned()),
            Err(_) => return Met::Failed("it says nothing".to_owned()),
        }
        if let Err(error) = self.hand_out(channel, listener).await {
            return Met::Failed(format!("the listeners could not be sent: {error}"));
        }
        let mut ready = false;
        loop {
            tokio::select! {
                message = channel.receive() => match message {
                    Ok(Some(Message::Ready { at_once: true })) => return self.hand_over(channel).await,
                    Ok(Some(Message::Ready { at_once: false })) => {
                        ready = true;
                        log::info!("process {pid} is ready to take over: SIGQUIT to this process, {}", std::process::id());
                    }
                    other => return Met::Failed(unexpected(other)),
                },
                Some(()) = quits.recv() => {
                    if ready {
                        return self.hand_over(channel).await;
                    }
                    self.ignore(&format!("process {pid} has come, but is not ready so far"));
                }
                other = accept(listener) => drop(tokio::spawn(turn_away(other, pid))),
                _ = self.lifecycle.ending() => {
                    let reason = "it was told to end".to_owned();
                    let _ = channel.send(&Message::No { reason }).await;
                    return Met::Ending;
                }
            }
        }
    }

    async fn hand_out(&self, channel: &mut Channel, listener: &UnixListener) -> io::Result<()> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let message = Message::Listeners { version, pid: std::process::id(), admin: self.admin };
        let clients = self.listeners.iter().map(|listener| listener.as_fd());
        let fds: Vec<_> = std::iter::once(listener.as_fd()).chain(clients).collect();
        channel.send_with(&message, &fds).await
    }

    async fn hand_over(&mut self, channel: &mut Channel) -> Met {
        let pid = channel.pid;
        log::info!("handing over to process {pid}");
        if let Some(reopening) = self.reopening.take() {
            reopening.abort();
        }
        self.admin_switch.close();
        let serves = async {
            channel.send(&Message::Go).await?;
            channel.receive().await
        };
        let failed = match timeout(HAND_OVER, serves).await {
            Ok(Ok(Some(Message::Serving))) => None,
            Ok(other) => Some(unexpected(other)),
            Err(_) => Some(format!("it was told to serve and did not within {HAND_OVER:?}")),
        };
        if let Some(reason) = failed {
            // It may come to itself later, and must not serve then.
            let _ = channel.send(&Message::No { reason: reason.clone() }).await;
            self.reopen_admin();
            return Met::Failed(reason);
        }
        if pid > 0 {
            self.supervisor.main_process_is(pid);
        }
        log::info!("process {pid} serves, this one ends with its last call");
        self.lifecycle.hand_over();
        // Where it does not hear of it, it has died, after all was done that could be.
        if let Err(error) = channel.send(&Message::Done).await {
            log::error!("process {pid} served and has gone: {error}");
        }
        Met::HandedOver
    }

    /// Takes the admin service's port back, however long somebody has it.
    fn reopen_admin(&mut self) {
        let (address, switch, lifecycle) = (self.admin, self.admin_switch.clone(), Arc::clone(&self.lifecycle));
        self.reopening = Some(tokio::spawn(async move {
            let mut told = false;
            loop {
                match bind("admin.listen", address) {
                    Ok((listener, _)) => {
                        switch.open(listener);
                        return log::info!("admin service again on http://{address}");
                    }
                    Err(error) if !told => log::error!("the admin service is closed, its port is tried on: {error}"),
                    Err(_) => {}
                }
                told = true;
                tokio::select! {
                    () = sleep(REOPEN) => {}
                    _ = lifecycle.ending() => return,
                }
            }
        }));
    }

    fn ignore(&self, reason: &str) {
        self.telemetry.upgrade(Upgrade::Ignored);
        log::warn!("SIGQUIT is ignored: {reason}");
    }
}

async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                log::warn!("the upgrade socket could not accept a connection: {error}");
                sleep(BACK_OFF).await;
            }
        }
    }
}

async fn turn_away(stream: UnixStream, busy_with: i32) {
    let reason = format!("another upgrade is under way, that of process {busy_with} (hint: end that one first)");
    let told = match Channel::new(stream) {
        Ok(mut channel) => {
            // What it said is read first: a connection that is closed with something unread may lose what was answered.
            let _ = timeout(GREETING, channel.receive()).await;
            channel.send(&Message::No { reason }).await
        }
        Err(error) => Err(error),
    };
    match told {
        Ok(()) => log::warn!("a second new process is turned away, process {busy_with} has come before it"),
        Err(error) => log::warn!("the upgrade socket: somebody is turned away: {error}"),
    }
}

fn unexpected(message: io::Result<Option<Message>>) -> String {
    match message {
        Ok(Some(Message::No { reason })) => reason,
        Ok(Some(_)) => "it speaks out of turn".to_owned(),
        Ok(None) => "it has gone".to_owned(),
        Err(error) => format!("it cannot be understood: {error}"),
    }
}
