//! The versions of HTTP on both sides of the gateway, and a client that speaks either.
//!
//! Invariant: a test that is written for a pair holds for all four of them, or says where they differ and why.
//! Never does: hide which version answered.

use std::path::Path;
use std::sync::Arc;

use ai_gateway::demo::Provider;
use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use tokio::time::timeout;

use super::{Authority, Begun, Connection, GOOD, H2, KEY, Response, SOON, Setup, TlsProvider, bearer, head};

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1, in clear text.
    #[default]
    One,
    /// HTTP/2 over TLS, by ALPN.
    Two,
}

/// The versions on both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    pub client: Http,
    pub provider: Http,
}

/// Makes four tests out of each function of this name, one for each pair of versions. With `migrated too:` it makes two
/// more, of a gateway on what `migrate` made of the original's files: with its keys in the environment, and in a file.
macro_rules! over_all_pairs {
    (migrated too: $($test:ident),* $(,)?) => {
        over_all_pairs!($($test),*);
        mod migrated {
            use crate::support::over_all_pairs;
            over_all_pairs!(@@ keys_in_the_environment Environment [$($test)*]);
            over_all_pairs!(@@ keys_in_a_file File [$($test)*]);
        }
    };
    ($($test:ident),* $(,)?) => {
        over_all_pairs!(@ http1_to_http1 One One [$($test)*]);
        over_all_pairs!(@ http1_to_http2 One Two [$($test)*]);
        over_all_pairs!(@ http2_to_http1 Two One [$($test)*]);
        over_all_pairs!(@ http2_to_http2 Two Two [$($test)*]);
    };
    (@ $name:ident $client:ident $provider:ident [$($test:ident)*]) => {
        mod $name {
            use crate::support::{Http, Pair};
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(Pair { client: Http::$client, provider: Http::$provider }.into()).await;
                }
            )*
        }
    };
    (@@ $name:ident $keys:ident [$($test:ident)*]) => {
        mod $name {
            use crate::support::{Keys, Way};
            $(
                #[tokio::test]
                async fn $test() {
                    super::super::$test(Way::migrated(Keys::$keys)).await;
                }
            )*
        }
    };
}
pub(crate) use over_all_pairs;

/// Puts TLS before what speaks HTTP/2; gives the authority of the gateway's own certificate, and the provider's `host`.
pub(super) async fn prepare(setup: &mut Setup, provider: &Arc<Provider>, folder: &Path) -> (Authority, String) {
    let authority = Authority::new();
    if setup.pair.client == Http::Two {
        authority.write_pair(&GOOD, &folder.join("own.pem"), &folder.join("own-key.pem"));
        setup.listen.push("{ address: \"127.0.0.1:0\", tls: { cert: own.pem, key: own-key.pem } }".to_owned());
    }
    if setup.pair.provider == Http::One {
        return (authority, provider.addr().to_string());
    }
    let door = TlsProvider::before(Arc::clone(provider), &GOOD, None, &["h2", "http/1.1"]).await;
    door.authority.write(&folder.join("far.pem"));
    let more = if setup.provider.is_empty() { String::new() } else { format!(", {}", setup.provider) };
    setup.provider = format!("ca_file: far.pem{more}");
    let host = format!("localhost:{}", door.address.port());
    setup.base_url = setup.base_url.take().or_else(|| Some(format!("https://{host}")));
    (authority, host)
}

/// A connection of either version.
pub enum AnyClient {
    Http1(Connection),
    Http2(H2),
}

/// A call whose head has arrived, over either version.
pub enum AnyBegun {
    Http1(Connection, Response),
    Http2(Begun),
}

/// A call that was sent, over either version. Dropping it is leaving.
pub struct Asked {
    _stream: Option<(ResponseFuture, SendStream<Bytes>)>,
    _client: AnyClient,
}

impl AnyClient {
    /// A request and its answer. HTTP/2 has no headers of one hop, so that those are left out there.
    pub async fn request(&mut self, method: &str, path: &str, headers: &[(&str, String)], body: &[u8]) -> Response {
        match self {
            Self::Http1(client) => client.request(method, path, headers, body).await,
            Self::Http2(client) => {
                let headers: Vec<_> = headers.iter().filter(|(name, _)| *name != "connection").cloned().collect();
                client.request(method, path, &headers, body).await
            }
        }
    }

    /// A JSON request with the test key.
    pub async fn post(&mut self, path: &str, body: &str) -> Response {
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        self.request("POST", path, &headers, body.as_bytes()).await
    }

    /// The same, as far as the answer's head.
    pub async fn begin(self, path: &str, body: &str) -> AnyBegun {
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        match self {
            Self::Http1(mut client) => {
                client.send(head("POST", path, &headers, body.as_bytes()) + body).await;
                let head = client.head().await;
                AnyBegun::Http1(client, head)
            }
            Self::Http2(client) => AnyBegun::Http2(client.begin("POST", path, &headers, body.as_bytes()).await),
        }
    }

    /// Sends a JSON request and does not wait.
    pub async fn ask(mut self, path: &str, body: &str) -> Asked {
        let headers = [bearer(KEY), ("content-type", "application/json".to_owned())];
        let asked = match &mut self {
            Self::Http1(client) => {
                client.send(head("POST", path, &headers, body.as_bytes()) + body).await;
                None
            }
            Self::Http2(client) => {
                let (answer, mut send) = client.send("POST", path, &headers, false).await;
                super::send_all(&mut send, body.as_bytes(), true).await;
                Some((answer, send))
            }
        };
        Asked { _stream: asked, _client: self }
    }
}

impl AnyBegun {
    /// The head.
    pub fn head(&self) -> &Response {
        match self {
            Self::Http1(_, head) => head,
            Self::Http2(begun) => &begun.head,
        }
    }

    /// The next bytes of the body, as they arrive; `None` at its end, or where it was cut.
    pub async fn piece(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Http1(client, _) => client.chunk().await.filter(|chunk| !chunk.is_empty()),
            Self::Http2(begun) => begun.piece().await.ok().flatten().map(|piece| piece.to_vec()),
        }
    }

    /// Reads pieces until this many bytes of the body are there.
    pub async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < count {
            let piece = timeout(SOON, self.piece()).await.expect("in time");
            all.extend(piece.unwrap_or_else(|| panic!("it ended after {} of {count} bytes", all.len())));
        }
        all
    }
}
