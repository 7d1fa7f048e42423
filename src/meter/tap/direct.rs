//! A JSON answer that is there as a whole and tells its usage, as nearly all are: stepped over value by value, in a third of the
//! work of a walk.
//!
//! Invariant: what it says is what the walk would say; where that is not certain, it says nothing.
//! Never does: look into a value that holds nothing to keep.

use crate::dialect::{Dialect, Found, Lacks, Node, Read, Slot};

use super::{Meter, Metered, Seen};
use crate::meter::value;

/// What an answer tells; absent where it has to be walked through.
pub(super) fn read(dialect: &'static dyn Dialect, answer: &[u8]) -> Option<(Metered, Seen)> {
    let mut steps = Steps { text: answer, slots: [None; Slot::COUNT] };
    let end = steps.object(dialect.picture(), value::space(answer, 0))?;
    if value::space(answer, end) < answer.len() {
        return None;
    }
    let found = Found::default();
    let read = Read { found: &found, slots: steps.slots, name: None };
    let mut told = Metered::default();
    Meter::tell(&mut told, dialect, &read);
    // What is not told is estimated from the text.
    if told.usage.is_none() || told.lacks != Lacks::default() {
        return None;
    }
    told.complete = true;
    let error = dialect.event(&read).error;
    Some((told, Seen { content: !error, terminal: true, error, events: 0 }))
}

/// Where a document is read.
struct Steps<'t> {
    text: &'t [u8],
    slots: [Option<&'t [u8]>; Slot::COUNT],
}

impl Steps<'_> {
    /// Keeps what an object holds that begins here, and gives its end. Absent where it is none, or says more than what is kept.
    fn object(&mut self, node: &'static Node, mut at: usize) -> Option<usize> {
        let text = self.text;
        if text.get(at) != Some(&b'{') {
            return None;
        }
        loop {
            // Behind the brace, or a comma.
            let name_at = value::space(text, at + 1);
            let (name_end, from) = value::name(text, name_at)?;
            let node = node.spelt(text.get(name_at + 1..name_end - 1)?)?;
            let to = match node.has_slots() {
                true => self.object(node, from)?,
                false => value::end(text, from)?,
            };
            let value = text.get(from..to)?;
            if node.is_mark() && value != b"null" {
                return None;
            }
            if let Some(slot) = node.slot() {
                // The walk keeps the later one of two, and none that is longer.
                let kept = self.slots.get_mut(slot as usize)?;
                if kept.is_some() || value.len() > Slot::MAX_BYTES {
                    return None;
                }
                *kept = Some(value);
            }
            at = value::space(text, to);
            match text.get(at)? {
                b',' => {}
                b'}' => return Some(at + 1),
                _ => return None,
            }
        }
    }
}
