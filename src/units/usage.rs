//! What a call used, in tokens by kind.
//!
//! Invariant: `input` and `output` are whole; the kinds are parts of them, whatever the provider counts apart.
//! Never does: money; that is `meter::price`.

/// Tokens of one call. A kind that the provider does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    /// All input, the kinds below included.
    pub input: u64,
    /// Of the input: read from the provider's cache.
    pub cached_input: u64,
    /// Of the input: written to the provider's cache, for however long.
    pub cache_write: u64,
    /// Of `cache_write`: for an hour, which Anthropic charges apart.
    pub cache_write_1h: u64,
    /// Of the input: audio.
    pub input_audio: u64,
    /// Of both `cached_input` and `input_audio`: audio from the cache.
    pub cached_audio: u64,
    /// Of the input: images.
    pub input_image: u64,
    /// All output, the kinds below included.
    pub output: u64,
    /// Of the output: reasoning, which the client may not see.
    pub reasoning: u64,
    /// Of the output: audio.
    pub output_audio: u64,
    /// Of the output: images.
    pub output_image: u64,
    /// Length of audio that is charged by time instead of tokens, in milliseconds.
    pub audio_ms: u64,
}

impl Usage {
    /// All tokens, of input and output.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// The names of the kinds, as metrics, the ledger and `ai-gateway usage` spell them, with their counts.
    pub fn kinds(&self) -> [(&'static str, u64); 11] {
        [
            ("input", self.input),
            ("cached_input", self.cached_input),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("input_audio", self.input_audio),
            ("cached_audio", self.cached_audio),
            ("input_image", self.input_image),
            ("output", self.output),
            ("reasoning", self.reasoning),
            ("output_audio", self.output_audio),
            ("output_image", self.output_image),
        ]
    }
}
