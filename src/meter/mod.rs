//! Reading of bodies in passing: what a request asks for, and what an answer used.
//!
//! Invariant: what is read here never changes a byte of what is forwarded; a change is a [`Splice`] that somebody asked for,
//! or a usage that a client did not ask for.
//! Never does: any IO.

mod edits;
mod members;
pub mod price;
mod scan;
mod splice;
pub mod sse;
mod tap;
mod value;

pub use edits::{Edits, undoing};
pub use members::values_of;
pub use scan::{Extras, Fault, Scan, scan};
pub use splice::{Splice, are_apart, spliced};
pub use tap::{MAX_EVENT, Metered, Seen, Shape, Tap};
