//! A change of the binary under live traffic: a new process takes the listeners over from the old one.
//!
//! ```text
//! old: serves, answers the upgrade socket       new: `serve --upgrade`, configuration is valid
//!                                       <- hello
//!   listeners (copies; both hold them) ->
//!                                                    binds what is new, puts all parts together
//!                                       <- ready
//! SIGQUIT: admin service closes, go ->
//!                                                    binds the admin service's address, serves
//!                                       <- serving
//!   closes its listeners, done ->                    answers the upgrade socket
//! its calls run on, exits with the last
//! ```
//!
//! Invariant: one process at least accepts at each moment, and the queues of the listeners are never closed: until it says
//! `serving` the new one may fail, die or hang, and the old one serves on. Where the old one dies, the new one serves.
//! Never does: end a call; that is `lifecycle`.

mod channel;
mod offer;
mod socket;
mod takeover;

use std::io;
use std::net::TcpListener;

use super::listen::{bind, bind_all};
use super::parts::{Bound, Prepared};
use super::{Running, StartError};

pub(super) use offer::Offer;
pub(super) use socket::Socket;
pub(super) use takeover::Takeover;

/// Copies of listeners, to be handed over one day. They keep a port open, so whoever holds them has to let go in time.
pub(super) fn copies(listeners: &[Bound]) -> io::Result<Vec<TcpListener>> {
    listeners.iter().map(|(listener, _)| listener.try_clone()).collect()
}

/// Takes over from the process that serves, as far as to serve beside it; what is left is to tell it so.
///
/// # Errors
/// [`StartError`]; the old process serves on.
pub(super) async fn take_over(prepared: Prepared, at_once: bool) -> Result<Taken, StartError> {
    let mut takeover = Takeover::begin(prepared.startup().upgrade_socket.as_ref()).await?;
    match serve_beside(&mut takeover, prepared, at_once).await {
        Ok((running, listeners)) => Ok(Taken { running, listeners, takeover }),
        Err(error) => {
            takeover.give_up(&error).await;
            Err(error)
        }
    }
}

/// A gateway that serves beside the one from which it takes over.
pub(super) struct Taken {
    pub(super) running: Running,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) takeover: Takeover,
}

async fn serve_beside(
    takeover: &mut Takeover,
    prepared: Prepared,
    at_once: bool,
) -> Result<(Running, Vec<TcpListener>), StartError> {
    let startup = prepared.startup().clone();
    let listeners = bind_all(&startup, takeover.listeners())?;
    let copies = copies(&listeners)?;
    let later = takeover.has_port(startup.admin_listen);
    let admin = if later { None } else { Some(bind("admin.listen", startup.admin_listen)?) };
    let assembled = prepared.assemble(listeners)?;
    takeover.wait_for_word(at_once).await?;
    let admin = match admin {
        Some(admin) => admin,
        None => takeover.admin(startup.admin_listen).await?,
    };
    Ok((assembled.run(admin)?, copies))
}
