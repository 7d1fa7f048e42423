//! A gateway as a process: its signals, from the first moment to the last.
//!
//! Invariant: SIGHUP never ends the process, not even before the gateway serves.
//! Never does: handle signals of a program that embeds the gateway; only [`serve`] does.

use std::future::pending;
use std::io;
use std::panic::PanicHookInfo;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::listen::{bind, bind_all};
use super::parts::Prepared;
use super::process;
use super::successor::CommandLine;
use super::systemd::Supervisor;
use super::upgrade::{Offer, Socket, Taken, copies, take_over};
use super::{Options, Running, StartError};
use crate::config::Sources;
use crate::telemetry::Upgrade;

/// How a process comes to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// On listeners of its own.
    Fresh,
    /// On those of a process that serves, which it takes over.
    Upgrade {
        /// As soon as it is ready, not only when the other one gets a SIGQUIT.
        at_once: bool,
    },
}

/// The process's signals, caught. Make it first thing.
pub struct Signals {
    runtime: Runtime,
    caught: Caught,
}

struct Caught {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    user: Signal,
}

/// A reload that goes on.
struct Reload<'s> {
    end: oneshot::Receiver<()>,
    /// Who was told that it began.
    told: Option<&'s Supervisor>,
}

/// Waits for the end of a reload; without one, for ever. Refused or applied, it is in the log.
async fn over(reload: &mut Option<Reload<'_>>) {
    match reload {
        Some(reload) => drop((&mut reload.end).await),
        None => pending().await,
    }
}

impl Signals {
    /// Catches the signals.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn catch() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let hangup = signal(SignalKind::hangup())?;
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let quit = signal(SignalKind::quit())?;
        let user = signal(SignalKind::user_defined2())?;
        drop(guard);
        Ok(Self { runtime, caught: Caught { hangup, terminate, interrupt, quit, user } })
    }

    /// Does what signals say until the gateway has ended: SIGHUP reloads, SIGTERM drains, SIGINT stops. From here on
    /// the process is the gateway's: its panics go to the log.
    pub fn obey(self, running: Running) {
        // Nobody can take over from it.
        let command = CommandLine::default();
        let _ = self.run(running, Supervisor::new(None), &command, |_| async { Ok(()) });
    }

    /// The same with what goes on beside it, which is given the SIGQUITs as long as it wants them. Its error, where it has
    /// come to one by the end, is this one's.
    fn run<F>(
        self,
        running: Running,
        supervisor: Supervisor,
        command: &CommandLine,
        beside: impl FnOnce(UnboundedReceiver<()>) -> F,
    ) -> Result<(), StartError>
    where
        F: Future<Output = Result<(), StartError>> + Send + 'static,
    {
        std::panic::set_hook(Box::new(log_panic));
        let Self { runtime, mut caught } = self;
        let (quits, wanted) = unbounded_channel();
        let beside = runtime.spawn(beside(wanted));
        runtime.spawn(supervisor.clone().follow(Arc::clone(&running.lifecycle)));
        let is_over = runtime.block_on(async {
            let mut ended = running.ended.clone();
            // One after the other: of signals that come meanwhile, the system keeps one.
            let mut reload: Option<Reload<'_>> = None;
            loop {
                tokio::select! {
                    _ = ended.changed() => return true,
                    () = running.lifecycle.overdue() => return false,
                    _ = caught.hangup.recv(), if reload.is_none() => {
                        // Whoever it watches now has not been told to reload.
                        let told = (!running.lifecycle.has_handed_over()).then_some(&supervisor);
                        told.inspect(|supervisor| supervisor.reloading());
                        reload = Some(Reload { end: running.control.begin_reload(), told });
                    }
                    () = over(&mut reload) => {
                        let told = reload.take().and_then(|reload| reload.told);
                        // While it read, it may have been told to end, or to make way.
                        told.filter(|_| !running.lifecycle.is_ending()).inspect(|supervisor| supervisor.ready());
                    }
                    _ = caught.terminate.recv() => running.drain(),
                    _ = caught.interrupt.recv() => running.lifecycle.stop(),
                    _ = caught.user.recv() => start_successor(&running, command),
                    _ = caught.quit.recv() => {
                        if quits.send(()).is_err() {
                            running.telemetry.upgrade(Upgrade::Ignored);
                            log::warn!("SIGQUIT is ignored: there is nothing to hand over, or no upgrade socket for it");
                        }
                    }
                }
            }
        });
        if is_over {
            running.wait()
        } else {
            running.give_up()
        }
        if !beside.is_finished() {
            return Ok(());
        }
        runtime.block_on(beside).unwrap_or(Ok(()))
    }

    /// Takes over from another process. `None` where a signal has ended that before it was done.
    fn take_over(&mut self, prepared: Prepared, at_once: bool) -> Result<Option<Taken>, StartError> {
        let Self { runtime, caught } = self;
        let Caught { terminate, interrupt, quit, .. } = caught;
        runtime.block_on(async {
            let mut taking = std::pin::pin!(take_over(prepared, at_once));
            loop {
                tokio::select! {
                    taken = &mut taking => return taken.map(Some),
                    _ = terminate.recv() => break,
                    _ = interrupt.recv() => break,
                    _ = quit.recv() => {
                        log::warn!("SIGQUIT is ignored: this is the new process, the old one is the one to be told");
                    }
                }
            }
            log::info!("told to end before it took over, the other process serves on");
            Ok(None)
        })
    }
}

fn start_successor(running: &Running, command: &CommandLine) {
    if running.lifecycle.is_ending() {
        log::warn!("SIGUSR2 is ignored: this process is about to end");
        return;
    }
    let lifecycle = Arc::clone(&running.lifecycle);
    if let Err(error) = command.start_successor(move || lifecycle.has_handed_over()) {
        running.telemetry.upgrade(Upgrade::Failed);
        log::error!("SIGUSR2: no new process could be started: {error}");
    }
}

/// Runs a gateway as this process until a signal ends it, or another process has taken over. `command` is what SIGUSR2
/// starts such a process by. Call it once, behind no other gateway of the process and before none: it may have a runtime that
/// leaves traces in Pingora.
///
/// # Errors
/// [`StartError`], before anything serves; `Upgrade` also where the process from which this one had begun to take over has
/// kept its place.
pub fn serve(
    mut signals: Signals,
    sources: Sources,
    options: Options,
    manner: Manner,
    command: &CommandLine,
) -> Result<(), StartError> {
    let settled = process::settle();
    let supervisor = Supervisor::new(sources.environment.get("NOTIFY_SOCKET"));
    let prepared = Prepared::new(sources, options)?.alone();
    settled.told(prepared.max_connections());
    if let Manner::Upgrade { at_once } = manner {
        let Some(Taken { running, listeners, takeover }) = signals.take_over(prepared, at_once)? else {
            return Ok(());
        };
        let offer = Offer::new(&running, listeners, supervisor.clone());
        let (lifecycle, telemetry) = (Arc::clone(&running.lifecycle), Arc::clone(&running.telemetry));
        return signals.run(running, supervisor, command, |quits| async move {
            let socket = takeover.finish(&lifecycle, &telemetry).await?;
            offer.run(socket, quits).await;
            Ok(())
        });
    }
    let startup = prepared.startup();
    let listeners = bind_all(startup, Vec::new())?;
    let admin = bind("admin.listen", startup.admin_listen)?;
    let socket = Socket::open(startup.upgrade_socket.as_ref())?;
    let copies = if socket.is_some() { copies(&listeners)? } else { Vec::new() };
    let running = prepared.assemble(listeners)?.run(admin)?;
    let offer = Offer::new(&running, copies, supervisor.clone());
    signals.run(running, supervisor, command, |quits| async move {
        if let Some(socket) = socket {
            offer.run(socket, quits).await;
        }
        Ok(())
    })
}

/// A panic's place goes to the log; its text only where it is a constant, because a built one may hold anything.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload().downcast_ref::<&str>().unwrap_or(&"(text withheld)");
    match panic.location() {
        Some(place) => log::error!("panic at {place}: {text}"),
        None => log::error!("panic: {text}"),
    }
}
