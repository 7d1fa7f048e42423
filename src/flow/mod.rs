//! The life of a call as values that change type.
//!
//! Never does: any IO; clocks are arguments.

mod record;

pub use record::Record;
