//! Facts about the life of a call.
//!
//! Never does: read a clock or open a socket.

use super::*;

#[test]
fn a_long_name_is_cut_at_a_character() {
    assert_eq!(cut("kurz", 10), "kurz");
    assert_eq!(cut("ab\u{1f3ee}", 4), "ab");
}
