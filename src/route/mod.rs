//! Where a call may go: providers, the routes that lead to them, and the table that finds a route.
//!
//! Invariant: a path is matched as it stands; no spelling other than the configured one (but for one trailing slash)
//! reaches a route, so that what was authorised is what is forwarded.
//! Never does: any IO, resolving of names.

mod attempts;
mod breaker;
mod budget;
pub mod headers;
mod health;
mod model;
mod models;
mod plan;
mod pool;
mod reset;
mod table;
mod way;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::dialect::Dialect;
use crate::units::{Mask, ProviderId, RouteId, Secret, Usd};

pub use attempts::{Attempts, Cooldown};
pub use breaker::{Cause, View};
pub use health::{Health, KeyView, TargetView};
pub use model::{ModelSource, QUERY, may_be_model};
pub use models::{Deployment, ModelTable, Routing};
pub use plan::{Answer, Class, End, Outcome, Plan, Step, Try};
pub use pool::{KeyMark, MOST, Pool, ProviderKey};
pub use reset::time_to_reset;
pub use table::{Match, RouteTable, TableError};
pub use way::{Authority, Certificates, ClientCertificate, HttpProxy};

/// A configured upstream API and how to reach it.
#[derive(Debug)]
pub struct Provider {
    /// Its name, and the first segment of its paths.
    pub id: ProviderId,
    /// Whether connections to it are TLS. Certificates are always verified.
    pub tls: bool,
    /// DNS name or IP address without brackets; also the SNI. Never empty.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What the `Host` header says: the host, with the port where it is not the scheme's own.
    pub authority: HeaderValue,
    /// What stands in place of `/{provider}/v1` in a client's path: `/v1`, or `/api/v3` where the base URL has a path or
    /// `version_path` says so. No slash at its end.
    pub version_prefix: String,
    /// What stands in place of `/{provider}` in paths that have no `/v1`. No slash at its end.
    pub base_prefix: String,
    /// The header that carries the provider's key: `authorization`, `api-key`, `x-api-key`.
    pub auth_header: HeaderName,
    /// Its keys.
    pub keys: Pool,
    /// Headers that are set on each upstream request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters that are set on each upstream request: the name, and the whole pair percent-encoded,
    /// `api-version=2024-10-21`. A secret, because some providers take their key there.
    pub query: Vec<(String, Secret)>,
    /// The API family that it speaks.
    pub dialect: &'static dyn Dialect,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// Whether HTTP/2 is offered in the TLS handshake, which the provider may take.
    pub http2: bool,
    /// The proxy that it is reached through; absent: directly.
    pub proxy: Option<HttpProxy>,
    /// Certificates of the operator's for the TLS to it; absent: the system's authorities, and none of ours.
    pub certificates: Option<Certificates>,
    /// The section of the price book that prices its models; absent: what its calls cost is not known.
    pub prices: Option<Arc<str>>,
    /// Whether usage is asked for where a streaming client did not, and taken out of the answer again.
    pub inject_usage: bool,
    /// What it was found to make of that, since the configuration was read.
    pub asking: Asking,
}

/// What a provider makes of being asked for the usage of a stream, as far as that is known.
#[derive(Debug, Default)]
pub struct Asking {
    accepted: AtomicBool,
    refused: AtomicBool,
}

impl Asking {
    /// Takes note that it has answered.
    pub fn was_accepted(&self) {
        if !self.is_accepted() {
            self.accepted.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has answered some time.
    pub fn is_accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Takes note that it has refused. Tells whether it is now known to refuse, which is new: who has answered before does so for
    /// what is odd in one request, and goes on being asked.
    pub fn was_refused(&self) -> bool {
        !self.is_accepted() && !self.refused.swap(true, Ordering::Relaxed)
    }

    /// Whether it is not to be asked.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}

/// How long to wait for a provider. Every duration is more than zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a TCP connection, a proxy's tunnel included, and as long again for TLS.
    pub connect: Duration,
    /// From the request sent to the answer's head, for calls that ask for a stream.
    pub first_byte_stream: Duration,
    /// The same for all other calls.
    pub first_byte_other: Duration,
    /// From the request sent to a stream's first content; absent: as long as it likes.
    pub first_token: Option<Duration>,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// From the first attempt to the answer's end.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte_stream: Duration::from_secs(120),
            first_byte_other: Duration::from_secs(600),
            first_token: None,
            idle: Duration::from_secs(120),
            total: Duration::from_secs(900),
        }
    }
}

/// What one call is sent to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Who is asked: the route's own provider, or one that was chosen in its place.
    pub provider: Arc<Provider>,
    /// The place of the key in the provider's pool that the call takes.
    pub key: usize,
    /// Whether a policy chose it, so that no table of models does.
    pub is_chosen: bool,
}

impl Target {
    /// A provider with its first key.
    pub fn new(provider: Arc<Provider>) -> Self {
        Self { provider, key: 0, is_chosen: false }
    }

    /// The key as its header's whole value; absent where the provider needs none.
    pub fn credential(&self) -> Option<&HeaderValue> {
        self.provider.keys.keys().get(self.key)?.credential.as_ref()
    }

    /// Finds the key in what the provider answers.
    pub fn mask(&self) -> Option<&Mask> {
        self.provider.keys.keys().get(self.key)?.mask.as_ref()
    }
}

/// How the calls of a route are carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A JSON body that is read before it is sent, so that what it asks for is known.
    #[default]
    Json,
    /// Bodies of any size and type, passed on as they come: uploads, media.
    Stream,
    /// An upgrade to a WebSocket.
    Websocket,
    /// As `Stream`; the path may stand for all below it, and nothing is known of what a call means.
    Opaque,
}

/// One configured method and path.
#[derive(Debug)]
pub struct Route {
    /// Its place in the table.
    pub id: RouteId,
    /// In upper case, as on the wire; absent: any. `HEAD` is served by the route of `GET`.
    pub method: Option<http::Method>,
    /// The path as clients send it, provider first: `/openai/v1/models/{model}`, or `/openai/v1/*` for all below it.
    pub pattern: String,
    /// How its calls are carried.
    pub kind: Kind,
    /// What tells the model of its calls, besides `{model}` in its path and, where that is read, their body.
    pub model: ModelSource,
    /// What each of its calls costs, whatever it uses; absent where they cost what they use.
    pub price: Option<Usd>,
    /// Where it leads.
    pub provider: Arc<Provider>,
}

impl Kind {
    /// As the configuration spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Stream => "stream",
            Self::Websocket => "websocket",
            Self::Opaque => "opaque",
        }
    }

    /// Tells whether its calls pass without being read, so that nobody knows what they ask for.
    pub fn is_unread(self) -> bool {
        self != Self::Json
    }

    /// Tells whether Pingora's proxy loop carries its calls.
    pub fn is_native(self) -> bool {
        matches!(self, Self::Stream | Self::Opaque)
    }
}

impl Route {
    /// The method in upper case, or `ANY`.
    pub fn method_name(&self) -> &str {
        self.method.as_ref().map_or("ANY", http::Method::as_str)
    }

    /// What the pattern ends with where it stands for all below a path.
    pub fn rest(&self) -> Option<&str> {
        self.pattern.strip_suffix("/*")
    }

    /// Where the route leads, for people: the upstream URL with the pattern's variables. Without the query, which may
    /// hold a secret.
    pub fn upstream_url(&self) -> String {
        let provider = &self.provider;
        let scheme = if provider.tls { "https" } else { "http" };
        let host = String::from_utf8_lossy(provider.authority.as_bytes());
        let mut url = format!("{scheme}://{host}");
        self.push_upstream_path(&mut url, provider, &self.pattern);
        url
    }

    /// The target that its calls have unless another one is chosen.
    pub fn target(&self) -> Target {
        Target::new(Arc::clone(&self.provider))
    }

    /// Whether a stream of it has an end that tells itself: chat, completions, responses, messages.
    pub fn ends_by_an_event(&self) -> bool {
        ["/chat/completions", "/v1/completions", "/responses", "/messages"]
            .iter()
            .any(|end| self.pattern.ends_with(end))
    }

    /// Whether it lists models, in a way that is read.
    pub fn lists_models(&self) -> bool {
        self.looks_up(&["/v1/models", "/models"])
    }

    /// Whether it tells of one model, in a way that is read: its path names one, and nothing is asked of it.
    pub fn tells_a_model(&self) -> bool {
        self.looks_up(&["/v1/models/{model}", "/models/{model}"])
    }

    fn looks_up(&self, patterns: &[&str]) -> bool {
        self.method == Some(http::Method::GET)
            && self.kind == Kind::Json
            && patterns.contains(&self.below_provider(&self.pattern))
    }

    /// A path that matched this route with another model in place of `{model}`.
    pub fn with_model(&self, path: &str, model: &str) -> String {
        let model = utf8_percent_encode(model, SEGMENT).to_string();
        let pairs = self.pattern.split('/').zip(path.split('/'));
        let segments: Vec<&str> = pairs.map(|(own, theirs)| if own == "{model}" { &model } else { theirs }).collect();
        segments.join("/")
    }

    /// Whether a request of this method makes something: a model may work for it. Counting the tokens of a message costs nothing. Source:
    /// platform.claude.com/docs/en/build-with-claude/token-counting, read 2026-11.
    pub fn generates(&self, method: &http::Method) -> bool {
        use http::Method;
        let reads = matches!(*method, Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS);
        !reads && !self.pattern.ends_with("/messages/count_tokens")
    }

    /// Whether a call of this method may use a model: one that makes something, and a WebSocket by what is said in it.
    pub fn may_cost(&self, method: &http::Method) -> bool {
        self.kind == Kind::Websocket || self.generates(method)
    }

    /// Whether its answers are vectors, of which no tokens are counted.
    pub fn embeds(&self) -> bool {
        self.pattern.ends_with("/embeddings")
    }

    /// What a path that matched this route has behind the provider's name: `/v1/models`.
    pub fn below_provider<'p>(&self, path: &'p str) -> &'p str {
        path.get(1 + self.provider.id.as_str().len()..).unwrap_or_default()
    }

    /// Whether its streams, asked of this provider, tell their usage only where the request's `stream_options` ask for it, and the gateway may do so:
    /// chat and text completions. Source: OpenAI's API reference, `stream_options`, read 2026-11.
    pub fn tells_usage_on_request(&self, provider: &Provider) -> bool {
        provider.inject_usage
            && !provider.asking.is_refused()
            && (self.pattern.ends_with("/chat/completions") || self.pattern.ends_with("/v1/completions"))
    }

    /// The path and query to ask a provider for. `path` is the client's and matched this route.
    pub fn upstream_target(&self, provider: &Provider, path: &str, query: Option<&str>) -> String {
        let mut target = String::with_capacity(path.len() + query.map_or(0, str::len) + 64);
        self.push_upstream_path(&mut target, provider, path);
        let own = &provider.query;
        let theirs = query.unwrap_or_default();
        if own.is_empty() {
            if !theirs.is_empty() {
                target.push('?');
                target.push_str(theirs);
            }
            return target;
        }
        // Ours take the place of the client's, as with headers: of two, many servers take the first.
        let is_ours = |pair: &&str| own.iter().any(|(name, _)| is_named(pair, name));
        let theirs = theirs.split('&').filter(|pair| !pair.is_empty() && !is_ours(pair));
        for (index, pair) in theirs.chain(own.iter().map(|(_, pair)| pair.expose())).enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(pair);
        }
        target
    }

    fn push_upstream_path(&self, target: &mut String, provider: &Provider, path: &str) {
        let own = self.below_provider(path);
        let (prefix, rest) = match own.strip_prefix("/v1") {
            Some(rest) if rest.starts_with('/') => (&provider.version_prefix, rest),
            _ => (&provider.base_prefix, own),
        };
        target.push_str(prefix);
        target.push_str(rest.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(rest));
    }
}

/// What is encoded in a segment of a path: all but what RFC 3986 calls unreserved, and `:` and `@`.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'@');

/// Whether a pair of a query has this name once it is decoded, as a server would.
fn is_named(pair: &str, name: &str) -> bool {
    let encoded = pair.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode_str(&encoded).eq(name.bytes())
}

#[cfg(test)]
pub(crate) mod tests;
