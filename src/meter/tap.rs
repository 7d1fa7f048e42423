//! The tap on an answer: sees it in passing, and tells what was used.
//!
//! Invariant: bytes go on unchanged and at once, but for a usage that the client did not ask for; whatever an answer
//! holds, metering it takes the same memory.
//! Never does: fail; hold back more than one unfinished event.

use std::ops::Range;

use bytes::Bytes;

use crate::dialect::{Dialect, Event, Lacks, Read, Slot, Unasked, Walk, text};
use crate::units::Usage;

use super::sse::{Fields, Part, Splitter};
use kept::Kept;
use like::{Like, Said};
use passing::Passing;

#[cfg(test)]
mod tests;

mod direct;
mod kept;
mod like;
mod passing;

/// What an answer is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One JSON document.
    Json,
    /// An event stream.
    Events,
    /// Neither, or in a content encoding: nothing is read.
    Opaque,
}

/// What was seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Some of what was asked for.
    pub content: bool,
    /// The end: the stream's last event, or that each choice ended that began; a whole JSON document. More may follow:
    /// a usage, `[DONE]`, another choice.
    pub terminal: bool,
    /// An error, told in the answer.
    pub error: bool,
    /// Events that carry some of what was asked for.
    pub events: u64,
}

/// What an answer told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// What was used, where it says so.
    pub usage: Option<Usage>,
    /// What of it is not told.
    pub lacks: Lacks,
    /// The model that answered, at most 256 bytes.
    pub model: Option<Box<str>>,
    /// The service tier that the call got.
    pub service_tier: Option<Box<str>>,
    /// UTF-8 bytes of text that a user can see: what an estimate goes by. Where all is told, it may not be counted.
    pub visible_bytes: u64,
    /// Events that carry some of what was asked for.
    pub events: u64,
    /// Whether the answer was whole: [`Seen::terminal`]. Never for what is opaque.
    pub complete: bool,
}

/// The tap on one answer.
#[derive(Debug)]
pub struct Tap {
    dialect: &'static dyn Dialect,
    shape: Shape,
    hides_usage: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing has come.
    Awaited,
    /// In places of their own, because they are large, and a tap goes through many hands.
    Reading(Box<Reading>),
    /// All was there at once.
    Read(Box<Metered>, Seen),
}

/// What an answer is read by that comes in pieces.
#[derive(Debug)]
struct Reading {
    source: Source,
    meter: Meter,
}

impl Tap {
    /// A tap on an answer that begins. `hide_usage`: the gateway asked for the usage, the client did not.
    pub fn new(dialect: &'static dyn Dialect, shape: Shape, hide_usage: bool) -> Self {
        Self { dialect, shape, hides_usage: hide_usage && shape == Shape::Events, state: State::Awaited }
    }

    /// What reads the next piece; absent where nothing does.
    fn reading(&mut self) -> Option<&mut Reading> {
        if matches!(self.state, State::Awaited) {
            let source = match self.shape {
                Shape::Json => Source::Json(Kept::default()),
                Shape::Events => Source::Events(Splitter::new(MAX_EVENT)),
                Shape::Opaque => return None,
            };
            self.state = State::Reading(Box::new(Reading { source, meter: Meter::new(self.dialect) }));
        }
        match &mut self.state {
            State::Reading(reading) => Some(reading),
            _ => None,
        }
    }

    /// Looks at a piece and gives what goes on to the client now: the same piece, unchanged, unless a usage is hidden.
    /// Absent: nothing does.
    pub fn push(&mut self, piece: Bytes) -> Option<Bytes> {
        let hides_usage = self.hides_usage;
        let Some(Reading { source, meter }) = self.reading() else { return Some(piece) };
        match source {
            Source::Events(splitter) if hides_usage => return meter.hide(splitter, piece),
            Source::Events(splitter) => {
                let mut left = &piece[..];
                while let Some(part) = splitter.next(&mut left) {
                    match part {
                        Part::Event(event) => {
                            meter.event(event);
                        }
                        Part::Comment(_) => meter.is_first = false,
                        Part::Feed(_) | Part::Long(_) => {}
                    }
                }
            }
            Source::Json(kept) => meter.json(kept, &piece),
        }
        Some(piece)
    }

    /// Looks at an answer that is there as a whole, before anything else of it: what [`Self::push`] would see, in less work.
    pub fn whole(&mut self, answer: &Bytes) {
        // A walk passes over long lists of numbers in a third of the time that reading each takes.
        let is_short = self.shape == Shape::Json && answer.len() <= MAX_STEPPED;
        match is_short.then(|| direct::read(self.dialect, answer)).flatten() {
            Some((told, seen)) => self.state = State::Read(Box::new(told), seen),
            None => drop(self.push(answer.clone())),
        }
    }

    /// At the end of the body: what was held back goes on. An event that lacks nothing but its blank line is one to SDKs, and
    /// so it is here; of others nothing is read or hidden. Absent: nothing was held back.
    pub fn end(&mut self) -> Option<Bytes> {
        let State::Reading(reading) = &mut self.state else { return None };
        let Reading { source: Source::Events(splitter), meter } = &mut **reading else { return None };
        let rest = splitter.rest();
        let is_event = meter.is_whole(&rest);
        let (unasked, cut) = if is_event { meter.event(&rest) } else { (Unasked::Passes, 0..0) };
        let passes = match unasked {
            _ if !self.hides_usage => return None,
            Unasked::Passes => rest,
            Unasked::IsCut => [&rest[..cut.start], &rest[cut.end..]].concat(),
            Unasked::IsDropped => return None,
        };
        (!passes.is_empty()).then(|| passes.into())
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        match &self.state {
            State::Awaited => Seen::default(),
            State::Reading(reading) => reading.meter.seen,
            State::Read(_, seen) => *seen,
        }
    }

    /// What the answer told.
    pub fn finish(self) -> Metered {
        let mut reading = match self.state {
            State::Awaited => return Metered::default(),
            State::Read(told, _) => return *told,
            State::Reading(reading) => reading,
        };
        // Taken out of its place, which is too large to be moved.
        let Meter { told, seen, dialect, walk, .. } = &mut reading.meter;
        if let Source::Json(kept) = &reading.source {
            Meter::tell(told, *dialect, &kept.read(walk.found()));
        }
        Metered { events: seen.events, complete: seen.terminal, ..std::mem::take(told) }
    }
}

#[derive(Debug)]
enum Source {
    Json(Kept),
    Events(Splitter),
}

/// What is known of an answer.
#[derive(Debug)]
struct Meter {
    dialect: &'static dyn Dialect,
    walk: Walk,
    /// The last event that carried text.
    like: Like,
    /// The choices that began, and those that ended, a bit each.
    choices: (u64, u64),
    /// Whether the stream's last event came.
    ended: bool,
    is_first: bool,
    /// Whether the last event was dropped.
    dropped: bool,
    seen: Seen,
    told: Metered,
}

impl Meter {
    fn new(dialect: &'static dyn Dialect) -> Self {
        Self {
            dialect,
            walk: Walk::new(dialect.picture()),
            like: Like::default(),
            choices: (0, 0),
            ended: false,
            is_first: true,
            dropped: false,
            seen: Seen::default(),
            told: Metered::default(),
        }
    }

    /// Looks at an event and says what becomes of it where a usage is hidden, and what is cut out then.
    fn event(&mut self, event: &[u8]) -> (Unasked, Range<usize>) {
        const PASSES: (Unasked, Range<usize>) = (Unasked::Passes, 0..0);
        if let Some(Said { event, unasked, cut }) = self.like.says(event) {
            self.said(event);
            return (unasked, cut);
        }
        let is_first = std::mem::take(&mut self.is_first);
        let Some(fields) = Fields::read(event, is_first) else { return PASSES };
        if self.dialect.is_end(&fields.data) {
            self.ended = true;
            self.seen.terminal = true;
            return PASSES;
        }
        self.walk.restart();
        self.walk.push(&fields.data);
        let found = self.walk.found();
        let slots = Slot::ALL.map(|slot| found.at(slot).and_then(|at| fields.data.get(at)));
        let read = Read { found, slots, name: fields.name };
        let said = self.dialect.event(&read);
        let unasked = if found.whole { self.dialect.without_usage(&read) } else { Unasked::Passes };
        let cut = found.cut.as_ref().map_or(0..0, |cut| fields.place(cut.start)..fields.place(cut.end));
        self.choices.0 |= found.choices;
        self.choices.1 |= found.ended;
        let has_usage = Self::tell(&mut self.told, self.dialect, &read);
        if let (false, false, Some(line)) = (is_first, has_usage, fields.line_at()) {
            self.like.learn(event, line, found, Said { event: said, unasked, cut: cut.clone() });
        }
        self.said(said);
        (unasked, cut)
    }

    /// Whether an event's data is there whole.
    fn is_whole(&mut self, event: &[u8]) -> bool {
        Fields::read(event, self.is_first).is_some_and(|fields| {
            self.walk.restart();
            self.walk.push(&fields.data);
            self.walk.found().whole || self.dialect.is_end(&fields.data)
        })
    }

    fn said(&mut self, event: Event) {
        let Event { content, terminal, error, visible_bytes } = event;
        let (began, ended) = self.choices;
        self.ended |= terminal;
        self.told.visible_bytes += visible_bytes;
        self.seen.content |= content;
        self.seen.error |= error;
        self.seen.events += u64::from(content);
        self.seen.terminal = self.ended || (began != 0 && began == ended);
    }

    /// Notes what a document tells, and whether that is a usage.
    fn tell(told: &mut Metered, dialect: &dyn Dialect, read: &Read<'_>) -> bool {
        let usages = [Slot::Usage, Slot::OtherUsage].map(|slot| read.raw(slot));
        let has_usage = usages.iter().flatten().any(|raw| *raw != b"null");
        if has_usage && let Some((usage, lacks)) = dialect.usage(read, told.usage.as_ref(), told.lacks) {
            (told.usage, told.lacks) = (Some(usage), lacks);
        }
        if told.model.is_none() {
            told.model = read.text(Slot::Model, MAX_MODEL).map(Into::into);
        }
        if let Some(raw) = dialect.tier(read) {
            let is_known =
                told.service_tier.as_deref().is_some_and(|tier| raw.get(1..raw.len() - 1) == Some(tier.as_bytes()));
            if !is_known && let Some(tier) = text(raw, MAX_TIER) {
                told.service_tier = Some(tier.into());
            }
        }
        has_usage
    }

    /// Looks at a piece of a JSON document.
    fn json(&mut self, kept: &mut Kept, piece: &[u8]) {
        kept.push(&mut self.walk, piece);
        let found = self.walk.found();
        let said = self.dialect.event(&kept.read(found));
        self.told.visible_bytes = found.whole_bytes;
        self.seen.error |= said.error;
        self.seen.terminal = found.whole;
        self.seen.content = found.whole && !self.seen.error;
    }

    /// Gives a piece of a stream without what the client did not ask for.
    fn hide(&mut self, splitter: &mut Splitter, piece: Bytes) -> Option<Bytes> {
        let mut out = Passing::new(&piece, splitter.held());
        let mut left = &piece[..];
        loop {
            let before = left.len();
            let Some(part) = splitter.next(&mut left) else { break };
            let taken = piece.len() - before..piece.len() - left.len();
            match part {
                Part::Event(event) => {
                    let (unasked, cut) = self.event(event);
                    self.dropped = unasked == Unasked::IsDropped;
                    match unasked {
                        Unasked::Passes => out.pass(event, &taken),
                        Unasked::IsCut => out.pass_without(event, &cut),
                        Unasked::IsDropped => {}
                    }
                }
                Part::Comment(comment) => {
                    (self.dropped, self.is_first) = (false, false);
                    out.pass(comment, &taken);
                }
                Part::Feed(_) if self.dropped => {}
                Part::Feed(feed) => out.pass(feed, &taken),
                Part::Long(some) => out.pass(some, &taken),
            }
        }
        out.finish()
    }
}

/// The most bytes of an event. A longer one is passed over, and passes.
pub const MAX_EVENT: usize = 1 << 20;
/// The longest answer whose values are stepped over, each of them read.
const MAX_STEPPED: usize = 8 * 1024;
const MAX_MODEL: usize = 256;
const MAX_TIER: usize = 64;
