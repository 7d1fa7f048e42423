//! One fault each, with bodies of three sizes, asked for as a stream and as a whole.

use ai_gateway::demo::{Cut, CutAt, Fault, HowCut};

use super::*;

/// How a call has to end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    /// Whole, and from this provider.
    Whole(&'static str),
    /// A stream that is told to have failed, without `[DONE]`.
    Told,
    /// The provider's own error, byte for byte.
    Passed(u16),
}

/// Runs a fault in worlds of its own: as a stream and as a whole, where not only one of them makes sense.
async fn run(script: Script, streams: &[bool], ends: Ends) {
    run_with(PATIENT, script, streams, ends).await;
}

async fn run_with(timeouts: &str, script: Script, streams: &[bool], ends: Ends) {
    for &stream in streams {
        for size in SIZES {
            let two = Two::with(REST, timeouts).await;
            two.world.provider.script(script.clone());
            let answer = two.ask(size, stream).await;
            let what = format!("{size} bytes, stream {stream}: {} {}", answer.status, answer.text());
            let asked = two.asked();
            assert!(asked.iter().sum::<usize>() <= 4, "hammered {asked:?}");
            match ends {
                Ends::Whole(provider) => {
                    assert!(is_whole(&answer, stream), "{what}");
                    assert_eq!(answer.header("provider-name"), Some(provider), "{what}");
                }
                Ends::Told => {
                    // Of an event of megabytes (the answer repeats the question) a reset may leave a piece, behind which
                    // nothing can be told: the connection is aborted then.
                    let told = answer.text().contains("data: {\"error\":{") || size > 1_000_000;
                    let looks_whole = answer.complete || answer.text().contains("data: [DONE]");
                    assert!(answer.status == 200 && told && !looks_whole, "{what}");
                    assert_eq!(asked[1], 0, "nothing follows what was begun: {asked:?} {what}");
                }
                Ends::Passed(status) => {
                    assert_eq!((answer.status, answer.complete), (status, true), "{what}");
                    assert_eq!(asked, [1, 0], "{what}");
                }
            }
            assert!(!answer.text().contains("canary"), "{what}");
        }
    }
}

const BOTH: [bool; 2] = [false, true];

fn status(status: u16, headers: &[(&str, &str)], body: &str) -> Script {
    let mut script = Script::json(status, body.to_owned());
    script.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    script
}

fn always(script: Script) -> Script {
    Script { times: 0, ..script }
}

fn cut(at: CutAt, how: HowCut) -> Script {
    Script { cut: Some(Cut { at, how }), ..sixty() }
}

const LIMITED: &str = r#"{"error":{"message":"slow down","type":"requests","code":"rate_limit_exceeded"}}"#;
const TROUBLE: &str = r#"{"error":{"message":"trouble","type":"server_error"}}"#;

#[tokio::test]
async fn a_429_with_a_short_retry_after_is_waited_for() {
    run(status(429, &[("retry-after", "1")], LIMITED), &BOTH, Ends::Whole("openai")).await;
}

#[tokio::test]
async fn a_429_that_stays_goes_on_to_the_next() {
    run(always(status(429, &[("retry-after", "30")], LIMITED)), &BOTH, Ends::Whole("backup")).await;
}

#[tokio::test]
async fn a_500_that_passes_is_asked_again() {
    run(status(500, &[], TROUBLE), &BOTH, Ends::Whole("openai")).await;
}

#[tokio::test]
async fn a_503_that_stays_goes_on_to_the_next() {
    run(always(status(503, &[], TROUBLE)), &BOTH, Ends::Whole("backup")).await;
}

#[tokio::test]
async fn a_reset_before_the_head_is_asked_again() {
    run(cut(CutAt::Head, HowCut::Reset), &BOTH, Ends::Whole("openai")).await;
}

#[tokio::test]
async fn one_that_never_answers_is_left() {
    let timeouts = "first_byte: { stream: 500ms, other: 500ms }";
    run_with(timeouts, always(cut(CutAt::Head, HowCut::Stall)), &BOTH, Ends::Whole("backup")).await;
}

#[tokio::test]
async fn one_whose_first_token_takes_too_long_is_left() {
    let script = Script { first_byte_delay: Duration::from_secs(20), ..sixty() };
    run_with("first_token: 500ms", script, &[true], Ends::Whole("backup")).await;
}

#[tokio::test]
async fn a_stream_that_is_cut_behind_its_first_token_is_told() {
    run(cut(CutAt::Pieces(41), HowCut::Close), &[true], Ends::Told).await;
    run(cut(CutAt::Pieces(41), HowCut::Reset), &[true], Ends::Told).await;
}

#[tokio::test]
async fn a_stream_that_stalls_is_told() {
    run(cut(CutAt::Pieces(41), HowCut::Stall), &[true], Ends::Told).await;
}

#[tokio::test]
async fn a_whole_answer_that_is_cut_is_asked_for_again() {
    run(cut(CutAt::Body(100), HowCut::Close), &[false], Ends::Whole("openai")).await;
}

#[tokio::test]
async fn a_chunk_that_is_none_is_told_where_something_has_gone_to_the_client() {
    let event = r#"data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#;
    let event = format!("{event}\n\n");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let raw = format!("{head}{:x}\r\n{event}\r\nzz\r\n{event}\r\n0\r\n\r\n", event.len());
    run(Script::raw(raw), &[true], Ends::Told).await;
    run(Script::fault(Fault::BadChunkSize), &[true], Ends::Whole("backup")).await;
}

#[tokio::test]
async fn a_stream_that_is_whole_but_for_its_done_ends_soon() {
    for size in SIZES {
        let two = Two::start().await;
        let events = [
            r#"{"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
        ];
        let events: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let expected = events.concat();
        for how in [HowCut::Stall, HowCut::Close] {
            let cut = Some(Cut { at: CutAt::Pieces(2), how });
            let reply = ai_gateway::demo::Reply::Events([events.clone(), vec!["data: [DONE]\n\n".to_owned()]].concat());
            two.world.provider.script(Script { reply, cut, ..Script::default() });
            let asked = std::time::Instant::now();
            let answer = two.ask(size, true).await;
            assert_eq!((answer.status, answer.complete, answer.text()), (200, true, expected.clone()));
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        }
        assert_eq!(two.asked(), [2, 0]);
    }
}

#[tokio::test]
async fn a_stream_that_tells_an_error_first_goes_on_to_the_next() {
    let events = vec![": wait\n\n".to_owned(), format!("data: {TROUBLE}\n\n")];
    let script = Script { reply: ai_gateway::demo::Reply::Events(events), ..Script::default() };
    run(script, &[true], Ends::Whole("backup")).await;
    let empty = Script { reply: ai_gateway::demo::Reply::Events(vec![": wait\n\n".to_owned()]), ..Script::default() };
    run(empty, &[true], Ends::Whole("backup")).await;
}

#[tokio::test]
async fn what_is_too_long_goes_to_a_larger_context() {
    let body = r#"{"error":{"message":"too long","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    run(status(400, &[], body), &BOTH, Ends::Whole("backup")).await;
}

#[tokio::test]
async fn what_a_filter_rejects_is_not_asked_elsewhere() {
    let body = r#"{"error":{"message":"no","type":"invalid_request_error","code":"content_filter"}}"#;
    run(status(400, &[], body), &BOTH, Ends::Passed(400)).await;
    for refused in [404, 422] {
        run(status(refused, &[], r#"{"error":{"message":"no"}}"#), &[false], Ends::Passed(refused)).await;
    }
}
