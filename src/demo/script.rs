//! What a test may tell the provider to do instead of answering well.
//!
//! Invariant: a script is data; the same one can be written in Rust and as JSON (`POST /__script`), with the field names
//! that stand here and durations in milliseconds.
//! Never does: act; `answer` turns a script into bytes and waits, `connection` carries them out.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};

/// A behaviour for one or several requests. The default one changes nothing.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// Only requests for this path, without a query; absent: for any.
    pub path: Option<String>,
    /// How many requests it is for; 0: all, until it is cleared.
    pub times: u32,
    /// Answer as soon as so many bytes of the body have arrived; absent: all of it. 0 never reads it.
    pub read_body: Option<u64>,
    /// Whether the rest of the body is read and dropped while that early answer is written.
    pub drain: bool,
    /// Before anything is sent.
    #[serde(rename = "delay_ms", deserialize_with = "millis")]
    pub delay: Duration,
    /// Informational answers before the real one.
    pub interim: Vec<Interim>,
    /// The answer.
    pub reply: Reply,
    /// How many words a chat or completion has; absent: as the request makes it. Lets a stream last.
    pub words: Option<usize>,
    /// In the status line.
    pub version: Version,
    /// Headers in addition to the answer's own.
    pub headers: Vec<(String, String)>,
    /// How the end of the body is told.
    pub framing: Framing,
    /// What is wrong with it.
    pub fault: Option<Fault>,
    /// Between the head and the body's first byte.
    #[serde(rename = "first_byte_delay_ms", deserialize_with = "millis")]
    pub first_byte_delay: Duration,
    /// The body's pieces (chunks, where it is chunked), in bytes; the last size repeats. Empty: the answer's own, which
    /// are a stream's events.
    pub pieces: Vec<usize>,
    /// Not over HTTP/2: sizes of the writes of the whole answer, head included, wherever that cuts it; the last size repeats. Takes the
    /// place of `first_byte_delay`.
    pub writes: Vec<usize>,
    /// Between pieces or writes; absent: [`super::ProviderOptions::pace`].
    #[serde(rename = "gap_ms", deserialize_with = "some_millis")]
    pub gap: Option<Duration>,
    /// Where the answer ends too early.
    pub cut: Option<Cut>,
    /// Bytes that follow the answer and belong to nothing.
    #[serde(deserialize_with = "payload")]
    pub trailing: Bytes,
    /// What comes when the answer is complete.
    pub after: After,
}

/// The answer itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// What OpenAI would answer.
    #[default]
    Normal,
    /// What was received, as JSON.
    Echo,
    /// This one. Only the framing headers and `headers` are added.
    Fixed {
        /// Three digits.
        status: u16,
        /// In this order.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// In JSON either text or `{"base64": ...}`.
        #[serde(default, deserialize_with = "payload")]
        body: Bytes,
    },
    /// A stream of events, each with its line ends: `["data: 1\n\n", ...]`.
    Events(Vec<String>),
    /// These bytes, head included; `headers`, `framing`, `version` and `fault` do not apply.
    Raw(#[serde(deserialize_with = "payload")] Bytes),
}

/// An informational answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interim {
    /// 100, 102, 103.
    pub status: u16,
    /// In this order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// The version that the status line names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/1.0, where the request was not HTTP/2. The connection closes after the answer.
    Http10,
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// A stream is chunked, anything else has its length.
    #[default]
    Natural,
    /// `content-length`
    Length,
    /// `transfer-encoding: chunked`
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A violation of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A status line that is none.
    BadStatusLine,
    /// A header line without a colon.
    BadHeaderLine,
    /// A header value with a NUL.
    NulInHeader,
    /// A chunk size that is no number. Makes the body chunked.
    BadChunkSize,
    /// A chunk that is longer than its size says. Makes the body chunked.
    LongChunk,
    /// Ten bytes fewer than `content-length` says, then a close.
    ShortBody,
    /// Twice as many bytes as `content-length` says.
    LongBody,
    /// Both `content-length` and `transfer-encoding`; the body is chunked.
    LengthAndChunked,
    /// Two `content-length` that differ; the first is right.
    TwoLengths,
}

/// An early end of an answer.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Where.
    pub at: CutAt,
    /// How.
    pub how: HowCut,
}

/// The place of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutAt {
    /// Before the first byte of the head. Informational answers do come.
    Head,
    /// After so many bytes of the body as it was before chunking; 0: right after the head. As many as there are: only
    /// the end of the body is missing.
    Body(usize),
    /// After so many pieces of the body, such as events of a stream.
    Pieces(usize),
}

/// The manner of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HowCut {
    /// A TCP reset, or where there is no TCP the drop of the stream. Over HTTP/2: RST_STREAM with INTERNAL_ERROR.
    Reset,
    /// A clean end. Over HTTP/2: of the whole connection.
    Close,
    /// Silence until the client leaves.
    Stall,
    /// RST_STREAM with REFUSED_STREAM. Over HTTP/1.1 as `reset`.
    Refuse,
    /// GOAWAY that includes this request, and a clean end at once. Over HTTP/1.1 as `close`.
    GoAway,
}

/// What comes after a complete answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// The next request, unless client or framing demand a close.
    #[default]
    KeepAlive,
    /// A close that `connection: close` announced. Over HTTP/2: GOAWAY before the answer begins.
    Close,
    /// A close that nothing announced. Over HTTP/2: of the whole connection.
    SilentClose,
    /// Whatever arrives is sent back: the other end of an upgrade.
    Mirror,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            path: None,
            times: 1,
            read_body: None,
            drain: true,
            delay: Duration::ZERO,
            interim: Vec::new(),
            reply: Reply::Normal,
            words: None,
            version: Version::Http11,
            headers: Vec::new(),
            framing: Framing::Natural,
            fault: None,
            first_byte_delay: Duration::ZERO,
            pieces: Vec::new(),
            writes: Vec::new(),
            gap: None,
            cut: None,
            trailing: Bytes::new(),
            after: After::KeepAlive,
        }
    }
}

impl Script {
    /// Answers with this status and body, as JSON.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_string(), "application/json".to_string())];
        Self { reply: Reply::Fixed { status, headers, body: body.into() }, ..Self::default() }
    }

    /// Answers with a stream of these events, each with its line ends.
    pub fn events<'a>(events: impl IntoIterator<Item = &'a str>) -> Self {
        Self { reply: Reply::Events(events.into_iter().map(str::to_string).collect()), ..Self::default() }
    }

    /// Answers with these bytes, head included.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { reply: Reply::Raw(bytes.into()), ..Self::default() }
    }

    /// Cuts the answer.
    pub fn cut(at: CutAt, how: HowCut) -> Self {
        Self { cut: Some(Cut { at, how }), ..Self::default() }
    }

    /// Breaks the answer.
    pub fn fault(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::default() }
    }

    /// Waits before anything is sent.
    pub fn delayed(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    /// This one with a header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    /// This one for requests of one path.
    #[must_use]
    pub fn on(mut self, path: &str) -> Self {
        self.path = Some(path.to_string());
        self
    }

    /// This one for so many requests.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// This one for all requests, until it is cleared.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(0)
    }
}

/// The scripts that are not used up, oldest first.
#[derive(Default)]
pub(super) struct Queue(Mutex<Vec<Script>>);

impl Queue {
    pub(super) fn push(&self, script: Script) {
        self.0.lock().push(script);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Takes the behaviour for a request of this path.
    pub(super) fn take(&self, path: &str) -> Script {
        let mut queue = self.0.lock();
        let matches = |script: &Script| script.path.as_deref().is_none_or(|wanted| wanted == path);
        let Some(at) = queue.iter().position(matches) else {
            return Script::default();
        };
        match queue.get_mut(at) {
            Some(script) if script.times == 1 => queue.remove(at),
            Some(script) => {
                script.times = script.times.saturating_sub(1);
                script.clone()
            }
            None => Script::default(),
        }
    }
}

fn millis<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_millis)
}

fn some_millis<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    Option::deserialize(from).map(|given| given.map(Duration::from_millis))
}

fn payload<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Payload {
        Text(String),
        Encoded { base64: String },
    }
    match Payload::deserialize(from)? {
        Payload::Text(text) => Ok(text.into()),
        Payload::Encoded { base64 } => STANDARD.decode(base64).map(Bytes::from).map_err(serde::de::Error::custom),
    }
}
