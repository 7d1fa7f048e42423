//! A gateway as a process: its signals, from the first moment to the last.
//!
//! Invariant: SIGHUP never ends the process, not even before the gateway serves.
//! Never does: handle signals of a program that embeds the gateway; only [`serve`] does.

use std::io;
use std::panic::PanicHookInfo;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Options, Running, StartError, start};
use crate::config::Sources;

/// The process's signals, caught. Make it first thing.
pub struct Signals {
    runtime: Runtime,
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
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
        drop(guard);
        Ok(Self { runtime, hangup, terminate, interrupt, quit })
    }

    /// Does what signals say until the gateway has ended: SIGHUP reloads, SIGTERM drains, SIGINT stops. From here on
    /// the process is the gateway's: its panics go to the log.
    pub fn obey(mut self, running: Running) {
        std::panic::set_hook(Box::new(log_panic));
        let runtime = self.runtime;
        runtime.block_on(async {
            let mut ended = running.ended.clone();
            loop {
                tokio::select! {
                    _ = ended.changed() => return,
                    _ = self.hangup.recv() => {
                        // Refused or applied, it is in the log.
                        let _ = running.reload();
                    }
                    _ = self.terminate.recv() => running.drain(),
                    _ = self.interrupt.recv() => running.lifecycle.stop(),
                    _ = self.quit.recv() => log::warn!("SIGQUIT is ignored: there is no new process to hand over to"),
                }
            }
        });
        running.wait();
    }
}

/// Runs a gateway as this process until a signal ends it.
///
/// # Errors
/// [`StartError`], before anything serves.
pub fn serve(signals: Signals, sources: Sources, options: Options) -> Result<(), StartError> {
    signals.obey(start(sources, options)?);
    Ok(())
}

/// A panic's place goes to the log; its text only where it is a constant, because a built one may hold anything.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let text = panic.payload().downcast_ref::<&str>().unwrap_or(&"(text withheld)");
    match panic.location() {
        Some(place) => log::error!("panic at {place}: {text}"),
        None => log::error!("panic: {text}"),
    }
}
