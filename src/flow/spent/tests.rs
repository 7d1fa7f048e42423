//! Facts about the judgement: each way that a call can end, and what it then used and cost.
//!
//! Never does: meter an answer; what was seen of it is given.

use super::*;
use crate::config::{Environment, Sources, load};
use crate::dialect::Lacks;
use crate::error::{Overload, Silence, UpstreamFault};
use crate::flow::Arrived;
use http::Method;
use std::time::{Instant, SystemTime};

const CHAT: &str = "/openai/v1/chat/completions";
const EMBEDDINGS: &str = "/openai/v1/embeddings";
const UPLOAD: &str = "/openai/v1/audio/transcriptions";
const REALTIME: &str = "/openai/v1/realtime";
/// The other provider's, which no section prices.
const OTHER: &str = "/other/v1/chat/completions";

const YAML: &str = r#"
providers:
  openai:
    base_url: https://api.openai.com
    api_key: none
    routes:
      - get /v1/models
      - delete /v1/models/{model}
      - post /v1/chat/completions
      - post /v1/embeddings
      - post /v1/audio/transcriptions stream
      - { route: post /v1/audio/speech stream, price_per_request: 0.03 }
      - get /v1/realtime websocket
  other:
    base_url: https://other.example
    api_key: none
    routes: [ post /v1/chat/completions ]
prices:
  models:
    openai:
      asked:
        usd_per_million_tokens: { input: 1, output: 10 }
        service_tiers: { flex: { input: 0.5, output: 5 } }
        max_input_tokens: 1000
        max_output_tokens: 50
      answered: { usd_per_million_tokens: { input: 2, output: 20 } }
"#;

/// A call that was answered well and told its usage; each test says what is different.
struct Case {
    arrived: Arrived,
    metered: Option<Metered>,
}

fn case(method: Method, path: &str) -> Case {
    let sources = Sources {
        file: None,
        yaml: Some(YAML.to_owned()),
        directory: "/nonexistent".into(),
        environment: Environment::default(),
    };
    let loaded = load(&sources).unwrap_or_else(|report| panic!("{report:?}"));
    let mut arrived = Arrived::new(loaded.snapshot, "req_1".to_owned(), Instant::now(), SystemTime::UNIX_EPOCH);
    let snapshot = Arc::clone(&arrived.snapshot);
    let found = snapshot.routes.find(&method, path).expect("a route");
    arrived.record.route = Some(Arc::clone(found.route));
    arrived.record.asks(&found.route.provider);
    arrived.record.method = method;
    arrived.record.model = Some("asked".to_owned());
    arrived.record.upstream_status = Some(200);
    arrived.asked = Asked { sent: true, relayed: true, bytes: 301, ..Asked::default() };
    let usage = Some(Usage { input: 100, output: 10, ..Usage::default() });
    Case { arrived, metered: Some(Metered { usage, complete: true, visible_bytes: 40, ..Metered::default() }) }
}

fn chat() -> Case {
    case(Method::POST, CHAT)
}

impl Case {
    fn status(mut self, status: impl Into<Option<u16>>) -> Self {
        self.arrived.record.upstream_status = status.into();
        if self.arrived.record.upstream_status.is_none() {
            self.metered = None;
        }
        self
    }

    fn refusal(mut self, refusal: Refusal) -> Self {
        self.arrived.record.refusal = Some(refusal);
        self
    }

    fn told(mut self, change: impl FnOnce(&mut Metered)) -> Self {
        change(self.metered.as_mut().expect("an answer"));
        self
    }

    fn told_nothing(mut self) -> Self {
        self.metered = None;
        self
    }

    fn asked(mut self, change: impl FnOnce(&mut Asked)) -> Self {
        change(&mut self.arrived.asked);
        self
    }

    fn spent(self) -> Spent {
        spent(&self.arrived.record, self.arrived.asked, self.metered, &self.arrived.snapshot)
    }

    /// Certainty, tokens of input and output, and cost, `?` where one is not known.
    fn says(self) -> String {
        let spent = self.spent();
        let usage = spent.usage.map(|usage| format!("{}+{}", usage.input, usage.output));
        let cost = spent.cost.map(|cost| cost.to_string());
        let known = |told: Option<String>| told.unwrap_or_else(|| "?".to_owned());
        format!("{} {} {}", spent.certainty.name(), known(usage), known(cost))
    }
}

/// A stream that was cut: what was seen has no usage and no end.
fn cut_stream(refusal: Refusal) -> Case {
    chat().refusal(refusal).told(|metered| (metered.usage, metered.complete) = (None, false))
}

#[test]
fn what_the_provider_told_is_settled_and_priced() {
    assert_eq!(chat().says(), "settled 100+10 0.0002");
    let spent = chat().spent();
    assert_eq!(spent.prices.as_ref(), Some(chat().arrived.snapshot.prices.version()));
    // The client may leave, or the gateway end, when all was told.
    assert_eq!(chat().refusal(Refusal::ClientGone).says(), "settled 100+10 0.0002");
    assert_eq!(chat().refusal(Refusal::ShuttingDown).says(), "settled 100+10 0.0002");
    // Somebody on the way may have ended it properly, in the middle.
    assert_eq!(chat().told(|metered| metered.complete = false).says(), "estimated 100+14 0.00024");
    assert_eq!(case(Method::POST, UPLOAD).says(), "settled 100+10 0.0002");
}

#[test]
fn a_client_that_leaves_before_the_head_leaves_an_estimate_of_the_input() {
    for refusal in [Refusal::ClientGone, Refusal::ShuttingDown, Refusal::Bug("x")] {
        assert_eq!(chat().status(None).refusal(refusal).says(), "estimated 101+0 0.000101");
    }
}

#[test]
fn a_price_for_each_call_stands_above_what_it_used() {
    let priced = || case(Method::POST, "/openai/v1/audio/speech");
    assert_eq!(priced().says(), "settled 100+10 0.03");
    assert_eq!(priced().spent().prices, None, "no book says so");
    let spent = priced().told_nothing().spent();
    assert_eq!(
        (spent.certainty, spent.usage, spent.cost.map(|cost| cost.to_string())),
        (Certainty::Settled, None, Some("0.03".to_owned()))
    );
    let left = priced().status(None).refusal(Refusal::ClientGone).spent();
    assert_eq!(left.cost.map(|cost| cost.to_string()).as_deref(), Some("0.03"), "it was at work");
    for failed in [priced().status(500), priced().status(None).refusal(Refusal::Upstream(UpstreamFault::Reset))] {
        let spent = failed.spent();
        assert_eq!((spent.certainty, spent.cost), (Certainty::Failed, Some(Usd::ZERO)));
    }
}

#[test]
fn what_was_not_sent_or_failed_costs_nothing() {
    let unsent = |refusal| chat().status(None).refusal(refusal).asked(|asked| asked.sent = false);
    for refusal in [
        Refusal::ClientGone,
        Refusal::ShuttingDown,
        Refusal::InvalidJson("x".into()),
        Refusal::Overloaded(Overload::Bodies),
    ] {
        assert_eq!(unsent(refusal).says(), "failed ? 0");
    }
    for refusal in [
        Refusal::Upstream(UpstreamFault::Connect),
        Refusal::Upstream(UpstreamFault::Reset),
        Refusal::UpstreamTimeout(Silence::FirstByte),
        Refusal::UpstreamTimeout(Silence::Connect),
    ] {
        assert_eq!(chat().status(None).refusal(refusal).says(), "failed ? 0");
    }
    for status in [301, 400, 404, 429, 500, 503] {
        // Whatever such an answer says of a usage.
        assert_eq!(chat().status(status).says(), "failed ? 0");
    }
    assert_eq!(chat().status(401).refusal(Refusal::UpstreamAuth).says(), "failed ? 0");
    let spent = chat().status(429).spent();
    assert_eq!((spent.prices, spent.usage), (None, None), "nothing was reckoned");
}

#[test]
fn an_answer_of_which_nothing_reached_the_client_costs_nothing() {
    let lost = |refusal| cut_stream(refusal).asked(|asked| asked.relayed = false);
    for refusal in [Refusal::Upstream(UpstreamFault::Reset), Refusal::UpstreamTimeout(Silence::Idle)] {
        assert_eq!(lost(refusal).says(), "failed ? 0");
    }
    // It was at work when its client left, or that attempt was over and another one was not made so far.
    assert_eq!(lost(Refusal::ClientGone).says(), "estimated 101+14 0.000241");
    assert_eq!(lost(Refusal::ClientGone).asked(|asked| asked.sent = false).says(), "failed ? 0");
    assert_eq!(chat().asked(|asked| asked.relayed = false).says(), "settled 100+10 0.0002");
}

#[test]
fn a_call_without_a_route_used_nothing() {
    let mut case = chat();
    case.arrived.record.route = None;
    assert_eq!(case.says(), "failed ? 0");
}

#[test]
fn a_stream_that_is_cut_is_an_estimate_of_what_was_seen() {
    for refusal in [
        Refusal::ClientGone,
        Refusal::ShuttingDown,
        Refusal::Bug("x"),
        Refusal::Upstream(UpstreamFault::Reset),
        Refusal::UpstreamTimeout(Silence::Idle),
    ] {
        assert_eq!(cut_stream(refusal).says(), "estimated 101+14 0.000241");
    }
    let nothing_seen = cut_stream(Refusal::ClientGone).told(|metered| metered.visible_bytes = 0);
    assert_eq!(nothing_seen.says(), "estimated 101+0 0.000101");
}

#[test]
fn a_usage_in_every_event_is_never_replaced_by_less() {
    let cut = |visible_bytes| {
        let case = chat().refusal(Refusal::ClientGone);
        case.told(|metered| (metered.complete, metered.visible_bytes) = (false, visible_bytes)).says()
    };
    assert_eq!(cut(9), "estimated 100+10 0.0002");
    assert_eq!(cut(60), "estimated 100+20 0.0003");
}

#[test]
fn a_provider_that_tells_no_usage_is_estimated_by_its_text() {
    assert_eq!(chat().told(|metered| metered.usage = None).says(), "estimated 101+14 0.000241");
    // Nothing to go by: moderations, an image.
    let silent = chat().told(|metered| (metered.usage, metered.visible_bytes) = (None, 0));
    assert_eq!(silent.says(), "unknown ? ?");
}

#[test]
fn a_usage_of_which_one_side_cannot_be_read_is_an_estimate() {
    let half = |input: u64, output: u64, lacks: Lacks| {
        let usage = Usage { input, output, ..Usage::default() };
        move |metered: &mut Metered| (metered.usage, metered.lacks) = (Some(usage), lacks)
    };
    let (no_input, no_output) = (Lacks { input: true, output: false }, Lacks { input: false, output: true });
    assert_eq!(chat().told(half(0, 5, no_input)).says(), "estimated 101+5 0.000151", "the side that is told is kept");
    assert_eq!(chat().told(half(100, 0, no_output)).says(), "estimated 100+14 0.00024");
    // Of the input a part may be told, by kind.
    assert_eq!(chat().told(half(400, 5, no_input)).says(), "estimated 400+5 0.00045");
    let large = chat().told(half(0, 5, no_input)).asked(|asked| asked.bytes = 30_000_000);
    assert_eq!(large.says(), "estimated 1000+5 0.00105", "the model takes no more");
    // Vectors have no output.
    let embedding = || case(Method::POST, EMBEDDINGS).told(|metered| metered.visible_bytes = 0);
    assert_eq!(embedding().told(half(8, 0, no_output)).says(), "settled 8+0 0.000008");
    assert_eq!(embedding().told(half(0, 0, no_input)).says(), "estimated 101+0 0.000101");
}

#[test]
fn an_estimate_is_never_more_than_was_possible() {
    let large = || cut_stream(Refusal::ClientGone).asked(|asked| asked.bytes = 30_000_000);
    assert_eq!(large().says(), "estimated 1000+14 0.00114", "the model takes no more");
    let long = || cut_stream(Refusal::ClientGone).told(|metered| metered.visible_bytes = 3_000_000);
    assert_eq!(long().says(), "estimated 101+50 0.000601", "the model gives no more");
    assert_eq!(long().asked(|asked| asked.choices = 3).says(), "estimated 101+150 0.001601", "but for each choice");
    let asked = long().asked(|asked| (asked.max_output_tokens, asked.choices) = (Some(7), 2));
    assert_eq!(asked.says(), "estimated 101+14 0.000241", "the request allows no more");
    let unbounded = large().told(|metered| metered.model = Some("answered".into()));
    assert_eq!(unbounded.says(), "estimated 10000000+14 20.00028", "where nothing bounds it");
}

#[test]
fn what_passes_unread_and_tells_nothing_is_unknown() {
    let native = || case(Method::POST, UPLOAD);
    assert_eq!(native().told(|metered| metered.usage = None).says(), "unknown ? ?");
    let cut = native().refusal(Refusal::ClientGone).told(|metered| (metered.usage, metered.complete) = (None, false));
    assert_eq!(cut.says(), "unknown ? ?");
    // It was at work, and nobody has seen on what.
    assert_eq!(native().status(None).refusal(Refusal::ClientGone).says(), "unknown ? ?");
    let unsent = native().status(None).refusal(Refusal::ClientGone).asked(|asked| asked.sent = false);
    assert_eq!(unsent.says(), "failed ? 0");
    let told = native().refusal(Refusal::ClientGone).told(|metered| metered.complete = false);
    assert_eq!(told.says(), "estimated 100+14 0.00024");
}

#[test]
fn a_websocket_is_unknown_once_it_is_open() {
    let websocket = |status| case(Method::GET, REALTIME).status(status).told_nothing();
    assert_eq!(websocket(101).says(), "unknown ? ?");
    assert_eq!(websocket(404).says(), "failed ? 0");
}

#[test]
fn what_makes_nothing_uses_nothing() {
    for (method, path) in [(Method::GET, "/openai/v1/models"), (Method::DELETE, "/openai/v1/models/x")] {
        let quiet = || case(method.clone(), path).told(|metered| metered.usage = None);
        assert_eq!(quiet().says(), "settled ? 0");
        assert_eq!(quiet().refusal(Refusal::ClientGone).says(), "settled ? 0");
        assert_eq!(quiet().status(None).refusal(Refusal::ClientGone).says(), "failed ? 0");
    }
}

#[test]
fn the_price_is_that_of_the_model_that_answered_or_else_was_asked_for() {
    let model = |answered: &str, asked: &str| {
        let mut case = chat().told(|metered| metered.model = Some(answered.into()));
        case.arrived.record.model = Some(asked.to_owned());
        case.says()
    };
    assert_eq!(model("answered", "asked"), "settled 100+10 0.0004");
    assert_eq!(model("nobody-knows", "asked"), "settled 100+10 0.0002");
    assert_eq!(model("nobody-knows", "nor-this"), "settled 100+10 ?");
    // Another version of it may have another price.
    assert_eq!(model("asked-2027-03-01", "asked"), "settled 100+10 ?");
    assert_eq!(model("asked2", "asked"), "settled 100+10 0.0002");
    let spent = chat().told(|metered| metered.model = Some("answered".into())).spent();
    assert_eq!(spent.model.as_deref(), Some("answered"));
}

#[test]
fn what_has_no_price_costs_none_and_names_no_book() {
    let spent = case(Method::POST, OTHER).spent();
    assert_eq!((spent.certainty, spent.cost, spent.prices), (Certainty::Settled, None, None));
    assert_eq!(spent.usage.map(|usage| usage.total()), Some(110));
    let mut cut = case(Method::POST, OTHER).refusal(Refusal::ClientGone).status(None);
    cut.arrived.record.model = None;
    assert_eq!(cut.says(), "estimated 101+0 ?");
}

#[test]
fn the_service_tier_that_answered_sets_the_price() {
    let tier = |name: &str| chat().told(|metered| metered.service_tier = Some(name.into())).says();
    assert_eq!(tier("default"), "settled 100+10 0.0002");
    assert_eq!(tier("flex"), "settled 100+10 0.0001");
    assert_eq!(tier("priority"), "settled 100+10 ?", "not priced, so not known");
}
