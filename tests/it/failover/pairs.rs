//! The main faults over each pair of HTTP versions, with bodies of three sizes.
//!
//! Never does: count connections, which differ.

use ai_gateway::demo::{CutAt, HowCut};

use super::*;

over_all_pairs! {
    a_429_goes_on_to_the_next,
    a_500_goes_on_to_the_next_and_one_that_passes_is_asked_again,
    a_reset_before_the_head_does_the_same,
    five_megabytes_are_sent_again,
    what_a_provider_refuses_to_look_at_is_asked_again,
    a_goaway_does_the_same,
    a_silent_one_is_left,
    a_stream_that_ends_before_its_content_is_replaced,
    a_stream_that_is_cut_behind_it_is_told,
}

/// The sizes of bodies, and whether a stream is asked for. What is five megabytes has a test of its own; `faults` has them all.
const CALLS: [(usize, bool); 2] = [(10_000, true), (200_000, false)];

/// Fails once or for good; each call has to end whole, by this provider.
async fn run(pair: Pair, script: Script, by: &str) {
    run_with(PATIENT, pair, script, by).await;
}

async fn run_with(timeouts: &str, pair: Pair, script: Script, by: &str) {
    calls(timeouts, pair, (script, by), &CALLS).await;
}

async fn calls(timeouts: &str, pair: Pair, (script, by): (Script, &str), calls: &[(usize, bool)]) {
    for &(size, stream) in calls {
        let two = Two::of(pair, REST, timeouts).await;
        two.world.provider.script(script.clone());
        let answer = two.ask(size, stream).await;
        let what = format!("{size} bytes, stream {stream}: {} {script:?}", answer.status);
        assert!(is_whole(&answer, stream), "{what}");
        assert_eq!(answer.header("provider-name"), Some(by), "{what}");
        let asked = two.asked();
        assert!(asked.iter().sum::<usize>() <= 4, "hammered: {asked:?} {what}");
        let sent = two.world.provider.received();
        assert!(sent.iter().all(|one| one.http2 == (pair.provider == Http::Two)), "the version that is tested");
    }
}

async fn a_429_goes_on_to_the_next(pair: Pair) {
    let limited = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
    run(pair, Script::json(429, limited).header("retry-after", "30").always(), "backup").await;
}

async fn a_500_goes_on_to_the_next_and_one_that_passes_is_asked_again(pair: Pair) {
    run(pair, Script::json(500, "trouble").always(), "backup").await;
    run(pair, Script::json(500, "trouble"), "openai").await;
}

async fn a_reset_before_the_head_does_the_same(pair: Pair) {
    run(pair, Script::cut(CutAt::Head, HowCut::Reset).always(), "backup").await;
    run(pair, Script::cut(CutAt::Head, HowCut::Reset), "openai").await;
}

async fn five_megabytes_are_sent_again(pair: Pair) {
    let script = Script::cut(CutAt::Head, HowCut::Reset).always();
    calls(PATIENT, pair, (script, "backup"), &[(5_000_000, true)]).await;
}

async fn what_a_provider_refuses_to_look_at_is_asked_again(pair: Pair) {
    run(pair, Script::cut(CutAt::Head, HowCut::Refuse), "openai").await;
}

async fn a_goaway_does_the_same(pair: Pair) {
    run(pair, Script::cut(CutAt::Head, HowCut::GoAway).always(), "backup").await;
    run(pair, Script::cut(CutAt::Head, HowCut::GoAway), "openai").await;
}

async fn a_silent_one_is_left(pair: Pair) {
    let timeouts = "first_byte: { stream: 500ms, other: 500ms }";
    run_with(timeouts, pair, Script::cut(CutAt::Head, HowCut::Stall), "backup").await;
}

async fn a_stream_that_ends_before_its_content_is_replaced(pair: Pair) {
    for how in [HowCut::Close, HowCut::Reset] {
        let two = Two::of(pair, REST, PATIENT).await;
        two.world.provider.script(Script { cut: Some(ai_gateway::demo::Cut { at: CutAt::Pieces(0), how }), ..sixty() });
        let answer = two.ask(10, true).await;
        assert!(is_whole(&answer, true), "{how:?}: {}", answer.text());
        assert_eq!(answer.header("provider-name"), Some("backup"), "{how:?}");
    }
}

async fn a_stream_that_is_cut_behind_it_is_told(pair: Pair) {
    for how in [HowCut::Close, HowCut::Reset, HowCut::GoAway] {
        for size in [10_000, 200_000] {
            let two = Two::of(pair, REST, PATIENT).await;
            let cut = Some(ai_gateway::demo::Cut { at: CutAt::Pieces(41), how });
            two.world.provider.script(Script { cut, ..sixty() });
            let answer = two.ask(size, true).await;
            let what = format!("{how:?} {size} {}", answer.text());
            // Of a large event a reset may leave a piece, behind which nothing can be told.
            let told = answer.text().contains("data: {\"error\":{") || size > 100_000;
            assert!(answer.status == 200 && told && !answer.text().contains("data: [DONE]"), "{what}");
            assert_eq!(two.asked(), [1, 0], "{what}");
            let lines = two.world.log.calls(1).await;
            assert_eq!(lines[0]["code"], "upstream_error", "recorded: {}", lines[0]);
        }
    }
}
