//! Random inputs for tests named `fuzz_*`: what the corpus holds first, then what a seed makes, or chance.
//!
//! Invariant: with `AI_GATEWAY_FUZZ_SEED` a run takes the same inputs in the same order, so that a change is judged by what
//! it changes; `tests/soak` draws other ones. bolero's own `BOLERO_RANDOM_SEED` is for a single input.
//! Never does: know what is tested.

use std::time::{Duration, Instant};

/// Checks inputs of bytes: those of the corpus, `__fuzz__/TEST/corpus` beside the file, and at most so many random ones, for
/// two seconds. `BOLERO_RANDOM_ITERATIONS` and `BOLERO_RANDOM_TEST_TIME_MS` say otherwise.
macro_rules! fuzz {
    ($iterations:expr, $check:expr) => {{
        use $crate::units::tests::fuzz;
        let iterations = fuzz::number("BOLERO_RANDOM_ITERATIONS").unwrap_or($iterations);
        let seed = fuzz::seed();
        let check = std::panic::AssertUnwindSafe($check);
        let checked = |input: &[u8]| (*&check)(input);
        bolero::check!()
            .with_max_len(fuzz::LONGEST)
            .with_iterations(if seed.is_some() { 0 } else { iterations })
            .with_test_time(fuzz::time())
            .for_each(checked);
        if let Some(seed) = seed {
            fuzz::repeat(seed, iterations, checked);
        }
    }};
}
pub(crate) use fuzz;

/// Bytes of an input at most, those of the corpus included.
pub(crate) const LONGEST: usize = 2048;

/// The seed of this run.
pub(crate) fn seed() -> Option<u64> {
    number("AI_GATEWAY_FUZZ_SEED").map(|seed| seed as u64)
}

/// How long a test may take.
pub(crate) fn time() -> Duration {
    Duration::from_millis(number("BOLERO_RANDOM_TEST_TIME_MS").unwrap_or(2000) as u64)
}

/// A variable that holds a number.
pub(crate) fn number(variable: &str) -> Option<usize> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Checks what a seed makes.
pub(crate) fn repeat(seed: u64, iterations: usize, check: impl Fn(&[u8])) {
    let begun = Instant::now();
    let mut state = seed;
    for number in 0..iterations {
        if begun.elapsed() > time() {
            break;
        }
        // Short ones find most of what there is to find; one in eight is long.
        let longest = if next(&mut state).is_multiple_of(8) { LONGEST } else { 64 };
        let length = usize::try_from(next(&mut state) % longest as u64).unwrap_or(0);
        let mut input: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next(&mut state).to_le_bytes()).collect();
        input.truncate(length);
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&input)));
        assert!(checked.is_ok(), "AI_GATEWAY_FUZZ_SEED={seed}: input {number}: {input:?}");
    }
}

/// SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A text of an input: as it is where it begins like one, which a file of a corpus does, else a word for each byte.
pub(crate) fn text(input: &[u8], words: &[&str]) -> String {
    match input.first() {
        Some(first) if first.is_ascii_graphic() && std::str::from_utf8(input).is_ok() => {
            String::from_utf8_lossy(input).into_owned()
        }
        _ => input.iter().map(|letter| words[usize::from(*letter) % words.len()]).collect(),
    }
}

#[test]
fn a_seed_makes_the_same_inputs_each_time_and_another_one_others() {
    let inputs = |seed| {
        let all = std::cell::RefCell::new(Vec::new());
        repeat(seed, 50, |input| all.borrow_mut().push(input.to_vec()));
        all.into_inner()
    };
    let first = inputs(1);
    assert_eq!(first.len(), 50);
    assert_eq!(first, inputs(1));
    assert_ne!(first, inputs(2));
    let mut different = first.clone();
    different.sort();
    different.dedup();
    assert!(different.len() > 40, "they are not all alike");
}
