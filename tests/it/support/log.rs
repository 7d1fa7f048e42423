//! The gateway's log as a test reads it.
//!
//! Invariant: every line is JSON, and none has the provider's key in it.
//! Never does: wait longer than a test may.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{PROVIDER_KEY, eventually};

/// A sink that keeps what was written.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// All lines so far.
    pub fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().expect("no panic").clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(!text.contains(PROVIDER_KEY), "the provider's key is in the log:\n{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
    }

    /// Waits for the access lines of this many calls and gives their `meta`.
    pub async fn calls(&self, count: usize) -> Vec<Value> {
        eventually("the access lines are there", async || self.calls_so_far().len() >= count).await;
        self.calls_so_far()
    }

    /// The `meta` of the access lines that are there.
    pub fn calls_so_far(&self) -> Vec<Value> {
        let lines = self.lines().into_iter();
        lines.filter(|line| line["message"] == "gateway request").map(|line| line["meta"].clone()).collect()
    }
}
