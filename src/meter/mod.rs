//! Reading of bodies in passing.
//!
//! Never does: change a byte.
