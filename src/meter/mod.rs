//! Reading of bodies in passing: what a request asks for, and later what an answer used.
//!
//! Invariant: what is read here never changes a byte of what is forwarded.
//! Never does: any IO.

mod scan;

pub use scan::{Fault, Scan, scan};
