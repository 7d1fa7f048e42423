//! Facts about the words that every layer shares, and what all tests with random inputs share.
//!
//! Never does: any IO.

pub(crate) mod fuzz;

use proptest::test_runner::Config;

use super::*;

/// For a property whose cases are dear: so many by itself, and in proportion more where `PROPTEST_CASES` asks for more than the
/// 256 that a property has otherwise.
pub(crate) fn cases(by_itself: u32) -> Config {
    let usual = Config::default();
    let cases = (u64::from(by_itself) * u64::from(usual.cases) / 256).max(1);
    Config { cases: u32::try_from(cases).unwrap_or(u32::MAX), ..usual }
}

#[test]
fn a_secret_never_prints() {
    let secret = Secret::new("sk-very-secret".to_owned());
    assert_eq!(format!("{secret:?} {:#?}", Some(&secret)).matches("sk-").count(), 0);
    assert_eq!(secret.expose(), "sk-very-secret");
}

#[test]
fn a_route_set_holds_what_was_inserted_and_nothing_else() {
    let mut set = RouteSet::default();
    for id in [0, 63, 64, 700] {
        set.insert(RouteId(id));
    }
    let held: Vec<u16> = (0..1000).filter(|id| set.contains(RouteId(*id))).collect();
    assert_eq!(held, [0, 63, 64, 700]);
}
