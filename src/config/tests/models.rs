//! Models, pools of keys and presets: what they come to.
//!
//! Never does: ask a provider whether a preset is right; where each was read is told beside the table.

use super::*;
use crate::config::tree::Tree;
use crate::config::{file, presets, read};
use crate::route::{Deployment, Match};

const PROVIDERS: &str =
    "providers: { openai: { api_key: k }, azure: { base_url: 'https://azure.example.com', api_key: k } }\n";

/// The targets of a name by rank, as text.
fn tried(loaded: &Loaded, name: &str) -> Vec<String> {
    let shown = |target: &Deployment| {
        let model = target.model.as_deref().unwrap_or("*");
        format!("{} {}/{model} x{}", target.rank, target.provider.id, target.weight)
    };
    loaded.snapshot.models.find(name).expect("listed").targets().iter().map(shown).collect()
}

fn models(text: &str) -> Loaded {
    load_text(&format!("{PROVIDERS}models: {text}"), &[]).expect("fine")
}

#[test]
fn the_targets_of_fallbacks_come_behind_in_order_and_once() {
    let loaded = models(
        "{ a: { targets: [ { provider: openai, weight: 2 }, { provider: azure } ], fallbacks: [ b, c ] }, \
           b: { targets: [ { provider: azure, model: a }, { provider: azure } ], fallbacks: [ d ] }, \
           c: { targets: [ { provider: openai } ] }, \
           d: { targets: [ { provider: openai } ], order: ordered, fallbacks: [ a ] } }",
    );
    let expected = ["0 openai/a x2", "0 azure/a x1", "1 azure/b x1", "2 openai/d x1", "4 openai/c x1"];
    assert_eq!(tried(&loaded, "a"), expected);
    assert_eq!(tried(&loaded, "d")[..3], ["0 openai/d x1", "2 openai/a x2", "2 azure/a x1"], "a circle ends");
}

#[test]
fn an_ordered_model_has_a_rank_for_each_target() {
    let loaded = models("{ a: { order: ordered, targets: [ { provider: azure }, { provider: openai } ] } }");
    assert_eq!(tried(&loaded, "a"), ["0 azure/a x1", "1 openai/a x1"]);
}

#[test]
fn a_prefix_asks_for_what_the_client_asks_for_and_a_fallback_for_its_own_name() {
    let loaded = models(
        "{ gpt-*: { targets: [ { provider: openai } ] }, \
           x: { targets: [ { provider: azure } ], fallbacks: [ gpt-4o ] } }",
    );
    assert_eq!(tried(&loaded, "gpt-5"), ["0 openai/* x1"]);
    assert_eq!(tried(&loaded, "x"), ["0 azure/x x1", "1 openai/gpt-4o x1"]);
}

#[test]
fn a_thousand_models_are_loaded() {
    let model = |index: usize| {
        let next = (index + 1) % 1000;
        let fallback = if index % 10 == 9 { String::new() } else { format!(", fallbacks: [ m-{next} ]") };
        format!("  m-{index}: {{ targets: [ {{ provider: openai }}, {{ provider: azure }} ]{fallback} }}\n")
    };
    let text: String = (0..1000).map(model).collect();
    let loaded = models(&format!("\n{text}"));
    assert_eq!(loaded.snapshot.models.listed().len(), 1000);
    assert_eq!(tried(&loaded, "m-990").len(), 20);
    assert_eq!(tried(&loaded, "m-999").len(), 2);
}

#[test]
fn a_route_that_a_target_lacks_is_told_once() {
    let yaml = "providers: { openai: { api_key: k }, \
                azure: { base_url: 'https://azure.example.com', api_key: k, routes: [ post /v1/chat/completions ] } }\n\
                models: { a: { targets: [ { provider: openai }, { provider: azure } ] }, \
                b: { targets: [ { provider: azure } ], fallbacks: [ a ] }, c: { targets: [ { provider: azure } ] } }";
    let loaded = load_text(yaml, &[]).expect("fine");
    let told: Vec<&String> = loaded.warnings.iter().filter(|warning| warning.contains("has no route")).collect();
    assert_eq!(
        told,
        [
            "providers.azure has no route \"post /v1/embeddings\", which another target of models.a and 1 more has: such \
             calls leave it out",
            "providers.azure has no route \"post /v1/images/generations\", which another target of models.a and 1 more \
             has: such calls leave it out",
        ]
    );
    let routing = loaded.snapshot.models.find("a").expect("listed");
    let openai = loaded.snapshot.providers.iter().find(|provider| provider.id.as_str() == "openai").expect("there");
    let unserved = |path: &str| routing.unserved(&loaded.snapshot.routes, openai, &http::Method::POST, path);
    assert_eq!((unserved("/v1/chat/completions"), unserved("/v1/embeddings")), (0b00, 0b10));
}

#[test]
fn only_listed_models_without_any_is_odd() {
    let loaded = load_text(&format!("{PROVIDERS}only_listed_models: true"), &[]).expect("fine");
    assert!(loaded.warnings.iter().any(|warning| warning.starts_with("only_listed_models is true")));
    assert!(loaded.snapshot.models.only_listed());
}

#[test]
fn several_keys_are_a_pool() {
    let yaml = "providers: { p: { base_url: 'https://a', auth: { header: api-key }, api_keys: [ { key: ' k1 ', weight: 2 }, \
                { key: '${K2}' } ] }, q: { base_url: 'https://b', api_key: '' } }";
    let loaded = load_text(yaml, &[("K2", "\"canary\""), ("P_API_KEY", "other")]).expect("fine");
    let [own, other] = &loaded.snapshot.providers[..] else { panic!("two providers") };
    let keys: Vec<_> = own.keys.keys().iter().map(|key| (key.credential.clone().expect("a key"), key.weight)).collect();
    assert_eq!((keys[0].0.as_bytes(), keys[0].1, keys[1].1), (&b"k1"[..], 2, 1));
    assert!(keys.iter().all(|(key, _)| key.is_sensitive()));
    assert!(
        loaded.warnings.iter().any(|warning| warning.starts_with("providers.p.api_keys[1].key has quotes around it"))
    );
    let [none] = other.keys.keys() else { panic!("one entry") };
    assert!(none.credential.is_none());
    assert!(!format!("{:?}", loaded.snapshot).contains("canary"));
}

/// Where a chat call of a provider goes.
fn chat(loaded: &Loaded, provider: &str) -> String {
    let path = format!("/{provider}/v1/chat/completions");
    let found = loaded.snapshot.routes.find(&http::Method::POST, &path);
    found.map(|Match { route, .. }| route.upstream_url()).expect("a route")
}

#[test]
fn a_name_and_a_key_suffice_for_a_well_known_provider() {
    let known = presets::ALL.iter().map(|preset| preset.name).filter(|name| *name != "anthropic");
    let lines: String = known.clone().map(|name| format!("  {name}: {{ api_key: k }}\n")).collect();
    let loaded = load_text(&format!("providers:\n{lines}"), &[]).expect("fine");
    let urls: Vec<String> = known.map(|name| chat(&loaded, name)).collect();
    assert_eq!(
        urls,
        [
            "https://api.deepseek.com/v1/chat/completions",
            "https://api.fireworks.ai/inference/v1/chat/completions",
            "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
            "https://api.groq.com/openai/v1/chat/completions",
            "https://api.mistral.ai/v1/chat/completions",
            "https://api.openai.com/v1/chat/completions",
            "https://openrouter.ai/api/v1/chat/completions",
            "https://api.together.ai/v1/chat/completions",
            "https://api.x.ai/v1/chat/completions",
        ]
    );
    // OpenRouter's prices are each provider's own, so that the book has none.
    let is_odd = |warning: &&String| {
        !warning.starts_with("no key file") && !warning.starts_with("providers.openrouter has no prices")
    };
    let odd: Vec<_> = loaded.warnings.iter().filter(is_odd).collect();
    assert!(odd.is_empty(), "{odd:?}");
}

#[test]
fn what_is_written_goes_before_a_preset() {
    let yaml = "providers: { fast: { preset: groq, api_key: k, routes: [ post /v1/chat/completions ] }, \
                groq: { base_url: 'https://proxy.example.com', api_key: k }, \
                gemini: { base_url: 'https://g.example.com/v1', preset: gemini, api_key: k } }";
    let loaded = load_text(yaml, &[]).expect("fine");
    assert_eq!(chat(&loaded, "fast"), "https://api.groq.com/openai/v1/chat/completions");
    assert_eq!(chat(&loaded, "groq"), "https://proxy.example.com/v1/chat/completions");
    assert_eq!(chat(&loaded, "gemini"), "https://g.example.com/v1/chat/completions");
    assert_eq!(loaded.snapshot.routes.iter().count(), 1 + 5 + 5);
}

#[test]
fn anthropic_has_a_header_for_its_key_and_its_own_routes() {
    let mut tree = Tree::parse("g.yaml", "providers: { claude: { preset: anthropic, api_key: k } }").expect("a tree");
    let mut file = read::read(&mut tree, &mut Vec::new()).expect("a picture");
    presets::apply(&mut file, &tree);
    let claude = &file.providers["claude"];
    assert_eq!(claude.base_url.as_deref(), Some("https://api.anthropic.com"));
    assert_eq!(
        (&claude.dialect, &claude.auth),
        (&file::Dialect::Anthropic, &file::Auth::Header("x-api-key".to_owned()))
    );
    assert!(claude.headers.is_empty(), "clients may name the version");
    assert_eq!(claude.routes[2].route, "post /v1/messages");
}

#[test]
fn the_dialect_alone_has_the_same_defaults() {
    let yaml = "providers: { mine: { base_url: 'https://a.example.com/v1', dialect: anthropic, api_key: k }, \
                token: { preset: anthropic, auth: bearer, api_key: k, routes: [ post /v1/messages ] } }";
    let loaded = load_text(yaml, &[]).expect("fine");
    let [mine, token] = &loaded.snapshot.providers[..] else { panic!("two providers") };
    assert_eq!((mine.dialect.name(), mine.auth_header.as_str(), mine.inject_usage), ("anthropic", "x-api-key", false));
    assert_eq!((token.dialect.name(), token.auth_header.as_str()), ("anthropic", "authorization"));
    assert_eq!(token.host, "api.anthropic.com");
    let patterns: Vec<&str> = loaded.snapshot.routes.iter().map(|route| route.pattern.as_str()).collect();
    let own = ["/mine/v1/models", "/mine/v1/models/{model}", "/mine/v1/messages", "/mine/v1/messages/count_tokens"];
    assert_eq!(patterns, [&own[..], &["/token/v1/messages"]].concat());
    let upstream = loaded.snapshot.routes.iter().nth(2).expect("messages").upstream_url();
    assert_eq!(upstream, "https://a.example.com/v1/messages");
}

#[test]
fn a_path_of_another_dialect_is_warned_of() {
    let yaml = "providers: { openai: { api_key: k, routes: [ post /v1/messages, post /v1/chat/completions ] }, \
                anthropic: { api_key: k, routes: [ post /v1/messages, post /v1/chat/completions ] } }";
    let loaded = load_text(yaml, &[]).expect("fine");
    let told: Vec<&str> =
        loaded.warnings.iter().filter_map(|warning| warning.split_once(": this path is").map(|(at, _)| at)).collect();
    assert_eq!(told, ["providers.anthropic.routes[1]", "providers.openai.routes[0]"]);
}

#[test]
fn a_target_of_another_dialect_serves_no_route() {
    let yaml = "providers: { openai: { api_key: k, routes: [ post /v1/messages ] }, anthropic: { api_key: k } }\n\
                models: { opus: { targets: [ { provider: anthropic } ] } }";
    let loaded = load_text(yaml, &[]).expect("fine");
    let routing = loaded.snapshot.models.find("opus").expect("listed");
    let unserved = |own: &str| {
        let own = loaded.snapshot.providers.iter().find(|provider| provider.id.as_str() == own).expect("there");
        routing.unserved(&loaded.snapshot.routes, own, &http::Method::POST, "/v1/messages")
    };
    assert_eq!((unserved("anthropic"), unserved("openai")), (0, 1), "whatever its paths");
}

#[test]
fn the_hint_lists_all_presets() {
    let names: Vec<&str> = presets::ALL.iter().map(|preset| preset.name).collect();
    assert_eq!(presets::NAMES, format!("there are {}", names.join(", ")));
}

#[test]
fn a_first_token_may_be_waited_for() {
    let token = |text: &str| {
        let yaml = format!("providers: {{ openai: {{ api_key: k{text} }} }}");
        load_text(&yaml, &[]).expect("fine").snapshot.providers[0].timeouts.first_token
    };
    assert_eq!(token(""), None);
    assert_eq!(token(", timeouts: { first_token: off }"), None);
    assert_eq!(token(", timeouts: { first_token: 20s }"), Some(Duration::from_secs(20)));
}
