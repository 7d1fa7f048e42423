//! What a token of each kind costs in one situation: a service tier, and a size of the input.
//!
//! Invariant: a kind without a price of its own costs what it is a part of, or has no known price; it is never free by
//! omission.
//! Never does: choose the situation; that is `Price`.

use super::entry::{Rate, Rates};
use crate::units::{Usage, Usd};

/// Kinds of tokens. Each stands behind what it is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Input,
    CacheRead,
    InputAudio,
    CacheReadAudio,
    CacheWrite,
    CacheWrite1h,
    InputImage,
    Output,
    Reasoning,
    OutputAudio,
    OutputImage,
}

use Kind::{
    CacheRead, CacheReadAudio, CacheWrite, CacheWrite1h, Input, InputAudio, InputImage, Output, OutputAudio,
    OutputImage, Reasoning,
};

const INPUT: [Kind; 7] = [Input, CacheRead, InputAudio, CacheReadAudio, CacheWrite, CacheWrite1h, InputImage];
const OUTPUT: [Kind; 4] = [Output, Reasoning, OutputAudio, OutputImage];
const KINDS: usize = INPUT.len() + OUTPUT.len();

/// Pico-dollars per token, by kind; `None` is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table([Option<u64>; KINDS]);

impl Table {
    /// The table of which nothing is known.
    pub(super) const UNKNOWN: Self = Self([None; KINDS]);

    /// The prices that hold where no other do.
    pub(super) fn base(rates: &Rates) -> Self {
        Self::resolved(rates, |_, whole| whole)
    }

    /// The prices of a situation. A kind that is not priced there, but usually is dearer than what it is a part of (audio,
    /// a write into the cache), is not known: as a part it would cost too little.
    pub(super) fn special(rates: &Rates, usual: &Self) -> Self {
        Self::resolved(rates, |kind, whole| {
            let dearer = usual.of(kind) > usual.whole_of(kind);
            if dearer { None } else { whole }
        })
    }

    fn resolved(rates: &Rates, inherited: impl Fn(Kind, Option<u64>) -> Option<u64>) -> Self {
        let mut table = Self::UNKNOWN;
        for kind in INPUT.into_iter().chain(OUTPUT) {
            let own = own(rates, kind).map(Rate::picos);
            table.0[kind as usize] = own.or_else(|| inherited(kind, table.whole_of(kind)));
        }
        table
    }

    fn of(&self, kind: Kind) -> Option<u64> {
        self.0[kind as usize]
    }

    /// The price of what a kind is a part of.
    fn whole_of(&self, kind: Kind) -> Option<u64> {
        match kind {
            Input | Output | OutputImage => None,
            CacheRead | InputAudio | CacheWrite | InputImage => self.of(Input),
            CacheReadAudio => Some(self.of(CacheRead)?.max(self.of(InputAudio)?)),
            CacheWrite1h => self.of(CacheWrite),
            Reasoning | OutputAudio => self.of(Output),
        }
    }

    /// What so many tokens of each kind cost; `None` where a kind was used whose price is not known.
    pub(super) fn cost(&self, usage: &Usage) -> Option<Usd> {
        let used = counts(usage).into_iter().filter(|(_, count)| *count > 0);
        used.map(|(kind, count)| self.of(kind).map(|price| Usd::from_picos(price.into()).times(count))).sum()
    }

    /// The dearest kinds of input and of output.
    pub(super) fn dearest(&self) -> [u64; 2] {
        let of = |kinds: &[Kind]| kinds.iter().filter_map(|kind| self.of(*kind)).max().unwrap_or(0);
        [of(&INPUT), of(&OUTPUT)]
    }

    /// The prices in the order of kinds, for the version of a book.
    pub(super) fn prices(&self) -> &[Option<u64>] {
        &self.0
    }
}

fn own(rates: &Rates, kind: Kind) -> Option<Rate> {
    match kind {
        Input => rates.input,
        CacheRead => rates.cache_read,
        InputAudio => rates.input_audio,
        CacheReadAudio => rates.cache_read_audio,
        CacheWrite => rates.cache_write,
        CacheWrite1h => rates.cache_write_1h,
        InputImage => rates.input_image,
        Output => rates.output,
        Reasoning => rates.reasoning,
        OutputAudio => rates.output_audio,
        OutputImage => rates.output_image,
    }
}

/// Takes a usage apart, so that each token counts once. Where the parts are more than the whole, which a provider must not
/// say, the parts count: what was told is charged, never less.
fn counts(usage: &Usage) -> [(Kind, u64); KINDS] {
    let cached = usage.cached_input.saturating_sub(usage.cached_audio);
    let audio = usage.input_audio.saturating_sub(usage.cached_audio);
    let written = usage.cache_write.saturating_sub(usage.cache_write_1h);
    let input = [cached, audio, usage.cached_audio, written, usage.cache_write_1h, usage.input_image];
    let output = [usage.reasoning, usage.output_audio, usage.output_image];
    let rest = |whole: u64, parts: &[u64]| parts.iter().fold(whole, |rest, part| rest.saturating_sub(*part));
    [
        (Input, rest(usage.input, &input)),
        (CacheRead, cached),
        (InputAudio, audio),
        (CacheReadAudio, usage.cached_audio),
        (CacheWrite, written),
        (CacheWrite1h, usage.cache_write_1h),
        (InputImage, usage.input_image),
        (Output, rest(usage.output, &output)),
        (Reasoning, usage.reasoning),
        (OutputAudio, usage.output_audio),
        (OutputImage, usage.output_image),
    ]
}
