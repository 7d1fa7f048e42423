//! Metrics, the log writer and the access line: three readers of the record.
//!
//! Never does: wait for whoever reads it.
