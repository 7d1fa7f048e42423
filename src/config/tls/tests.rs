//! Certificates from files: what is taken, and how each way to get it wrong is told.
//!
//! Never does: compare words; `tests/fixtures/config/bad` has them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::config::load::{Loaded, Sources, load};
use crate::config::report::Report;

use super::*;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        let key = KeyPair::generate().expect("a key");
        files.write("key.pem", &key.serialize_pem(), 0o600);
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2030, 1, 1);
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("a CA");
        files.write("ca.pem", &authority.pem(), 0o644);
        let signed = params.signed_by(&key, &authority).expect("signed");
        files.write("cert.pem", &(signed.pem() + &authority.pem()), 0o644);
        files.write("other.pem", &KeyPair::generate().expect("a key").serialize_pem(), 0o600);
        files
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    }

    fn load(&self, tls: &str) -> Result<Loaded, Report> {
        let yaml = format!(
            "server: {{ listen: [\"[::]:8080\", {{ address: \"[::]:8443\", tls: {{ {tls} }} }}] }}\nledger: off\n"
        );
        let environment = [("OPENAI_API_KEY", "k")].into_iter().collect();
        load(&Sources { file: None, yaml: Some(yaml), directory: self.0.path().to_owned(), environment })
    }

    fn problem(&self, tls: &str) -> String {
        let told = self.load(tls).expect_err(tls).to_string();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(!told.contains(".pem"), "{told}");
        told
    }
}

fn at(year: i32) -> SystemTime {
    SystemTime::UNIX_EPOCH
        + Duration::from_secs(u64::try_from(date_time_ymd(year, 1, 1).unix_timestamp()).expect("later"))
}

#[test]
fn a_certificate_with_its_key_is_taken() {
    let loaded = Files::new().load("cert: cert.pem, key: key.pem").expect("fine");
    let listeners = &loaded.snapshot.startup.listen;
    assert!(listeners[0].tls.is_none() && listeners[1].scheme() == "https");
    let tls = listeners[1].tls.as_ref().expect("TLS");
    assert_eq!((tls.certificate.key.cert.len(), tls.client_ca.is_none()), (2, true), "with its chain");
    let warnings = |year| loaded.warnings_at(at(year)).filter(|warning| warning.contains("tls")).collect::<Vec<_>>();
    assert_eq!(warnings(2025), [""; 0]);
    assert_eq!(warnings(2019), ["server.listen[1].tls.cert is not valid yet: clients refuse it"]);
    assert_eq!(warnings(2031), ["server.listen[1].tls.cert has expired: clients refuse it"]);
    assert_eq!(warnings(2030), ["server.listen[1].tls.cert expires within a week"]);
    assert!(!format!("{loaded:?}").contains("PRIVATE"));
}

#[test]
fn a_key_that_others_can_read_is_told() {
    let files = Files::new();
    files.write("key.pem", &std::fs::read_to_string(files.0.path().join("key.pem")).expect("read"), 0o644);
    let loaded = files.load("cert: cert.pem, key: key.pem").expect("fine all the same");
    let told = "server.listen[1].tls.key can be read by other users";
    let is_told = |loaded: &Loaded| loaded.warnings.iter().any(|warning| warning.starts_with(told));
    assert!(is_told(&loaded), "{:?}", loaded.warnings);
    files.write("key.pem", &std::fs::read_to_string(files.0.path().join("key.pem")).expect("read"), 0o640);
    assert!(!is_told(&files.load("cert: cert.pem, key: key.pem").expect("fine")), "a group may");
}

#[test]
fn what_does_not_work_is_told_by_its_field() {
    let files = Files::new();
    files.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n", 0o600);
    files.write("no-x509.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", 0o600);
    for (tls, field, what) in [
        ("cert: cert.pem, key: other.pem", "tls.key", "does not fit"),
        ("cert: cert.pem, key: cert.pem", "tls.key", "no private key"),
        ("cert: key.pem, key: key.pem", "tls.cert", "no certificate"),
        ("cert: cut.pem, key: key.pem", "tls.cert", "not whole PEM"),
        ("cert: no-x509.pem, key: key.pem", "tls.cert", "cannot be read"),
        ("cert: gone.pem, key: key.pem", "tls.cert", "cannot be read: there is none"),
        ("cert: cert.pem", "tls.key", "expected the name of a file"),
        ("cert: cert.pem, key: key.pem, client_ca: key.pem", "tls.client_ca", "no certificate"),
        ("cert: cert.pem, key: key.pem, client_ca: no-x509.pem", "tls.client_ca", "cannot be an authority"),
    ] {
        let told = files.problem(tls);
        assert!(told.contains(&format!("server.listen[1].{field}: ")) && told.contains(what), "{tls}: {told}");
    }
}

#[test]
fn only_a_change_of_the_certificate_needs_no_restart() {
    let (files, others) = (Files::new(), Files::new());
    let startup = |files: &Files, tls| files.load(tls).expect("fine").snapshot.startup.clone();
    let plain = startup(&files, "cert: cert.pem, key: key.pem");
    let with = startup(&files, "cert: cert.pem, key: key.pem, client_ca: ca.pem");
    assert_eq!(plain.differences(&startup(&others, "cert: cert.pem, key: key.pem")), [""; 0]);
    assert_eq!(with.differences(&startup(&files, "cert: cert.pem, key: key.pem, client_ca: ca.pem")), [""; 0]);
    let other = startup(&others, "cert: cert.pem, key: key.pem, client_ca: ca.pem");
    assert_eq!((with.differences(&other), plain.differences(&with)), (vec!["server.listen"], vec!["server.listen"]));
}
