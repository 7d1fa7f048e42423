//! Proxies and certificates: which provider gets which.
//!
//! Never does: connect; `tests/it/tunnel` does.

use rcgen::{CertificateParams, KeyPair, generate_simple_self_signed};

use super::*;

/// Which proxy each provider is reached through.
fn proxies(yaml: &str, variables: &[(&str, &str)]) -> Vec<Option<String>> {
    let loaded = load_text(yaml, variables).expect("fine");
    loaded.snapshot.providers.iter().map(|own| own.proxy.as_ref().map(ToString::to_string)).collect()
}

#[test]
fn a_provider_has_the_proxy_of_the_environment_or_its_own() {
    let yaml = "providers:\n  a: { base_url: 'https://a.example.com', api_key: k }\n  \
                b: { base_url: 'https://b.example.com', api_key: k, proxy: 'http://own:1' }\n  \
                c: { base_url: 'https://c.example.com', api_key: k, proxy: off }\n  \
                d: { base_url: 'https://d.example.com', api_key: k, proxy: '' }\n  \
                e: { base_url: 'http://127.0.0.1:1', api_key: k }\n  \
                f: { base_url: 'http://127.0.0.1:1', api_key: k, proxy: 'http://own:1' }\n";
    let is =
        |proxies: [&str; 6]| proxies.map(|proxy| Some(proxy.to_owned()).filter(|proxy| !proxy.is_empty())).to_vec();
    let env = ("HTTPS_PROXY", "http://env:3128");
    assert_eq!(proxies(yaml, &[]), is(["", "own:1", "", "", "", "own:1"]));
    assert_eq!(proxies(yaml, &[env]), is(["env:3128", "own:1", "", "", "", "own:1"]));
    assert_eq!(proxies(yaml, &[("https_proxy", "env:3128")]), is(["env:3128", "own:1", "", "", "", "own:1"]));
    assert_eq!(proxies(yaml, &[env, ("https_proxy", "http://low:1")])[0].as_deref(), Some("env:3128"));
    assert_eq!(proxies(yaml, &[("HTTP_PROXY", "http://x"), ("ALL_PROXY", "http://x")])[0], None);
    assert_eq!(proxies(yaml, &[env, ("NO_PROXY", "*")]), is([""; 6]));
    assert_eq!(proxies(yaml, &[env, ("no_proxy", ".a.example.com,127.0.0.0/8")]), is(["", "own:1", "", "", "", ""]));
    let ports = [env, ("NO_PROXY", "b.example.com:443 a.example.com:80")];
    assert_eq!(proxies(yaml, &ports), is(["env:3128", "", "", "", "", "own:1"]));
    let loaded = load_text(yaml, &[env, ("NO_PROXY", "http://canary")]).expect("fine");
    let odd: Vec<_> = loaded.warnings.iter().filter(|warning| warning.starts_with("NO_PROXY holds")).collect();
    assert!(odd.len() == 1 && !odd[0].contains("canary"), "{odd:?}");
}

/// A folder with a certificate, its key, and the key of another.
fn folder() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).expect("written");
    let own = generate_simple_self_signed(["gateway.test".to_owned()]).expect("a certificate");
    write("cert.pem", own.cert.pem());
    write("key.pem", own.signing_key.serialize_pem());
    write("other.pem", KeyPair::generate().expect("a key").serialize_pem());
    let more = CertificateParams::new(["more.test".to_owned()]).expect("a name");
    let more = more.self_signed(&own.signing_key).expect("signed");
    write("two.pem", format!("some words\n{}{}", own.cert.pem(), more.pem()));
    directory
}

fn with(folder: &Path, fields: &str) -> Result<Loaded, Report> {
    let yaml = format!("providers:\n  p:\n    base_url: https://a\n    api_key: k\n    {fields}\n");
    std::fs::write(folder.join("g.yaml"), yaml).expect("written");
    load(&sources(folder, Some("g.yaml"), &[]))
}

#[test]
fn certificates_come_from_their_files_each_time() {
    let directory = folder();
    let read = |fields: &str| {
        let loaded = with(directory.path(), fields).unwrap_or_else(|report| panic!("{report}"));
        let own = loaded.snapshot.providers[0].certificates.as_ref().expect("certificates");
        assert!(!format!("{own:?}").to_lowercase().contains("begin"));
        let chain = own.client.as_ref().map_or(0, |client| client.chain.len());
        (own.authorities.as_ref().map(Vec::len), chain, own.fingerprint)
    };
    let (authorities, chain, first) = read("ca_file: two.pem");
    assert_eq!((authorities, chain), (Some(2), 0));
    let pair = "client_cert: { cert: two.pem, key: key.pem }";
    let (authorities, chain, second) = read(pair);
    assert_eq!((authorities, chain), (None, 2));
    assert!(first != second && second == read(pair).2);
    std::fs::copy(directory.path().join("cert.pem"), directory.path().join("two.pem")).expect("copied");
    assert_ne!(second, read(pair).2, "what is in the files counts, not their names");
}

#[test]
fn a_pair_that_cannot_be_used_is_refused_at_its_place() {
    let directory = folder();
    let told = |fields: &str| with(directory.path(), fields).expect_err(fields).to_string();
    let mismatch = told("client_cert: { cert: cert.pem, key: other.pem }");
    assert_eq!(mismatch, "g.yaml:5:41 providers.p.client_cert.key: the private key does not belong to the certificate");
    let swapped = told("client_cert: { cert: key.pem, key: cert.pem }");
    assert!(
        swapped.contains("5:26 providers.p.client_cert.cert: expected a file with at least one certificate"),
        "{swapped}"
    );
    assert!(swapped.contains("5:40 providers.p.client_cert.key: expected a file with a private key"), "{swapped}");
    let pem = "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n";
    for kind in ["PRIVATE", "EC PRIVATE", "RSA PRIVATE", "ENCRYPTED PRIVATE"] {
        std::fs::write(directory.path().join("bad.pem"), pem.replace("PRIVATE", kind)).expect("written");
        let told = told("client_cert: { cert: cert.pem, key: bad.pem }");
        assert!(told.contains("providers.p.client_cert.key: ") && !told.contains("Y2Fu"), "{told}");
    }
}
