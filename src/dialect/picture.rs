//! What is looked at in a JSON answer: a static tree of member names, one for each dialect.
//!
//! Invariant: lists are transparent, their elements are what the list is; a member that no picture names is passed over.
//! Never does: read anything itself; that is [`Walk`](super::walk::Walk).

/// A value, and those of its members that are looked at.
#[derive(Debug)]
pub struct Node {
    pub(super) does: Does,
    pub(super) members: &'static [(&'static str, Self)],
    /// The lengths of their names, a bit each: most that stand in an answer are none of them.
    lengths: u64,
}

impl Node {
    /// A value that is passed over.
    pub(super) const NOTHING: Self = Self::new(Does::Nothing, &[]);

    pub(super) const fn new(does: Does, members: &'static [(&'static str, Self)]) -> Self {
        let (mut lengths, mut at) = (0, 0);
        while at < members.len() {
            lengths |= 1 << (members[at].0.len() & 63);
            at += 1;
        }
        Self { does, members, lengths }
    }

    /// A value that matters for its members alone.
    pub(super) const fn of(members: &'static [(&'static str, Self)]) -> Self {
        Self::new(Does::Nothing, members)
    }

    /// A value without members that are looked at.
    pub(super) const fn leaf(does: Does) -> Self {
        Self::new(does, &[])
    }

    pub(super) fn member(&'static self, name: &[u8]) -> &'static Self {
        if self.lengths & (1 << (name.len() & 63)) == 0 {
            return &Self::NOTHING;
        }
        let found = self.members.iter().find(|(member, _)| member.as_bytes() == name);
        found.map_or(&Self::NOTHING, |(_, node)| node)
    }
}

/// For somebody who steps over values, and looks for nothing but those whose places are noted.
impl Node {
    /// A member, by its name as it is spelt; absent where that may mean another.
    pub fn spelt(&'static self, name: &[u8]) -> Option<&'static Self> {
        (!name.contains(&b'\\')).then(|| self.member(name))
    }

    /// The place that is noted.
    pub fn slot(&self) -> Option<Slot> {
        match self.does {
            Does::Keep(slot) => Some(slot),
            _ => None,
        }
    }

    /// Whether a place in it is noted. What only some providers say stands behind what all do.
    pub fn has_slots(&self) -> bool {
        self.members.iter().any(|(_, inner)| inner.slot().is_some_and(|slot| slot != Slot::OtherUsage))
    }

    /// Whether it matters that it is there.
    pub fn is_mark(&self) -> bool {
        matches!(self.does, Does::Mark(_))
    }
}

/// What is done about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Nothing,
    /// Its place is noted.
    Keep(Slot),
    /// Its strings are text that a user can see: they are counted, in a piece of a stream or as a whole.
    Text(Part),
    /// It differs from event to event, and says nothing.
    Varies,
    /// Whether it says anything is noted: it does unless it is null, false, or empty.
    Mark(Mark),
    /// The list of choices.
    Choices,
    /// The number of a choice.
    Index,
    /// Why a choice ended, if it did.
    Finish,
}

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The next piece, in an event.
    Delta,
    /// All of it.
    Whole,
    /// Whichever the document is.
    Either,
}

/// A place that is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// What kind of event this is.
    Kind,
    /// The model that answered.
    Model,
    /// The service tier that the call got.
    Tier,
    /// The speed that the call got, where that is told apart from its tier.
    Speed,
    /// What was used.
    Usage,
    /// What was used, where only some providers say it.
    OtherUsage,
}

impl Slot {
    /// All, in their order.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Kind, Self::Model, Self::Tier, Self::Speed, Self::Usage, Self::OtherUsage];
    /// How many there are.
    pub const COUNT: usize = 6;
    /// The most that is kept of a value. A longer one is passed over.
    pub const MAX_BYTES: usize = 16 * 1024;
}

/// What is noted about a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// It tells an error.
    Error = 1,
    /// It has content other than text: a tool call, a sound.
    Content = 2,
    /// A choice ended.
    Finish = 4,
    /// There is a list of choices.
    Choices = 8,
    /// There is a choice in it.
    Choice = 16,
}
