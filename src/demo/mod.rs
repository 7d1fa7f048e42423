//! A built-in provider that speaks OpenAI's protocol and Anthropic's, and misbehaves on request: `ai-gateway demo` shows the gateway with
//! it, and the tests use it as their upstream.
//!
//! Invariant: an answer follows from the request and the script alone, never from a clock, so that the same request sent
//! directly and through a gateway gets the same bytes.
//! Never does: know anything of the gateway; keep a connection or a task alive after [`Provider::stop`].

mod answer;
mod anthropic;
mod connection;
mod control;
mod http2;
mod journal;
mod openai;
mod request;
mod script;
mod seed;
#[cfg(test)]
mod tests;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::journal::{Received, Used};
pub use self::script::{After, Cut, CutAt, Fault, Framing, HowCut, Interim, Reply, Script, Version};

use self::journal::Journal;
use self::script::Queue;
use self::wire::{Layered, Wire};

/// How a provider is to behave where no script says otherwise.
#[derive(Clone)]
pub struct ProviderOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The one key that is accepted; absent: any request is served.
    pub api_key: Option<String>,
    /// The models that exist; where none of these begins like Anthropic's, there are two of its own besides.
    pub models: Vec<String>,
    /// The pause between two events of a stream.
    pub pace: Duration,
    /// Whether `/__script`, `/__received` and `/v1/echo` exist.
    pub control: bool,
    /// How many bytes of each request's body are kept for [`Provider::received`].
    pub body_cap: usize,
    /// Streams that a connection over HTTP/2 may have at once.
    pub streams: u32,
}

impl Default for ProviderOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: None,
            models: MODELS.iter().map(ToString::to_string).collect(),
            pace: Duration::ZERO,
            control: false,
            body_cap: 64 * 1024,
            streams: 250,
        }
    }
}

/// A running provider. Dropping it closes its listener and all its connections.
pub struct Provider {
    addr: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Provider {
    /// Binds `options.listen` and serves on the current tokio runtime.
    ///
    /// # Errors
    /// Where the address cannot be bound.
    pub async fn start(options: ProviderOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        Self::start_on(listener, options)
    }

    /// Serves on a listener that was bound before; `options.listen` is not used.
    ///
    /// # Errors
    /// Where the listener does not know its own address.
    pub fn start_on(listener: TcpListener, options: ProviderOptions) -> io::Result<Self> {
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { journal: Journal::new(options.body_cap), scripts: Queue::default(), options });
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), stopped));
        Ok(Self { addr, shared, stop, accepting })
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves one more connection that somebody else accepted, such as one with TLS in front. A scripted reset just
    /// drops the stream: below TLS that is an end without `close_notify`.
    pub fn serve_stream<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        spawn(Layered(stream), Arc::clone(&self.shared), self.stop.subscribe());
    }

    /// The same over HTTP/2, on which the client has agreed by ALPN.
    pub fn serve_http2_stream<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (shared, mut stopped) = (Arc::clone(&self.shared), self.stop.subscribe());
        let connection = Arc::new(shared.journal.opened());
        tokio::spawn(async move {
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => {}
                () = http2::serve(stream, &shared, &connection) => {}
            }
            shared.journal.closed(&connection);
        });
    }

    /// Queues a behaviour; the oldest one that matches a request is used.
    pub fn script(&self, script: Script) {
        self.shared.scripts.push(script);
    }

    /// Forgets all behaviours that were queued.
    pub fn clear_scripts(&self) {
        self.shared.scripts.clear();
    }

    /// How many queued behaviours have not been used up.
    pub fn scripts_left(&self) -> usize {
        self.shared.scripts.len()
    }

    /// All requests whose head has arrived so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.shared.journal.received()
    }

    /// Forgets what was received.
    pub fn clear_received(&self) {
        self.shared.journal.clear();
    }

    /// Connections that are open now; those that carried a control request are left out.
    pub fn open_connections(&self) -> usize {
        self.shared.journal.open_connections()
    }

    /// Connections that were accepted since the start; those that carried a control request are left out.
    pub fn connections_accepted(&self) -> usize {
        self.shared.journal.connections_accepted()
    }

    /// Requests that were no valid HTTP, whether in their head or in the framing of their body.
    pub fn malformed_requests(&self) -> usize {
        self.shared.journal.malformed()
    }

    /// Waits until what was received satisfies `wanted`.
    ///
    /// # Errors
    /// What there was when the time was over.
    pub async fn wait_for<F>(&self, wanted: F, timeout: Duration) -> Result<Vec<Received>, Vec<Received>>
    where
        F: Fn(&[Received]) -> bool,
    {
        if self.wait_until(|provider| wanted(&provider.received()), timeout).await {
            Ok(self.received())
        } else {
            Err(self.received())
        }
    }

    /// Waits until `wanted` holds, which is asked again whenever a connection or a request changes. Tells whether it
    /// came true in time.
    pub async fn wait_until<F>(&self, wanted: F, timeout: Duration) -> bool
    where
        F: Fn(&Self) -> bool,
    {
        let mut changes = self.shared.journal.changes();
        let came_true = async {
            while !wanted(self) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(timeout, came_true).await.is_ok() && wanted(self)
    }

    /// Closes the listener and all connections, and returns once they are closed.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        let closed = |provider: &Self| provider.accepting.is_finished() && provider.shared.journal.all_closed();
        while !closed(self) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.accepting.abort();
    }
}

/// What the connections have in common.
struct Shared {
    options: ProviderOptions,
    scripts: Queue,
    journal: Journal,
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Events have to leave one by one, as they do at the real provider.
                    let _ = stream.set_nodelay(true);
                    spawn(stream, Arc::clone(&shared), stopped.clone());
                }
                // Out of file descriptors: one must be closed before the next can come.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
}

fn spawn<W: Wire>(wire: W, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let connection = shared.journal.opened();
    tokio::spawn(async move {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = connection::serve(wire, &shared, &connection) => {}
        }
        shared.journal.closed(&connection);
    });
}

/// The models of [`ProviderOptions::default`].
const MODELS: [&str; 7] = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "text-embedding-3-large",
    "gpt-image-1",
    "dall-e-3",
];
