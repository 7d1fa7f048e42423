//! Worlds on what `ai-gateway migrate` makes of the files that the NodeJS gateway shipped.
//!
//! Invariant: the YAML is the command's own, but for its ports and the provider's base URL.
//! Never does: help it; what a test's `Setup` says of YAML is not looked at.

use std::path::Path;

use ai_gateway::demo::Provider;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{KEY_FILE, PROVIDER_KEY, Pair, Process, Setup, World};

/// The TOML file that it shipped.
const TOML: &str = include_str!("../../fixtures/original/config.toml");

/// Where a migrated gateway has its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Where they were: in `HASHED_API_KEYS`, hashed under `HASH_AUTH_SALT`.
    Environment,
    /// In a key file that `migrate` wrote from the old one. No variable of the keys is left.
    File,
}

/// What a test of the contract is run over: versions of HTTP with our own YAML, or a migrated one.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub pair: Pair,
    pub migrated: Option<Keys>,
}

impl From<Pair> for Way {
    fn from(pair: Pair) -> Self {
        Self { pair, migrated: None }
    }
}

impl Way {
    /// A migrated gateway: as the original, it speaks HTTP/1.1 on both sides.
    pub fn migrated(keys: Keys) -> Self {
        Self { pair: Pair::default(), migrated: Some(keys) }
    }

    /// The default world.
    pub async fn world(self) -> World {
        self.with(Setup::default()).await
    }

    /// One that differs.
    pub async fn with(self, setup: Setup) -> World {
        World::with(Setup { pair: self.pair, migrated: self.migrated, ..setup }).await
    }
}

/// Runs the command in this folder and gives its YAML; `setup` gets the variables that the gateway is left with.
pub(super) async fn yaml(keys: Keys, setup: &mut Setup, provider: &Provider, folder: &Path) -> String {
    let key_file = setup.key_file.as_deref().unwrap_or(KEY_FILE);
    std::fs::write(folder.join("config.toml"), TOML).expect("written");
    std::fs::write(folder.join("old-keys.json"), key_file).expect("written");
    let encoded = STANDARD.encode(key_file);
    let (own, more): (&[(&str, &str)], &[&str]) = match keys {
        Keys::Environment => (&[("HASHED_API_KEYS", &encoded)], &[]),
        Keys::File => (&[], &["--hashed-api-keys", "old-keys.json", "--keys", "keys.json"]),
    };
    let variables = [&[("OPENAI_API_KEY", PROVIDER_KEY), ("HASH_AUTH_SALT", "fake")], own].concat();
    let args = [&["migrate", "--config-toml", "config.toml", "--out", "gateway.yaml"], more].concat();
    let ended = Process::run(folder, &args, &variables).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    // Entries of a file say their salt themselves.
    let stays = |name: &str| keys == Keys::Environment || name != "HASH_AUTH_SALT";
    let left = variables.iter().filter(|(name, _)| stays(name));
    setup.variables.extend(left.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut yaml = std::fs::read_to_string(folder.join("gateway.yaml")).expect("read");
    let here = format!("http://{}", provider.addr());
    for (from, to) in
        [("[::]:8080", "127.0.0.1:0"), ("[::]:8081", "127.0.0.1:0"), ("https://api.openai.com", here.as_str())]
    {
        assert!(yaml.contains(from), "{from} is not in {yaml}");
        yaml = yaml.replace(from, to);
    }
    yaml
}
