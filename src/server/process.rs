//! What the system allows this process: no memory in files or for other processes, as many open files as it may have, and
//! threads that others go before; and what this process gives back to it.
//!
//! Invariant: a process that cannot be changed serves all the same, and says so.
//! Never does: change a program that embeds the gateway, but for threads of our own; only [`super::serve`] asks for the rest.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What came of it. Kept until there is a log.
pub(super) struct Settled {
    private: io::Result<()>,
    files: Files,
}

/// How many files may be open.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    /// `None` is no limit.
    before: Option<u64>,
    now: Option<u64>,
}

/// Whether this process is the gateway's.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// Settles it. Make it first thing: what is read from then on is in no core file.
pub(super) fn settle() -> Settled {
    IS_OURS.store(true, Ordering::Relaxed);
    Settled { private: private(), files: files() }
}

/// Makes the thread that asks for it wait for others that want its processor: of work that it competes for, it gets about a
/// tenth. Not less, so that on a machine that is never idle a revoked key is refused in the end. Where the system does not
/// allow that, the thread goes on as it is.
pub(super) fn step_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        log::debug!("a thread keeps its priority: {error}");
    }
}

/// Linux takes a thread's niceness where POSIX takes a process's.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Gives the system the memory that is free now, all of it, in the thread that asks for it.
///
/// mimalloc keeps such memory for a second, and then leaves it to whoever frees something next: behind a reload of a million
/// keys that was a thread that serves calls, for half a gigabyte and 30 ms, twice. It has no safe function for this; but where
/// it finds no room for what it is asked for, it gives all of it back and looks again (`_mi_malloc_generic` in its `page.c`), so
/// it is asked for more than there can be. (`MIMALLOC_SHOW_ERRORS=1` tells of that each time.) The system's allocator says no,
/// and that is all; one that aborts instead, as AddressSanitizer's may, would end the program, so that none is asked in a
/// process that is not the gateway's.
pub(super) fn give_back_memory() {
    if !IS_OURS.load(Ordering::Relaxed) {
        return;
    }
    let mut room = Vec::<u8>::new();
    // It never succeeds. Looked at, because a compiler may leave out room that nobody uses.
    let _ = room.try_reserve_exact(MORE_THAN_CAN_BE);
    std::hint::black_box(&room);
}

/// Within what may be asked for, which ends at half of all addresses, and beyond what a processor has.
const MORE_THAN_CAN_BE: usize = usize::MAX / 4;

/// A core file would hold all keys. The limit is for files; a collector that the kernel pipes to (`core_pattern`), and
/// users who read `/proc/PID/mem` or `environ`, are kept out by the second.
fn private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Raises the soft limit, which is 1024 in most shells, to the hard one. Nothing here uses `select`, for which the soft
/// one is kept low.
fn files() -> Files {
    let Rlimit { current: before, maximum } = getrlimit(Resource::Nofile);
    if before == maximum {
        return Files { before, now: before };
    }
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    Files { before, now: if raised.is_ok() { maximum } else { before } }
}

impl Settled {
    /// Says it. A call takes two open files: its connection and the provider's.
    pub(super) fn told(&self, max_connections: u32) {
        if let Err(error) = &self.private {
            log::warn!("the system keeps this process's memory open to core files or debuggers: {error}");
        }
        let Files { before, now } = self.files;
        let text = |limit: Option<u64>| limit.map_or_else(|| "any number of".to_owned(), |limit| limit.to_string());
        let raised = if before == now { String::new() } else { format!(", raised from {}", text(before)) };
        log::info!("up to {} open files{raised}", text(now));
        let wanted = u64::from(max_connections) * 2;
        if let Some(now) = now.filter(|now| *now < wanted) {
            log::warn!(
                "{now} open files are fewer than max_connections ({max_connections}) can take, which is {wanted}: connections beyond them wait (hint: LimitNOFILE, or a smaller max_connections)"
            );
        }
    }
}
