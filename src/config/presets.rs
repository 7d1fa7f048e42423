//! What is known of well-known providers, so that a name and a key suffice, and of those that speak no OpenAI.
//!
//! Invariant: what is written in the file goes before what a preset says.
//! Never does: guess; a provider whose name is no preset's, or that has a base URL of its own, is as it is written.

use super::entries::RouteEntry;
use super::file::{Auth, Dialect, File, Provider};
use super::report::FieldPath;
use super::tree::Tree;
use super::values::Switch;

/// What is known of a provider.
#[derive(Debug)]
pub(super) struct Preset {
    pub(super) name: &'static str,
    base_url: &'static str,
    /// Where the path of the base URL says nothing of the version.
    version_path: Option<&'static str>,
    dialect: Dialect,
    /// Whether it may be asked for a stream's usage.
    may_be_asked: bool,
}

impl Preset {
    const fn openai(name: &'static str, base_url: &'static str) -> Self {
        Self { name, base_url, version_path: None, dialect: Dialect::Openai, may_be_asked: true }
    }
}

/// All presets. Where each base URL was read, 2026-11:
///
/// | preset | source |
/// |---|---|
/// | anthropic | platform.claude.com/docs/en/api/overview; anthropic-sdk-python 2.14, `_client.py` |
/// | deepseek | api-docs.deepseek.com ("base_url (OpenAI)"; its `/v1` is an alias) |
/// | fireworks | ai-sdk.dev/v5/providers/ai-sdk-providers/fireworks (the default prefix) |
/// | gemini | ai.google.dev/gemini-api/docs/openai |
/// | groq | docs.boundaryml.com/ref/llm-client-providers/groq, after console.groq.com/docs/openai |
/// | mistral | www.lmstudio.ai/alex-garbar/api-docs/files/src/docs/mistral.ts (`POST https://api.mistral.ai/v1/...`) |
/// | openai | platform.openai.com/docs/api-reference |
/// | openrouter | openrouter.ai/models/openai/shap-e/api (the client's `baseURL`) |
/// | together | docs.together.ai/docs/inference/openai-compatibility (it was `api.together.xyz` before) |
/// | xai | reference.langchain.com, `xai_api_base`; docs.x.ai/docs/introduction (`api.x.ai`) |
///
/// Mistral refuses to be asked for a stream's usage (422, `extra_forbidden` at `stream_options`) and tells it unasked:
/// issue 2347 of avante-corp/avante.nvim (2025-06), 114 of vybestack/llxprt-code (2025-08), pull request 4082 of
/// TabbyML/tabby (2025-03). xAI did for a while (issue 14483 of n8n-io/n8n, 2025-04), Groq and Fireworks in 2024: what one of
/// them says today is found by asking.
pub(super) const ALL: [Preset; 10] = [
    Preset { dialect: Dialect::Anthropic, ..Preset::openai("anthropic", "https://api.anthropic.com") },
    Preset::openai("deepseek", "https://api.deepseek.com"),
    Preset::openai("fireworks", "https://api.fireworks.ai/inference/v1"),
    Preset {
        version_path: Some(""),
        ..Preset::openai("gemini", "https://generativelanguage.googleapis.com/v1beta/openai")
    },
    Preset::openai("groq", "https://api.groq.com/openai/v1"),
    Preset { may_be_asked: false, ..Preset::openai("mistral", "https://api.mistral.ai/v1") },
    Preset::openai("openai", "https://api.openai.com"),
    Preset::openai("openrouter", "https://openrouter.ai/api/v1"),
    Preset::openai("together", "https://api.together.ai/v1"),
    Preset::openai("xai", "https://api.x.ai/v1"),
];

/// The routes of a provider that speaks Anthropic's API and lists none: what its SDKs and Claude Code ask for.
const ANTHROPICS_ROUTES: [&str; 4] =
    ["get /v1/models", "get /v1/models/{model}", "post /v1/messages", "post /v1/messages/count_tokens"];

/// The header of Anthropic's keys. Source: platform.claude.com/docs/en/api/overview, read 2026-11.
const ANTHROPICS_KEY: &str = "x-api-key";

/// The hint that lists them.
pub(super) const NAMES: &str =
    "there are anthropic, deepseek, fireworks, gemini, groq, mistral, openai, openrouter, together, xai";

/// The preset of this name.
pub(super) fn find(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}

/// Fills in what presets and dialects say of the providers of a file, but for what is written there.
pub(super) fn apply(file: &mut File, tree: &Tree) {
    for (id, provider) in &mut file.providers {
        let path = FieldPath::of("providers").key(id);
        let is_written = |field: &str| tree.name_position(&path.key(field)).is_some();
        let is_wrong = |field: &str| tree.is_told(&path.key(field));
        let preset = match &provider.preset {
            Some(name) => find(name),
            None if provider.base_url.is_some() || is_wrong("base_url") || is_wrong("preset") => None,
            None => find(id),
        };
        let is_written = |field: &str| is_written(field) || is_wrong(field);
        if let Some(preset) = preset {
            fill_in(provider, preset, &is_written);
        }
        if provider.dialect == Dialect::Anthropic {
            speak_anthropics(provider, &is_written);
        }
    }
}

fn fill_in(provider: &mut Provider, preset: &Preset, is_written: &dyn Fn(&str) -> bool) {
    if !is_written("base_url") {
        provider.base_url = Some(preset.base_url.to_owned());
        if !is_written("version_path") {
            provider.version_path = preset.version_path.map(str::to_owned);
        }
    }
    if !is_written("dialect") {
        provider.dialect = preset.dialect;
    }
    if !preset.may_be_asked && provider.inject_usage == Switch::Auto {
        provider.inject_usage = Switch::Off;
    }
}

fn speak_anthropics(provider: &mut Provider, is_written: &dyn Fn(&str) -> bool) {
    if !is_written("auth") {
        provider.auth = Auth::Header(ANTHROPICS_KEY.to_owned());
    }
    if !is_written("routes") {
        provider.routes = ANTHROPICS_ROUTES.map(RouteEntry::line).to_vec();
    }
}
