//! Streams: what begins one, what ends it, and how a client is told that it broke.

use ai_gateway::demo::{Cut, CutAt, HowCut, Reply};

use super::*;

fn cut(at: usize, how: HowCut) -> Script {
    Script { words: Some(60), cut: Some(Cut { at: CutAt::Pieces(at), how }), ..Script::default() }
}

/// Checks that a stream ends with the gateway's own error, as an event that Anthropic's SDKs raise on.
fn is_told(answer: &Response, kind: &str) {
    let events = events(&answer.text());
    let (name, data) = events.last().expect("events");
    assert_eq!((name.as_str(), &data["type"]), ("error", &"error".into()), "{data}");
    assert_eq!(data["error"]["type"], kind);
    assert_eq!(data["request_id"].as_str(), answer.header("x-request-id"));
    assert!(!events.iter().any(|(name, _)| name == "message_stop"));
}

#[tokio::test]
async fn a_cut_behind_the_first_content_is_told_inside_the_stream() {
    for (how, kind) in [(HowCut::Close, "api_error"), (HowCut::Reset, "api_error"), (HowCut::Stall, "timeout_error")] {
        for client in [Http::One, Http::Two] {
            let pair = Pair { client, provider: Http::One };
            let setup = Setup { pair, models: TWO.to_owned(), attempts: PATIENT.to_owned(), ..Setup::default() };
            let claude = Claude::with(setup, "timeouts: { idle: 500ms }").await;
            claude.provider.script(cut(31, how));
            let body = streamed(question("hello")).to_string();
            let answer = claude.world.client().await.post(MESSAGES, &body).await;
            assert_eq!(answer.status, 200);
            is_told(&answer, kind);
            assert_eq!(answer.complete, client == Http::Two, "HTTP/1.1 is aborted behind it: {how:?}");
            assert_eq!(claude.asked(), [1, 0], "nothing follows what was begun");
        }
    }
}

#[tokio::test]
async fn a_cut_before_the_first_content_goes_on_to_the_next() {
    // `message_start`, an empty block, `ping`: the client has seen none of it.
    for (at, how) in [(1, HowCut::Close), (3, HowCut::Reset), (3, HowCut::Close)] {
        let claude = Claude::two().await;
        claude.provider.script(cut(at, how));
        let answer = claude.ask(&streamed(question("hello"))).await;
        let events = events(&answer.text());
        assert_eq!((answer.status, answer.header("provider-name")), (200, Some("backup")), "{at} {how:?}");
        assert_eq!(events.iter().filter(|(name, _)| name == "message_start").count(), 1);
        assert_eq!(events[0].1["message"]["model"], BACKUP_MODEL, "of the one that answered");
        assert_eq!(events.last().map(|(name, _)| name.as_str()), Some("message_stop"));
    }
}

#[tokio::test]
async fn an_error_before_the_first_content_goes_on_to_the_next() {
    let start =
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":9}}}\n\n";
    for kind in ["overloaded_error", "api_error", "rate_limit_error"] {
        let told = format!("event: error\ndata: {}\n\n", error(kind, "theirs"));
        let reply = Reply::Events(vec![start.to_owned(), told.clone()]);
        let claude = Claude::two().await;
        claude.provider.script(Script { reply: reply.clone(), ..Script::default() });
        let answer = claude.ask(&streamed(question("hello"))).await;
        assert_eq!((answer.status, answer.header("provider-name")), (200, Some("backup")), "{kind}");
        assert!(!answer.text().contains("theirs"));
        let line = claude.line().await;
        assert_eq!(line["usage"]["input"].as_u64(), claude.backup.received()[0].used.map(|used| used.input), "{line}");
        let alone = Claude::start().await;
        alone.provider.script(Script { reply, ..Script::default() });
        let answer = alone.ask(&streamed(question("hello"))).await;
        assert_eq!((answer.status, answer.text()), (200, format!("{start}{told}")), "as it came, where nobody else is");
    }
}

#[tokio::test]
async fn a_stream_ends_with_message_stop_and_needs_nothing_behind_it() {
    let claude = Claude::two().await;
    let whole = claude.ask(&streamed(question("hello"))).await;
    let pieces = events(&whole.text()).len();
    // The framing of its end is missing.
    for how in [HowCut::Stall, HowCut::Close] {
        claude.provider.script(Script { cut: Some(Cut { at: CutAt::Pieces(pieces), how }), ..Script::default() });
        let asked = std::time::Instant::now();
        let answer = claude.ask(&streamed(question("hello"))).await;
        assert_eq!((answer.status, answer.complete), (200, true), "{how:?}");
        assert!(answer.text().ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    }
    // In form the body is whole, but `message_stop` is not there.
    let text = whole.text();
    let short = text.split_inclusive("\n\n").take(pieces - 1).map(str::to_owned).collect();
    claude.provider.script(Script { reply: Reply::Events(short), ..Script::default() });
    let answer = claude.ask(&streamed(question("hello"))).await;
    is_told(&answer, "api_error");
}
